// A conversation with the model, with the self-edits that it makes on the way.

import { ApiError, messages, send } from "./api.js";
import { $, cut, h, say } from "./dom.js";
import { contextIn } from "./context.js";
import { figure, gridIn, puzzle } from "./grid.js";
import { on, state, take } from "./store.js";
import { sentence } from "./words.js";

const TURNS_MAX = 40;
const PLACEHOLDER = "A question; or a puzzle as JSON";

let talk = [];
let running;

const choice = (value, text = value) => h("option", { value }, text);

function field(id, label, control, hint) {
  control.id = id;
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("span", { class: "hint" }, hint));
}

const number = (attributes) => h("input", { type: "number", ...attributes });

const tick = (id, text) => h("label", { class: "choice" }, h("input", { type: "checkbox", id }), ` ${text}`);

function form(submit) {
  const adapter = h("select", {}, choice("active", "active"));
  const permission = h("select", {}, choice("ask", "ask me"), choice("allow", "allowed"), choice("deny", "not allowed"));
  const scope = h("select", {}, choice("request", "this request"), choice("session", "this session"), choice("global", "everybody"));
  return h(
    "form",
    { class: "ask", submit },
    h(
      "div",
      { class: "field" },
      h("label", { for: "ask-text" }, "Your message"),
      h("textarea", { id: "ask-text", rows: 4, placeholder: PLACEHOLDER, spellcheck: "false" }),
      h("span", { class: "hint" }, "Control and Enter sends it."),
    ),
    h(
      "div",
      { class: "row" },
      field("ask-adapter", "Adapter", adapter),
      field("ask-permission", "Self-edits", permission),
      field("ask-scope", "What is learned is for", scope),
      field("ask-session", "Session", h("input", { type: "text", value: `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}` })),
      field("ask-temperature", "Temperature", number({ min: 0, max: 2, step: 0.1, value: 0 })),
      field("ask-tokens", "Tokens at most", number({ min: 1, step: 1, placeholder: "no limit" })),
      field("ask-seed", "Seed", number({ min: 0, step: 1, value: 0 })),
    ),
    h(
      "p",
      { class: "choices" },
      "Edit also when ",
      tick("ask-grader", "it fails what its context shows,"),
      " ",
      tick("ask-document", "the context is new to it."),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { class: "strong", id: "ask-send" }, "Send"),
      h("button", { type: "button", id: "ask-stop", disabled: true, click: () => running?.abort() }, "Stop"),
      h("button", { type: "button", id: "ask-clear", click: clear }, "New conversation"),
    ),
  );
}

function clear() {
  running?.abort();
  talk = [];
  $("talk").replaceChildren();
  $("ask-text").focus();
}

function body() {
  const value = (id) => $(id).value.trim();
  const permission = value("ask-permission");
  const request = {
    model: state.model || "selkie",
    messages: talk.slice(-TURNS_MAX),
    stream: true,
    adapter_generation: value("ask-adapter"),
    temperature: Number(value("ask-temperature")),
    seed: Number(value("ask-seed")),
    self_edit: { permission },
  };
  if (permission !== "deny") {
    const triggers = { failed_grader: $("ask-grader").checked, document: $("ask-document").checked };
    Object.assign(request.self_edit, { scope: value("ask-scope"), triggers });
  }
  if (value("ask-session")) request.session = value("ask-session");
  if (value("ask-tokens")) request.max_tokens = Number(value("ask-tokens"));
  return request;
}

/** What one side said; JSON that is a puzzle or a grid is drawn. */
function turn(role, text) {
  const node = h("li", { class: `turn ${role}` }, h("h3", {}, role === "user" ? "You" : "Model"));
  if (text === undefined) return node;
  const context = contextIn(text);
  if (context.domain === "puzzle" && context.problems.length === 0) {
    node.append(puzzle(context.value), h("details", {}, h("summary", {}, "As JSON"), h("pre", {}, text)));
  } else {
    node.append(h("p", { class: "text" }, text));
  }
  return node;
}

