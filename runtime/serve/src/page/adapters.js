// The lineage of adapters as a tree, and the way back.

import { $, arrows, h, oneTabStop, plain, s, show } from "./dom.js";
import { edits, on, state } from "./store.js";

const LANE = 14;
const HEIGHT = 26;

/** Cards in the order of a tree, each with its depth, and its lane: side branches first, then on in the same lane. */
function ordered(cards) {
  const known = new Set(cards.map((card) => card.name));
  const children = Map.groupBy(cards, (card) => (known.has(card.parent) ? card.parent : null));
  const isOnTheWay = new Set();
  const parents = new Map(cards.map((card) => [card.name, card.parent]));
  for (let at = cards.find((card) => card.active)?.name; at && !isOnTheWay.has(at); at = parents.get(at)) isOnTheWay.add(at);
  const rows = [];
  const seen = new Set();
  const visit = (card, depth, lane, isBranch) => {
    if (seen.has(card.name)) return;
    seen.add(card.name);
    const row = { card, depth, lane, isBranch };
    rows.push(row);
    const below = children.get(card.name) ?? [];
    const main = below.find((child) => isOnTheWay.has(child.name)) ?? below[0];
    row.goesOn = below.length > 0;
    for (const child of below) if (child !== main) visit(child, depth + 1, lane + 1, true);
    if (main) visit(main, depth + 1, lane, false);
  };
  for (const root of children.get(null) ?? []) visit(root, 1, 0, false);
  return rows;
}

function gutter({ card, lane, isBranch, goesOn, depth }) {
  const [x, middle] = [lane * LANE + LANE / 2, HEIGHT / 2];
  const through = Array.from({ length: lane }, (_, at) => `M${at * LANE + LANE / 2} 0V${HEIGHT}`);
  const above = isBranch ? `M${x - LANE} 0C${x - LANE} ${middle} ${x} 0 ${x} ${middle}` : depth > 1 ? `M${x} 0V${middle}` : "";
  const below = goesOn ? `M${x} ${middle}V${HEIGHT}` : "";
  return s(
    "svg",
    { class: "lane", width: (lane + 1) * LANE, height: HEIGHT, "aria-hidden": "true" },
    s("path", { d: [...through, above, below].join("") }),
    s("circle", { cx: x, cy: middle, r: card.active ? 5 : 3.5, class: card.active ? "here" : "" }),
  );
}

function row(each, chosen, choose) {
  const { card, depth } = each;
  return h(
    "li",
    {
      role: "treeitem",
      "aria-level": depth,
      "aria-selected": String(card.name === chosen),
      "data-adapter": card.name,
      "data-parent": card.parent,
      tabindex: -1,
      click: () => choose(card.name),
    },
    gutter(each),
    h("span", { class: "name" }, card.name),
    card.active && h("span", { class: "state kept" }, "active"),
    h("span", { class: "of quiet" }, card.context ?? (card.origin === "base" ? "the model itself" : plain(card.origin))),
  );
}

function chosenCard(card, acts) {
  const canGoBack = !card.active && ["base", "generation"].includes(card.origin);
  const button = (text, click, kind) => h("button", { type: "button", class: kind, click }, text);
  return [
    h(
      "dl",
      { class: "facts" },
      [["name", card.name], ["on", card.parent], ["from", plain(card.origin)], ["context", card.context], ["content", card.content?.slice(0, 12)]]
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    h(
      "div",
      { class: "buttons" },
      canGoBack && button(`Roll back to ${card.name}`, () => acts.rollBack(card.name), "strong"),
      card.active && card.parent && button("Roll back to its parent", () => acts.rollBack("parent", card.parent), "strong"),
      edits.has(card.edit) && button("Show its self-edit", () => acts.open(card.edit)),
      button("Ask it", () => acts.ask(card.name)),
    ),
  ];
}

/** Begins to show. `acts` has `rollBack(to, name)`, `open(edit)` and `ask(adapter)`. */
export function start(acts) {
  const tree = $("adapters");
  // Until somebody chooses, what is active.
  let picked;
  const choose = (name) => {
    picked = name;
    render();
    tree.querySelector("[aria-selected=true]")?.focus();
  };
  const render = () => {
    const cards = state.adapters;
    const isPicked = cards.some((card) => card.name === picked);
    const chosen = isPicked ? picked : cards.find((card) => card.active)?.name;
    const hadFocus = tree.contains(document.activeElement);
    show(tree, [cards, chosen], () => ordered(cards).map((each) => row(each, chosen, choose)));
    const current = tree.querySelector("[aria-selected=true]");
    oneTabStop(tree, "[role=treeitem]", current);
    if (hadFocus) current?.focus();
    const card = cards.find((card) => card.name === chosen);
    show($("adapter"), [card, edits.has(card?.edit)], () => (card ? chosenCard(card, acts) : []));
    $("adapters-empty").hidden = cards.length > 0;
  };
  on("adapters", render);
  on("edits", render);
  arrows(tree, "[role=treeitem]", "vertical", (node) => choose(node.dataset.adapter));
  tree.addEventListener("keydown", (event) => {
    const name = event.target.dataset.adapter;
    const child = state.adapters.find((card) => card.parent === name)?.name;
    const to = { ArrowLeft: event.target.dataset.parent, ArrowRight: child }[event.key];
    if (!to) return;
    event.preventDefault();
    choose(to);
  });
}
