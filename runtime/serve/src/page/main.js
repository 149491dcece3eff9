// The page as a whole: it reads what there is, follows what happens, and hands both to the views.

import * as adapters from "./adapters.js";
import { follow, get, messages, onTokenNeeded, post, rows, send, token } from "./api.js";
import * as apply from "./apply.js";
import * as ask from "./ask.js";
import * as detail from "./detail.js";
import { $, arrows, banner, oneTabStop, say } from "./dom.js";
import * as list from "./edits.js";
import { edits, newestFirst, putEdit, set, state, take } from "./store.js";
import * as timeline from "./timeline.js";
import * as tools from "./tools.js";
import { isOver, sentence } from "./words.js";

/** Edits whose events are read when the page opens. */
const HISTORY = 10;
/** How long the events of an edit that goes on are read: what comes later comes with the others. */
const CATCH_UP_MS = 1000;
const WORTH_SAYING = ["awaiting_approval", "kept", "rolled_back", "refused", "failed", "moved"];

/** Runs something that asks the server; what goes wrong is shown above everything. */
async function attempt(what) {
  try {
    const value = await what();
    banner();
    return value;
  } catch (error) {
    banner(error.message);
    return undefined;
  }
}

const pathOf = (id, more = "") => `/v1/self_edits/${encodeURIComponent(id)}${more}`;

async function readEvents(id) {
  const stop = new AbortController();
  const timer = isOver(edits.get(id)?.state) ? undefined : setTimeout(() => stop.abort(), CATCH_UP_MS);
  try {
    const response = await send(pathOf(id, "/events"), { accept: "application/x-ndjson", signal: stop.signal });
    for await (const event of messages(response)) take(event);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function readAdapters() {
  const cards = rows(await get("/v1/adapters"));
  const active = cards.find((card) => card.active)?.name ?? "base";
  set({ adapters: cards, active });
  $("active").textContent = active;
}

async function readTools() {
  set({ tools: rows(await get("/v1/tools")), tools_read: true });
}

async function readModel() {
  const cards = rows(await get("/v1/models"));
  const base = cards.find((card) => !card.parent) ?? cards[0];
  set({ model: base?.id ?? "" });
  $("model").textContent = base?.id ?? "unknown";
}

async function readEdits() {
  for (const status of rows(await get("/v1/self_edits"))) putEdit(status);
  if (!edits.has(state.selected)) set({ selected: newestFirst()[0]?.id });
  for (const edit of newestFirst().slice(0, HISTORY)) await readEvents(edit.id);
}

const readAll = () => attempt(() => Promise.all([readModel(), readAdapters(), readTools(), readEdits()]));

const waiting = new Map();

/** Asks the server soon, once for many reasons. */
function soon(what, read) {
  if (waiting.has(what)) return;
  waiting.set(what, setTimeout(() => {
    waiting.delete(what);
    attempt(read);
  }, 150));
}

function happened(event) {
  const isAboutAnEdit = take(event);
  if (isAboutAnEdit) soon(event.edit, async () => putEdit(await get(pathOf(event.edit))));
  if (["kept", "moved"].includes(event.event)) soon("adapters", readAdapters);
  if (WORTH_SAYING.includes(event.event)) say(`${event.edit ?? ""} ${sentence(event).join(": ")}`);
  if (!edits.has(state.selected) && event.edit) select(event.edit);
}

function select(id) {
  set({ selected: id });
  const edit = edits.get(id);
  if (edit && edit.events.length === 0) attempt(() => readEvents(id));
}

/** Selects an edit and shows it. */
function open(id) {
  select(id);
  tab("tab-edit");
}

const answer = (id, allow) => attempt(async () => putEdit(await decide(id, allow)));

/** Some servers answer with the status, others with nothing to speak of. */
async function decide(id, allow) {
  const status = await post(pathOf(id, "/approve"), { allow });
  return status?.state ? status : get(pathOf(id));
}

/** Answers the question that is asked, if any. */
let answerQuestion = () => {};

$("confirm").addEventListener("close", ({ target }) => {
  // The event comes late: another question may stand there by then.
  if (!target.open) answerQuestion(target.returnValue === "yes");
});

/** Asks a question that is answered by yes or no. */
function confirmed(title, text, yes) {
  const dialog = $("confirm");
  answerQuestion(false);
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    answerQuestion = done;
  });
}