/** Shows an answer as it comes: text, and notes of what the runtime did between the words. */
function answerView(node, acts) {
  let text;
  let training;
  const named = new Set();
  return {
    word(piece) {
      if (!text) {
        text = h("p", { class: "text" });
        node.append(text);
      }
      text.append(piece);
    },
    event(event) {
      const [name, says] = sentence(event);
      if (event.event === "token") return;
      if (event.event === "training_step" && training) {
        training.textContent = says;
        return;
      }
      const words = h("span", {}, says);
      training = event.event === "training_step" ? words : undefined;
      const note = h("p", { class: `note ${event.event}` }, h("b", {}, name), " ", words);
      if (event.event === "awaiting_approval" && event.edit) note.append(...buttons(event.edit, acts.approve));
      if (event.edit && !named.has(event.edit)) {
        named.add(event.edit);
        note.append(h("button", { type: "button", class: "link", click: () => acts.open(event.edit) }, event.edit));
      }
      node.append(note);
      text = undefined;
    },
  };
}

function buttons(edit, approve) {
  const both = [];
  const act = (allow) => {
    for (const button of both) button.disabled = true;
    approve(edit, allow);
  };
  both.push(h("button", { type: "button", class: "strong", click: () => act(true) }, "Approve"));
  both.push(h("button", { type: "button", click: () => act(false) }, "Deny"));
  return both;
}

async function stream(node, acts) {
  const view = answerView(node, acts);
  let said = "";
  let adapter;
  const response = await send("/v1/chat/completions", {
    method: "POST",
    body: body(),
    accept: "text/event-stream",
    signal: running.signal,
  });
  for await (const chunk of messages(response)) {
    if (chunk.error) throw new ApiError(200, chunk);
    adapter = chunk.adapter_generation ?? adapter;
    if (chunk.selkie_event) {
      view.event(chunk.selkie_event);
      take(chunk.selkie_event);
    }
    const piece = chunk.choices?.[0]?.delta?.content;
    if (piece) {
      said += piece;
      view.word(piece);
    }
  }
  return { said, adapter };
}

function finish(node, { said, adapter }) {
  talk.push({ role: "assistant", content: said });
  const grid = gridIn(said.slice(Math.max(0, said.lastIndexOf("[["))));
  if (grid) node.append(figure(grid, "The answer as a grid"));
  if (adapter) node.append(h("p", { class: "quiet" }, `answered with ${adapter}`));
  say(`The model answered: ${cut(said, 200)}`);
}

async function submit(event, acts) {
  event.preventDefault();
  const text = $("ask-text").value.trim();
  if (!text || running) return;
  running = new AbortController();
  talk.push({ role: "user", content: text });
  const node = turn("assistant");
  $("talk").append(turn("user", text), node);
  $("ask-text").value = "";
  busy(true);
  try {
    finish(node, await stream(node, acts));
  } catch (error) {
    const why = running.signal.aborted ? "Stopped." : error.message;
    node.append(h("p", { class: "bad" }, why));
    talk.pop();
    say(why);
  } finally {
    running = undefined;
    busy(false);
  }
}

function busy(isBusy) {
  $("ask-send").disabled = isBusy;
  $("ask-stop").disabled = !isBusy;
}

/** Chooses an adapter in the form. */
export function choose(adapter) {
  $("ask-adapter").value = adapter;
  $("ask-text").focus();
}

/** Begins to show. `acts` has `approve(edit, allow)`, which says whether an edit may run, and `open(edit)`. */
export function start(panel, acts) {
  panel.append(h("ol", { id: "talk", class: "talk" }), form((event) => submit(event, acts)));
  $("ask-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit();
  });
  on("adapters", () => {
    const before = $("ask-adapter").value;
    const named = state.adapters.map((card) => choice(card.name, card.active ? `${card.name} (active now)` : card.name));
    $("ask-adapter").replaceChildren(choice("active", "what is active"), ...named);
    $("ask-adapter").value = before;
    if (!$("ask-adapter").value) $("ask-adapter").value = "active";
  });
}
