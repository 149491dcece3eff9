// One self-edit: what it says, what ran, how it learned, what came of it.

import { lossChart } from "./chart.js";
import { $, clock, counted, decimal, h, plain, show, whole } from "./dom.js";
import { digitsToggle, figure, isGrid } from "./grid.js";
import { edits, on, state } from "./store.js";
import { STATES, isOver, scopeOf, triggerOf } from "./words.js";

const VERDICTS = {
  kept: "The adapter was kept.",
  discarded: "The adapter was discarded; what was active still is.",
  refused: "The edit was refused; nothing was trained.",
  failed: "The edit ended by a failure that is not its own.",
};

const section = (name, ...children) => h("section", { class: `part ${name}` }, children);

function fact(name, value) {
  return value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function head(edit) {
  const chip = h("span", { class: `state ${Object.hasOwn(STATES, edit.state) ? edit.state : ""}` }, STATES[edit.state] ?? edit.state);
  return [
    h("h2", {}, edit.id, " ", chip),
    h(
      "dl",
      { class: "facts" },
      fact("context", edit.context),
      fact("why", edit.trigger && triggerOf(edit.trigger)),
      fact("for", edit.scope && scopeOf(edit.scope)),
      fact("request", edit.request),
      fact("at", clock(edit.time_ms)),
      fact("generation", edit.generation),
      fact("ledger", edit.entry),
    ),
  ];
}

function approval(edit, answer) {
  if (edit.state !== "awaiting_approval") return [];
  return [
    h("p", {}, "This edit waits until somebody says whether it may run."),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "strong", click: () => answer(edit.id, true) }, "Approve"),
      h("button", { type: "button", click: () => answer(edit.id, false) }, "Deny"),
    ),
  ];
}

function verdict(edit) {
  if (!isOver(edit.state)) return [];
  return h("p", { class: `verdict ${edit.state}` }, h("strong", {}, VERDICTS[edit.state]), " ", edit.reason ?? "");
}

/** A measurement before and after, as rows of one table. */
function comparison({ before, after }) {
  if (!before && !after) return [];
  const column = (scores, read) => h("td", { class: "number" }, scores ? read(scores) : "not yet");
  const line = (name, read) => h("tr", {}, h("th", { scope: "row" }, name), column(before, read), column(after, read));
  const titles = ["", "before", "after"].map((title) => h("th", { scope: "col", class: title && "number" }, title));
  return h(
    "table",
    { class: "scores" },
    h("caption", {}, `Measured on ${plain((before ?? after).measured)}`),
    h("thead", {}, h("tr", {}, titles)),
    h(
      "tbody",
      {},
      line("answered exactly", (scores) => `${whole(scores.solved)} of ${whole(scores.items)}`),
      line("log-probability (nats a token)", (scores) => decimal(scores.log_prob)),
    ),
  );
}

/** The items of both measurements, matched by name and place. */
function items({ before, after }) {
  const [left, right] = [before?.answers ?? [], after?.answers ?? []];
  return Array.from({ length: Math.max(left.length, right.length) }, (_, at) => {
    const [was, is] = [left[at], right[at]];
    return { ...(was ?? is), was, is };
  });
}

function gridsOf(item) {
  const said = (answer, when) =>
    answer ? figure(answer.prediction, when, item.expected) : figure("not yet", when);
  return h(
    "div",
    { class: "item" },
    h("h4", {}, plain(item.item)),
    h(
      "div",
      { class: "grids" },
      item.input !== undefined && figure(item.input, "Input"),
      isGrid(item.expected) && figure(item.expected, "Expected"),
      said(item.was, "Before"),
      said(item.is, "After"),
    ),
  );
}

const asText = (value) => (typeof value === "string" ? value : value === null || value === undefined ? "none" : JSON.stringify(value));

function answerCell(answer) {
  if (!answer) return h("td", {}, "not yet");
  const mark = h("span", { class: answer.solved ? "good" : "bad" }, answer.solved ? "exact" : "wrong");
  return h("td", {}, asText(answer.prediction), " ", mark);
}