async function rollBack(to, name = to) {
  const text = `Everybody who asks for what is active gets ${name} from then on. Nothing is deleted.`;
  if (!(await confirmed(`Roll back to ${name}?`, text, `Roll back to ${name}`))) return;
  await attempt(async () => {
    const { active } = await post("/v1/self_edits/rollback", { to });
    say(`${active ?? name} is active now.`);
    await readAdapters();
  });
}

let isDeclined = false;

/** Whether there is a new token. Who said no once is not asked again but by the button. */
async function askForToken() {
  const dialog = $("ask-token");
  $("token").hidden = false;
  if (isDeclined) return false;
  $("token-title").textContent = token.get() ? "This token was not accepted" : "This server asks for a token";
  $("token-text").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  $("token-text").focus();
  return new Promise((done) =>
    dialog.addEventListener(
      "close",
      () => {
        const isGiven = dialog.returnValue === "yes" && $("token-text").value !== "";
        if (isGiven) token.set($("token-text").value);
        $("token-text").value = "";
        isDeclined = !isGiven;
        done(isGiven);
      },
      { once: true },
    ),
  );
}

function tab(id) {
  for (const each of $("tabs").querySelectorAll("[role=tab]")) {
    const isChosen = each.id === id;
    each.setAttribute("aria-selected", String(isChosen));
    $(each.getAttribute("aria-controls")).hidden = !isChosen;
  }
  oneTabStop($("tabs"), "[role=tab]", $(id));
}

/** The theme goes round: the system's, light, dark. */
function theme() {
  const themes = ["system", "light", "dark"];
  const use = (name) => {
    document.documentElement.dataset.theme = name;
    $("theme").textContent = `Theme: ${name}`;
  };
  const stored = localStorage.getItem("selkie-theme");
  use(themes.includes(stored) ? stored : "system");
  $("theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
    localStorage.setItem("selkie-theme", next);
    use(next);
  });
}

function link(name, text) {
  $("link").dataset.state = name;
  $("link").textContent = text;
}

let stopFollowing = () => {};

function listen() {
  stopFollowing();
  stopFollowing = follow(`/v1/events?tokens=${$("with-tokens").checked}`, {
    open: () => {
      link("on", "live");
      readAll();
    },
    message: happened,
    closed: (wait, refusal) => {
      if (refusal) banner(refusal.message);
      link("off", `not connected; next try in ${Math.ceil(wait / 1000)} s`);
    },
  });
}

theme();
onTokenNeeded(askForToken);
list.start(open);
detail.start(answer);
timeline.start(open);
tools.start();
ask.start($("panel-ask"), { approve: answer, open });
apply.start($("panel-apply"), (status) => {
  putEdit(status);
  open(status.id);
  $("work").focus();
});
adapters.start({
  rollBack,
  open,
  ask: (name) => {
    tab("tab-ask");
    ask.choose(name);
  },
});
$("tabs").addEventListener("click", (event) => event.target.role === "tab" && tab(event.target.id));
for (const button of document.querySelectorAll("[data-tab]")) {
  button.addEventListener("click", () => {
    tab(button.dataset.tab);
    $(button.dataset.tab).focus();
  });
}
arrows($("tabs"), "[role=tab]", "horizontal", (node) => tab(node.id));
$("with-tokens").addEventListener("change", listen);
$("token-cancel").addEventListener("click", () => $("ask-token").close("no"));
$("token").addEventListener("click", async () => {
  isDeclined = false;
  if (await askForToken()) listen();
});
listen();
