// What the page knows, in bounded memory: edits, episodes (a request with its edits, or an edit by itself), adapters.
// Views subscribe to a topic and are called once a frame at most.

import { isOver } from "./words.js";

const EPISODES_MAX = 100;
const ROWS_MAX = 80;
const EDITS_MAX = 200;
const TEXT_MAX = 4000;

/** What an edit's events say of its state, until the server is asked. */
const STATE_AFTER = {
  awaiting_approval: "awaiting_approval",
  approved: "queued",
  queued: "queued",
  tool_ran: "running",
  dataset: "running",
  training_step: "running",
  evaluated: "running",
  kept: "kept",
  rolled_back: "discarded",
  refused: "refused",
  failed: "failed",
};

const views = new Map();
const dirty = new Set();

/** Calls `view` with what changed in a topic: a set of keys. */
export function on(topic, view) {
  views.set(topic, [...(views.get(topic) ?? []), view]);
}

function changed(topic, key) {
  if (dirty.size === 0) requestAnimationFrame(flush);
  dirty.add(`${topic} ${key}`);
}

function flush() {
  const topics = new Map();
  for (const [topic, key] of [...dirty].map((entry) => entry.split(/ (.*)/s))) {
    topics.set(topic, (topics.get(topic) ?? new Set()).add(key));
  }
  dirty.clear();
  for (const [topic, keys] of topics) for (const view of views.get(topic) ?? []) view(keys);
}

export const edits = new Map();
export const episodes = new Map();
export const state = { adapters: [], tools: [], model: "", active: "", selected: undefined, tools_read: false };

/** Sets fields of `state`; a field is a topic. */
export function set(fields) {
  Object.assign(state, fields);
  for (const field of Object.keys(fields)) changed(field, "");
}

export const newestFirst = () => [...edits.values()].sort((a, b) => b.time_ms - a.time_ms || (a.id < b.id ? 1 : -1));

function editOf(id, time) {
  let edit = edits.get(id);
  if (edit) return edit;
  const nothing = { text: null, before: null, after: null, reason: null, generation: null };
  edit = { id, state: "queued", time_ms: time, context: "", steps: [0, 0], losses: [], ...nothing, events: [] };
  edits.set(id, edit);
  if (edits.size > EDITS_MAX) drop();
  return edit;
}

/** Forgets the oldest edit that is over and not looked at. */
function drop() {
  const oldest = newestFirst().reverse();
  const victim = oldest.find((edit) => isOver(edit.state) && edit.id !== state.selected) ?? oldest[0];
  edits.delete(victim.id);
  changed("edits", victim.id);
}

/** Takes a status as the server says it. What events said since is not undone: losses never get fewer. */
export function putEdit(status) {
  const known = edits.get(status.id);
  if (known?.told && known.time_ms !== status.time_ms) return reset(status);
  const edit = editOf(status.id, status.time_ms);
  const losses = status.losses?.length >= edit.losses.length ? status.losses : edit.losses;
  Object.assign(edit, status, { losses, told: true });
  changed("edits", edit.id);
  return edit;
}

/** Another runtime answers at this address: numbers and ids begin again. */
function reset(status) {
  for (const id of edits.keys()) changed("edits", id);
  for (const key of episodes.keys()) changed("episodes", key);
  edits.clear();
  episodes.clear();
  return putEdit(status);
}

/** Takes an event. Returns whether the server should be asked about the edit. */
export function take(event) {
  const episode = episodeOf(event);
  if (addRow(episode, event)) changed("episodes", episode.key);
  if (!event.edit) return false;
  episode.edits.add(event.edit);
  const edit = editOf(event.edit, event.time_ms);
  edit.request ??= event.request;
  if (event.event === "training_step") {
    while (edit.losses.length < event.step) edit.losses.push(null);
    edit.losses[event.step] = event.loss;
    edit.steps = [Math.max(edit.steps[0], event.step + 1), event.steps];
  } else if (!edit.events.some((other) => other.number === event.number)) {
    edit.events = [...edit.events, event].sort((a, b) => a.number - b.number).slice(-ROWS_MAX);
  }
  const last = edit.events.at(-1);
  const isNews = event.event === "training_step" ? !isOver(edit.state) : last?.number === event.number;
  if (isNews && STATE_AFTER[event.event]) edit.state = STATE_AFTER[event.event];
  if (isNews && event.event === "proposed") edit.text = event.text;
  changed("edits", edit.id);
  return event.event !== "training_step";
}

function episodeOf(event) {
  const key = event.request ?? event.edit ?? `event ${event.number}`;
  let episode = episodes.get(key);
  if (!episode) {
    episode = { key, began: event.time_ms, request: event.request, edits: new Set(), rows: [], left_out: 0 };
    episodes.set(key, episode);
    const oldest = [...episodes.values()].sort((a, b) => a.began - b.began)[0];
    if (episodes.size > EPISODES_MAX) {
      episodes.delete(oldest.key);
      changed("episodes", oldest.key);
    }
  }
  episode.began = Math.min(episode.began, event.time_ms);
  return episode;
}

/** Adds to an episode. Tokens in a row are one row, and so are the steps of an edit. */
function addRow(episode, event) {
  const rows = episode.rows;
  const last = rows.at(-1);
  if (event.event === "token") {
    if (last?.event.event !== "token") rows.push({ event, text: event.text });
    else last.text = (last.text + event.text).slice(-TEXT_MAX);
  } else if (event.event === "training_step") {
    const row = rows.findLast((row) => row.event.event === "training_step" && row.event.edit === event.edit);
    if (row && row.event.number >= event.number) return false;
    if (row) row.event = event;
    else rows.push({ event });
  } else {
    if (rows.some((row) => row.event.number === event.number)) return false;
    rows.push({ event });
  }
  const added = rows.at(-1).event.number;
  if (last && added < last.event.number) rows.sort((a, b) => a.event.number - b.event.number);
  if (rows.length > ROWS_MAX) episode.left_out += rows.splice(1, rows.length - ROWS_MAX).length;
  return true;
}
