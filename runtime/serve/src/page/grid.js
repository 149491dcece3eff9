// Grids in ARC's ten colours, with their numbers for whoever cannot tell the colours apart or does not see them.

import { counted, h, s } from "./dom.js";

const COLOURS = [
  "#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25",
];
const ON_DARK = [0, 1, 9];
const SIDE_MAX = 30;
/** Pixels that the longer side of a grid takes, about. */
const SIZE = 168;

/** Whether a value is a grid: rows of one length, of colours 0 to 9. */
export function isGrid(value) {
  const isRow = (row) =>
    Array.isArray(row) &&
    row.length === value[0].length &&
    row.every((cell) => Number.isInteger(cell) && cell >= 0 && cell <= 9);
  const fits = (length) => length > 0 && length <= SIDE_MAX;
  return Array.isArray(value) && fits(value.length) && Array.isArray(value[0]) && fits(value[0].length) && value.every(isRow);
}

/** The grid in a text that is one, as JSON rows. */
export function gridIn(text) {
  try {
    const value = JSON.parse(text);
    return isGrid(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const asText = (grid) => grid.map((row) => row.join(" ")).join("; ");

/** How a grid differs from the expected one, in words; empty where nothing was expected. */
function difference(grid, expected) {
  if (!isGrid(expected)) return "";
  const [height, width] = [expected.length, expected[0].length];
  if (grid.length !== height || grid[0].length !== width) {
    return `${grid.length}\u00d7${grid[0].length} where ${height}\u00d7${width} was expected`;
  }
  const wrong = grid.flat().filter((cell, at) => cell !== expected[Math.floor(at / width)][at % width]).length;
  return wrong ? `${counted(wrong, "cell")} wrong` : "exact";
}

function cell(row, column, colour, isWrong) {
  const [x, y] = [10 * column, 10 * row];
  const ink = ON_DARK.includes(colour) ? "#ffffff" : "#000000";
  const parts = [s("rect", { x, y, width: 10, height: 10, fill: COLOURS[colour], "data-colour": colour })];
  if (isWrong) {
    const cross = `M${x + 2.5} ${y + 2.5}l5 5m0 -5l-5 5`;
    parts.push(s("path", { class: "wrong", d: cross, stroke: ink }));
  }
  const digit = { class: "digit", x: x + 5, y: y + 5, fill: ink, "text-anchor": "middle", "dominant-baseline": "central" };
  parts.push(s("text", digit, String(colour)));
  return parts;
}

function picture(grid, expected, label) {
  const [height, width] = [grid.length, grid[0].length];
  const scale = Math.min(24, Math.max(5, SIZE / Math.max(height, width)));
  const comparable = isGrid(expected) && expected.length === height && expected[0].length === width;
  const cells = grid.flatMap((row, r) =>
    row.map((colour, c) => cell(r, c, colour, comparable && expected[r][c] !== colour)),
  );
  return s(
    "svg",
    {
      class: "cells",
      role: "img",
      viewBox: `-0.5 -0.5 ${10 * width + 1} ${10 * height + 1}`,
      width: Math.round(scale * width),
      height: Math.round(scale * height),
      "aria-label": `${label}: ${height} by ${width}. ${asText(grid)}`,
    },
    cells,
  );
}

/** A grid under its caption. With `expected`, cells that differ are crossed out. What is no grid is shown as text. */
export function figure(value, caption, expected) {
  if (!isGrid(value)) {
    const text = value === null || value === undefined ? "none" : typeof value === "string" ? value : JSON.stringify(value);
    return h("figure", { class: "grid" }, h("figcaption", {}, caption), h("pre", { class: "no-grid" }, text));
  }
  const verdict = expected === undefined ? "" : difference(value, expected);
  const label = verdict ? `${caption}, ${verdict}` : caption;
  const note = verdict && h("span", { class: verdict === "exact" ? "good" : "bad" }, ` ${verdict}`);
  return h("figure", { class: "grid" }, h("figcaption", {}, caption, note), picture(value, expected, label));
}

const arrow = () => h("span", { class: "arrow", "aria-hidden": "true" }, "\u2192");

/** A puzzle: its demonstrations and what is asked. */
export function puzzle(value) {
  const pair = (name, example) => [
    figure(example.input, `${name}, input`),
    arrow(),
    example.output === undefined || example.output === null
      ? h("span", { class: "unknown" }, "to find")
      : figure(example.output, `${name}, output`),
  ];
  const row = (name) => (example, at) => h("div", { class: "pair" }, pair(`${name} ${at + 1}`, example));
  return h("div", { class: "puzzle" }, (value.train ?? []).map(row("shown")), (value.test ?? []).map(row("asked")));
}

/** The choice whether cells show their numbers; it holds for the whole page. */
export function digitsToggle() {
  const box = h("input", {
    type: "checkbox",
    change: (event) => document.body.classList.toggle("digits", event.target.checked),
  });
  box.checked = document.body.classList.contains("digits");
  return h("label", { class: "choice" }, box, " numbers in the cells");
}
