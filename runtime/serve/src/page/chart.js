// The loss of each step as a curve, with a table that says the same.

import { counted, decimal, h, s, whole } from "./dom.js";

const HEIGHT = 230;
const MARGIN = { left: 54, right: 14, top: 12, bottom: 44 };
/** With more steps than this, points would only be a thick line. */
const POINTS_MAX = 60;

/** Round numbers from 0 to at least `end`, about `count` of them. */
function ticks(end, count) {
  const rough = end / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
  return Array.from({ length: Math.ceil(end / step - 1e-9) + 1 }, (_, at) => Number((at * step).toPrecision(12)));
}

const isLoss = (loss) => typeof loss === "number" && Number.isFinite(loss);

/** The curve in one sentence. */
function summary(losses, steps) {
  const known = losses.filter(isLoss);
  if (known.length === 0) return "No step has been done.";
  const lowest = known.reduce((least, loss) => Math.min(least, loss), Infinity);
  const lost = losses.length - known.length;
  const first = `Loss ${decimal(known[0])} at first, ${decimal(known.at(-1))} now, lowest ${decimal(lowest)} nats a token`;
  return `${first}; ${whole(losses.length)} of ${counted(steps, "step")}${lost ? `, ${lost} not finite` : ""}.`;
}

function axes(x, y, xs, ys, width) {
  const bottom = HEIGHT - MARGIN.bottom;
  const right = width - MARGIN.right;
  return [
    ys.map((tick) => [
      s("line", { class: "rule", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick end", x: MARGIN.left - 8, y: y(tick) + 4 }, String(tick)),
    ]),
    xs.map((tick) => s("text", { class: "tick middle", x: x(tick), y: bottom + 17 }, whole(tick))),
    s("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
    s("text", { class: "label middle", x: (MARGIN.left + right) / 2, y: HEIGHT - 6 }, "optimiser step"),
    s(
      "text",
      { class: "label middle", transform: `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)` },
      "loss (nats a token)",
    ),
  ];
}

/** Lines between neighbours that are both finite. */
function path(losses, x, y) {
  return losses
    .map((loss, at) => {
      if (!isLoss(loss)) return "";
      return `${at > 0 && isLoss(losses[at - 1]) ? "L" : "M"}${x(at + 1).toFixed(1)} ${y(loss).toFixed(1)}`;
    })
    .join("");
}

function draw(losses, steps, width) {
  const last = Math.max(steps, losses.length, 2);
  const highest = losses.filter(isLoss).reduce((most, loss) => Math.max(most, loss), 0) || 1;
  const ys = ticks(highest, 4);
  const xs = ticks(last, width < 420 ? 4 : 8).filter((tick) => tick <= last && Number.isInteger(tick) && tick > 0);
  if (last < 20 || xs[0] > 1) xs.unshift(1);
  const x = (step) => MARGIN.left + ((step - 1) / (last - 1)) * (width - MARGIN.left - MARGIN.right);
  const y = (loss) => HEIGHT - MARGIN.bottom - (loss / ys.at(-1)) * (HEIGHT - MARGIN.bottom - MARGIN.top);
  const point = (loss, at) => isLoss(loss) && s("circle", { class: "point", cx: x(at + 1), cy: y(loss), r: 2.5 });
  const gap = (loss, at) => !isLoss(loss) && s("text", { class: "gap middle", x: x(at + 1), y: MARGIN.top + 8 }, "\u00d7");
  return s(
    "svg",
    { class: "chart", role: "img", "aria-label": `Loss curve. ${summary(losses, steps)}`, viewBox: `0 0 ${width} ${HEIGHT}` },
    axes(x, y, [...new Set(xs)], ys, width),
    s("path", { class: "line", d: path(losses, x, y) }),
    losses.length <= POINTS_MAX && losses.map(point),
    losses.map(gap),
  );
}

function table(losses) {
  const row = (loss, at) => h("tr", {}, h("td", { class: "number" }, whole(at + 1)), h("td", { class: "number" }, decimal(loss, 4)));
  const head = h("tr", {}, h("th", { scope: "col" }, "step"), h("th", { scope: "col" }, "loss (nats a token)"));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, losses.map(row)));
}

/** A chart that follows its container's width. `update(losses, steps)` draws it anew. */
export function lossChart() {
  const curve = h("div", { class: "curve" });
  const words = h("p", { class: "quiet" });
  const rows = h("div", { class: "rows", tabindex: 0, role: "region", "aria-label": "Loss of each step" });
  const details = h("details", {}, h("summary", {}, "The same as a table"), rows);
  let shown = { losses: [], steps: 0 };
  let drawn;
  const render = () => {
    const { losses, steps } = shown;
    const width = Math.max(280, Math.min(760, curve.clientWidth || 560));
    const signature = JSON.stringify([losses, steps, width, details.open]);
    if (signature === drawn) return;
    drawn = signature;
    curve.replaceChildren(draw(losses, steps, width));
    words.textContent = summary(losses, steps);
    rows.replaceChildren(details.open ? table(losses) : "");
  };
  details.addEventListener("toggle", render);
  new ResizeObserver(render).observe(curve);
  const update = (losses, steps) => {
    shown = { losses: [...losses], steps };
    render();
  };
  return { node: h("div", {}, curve, words, details), update };
}
