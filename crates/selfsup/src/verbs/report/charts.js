// Charts as SVG, drawn from numbers.

/** Round numbers from low to high, about so many. */
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return out;
}

const BOX = { w: 340, h: 178, left: 34, right: 8, top: 8, bottom: 24 };

/** Scales and axes of a chart; `log` for a logarithmic axis along x. */
function frame(xs, ys, { log = false, xTicks = null, xName = "", room = 0.06, box = BOX } = {}) {
  const finite = (v) => v.filter((x) => Number.isFinite(x));
  const range = (values) => {
    const all = finite(values);
    let low = Math.min(...all), high = Math.max(...all);
    if (!all.length) [low, high] = [0, 1];
    if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
    return [low, high];
  };
  const along = (v) => (log ? Math.log(Math.max(v, 1e-12)) : v);
  let [x0, x1] = range(xs.map(along));
  let [y0, y1] = range(ys);
  const pad = (y1 - y0) * room;
  [y0, y1] = [y0 - pad, y1 + pad];
  const yTicks = ticks(y0, y1, 4);
  const widest = Math.max(...yTicks.map((v) => number(v).length), xName.length);
  box = { ...box, left: Math.max(box.left, widest * 6.3 + 9) };
  const x = (v) => box.left + ((along(v) - x0) / (x1 - x0)) * (box.w - box.left - box.right);
  const y = (v) => box.h - box.bottom - ((v - y0) / (y1 - y0)) * (box.h - box.top - box.bottom);
  const large = box.w > 400;
  const root = svg("svg", { viewBox: `0 0 ${box.w} ${box.h}`, "aria-hidden": "true", class: large ? "large" : null });
  for (const v of yTicks) {
    root.append(svg("line", { class: "grid-line", x1: box.left, x2: box.w - box.right, y1: y(v), y2: y(v) }),
      svg("text", { x: box.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, number(v)));
  }
  const marks = xTicks || ticks(x0, x1, 4);
  marks.forEach((v) => {
    const at = x(v);
    if (at < box.left + (xName && !large ? 6 : -1) || at > box.w - box.right + 1) return;
    const room = number(v).length * 3.2;
    root.append(svg("text", { x: Math.min(at, box.w - room), y: box.h - box.bottom + 15, "text-anchor": "middle" }, number(v)));
  });
  if (xName && large) root.append(svg("text", { x: (box.left + box.w - box.right) / 2, y: box.h - 4, "text-anchor": "middle" }, xName));
  else if (xName) root.append(svg("text", { x: box.left - 6, y: box.h - box.bottom + 15, "text-anchor": "end", opacity: .8 }, xName));
  root.append(svg("line", { class: "axis", x1: box.left, x2: box.w - box.right, y1: box.h - box.bottom, y2: box.h - box.bottom }));
  return { root, x, y, box, y0, y1 };
}

/**
 * Lines with a cursor: `series` are `{name, colour, x, y, low?, high?}`. The pointer, or arrow keys, move the cursor;
 * the line below the chart says the values there.
 */
function lines(title, series, options = {}) {
  const xs = series.flatMap((s) => s.x);
  const ys = series.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]);
  const band = options.band || [null, null];
  const f = frame(xs, [...ys, ...band.filter((v) => v !== null)], options);
  const { root, x, y, box } = f;
  if (band[0] !== null || band[1] !== null) {
    const top = band[1] === null ? box.top : y(band[1]);
    const bottom = band[0] === null ? box.h - box.bottom : y(band[0]);
    root.append(svg("rect", { class: "band", x: box.left, width: box.w - box.left - box.right, y: top, height: Math.max(0, bottom - top) }));
    band.forEach((v) => v !== null && root.append(svg("line", { class: "edge", x1: box.left, x2: box.w - box.right, y1: y(v), y2: y(v) })));
  }
  for (const s of series) {
    if (s.low && s.high) {
      const up = s.x.map((v, i) => `${x(v).toFixed(1)},${y(s.high[i]).toFixed(1)}`);
      const down = s.x.map((v, i) => `${x(v).toFixed(1)},${y(s.low[i]).toFixed(1)}`).reverse();
      root.append(svg("polygon", { points: [...up, ...down].join(" "), fill: s.colour, opacity: .14 }));
    }
    const path = s.x.map((v, i) => (Number.isFinite(s.y[i]) ? `${x(v).toFixed(1)},${y(s.y[i]).toFixed(1)}` : null)).filter(Boolean);
    root.append(svg("polyline", { class: "curve", points: path.join(" "), stroke: s.colour, "stroke-dasharray": s.dash }));
    if (s.x.length <= 12) {
      s.x.forEach((v, i) => Number.isFinite(s.y[i]) && root.append(svg("circle", { cx: x(v), cy: y(s.y[i]), r: 2.8, fill: s.colour })));
    }
  }
  const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.h - box.bottom, visibility: "hidden" });
  const dots = series.map((s) => svg("circle", { r: 4, fill: s.colour, stroke: "var(--panel)", "stroke-width": 1.5, visibility: "hidden" }));
  root.append(cursor, ...dots);
  const places = [...new Set(xs)].sort((a, b) => a - b);
  const readout = el(options.inline ? "span" : "div", { class: options.inline ? "readout soft" : "readout" });
  const rest = () => {
    cursor.setAttribute("visibility", "hidden");
    dots.forEach((d) => d.setAttribute("visibility", "hidden"));
    readout.replaceChildren(...[options.rest || []].flat());
  };
  let at = null;
  const look = (value) => {
    at = places.reduce((best, v, i) => (Math.abs(x(v) - x(value)) < Math.abs(x(places[best]) - x(value)) ? i : best), 0);
    const found = places[at];
    cursor.setAttribute("x1", x(found));
    cursor.setAttribute("x2", x(found));
    cursor.setAttribute("visibility", "visible");
    const parts = [el("span", {}, `${options.xName || "step"} ${number(Math.round(found * 100) / 100)}`)];
    series.forEach((s, k) => {
      const i = s.x.reduce((best, v, j) => (Math.abs(v - found) < Math.abs(s.x[best] - found) ? j : best), 0);
      const near = s.x.length && Number.isFinite(s.y[i]);
      dots[k].setAttribute("visibility", near ? "visible" : "hidden");
      if (!near) return;
      dots[k].setAttribute("cx", x(s.x[i]));
      dots[k].setAttribute("cy", y(s.y[i]));
      parts.push(el("span", { class: "key" }, series.length > 1 && el("i", { style: `background:${s.colour}` }),
        series.length > 1 ? `${s.name} ` : "", el("b", {}, number(s.y[i]))));
    });
    readout.replaceChildren(...parts);
  };
  const last = series.map((s) => `${s.name}: ${number(s.y[s.y.length - 1])}`).join(", ");
  const chart = el("div", { class: "chart", tabindex: 0, role: "img", "aria-label": `${title}; at the end ${last}. Arrow keys read values.` }, root);
  const pointed = (event) => {
    const size = root.getBoundingClientRect();
    const px = ((event.clientX - size.left) / size.width) * box.w;
    const best = places.reduce((b, v) => (Math.abs(x(v) - px) < Math.abs(x(b) - px) ? v : b), places[0]);
    if (places.length) look(best);
  };
  chart.addEventListener("pointermove", pointed);
  chart.addEventListener("pointerdown", pointed);
  chart.addEventListener("pointerleave", rest);
  chart.addEventListener("blur", rest);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !places.length) return;
    event.preventDefault();
    const next = at === null ? (step > 0 ? 0 : places.length - 1) : at + step;
    look(places[Math.min(Math.max(next, 0), places.length - 1)]);
  });
  rest();
  return [chart, readout];
}

