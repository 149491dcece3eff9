// A self-edit for a context that somebody pastes: checked here and by the server, then applied.

import { ApiError, post } from "./api.js";
import { $, h, plain, say } from "./dom.js";
import { contextIn } from "./context.js";
import { problemList } from "./detail.js";
import { puzzle } from "./grid.js";

const EXAMPLES = { "an example puzzle": "puzzle", "an example passage": "passage" };
const FILE_MAX = 16 << 20;

function field(id, label, control, hint) {
  control.id = id;
  const describes = hint && `${id}-hint`;
  if (describes) control.setAttribute("aria-describedby", describes);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("span", { class: "hint", id: describes }, hint));
}

const select = (...choices) => h("select", {}, choices.map(([value, text]) => h("option", { value }, text)));

function form(submit) {
  const examples = Object.entries(EXAMPLES).map(([text, name]) =>
    h("button", { type: "button", class: "link", "data-example": name, click: () => example(name) }, text),
  );
  const file = h("input", { type: "file", id: "apply-file", accept: ".json,application/json", change: fromFile });
  const scope = select(["global", "everybody"], ["session", "a session"]);
  scope.addEventListener("change", () => ($("apply-session").disabled = scope.value !== "session"));
  return h(
    "form",
    { class: "apply", submit },
    field(
      "apply-context",
      "Context",
      h("textarea", { rows: 8, spellcheck: "false", input: look }),
      "A puzzle (train, test) or a passage (title, context, questions), as JSON.",
    ),
    h("p", { class: "choices" }, "Take ", examples[0], ", ", examples[1], " or ", h("label", { for: "apply-file" }, "a file: "), file),
    h("div", { id: "apply-look", class: "look" }),
    field("apply-edit", "Self-edit", h("textarea", { rows: 6, spellcheck: "false" }), "Empty: the model writes it."),
    h(
      "div",
      { class: "row" },
      field("apply-scope", "What is learned is for", scope),
      field("apply-session", "Session", h("input", { type: "text", value: "page", disabled: true })),
      field("apply-permission", "Before it runs", select(["allow", "nothing is asked"], ["ask", "I approve it"])),
      field("apply-seed", "Seed", h("input", { type: "number", min: 0, step: 1, value: 0 })),
    ),
    h(
      "p",
      { class: "choices" },
      h("label", { class: "choice" }, h("input", { type: "checkbox", id: "apply-fresh" }), " Start from the base model"),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { class: "strong" }, "Apply"),
      h("button", { type: "button", id: "apply-check", click: check }, "Check the edit"),
    ),
    h("div", { id: "apply-result", role: "status" }),
  );
}

const result = (...children) => $("apply-result").replaceChildren(...children);

async function example(name) {
  const response = await fetch(`/page/${name}.json`);
  $("apply-context").value = await response.text();
  look();
}

async function fromFile(event) {
  const file = event.target.files[0];
  if (!file) return;
  if (file.size > FILE_MAX) return result(h("p", { class: "bad" }, `${file.name} has more than 16 MiB.`));
  $("apply-context").value = await file.text();
  look();
}

/** Shows what was pasted, or what is wrong with it. */
function look() {
  const text = $("apply-context").value;
  const { value, domain, problems } = contextIn(text);
  if (!text.trim()) return $("apply-look").replaceChildren();
  const wrong = problems.map(({ at, message }) => h("li", {}, h("code", {}, at), ` ${message}`));
  if (wrong.length) return $("apply-look").replaceChildren(h("ul", { class: "problems" }, wrong));
  const said = h("p", { class: "quiet" }, domain === "passage" ? `A passage with ${value.questions.length} questions.` : "A puzzle.");
  $("apply-look").replaceChildren(said, ...(domain === "puzzle" ? [puzzle(value)] : []));
}

/** The context that was pasted; none, and the place to mend in focus, where it is none. */
function context() {
  const read = contextIn($("apply-context").value);
  if (read.problems.length === 0) return read;
  look();
  result(h("p", { class: "bad" }, "The context is not complete yet; see above."));
  $("apply-context").focus();
  return undefined;
}

function refused(error) {
  const problems = error instanceof ApiError ? error.problems : [];
  result(h("p", { class: "bad" }, error.message), problems.length ? problemList(problems) : "");
}

async function check() {
  const edit = $("apply-edit").value.trim();
  const { domain = "puzzle" } = contextIn($("apply-context").value);
  if (!edit) return result(h("p", {}, "There is nothing to check: the model will write the edit."));
  try {
    const answer = await post("/v1/self_edits/check", { edit, domain });
    if (answer.valid) return result(h("p", { class: "good" }, `A valid self-edit for a ${plain(domain)}.`));
    result(h("p", { class: "bad" }, `Not a valid self-edit for a ${plain(domain)}.`), problemList(answer.problems ?? []));
  } catch (error) {
    refused(error);
  }
}

async function apply(event, done) {
  event.preventDefault();
  const read = context();
  if (!read) return;
  const value = (id) => $(id).value.trim();
  const body = {
    context: read.value,
    seed: Number(value("apply-seed")),
    scope: value("apply-scope"),
    permission: value("apply-permission"),
    fresh: $("apply-fresh").checked,
  };
  if (value("apply-edit")) body.edit = value("apply-edit");
  if (body.scope === "session") body.session = value("apply-session");
  try {
    const status = await post("/v1/self_edits", body);
    result();
    say(`Self-edit ${status.id} was taken.`);
    done(status);
  } catch (error) {
    refused(error);
  }
}

/** Begins to show. `done` gets the status of an edit that was taken. */
export function start(panel, done) {
  panel.append(form((event) => apply(event, done)));
}
