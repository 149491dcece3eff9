// Events of the trace as people read them.

import { counted, cut, decimal, plain, whole } from "./dom.js";

const TRIGGERS = {
  model: "the model asked for it",
  low_confidence: "low confidence",
  failed_grader: "a failed grader",
  document: "a new document",
  call: "a call",
};

const SCOPES = { request: "this request", session: "its session", global: "everybody" };

const KV = {
  recompute: "keys and values computed anew",
  keep: "keys and values kept",
  from_marker: "keys and values kept up to the marker",
};

export const triggerOf = (trigger) => TRIGGERS[trigger] ?? plain(trigger);

export const scopeOf = (scope) => SCOPES[scope] ?? plain(scope);

export const STATES = {
  awaiting_approval: "awaits approval",
  queued: "queued",
  running: "running",
  kept: "kept",
  discarded: "discarded",
  refused: "refused",
  failed: "failed",
};

export const isOver = (state) => ["kept", "discarded", "refused", "failed"].includes(state);

export function scores(value) {
  return `${whole(value.solved)} of ${counted(value.items, "item")} exact, log-probability ${decimal(value.log_prob)}`;
}

/** For each event: what it is called, and what it says. */
const SAYS = {
  started: (e) => ["began", `with ${e.adapter}, ${counted(e.prompt_tokens, "token")} of prompt`],
  triggered: (e) => ["triggered", `${triggerOf(e.trigger)}: ${e.why}`],
  proposed: (e) => [`proposed${e.attempt > 1 ? `, try ${e.attempt}` : ""}`, cut(e.text ?? "", 110)],
  awaiting_approval: () => ["awaits approval", "somebody must say whether it may run"],
  approved: () => ["approved", ""],
  refused: (e) => ["refused", e.problems?.length ? `${counted(e.problems.length, "problem")}. ${e.message}` : e.message],
  queued: (e) => ["queued", e.ahead ? `${whole(e.ahead)} before it` : "next"],
  tool_ran: (e) => ["tool ran", `${e.tool}: ${counted(e.items, "item")} in ${counted(e.calls, "batch", "batches")}`],
  dataset: (e) => [
    "training set",
    `${counted(e.examples, "sequence")}, ${counted(e.tokens, "token")} an epoch, ${counted(e.steps, "step")} to come`,
  ],
  evaluated: (e) => [`measured ${e.when}`, scores(e.scores)],
  kept: (e) => ["kept", `${e.generation} on ${e.parent}, for ${scopeOf(e.scope)}. ${e.reason}`],
  rolled_back: (e) => ["rolled back", e.reason],
  failed: (e) => ["failed", e.message],
  resumed: (e) => [
    "resumed",
    `with ${e.adapter} after ${decimal(e.paused_seconds, 1)} s; ${KV[e.kv] ?? plain(e.kv)}` +
      ` (${counted(e.recomputed, "token")})`,
  ],
  ended: (e) => ["ended", `${plain(e.reason)}, ${counted(e.tokens, "token")}`],
  moved: (e) => ["moved", `${e.to} is active now`],
  training_step: (e) => ["training", `step ${whole(e.step + 1)} of ${whole(e.steps)}, loss ${decimal(e.loss)}`],
};

/** An event's name and sentence. What this page does not know is shown as it came. */
export function sentence(event) {
  try {
    const known = SAYS[event.event];
    if (known) return known(event);
  } catch {
    // Fields that are not as expected: shown as they came, below.
  }
  return [plain(event.event), cut(JSON.stringify(event), 400)];
}
