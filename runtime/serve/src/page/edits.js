// The list of self-edits, newest first.

import { $, arrows, clock, h, oneTabStop } from "./dom.js";
import { edits, newestFirst, on, state } from "./store.js";
import { STATES } from "./words.js";

const nodes = new Map();

function make(id, choose) {
  const node = h("li", { role: "option", id: `option-${id}`, "data-edit": id, click: () => choose(id) });
  node.append(h("span", { class: "name" }), h("span", { class: "state" }), h("span", { class: "of quiet" }));
  return node;
}

function update(node, edit) {
  const [name, chip, of] = node.children;
  name.textContent = edit.id;
  chip.textContent = STATES[edit.state] ?? edit.state;
  chip.className = `state ${Object.hasOwn(STATES, edit.state) ? edit.state : ""}`;
  const steps = edit.state === "running" && edit.steps[1] ? `, step ${edit.steps[0]} of ${edit.steps[1]}` : "";
  const made = edit.generation ? `, now ${edit.generation}` : "";
  of.textContent = `${edit.context || "context not known yet"}${steps}${made}, ${clock(edit.time_ms)}`;
  node.setAttribute("aria-selected", String(edit.id === state.selected));
}

/** Begins to show. `choose` is told which edit was chosen. */
export function start(choose) {
  const list = $("edits");
  const render = () => {
    for (const [id, node] of nodes) {
      if (!edits.has(id)) {
        node.remove();
        nodes.delete(id);
      }
    }
    newestFirst().forEach((edit, at) => {
      if (!nodes.has(edit.id)) nodes.set(edit.id, make(edit.id, choose));
      const node = nodes.get(edit.id);
      if (list.children[at] !== node) list.insertBefore(node, list.children[at] ?? null);
      update(node, edit);
    });
    oneTabStop(list, "[role=option]", nodes.get(state.selected));
    $("edits-count").textContent = edits.size ? String(edits.size) : "";
    $("edits-empty").hidden = edits.size > 0;
  };
  on("edits", render);
  on("selected", render);
  arrows(list, "[role=option]", "vertical", (node) => choose(node.dataset.edit));
}
