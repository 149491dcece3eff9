// What the page asks the server, all of it on the server's own origin.

const KEY = "selkie-token";
/** Longest line of a stream; a longer one is not ours. */
const LINE_MAX = 8 << 20;

/** An answer that is not the one asked for. `problems` are those of a self-edit. */
export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    const said = body?.error?.message ?? `The server answered ${status}.`;
    super(retryAfter && !said.includes("again") ? `${said} Try again in ${retryAfter} s.` : said);
    this.status = status;
    this.problems = body?.problems ?? body?.error?.problems ?? [];
  }

  static async of(response) {
    const body = await response.json().catch(() => undefined);
    return new ApiError(response.status, body, response.headers.get("retry-after"));
  }
}

/** The token, for as long as the tab is open. */
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

let askForToken = async () => false;
let asking;

/** Who asks for a token: a function that resolves to whether there is another one now. */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** A response with a good status. Asks for a token when one is missing, once for all requests that wait. */
export async function send(path, { method = "GET", body, accept = "application/json", signal } = {}) {
  for (;;) {
    const used = token.get();
    const headers = { accept };
    if (used) headers.authorization = `Bearer ${used}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const text = body === undefined ? undefined : JSON.stringify(body);
    const request = { method, headers, body: text, signal, cache: "no-store", redirect: "error" };
    const response = await fetch(path, request).catch((error) => {
      throw error instanceof TypeError ? new Error("The server cannot be reached.") : error;
    });
    if (response.ok) return response;
    if (response.status !== 401) throw await ApiError.of(response);
    if (token.get() !== used) continue;
    asking ??= askForToken().finally(() => (asking = undefined));
    if (!(await asking)) throw await ApiError.of(response);
  }
}

export const get = async (path, options) => (await send(path, options)).json();

export const post = async (path, body, options) => (await send(path, { ...options, method: "POST", body })).json();

/** The rows of an answer that is a list, or an object around one. */
export function rows(answer) {
  if (Array.isArray(answer)) return answer;
  return Object.values(answer ?? {}).find(Array.isArray) ?? [];
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      if (rest.length > LINE_MAX) throw new Error("The server sent a line without an end.");
      for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
    }
    if (rest) yield rest;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** What a stream says: the data of server-sent events, or lines of JSON. Ends at `[DONE]`. */
export async function* messages(response) {
  const isSse = (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
  let data = [];
  for await (const line of lines(response)) {
    if (!isSse) {
      if (line) yield JSON.parse(line);
      continue;
    }
    if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    if (line !== "" || data.length === 0) continue;
    const text = data.join("\n");
    data = [];
    if (text === "[DONE]") return;
    yield JSON.parse(text);
  }
}

/**
 * Reads a stream for ever: after an end or an error it waits, longer each time, and begins again. `on.open` is called at
 * every beginning, `on.message` for each message, `on.closed` with the milliseconds until the next try and what the server
 * said against it, if anything.
 * @returns a function that stops it.
 */
export function follow(path, on) {
  const stop = new AbortController();
  const loop = async () => {
    let wait = 500;
    let refusal;
    while (!stop.signal.aborted) {
      refusal = undefined;
      try {
        const response = await send(path, { accept: "text/event-stream", signal: stop.signal });
        on.open();
        for await (const message of messages(response)) {
          wait = 500;
          on.message(message);
        }
      } catch (error) {
        if (error instanceof ApiError) refusal = error;
      }
      if (stop.signal.aborted) return;
      if (refusal) wait = Math.max(wait, 5000);
      on.closed(wait, refusal);
      await new Promise((resume) => setTimeout(resume, wait));
      wait = Math.min(15000, wait * 2);
    }
  };
  loop();
  return () => stop.abort();
}
