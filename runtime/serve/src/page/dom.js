// Elements, numbers as people read them, and movement by arrow keys. What comes from the server is only ever a text
// node or an attribute that cannot run.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  const present = children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false);
  node.append(...present);
  return node;
}

/** An HTML element. An attribute whose value is a function is a listener; other children than nodes are text. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** Replaces children only if `signature` is another than last time, so that focus and open details stay. */
export function show(node, signature, build) {
  const text = JSON.stringify(signature);
  if (node.shown === text) return;
  node.shown = text;
  node.replaceChildren(...[build()].flat(Infinity).filter(Boolean));
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const whole = (value) => (Number.isFinite(value) ? WHOLE.format(value) : "?");

export const counted = (value, one, many = `${one}s`) => `${whole(value)} ${value === 1 ? one : many}`;

/** A number with so many digits after the point. Null, which JSON has for what is not finite, is said in words. */
export function decimal(value, digits = 3) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "not finite";
  return value.toFixed(digits).replace("-", "\u2212");
}

export const clock = (milliseconds) => new Date(milliseconds).toLocaleTimeString("en-GB");

/** Snake case as words. */
export const plain = (name) => String(name ?? "unknown").replaceAll("_", " ");

/** At most so many characters. */
export const cut = (text, length) => (text.length > length ? `${text.slice(0, length)}\u2026` : text);

/** Says it to whoever cannot see it. */
export function say(text) {
  $("said").textContent = text;
}

/** Shows an error above everything, or takes it away. */
export function banner(text) {
  $("banner").textContent = text ?? "";
  $("banner").hidden = !text;
}

/** The keys that move in a list; what they mean depends on where the list runs. */
const STEPS = {
  vertical: { ArrowDown: 1, ArrowUp: -1 },
  horizontal: { ArrowRight: 1, ArrowLeft: -1 },
};

/** Arrow keys, Home and End move the focus among the items of a list. `moved` is told where it went. */
export function arrows(list, selector, direction, moved) {
  list.addEventListener("keydown", (event) => {
    const items = [...list.querySelectorAll(selector)];
    const at = items.indexOf(event.target.closest(selector));
    const step = STEPS[direction][event.key];
    const ends = { Home: 0, End: items.length - 1 };
    const to = step === undefined ? ends[event.key] : Math.min(items.length - 1, Math.max(0, at + step));
    if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    items[to].focus();
    moved(items[to]);
  });
}

/** One item of a list is in the tab order: the given one, else the first. */
export function oneTabStop(list, selector, current) {
  const items = [...list.querySelectorAll(selector)];
  const stop = items.includes(current) ? current : items[0];
  for (const item of items) item.tabIndex = item === stop ? 0 : -1;
}