const METRICS = {
  loss: "loss", val_loss: "validation loss", knn: "kNN accuracy in %", lr: "learning rate", grad_norm: "gradient norm",
  samples_per_second: "samples a second", effective_rank: "effective rank", feature_spread: "spread of the features",
  embedding_std: "spread of the embeddings",
};
const FIRST = ["loss", "val_loss", "knn", "effective_rank", "feature_spread", "embedding_std", "accuracy"];
const LAST = /^cost\/|seconds|^lr$|grad_norm|skipped|bad_|scale|memory|param_norm|momentum/;

/** The card of one metric over the runs that have it. */
function metricCard(name) {
  const having = RUNS.map((run, r) => [run.curves[name], r]).filter(([c]) => c && c.x.length);
  const band = having.map(([c]) => c.band).find(Boolean) || null;
  const series = having.map(([c, r]) => ({ name: RUNS[r].name, colour: runColour(r), x: c.x, y: c.y }));
  const healthy = band && `healthy ${band[0] !== null && band[1] !== null ? `${number(band[0])} to ${number(band[1])}`
    : band[0] !== null ? `from ${number(band[0])}` : `up to ${number(band[1])}`}`;
  const ends = series.length === 1 ? number(series[0].y[series[0].y.length - 1]) : null;
  const title = METRICS[name] || words(name);
  const alone = series.length === 1;
  const rest = [healthy, ends && `last ${ends}`].filter(Boolean).join(" · ");
  const [chart, readout] = lines(title, series, { band: band || undefined, xName: "step", inline: alone, rest: alone ? rest : healthy });
  return el("div", { class: "card" }, el("h3", {}, title, alone && readout), chart, !alone && readout);
}

