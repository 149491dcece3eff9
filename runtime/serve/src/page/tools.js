// The tools that are loaded, and what each may use.

import { $, decimal, h, plain, show, whole } from "./dom.js";
import { on, state } from "./store.js";

/** A limit as people read it, by the unit in its name. */
function amount(name, value) {
  if (typeof value !== "number") return typeof value === "string" ? value : JSON.stringify(value);
  if (name.endsWith("bytes")) return value >= 1 << 20 ? `${decimal(value / (1 << 20), value % (1 << 20) ? 1 : 0)} MiB` : `${whole(value)} bytes`;
  if (name.endsWith("_ms")) return `${decimal(value / 1000, value % 1000 ? 1 : 0)} s`;
  if (name.endsWith("seconds")) return `${whole(value)} s`;
  return whole(value);
}

function facts(object) {
  const pairs = Object.entries(object ?? {}).filter(([, value]) => value !== null && value !== undefined);
  const one = ([name, value]) => h("div", {}, h("dt", {}, plain(name.replace(/_ms$/, ""))), h("dd", {}, amount(name, value)));
  return h("dl", { class: "facts" }, pairs.map(one));
}

function pluginOf(tool) {
  if (typeof tool.plugin === "object" && tool.plugin) return `${tool.plugin.name} ${tool.plugin.version}`;
  return [tool.plugin, tool.version].filter(Boolean).join(" ");
}

function card(tool) {
  const schema = tool.parameters ?? tool.parameter_schema ?? tool.params_schema;
  const limits = tool.budget ?? tool.limits;
  return h(
    "details",
    { class: "tool" },
    h("summary", {}, h("span", { class: "name" }, tool.name)),
    h("p", {}, tool.description ?? tool.summary ?? ""),
    h("p", { class: "quiet" }, `from ${pluginOf(tool) || "an unnamed plugin"}`),
    limits && [h("h4", {}, "May use, a batch"), facts(limits)],
    schema && [
      h("h4", {}, "Parameters"),
      h("pre", { tabindex: 0, role: "region", "aria-label": `Parameters of ${tool.name}` }, JSON.stringify(schema, null, 2)),
    ],
  );
}

function byKind(tools) {
  const kinds = Map.groupBy(tools, (tool) => plain(tool.kind));
  return [...kinds].map(([kind, some]) => h("section", { class: "kind" }, h("h3", {}, `${kind}s`), some.map(card)));
}

/** Begins to show. */
export function start() {
  on("tools", () => {
    show($("tools"), state.tools, () => byKind(state.tools));
    $("tools-count").textContent = state.tools.length ? String(state.tools.length) : "";
    $("tools-empty").textContent = state.tools_read ? "No tool is loaded." : "Not known yet.";
    $("tools-empty").hidden = state.tools.length > 0;
  });
}
