"use strict";
// Small things that the other scripts share. All text goes into the page as text, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const RUNS = DATA.runs;
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child.nodeType ? child : String(child));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A number in at most four significant digits; whole ones as they are. */
function number(v) {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const size = Math.abs(v);
  if (v === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return v.toExponential(1).replace("e+", "e").replace("-", "−");
  if (Number.isInteger(v)) return v.toLocaleString("en").replace("-", "−");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  let text = v.toFixed(Math.min(digits, 4));
  if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  return text.replace("-", "−");
}

const percent = (v) => (v === null || v === undefined ? "–" : v.toFixed(1));
const colour = (i) => `var(--c${((i % COLOURS) + COLOURS) % COLOURS})`;
const words = (name) => name.replace(/_/g, " ");
const runColour = (r) => colour(r);
const section = (id, title, about, ...children) =>
  el("section", { id, "aria-labelledby": id + "-title" },
    el("header", {}, el("h2", { id: id + "-title" }, title), about && el("p", {}, about)), children);

/** The legend of runs; nothing for one. */
function legend() {
  if (RUNS.length < 2) return null;
  return el("div", { class: "legend" },
    RUNS.map((run, r) => el("span", { class: "key" }, el("i", { style: `background:${runColour(r)}` }), run.name)));
}

/** Buttons of which one is pressed; arrow keys go from one to the next. */
function choice(label, options, value, change) {
  const buttons = options.map(([key, text]) =>
    el("button", { type: "button", "aria-pressed": String(key === value), "data-key": key }, text));
  const press = (button) => {
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
    change(button.dataset.key);
  };
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => press(button));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(i + step + buttons.length) % buttons.length];
      next.focus();
      press(next);
    });
  });
  return el("div", { class: "choice", role: "group", "aria-label": label }, el("span", {}, label), buttons);
}

const tip = document.getElementById("tip");

/** Shows what is at the pointer beside it, inside the window. */
function showTip(x, y, ...children) {
  tip.replaceChildren(...children.flat(Infinity).filter(Boolean).map((c) => (c.nodeType ? c : document.createTextNode(c))));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
  const top = Math.min(Math.max(8, y + 14), innerHeight - box.height - 8);
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = top + "px";
}
function hideTip() {
  tip.hidden = true;
}

/** What redraws itself when the colours change. */
const repaint = [];