function curves() {
  const names = [...new Set(RUNS.flatMap((run) => Object.keys(run.curves)))];
  if (!names.length) return null;
  const banded = (name) => RUNS.some((run) => run.curves[name] && run.curves[name].band);
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : banded(name) ? 20 : LAST.test(name) ? 99 : 50);
  names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  const shown = names.filter((n) => rank(n) < 99), rest = names.filter((n) => rank(n) >= 99);
  const anyBand = names.some(banded);
  return section("curves", "Training",
    anyBand ? "A green band is where healthy runs of the method keep a gauge." : null,
    legend(), el("div", { class: "grid" }, shown.map(metricCard)),
    rest.length > 0 && el("details", { style: "margin-top:1rem" }, el("summary", {}, `${rest.length} more: ${rest.map((n) => METRICS[n] || words(n)).join(", ")}`),
      el("div", { class: "grid" }, rest.map(metricCard))));
}

const SET_NAMES = (run) => ["trained", "random weights", run.raw || "raw features"];

/** Accuracies of a run as marks on lines: trained filled, random weights hollow, raw features a diamond. */
function dotPlot(run) {
  const rows = run.accuracies;
  const values = rows.flatMap((row) => row.values).filter((v) => v !== null);
  const narrow = matchMedia("(max-width: 46rem)").matches;
  const step = narrow ? 30 : 34, box = { w: narrow ? 330 : 520, h: rows.length * step + 34, left: narrow ? 116 : 128, right: 14, top: 4, bottom: 26 };
  const low = Math.max(0, Math.floor((Math.min(...values) - 4) / 5) * 5), high = Math.min(100, Math.ceil((Math.max(...values) + 3) / 5) * 5);
  const x = (v) => box.left + ((v - low) / (high - low || 1)) * (box.w - box.left - box.right);
  const root = svg("svg", { viewBox: `0 0 ${box.w} ${box.h}`, role: "img", "aria-label": "accuracies; the table beside has the numbers" });
  for (const v of ticks(low, high, narrow ? 3 : 5)) {
    root.append(svg("line", { class: "grid-line", x1: x(v), x2: x(v), y1: box.top, y2: box.h - box.bottom }),
      svg("text", { x: x(v), y: box.h - 9, "text-anchor": "middle" }, number(v)));
  }
  rows.forEach((row, i) => {
    const y = box.top + step * (i + 0.5);
    root.append(svg("text", { x: box.left - (narrow ? 8 : 14), y: y + 4, "text-anchor": "end", style: "fill:var(--ink);font-size:12px" }, row.name));
    const there = row.values.filter((v) => v !== null);
    root.append(svg("line", { x1: x(Math.min(...there)), x2: x(Math.max(...there)), y1: y, y2: y, stroke: "var(--line)", "stroke-width": 3 }));
    [2, 1, 0].forEach((k) => {
      const v = row.values[k];
      if (v === null) return;
      const sd = row.sd && row.sd[k];
      if (sd) root.append(svg("line", { x1: x(v - sd), x2: x(v + sd), y1: y, y2: y, stroke: ["var(--c0)", "var(--c1)", "var(--c2)"][k], "stroke-width": 1.5 }));
      const title = svg("title", {}, `${SET_NAMES(run)[k]}: ${percent(v)}%`);
      const mark = [
        svg("circle", { cx: x(v), cy: y, r: 6.5, fill: "var(--c0)" }, title),
        svg("circle", { cx: x(v), cy: y, r: 5, fill: "var(--panel)", stroke: "var(--c1)", "stroke-width": 2.2 }, title),
        svg("path", { d: `M${x(v)} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5z`, fill: "var(--panel)", stroke: "var(--c2)", "stroke-width": 2.2 }, title),
      ][k];
      root.append(mark);
    });
  });
  return root;
}

/** A swatch of the dot plot. */
function setKey(k, name) {
  const mark = [
    svg("circle", { cx: 6, cy: 6, r: 5, fill: "var(--c0)" }),
    svg("circle", { cx: 6, cy: 6, r: 4.2, fill: "none", stroke: "var(--c1)", "stroke-width": 2 }),
    svg("path", { d: "M6 1l5 5l-5 5l-5 -5z", fill: "none", stroke: "var(--c2)", "stroke-width": 2 }),
  ][k];
  return el("span", { class: "key" }, svg("svg", { viewBox: "0 0 12 12", style: "width:12px;height:12px" }, mark), name);
}
