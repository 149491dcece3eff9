// What happens, episode by episode, newest first.

import { $, clock, cut, h } from "./dom.js";
import { edits, episodes, on } from "./store.js";
import { sentence } from "./words.js";

const nodes = new Map();
let isPaused = false;
let open = () => {};

/** How long after the episode's beginning. */
function since(episode, event) {
  const seconds = Math.max(0, event.time_ms - episode.began) / 1000;
  return seconds < 60 ? `+${seconds.toFixed(seconds < 10 ? 2 : 1)} s` : clock(event.time_ms);
}

function bar(event) {
  return h("progress", { max: Math.max(1, event.steps), value: event.step + 1, "aria-hidden": "true" });
}

function row(episode, { event, text }) {
  const time = h("time", { class: "since" }, since(episode, event));
  if (event.event === "token") {
    return h("li", { class: "event token" }, time, h("span", { class: "text" }, cut(text, 2000)));
  }
  const [name, says] = sentence(event);
  const about = event.event === "training_step" && bar(event);
  const words = h("span", { class: "words" }, h("b", {}, name), " ", says, about);
  return h("li", { class: `event ${event.event}`, "data-number": event.number }, time, words);
}

function titleOf(episode) {
  if (episode.request) return `Request ${episode.request}`;
  if (episode.edits.size) return `Self-edit ${[...episode.edits][0]}`;
  return "Runtime";
}

function make(episode) {
  const node = {
    links: h("span", { class: "links" }),
    rows: h("ol", { class: "events" }),
    left: h("p", { class: "quiet" }),
  };
  const when = h("time", { class: "when" }, clock(episode.began));
  node.title = h("h3", {}, titleOf(episode));
  node.item = h("li", { class: "episode" }, h("header", {}, node.title, node.links, when), node.left, node.rows);
  return node;
}

function update(node, episode) {
  node.title.textContent = titleOf(episode);
  node.left.textContent = episode.left_out ? `${episode.left_out} events are left out here.` : "";
  node.left.hidden = !episode.left_out;
  node.rows.replaceChildren(...episode.rows.map((each) => row(episode, each)));
  for (const id of episode.edits) {
    if ([...node.links.children].some((link) => link.dataset.edit === id)) continue;
    const label = `Show self-edit ${id}`;
    node.links.append(h("button", { type: "button", class: "link", "data-edit": id, "aria-label": label, click: () => open(id) }, id));
  }
}

function render(keys) {
  if (isPaused) return;
  const list = $("timeline");
  for (const key of keys) {
    const episode = episodes.get(key);
    let node = nodes.get(key);
    if (!episode) {
      node?.item.remove();
      nodes.delete(key);
      continue;
    }
    if (!node) {
      node = make(episode);
      nodes.set(key, node);
      place(list, node, episode);
    }
    update(node, episode);
  }
  $("timeline-empty").hidden = episodes.size > 0;
}

/** Above the first episode that began before. */
function place(list, node, episode) {
  node.item.dataset.began = episode.began;
  const older = [...list.children].find((other) => Number(other.dataset.began) <= episode.began);
  list.insertBefore(node.item, older ?? null);
}

/** Begins to show. `show` opens an edit. */
export function start(show) {
  open = (id) => edits.has(id) && show(id);
  on("episodes", render);
  $("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    $("pause").setAttribute("aria-pressed", String(isPaused));
    $("pause").textContent = isPaused ? "Go on" : "Pause";
    render(new Set([...episodes.keys(), ...nodes.keys()]));
  });
}