function questions(all) {
  const titles = ["question", "expected", "before", "after"].map((title) => h("th", { scope: "col" }, title));
  const line = (item) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, asText(item.item)),
      h("td", {}, asText(item.expected)),
      answerCell(item.was),
      answerCell(item.is),
    );
  const table = h("table", {}, h("thead", {}, h("tr", {}, titles)), h("tbody", {}, all.map(line)));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Questions before and after" }, table);
}

function answers(edit) {
  const all = items(edit);
  if (all.length === 0) return [];
  const hasGrids = all.some((item) => isGrid(item.expected) || isGrid(item.input));
  const title = h("h3", {}, "Before and after");
  return hasGrids ? [title, digitsToggle(), all.map(gridsOf)] : [title, questions(all)];
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** A list of a self-edit's problems. */
export function problemList(problems) {
  const item = (problem) =>
    h(
      "li",
      {},
      h("code", {}, problem.pointer || "/"),
      ` expected ${problem.expected}, found ${problem.found} `,
      h("span", { class: "quiet" }, `(${plain(problem.code)}${problem.retryable === false ? "; no other text would help" : ""})`),
    );
  return h("ul", { class: "problems" }, problems.map(item));
}

function written(edit, refusal) {
  const problems = refusal?.problems ?? [];
  const text = edit.text === null || edit.text === undefined ? undefined : pretty(edit.text);
  return [
    h("h3", {}, "What it says"),
    text === undefined
      ? h("p", { class: "quiet" }, "The model has not written it yet.")
      : h("pre", { tabindex: 0, role: "region", "aria-label": "The self-edit as written" }, text),
    refusal && h("p", { class: "bad" }, refusal.message),
    problems.length > 0 && [h("h3", {}, counted(problems.length, "problem")), problemList(problems)],
  ];
}

function tools(ran) {
  if (ran.length === 0) return [];
  const titles = ["tool", "batches", "items", "fuel"].map((title, at) => h("th", { scope: "col", class: at && "number" }, title));
  const line = (event) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, event.tool),
      [event.calls, event.items, event.fuel].map((value) => h("td", { class: "number" }, whole(value))),
    );
  const table = h("table", {}, h("thead", {}, h("tr", {}, titles)), h("tbody", {}, ran.map(line)));
  return [h("h3", {}, "Tools that ran"), table];
}

/** Begins to show the chosen edit. `answer(id, allow)` approves or denies. */
export function start(answer) {
  const chart = lossChart();
  const parts = {
    head: section("head"),
    approval: section("approval"),
    verdict: section("verdict-part"),
    loss: section("loss", h("h3", {}, "Loss"), chart.node),
    answers: section("answers"),
    written: section("written"),
    tools: section("tools-part"),
  };
  $("edit").append(...Object.values(parts));
  const render = () => {
    const edit = edits.get(state.selected);
    $("edit").hidden = !edit;
    $("edit-empty").hidden = Boolean(edit);
    if (!edit) return;
    const of = (name) => edit.events.filter((event) => event.event === name);
    const refusal = of("refused").at(-1);
    const ran = of("tool_ran");
    const { events, losses, steps, ...status } = edit;
    show(parts.head, [status], () => head(edit));
    show(parts.approval, [edit.id, edit.state], () => approval(edit, answer));
    show(parts.verdict, [edit.state, edit.reason, edit.before, edit.after], () => [verdict(edit), comparison(edit)]);
    show(parts.answers, [edit.before, edit.after], () => answers(edit));
    show(parts.written, [edit.text, refusal], () => written(edit, refusal));
    show(parts.tools, [ran], () => tools(ran));
    parts.loss.hidden = losses.length === 0 && !steps[1];
    chart.update(losses, steps[1]);
  };
  on("edits", (keys) => keys.has(state.selected) && render());
  on("selected", render);
}
