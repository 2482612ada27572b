// Tables and what is close to one: neighbours, confusions, label curves, robustness, settings.

/** Rows of neighbours: samples of all classes in turn. */
function neighbourGrid() {
  const cards = RUNS.filter((run) => run.map).map((run) => {
    const { map } = run, gallery = galleryOf(map);
    if (!gallery || gallery.kind === "audio") return null;
    const there = Array.from({ length: map.n }, (_, i) => i).filter((i) => gallery.items[i]);
    const classes = map.label ? map.classes.length : 1;
    const queries = [];
    for (let c = 0; queries.length < 12 && c < classes * 4; c++) {
      const own = there.filter((i) => (!map.label || map.label[i] === c % classes) && !queries.includes(i));
      if (own.length) queries.push(own[Math.floor(own.length * (0.3 + 0.17 * Math.floor(c / classes)))]);
    }
    if (gallery.kind === "text") return textNeighbours(run, queries.slice(0, 6));
    return el("div", { class: "card" }, RUNS.length > 1 && el("h3", {}, run.name), el("div", { class: "neighbours" }, queries.map((i) =>
      el("div", { class: "nrow" }, thumb(map, i, null, null, null),
        el("div", { class: "thumbs" }, Array.from({ length: map.k }, (_, j) => thumb(map, map.near[i * map.k + j], i, map.similar[i * map.k + j], null)))))));
  }).filter(Boolean);
  if (!cards.length) return null;
  const labelled = RUNS.some((run) => run.map && run.map.label);
  return section("neighbours", "Nearest neighbours", `A sample on the left, the samples with the most similar features beside it, with their cosine similarity${labelled ? "; dashed where the label is another" : ""}.`, cards);
}

function textNeighbours(run, queries) {
  const { map } = run;
  return el("div", { class: "card" }, RUNS.length > 1 && el("h3", {}, run.name), el("div", { class: "grid wide" }, queries.map((i) =>
    el("div", { class: "inspect", style: "min-height:0" }, el("blockquote", {}, sampleOf(map, i)), map.label && el("p", { class: "small soft" }, labelOf(map, i)), nearest(map, i)))));
}

const MOST_CLASSES = 30;

/** Who is taken for whom. */
function confusions() {
  const having = RUNS.filter((run) => run.map && run.map.guessed);
  if (!having.length) return null;
  const cards = having.map((run) => {
    const { map } = run, { guessed } = map, n = map.classes.length;
    const at = (t, p) => guessed.confusion[t * n + p];
    const total = map.classes.map((_, t) => map.classes.reduce((sum, _, p) => sum + at(t, p), 0));
    const pairs = [];
    for (let t = 0; t < n; t++) for (let p = 0; p < n; p++) if (t !== p && at(t, p) > 0) pairs.push([at(t, p) / total[t], t, p, at(t, p)]);
    pairs.sort((a, b) => b[0] - a[0] || b[3] - a[3]);
    const worst = el("div", {}, el("h3", { style: "margin-bottom:.4rem" }, "Most confused"), el("ul", { class: "worst" }, pairs.slice(0, 8).map(([share, t, p, count]) =>
      el("li", {}, el("b", {}, map.classes[t]), " taken for ", el("b", {}, map.classes[p]), el("span", { class: "soft" }, ` ${(100 * share).toFixed(0)}% (${count} of ${total[t]})`)))));
    const matrix = n <= MOST_CLASSES && el("div", { class: "scroll" }, el("table", { class: "confusion" },
      el("thead", {}, el("tr", {}, el("th", {}), map.classes.map((name) => el("th", { scope: "col" }, el("span", {}, name))))),
      el("tbody", {}, map.classes.map((name, t) => el("tr", {}, el("th", { scope: "row", title: name }, name), map.classes.map((other, p) => {
        const share = total[t] ? at(t, p) / total[t] : 0;
        return el("td", { class: t === p ? "diagonal" : "", style: `background:rgba(var(--shade),${(share ** 0.6 * 0.85).toFixed(3)});${share > 0.55 ? "color:var(--bg)" : ""}`, title: `${name} taken for ${other}: ${at(t, p)} of ${total[t]}` },
          share >= 0.005 ? Math.round(100 * share) : "");
      }))))));
    const about = `${percent(guessed.accuracy)}% right`;
    return el("div", { class: "card" }, el("h3", {}, RUNS.length > 1 ? run.name : about, RUNS.length > 1 && el("span", { class: "soft" }, about)),
      el("div", { class: "pair" }, matrix || null, worst));
  });
  const g = having[0].map.guessed;
  return section("confusion", "What is taken for what",
    `The vote of the ${g.k} nearest among ${g.voters.toLocaleString("en")} labelled training samples, for the samples of the map. Rows are true classes, in percent.`, cards);
}

/** Accuracies and measures of all runs. */
function results() {
  const accurate = RUNS.filter((run) => run.accuracies.length);
  const measured = RUNS.filter((run) => run.measures.length);
  const tuned = RUNS.filter((run) => run.reached.length);
  if (!accurate.length && !measured.length && !tuned.length) return null;
  const cell = (row, k) => {
    const v = row.values[k], sd = row.sd && row.sd[k];
    const best = Math.max(...row.values.filter((x) => x !== null)) === v;
    return el("td", { class: `n${best ? " best" : ""}` }, percent(v), sd ? el("span", { class: "sd" }, ` ± ${sd.toFixed(1)}`) : "");
  };
  const cards = accurate.map((run) => el("div", { class: "card" }, el("h3", {}, RUNS.length > 1 ? run.name : "Accuracy in %", RUNS.length > 1 && el("span", { class: "soft" }, "accuracy in %")),
    el("div", { class: "legend" }, SET_NAMES(run).map((name, k) => setKey(k, name))), dotPlot(run),
    el("div", { class: "scroll", style: "margin-top:.6rem" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, ""), SET_NAMES(run).map((name) => el("th", { class: "n", scope: "col" }, name)))),
      el("tbody", {}, run.accuracies.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name), [0, 1, 2].map((k) => cell(row, k)))))))));
  const blind = measured.map((run) => {
    const used = [0, 1, 2].filter((k) => run.measures.some((row) => row.values[k] !== null));
    return el("div", { class: "card" }, el("h3", {}, RUNS.length > 1 ? run.name : "Without labels", RUNS.length > 1 && el("span", { class: "soft" }, "without labels")),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, ""), used.map((k) => el("th", { class: "n", scope: "col" }, SET_NAMES(run)[k])))),
        el("tbody", {}, run.measures.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name), used.map((k) => el("td", { class: "n" }, number(row.values[k])))))))));
  });
  const reached = tuned.map((run) => el("div", { class: "card" }, el("h3", {}, RUNS.length > 1 ? run.name : "Reached"),
    el("table", {}, el("tbody", {}, run.reached.map(([name, v]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "n" }, number(v))))))));
  return section("results", "Results", accurate.length ? "The trained encoder beside the same one with random weights, and beside features that need no encoder." : null,
    el("div", { class: "grid wide" }, accurate.length + blind.length + reached.length > 1 ? [cards, blind, reached] : [cards, blind, reached]));
}

/** The rows of a table that another verb wrote, whatever it is called there. */
function rowsOf(found) {
  if (!found) return [];
  if (Array.isArray(found)) return found.filter((r) => r && typeof r === "object");
  for (const key of ["rows", "cells", "results", "points", "table", "summary"]) if (Array.isArray(found[key])) return rowsOf(found[key]);
  const lists = Object.values(found).filter((v) => Array.isArray(v) && v.some((r) => r && typeof r === "object"));
  return lists.length ? rowsOf(lists[0]) : [];
}
const pick = (row, keys) => keys.map((k) => row[k]).find((v) => v !== undefined && v !== null);
const flat = (v) => (v === null || v === undefined ? "–" : typeof v === "number" ? number(v) : typeof v === "object" ? Object.values(v).map(flat).join(" ") : String(v));

/** Any rows as a table. */
function anyTable(rows) {
  const pair = (v) => Array.isArray(v) && v.length === 2 && v.every((x) => typeof x === "number");
  const shown = (key) => rows.some((row) => (row[key] !== null && row[key] !== undefined && typeof row[key] !== "object") || pair(row[key]));
  const all = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = all.filter((key) => shown(key) && !(key === "size" && all.includes("amount")) && key !== "at_end");
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, columns.map((c) => el("th", { scope: "col", class: rows.some((r) => typeof r[c] === "number" || pair(r[c])) ? "n" : "" }, words(c))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, columns.map((c) => el("td", { class: typeof row[c] === "number" || pair(row[c]) ? "n" : "" }, pair(row[c]) ? row[c].map(number).join(" to ") : typeof row[c] === "string" ? words(row[c]) : flat(row[c]))))))));
}

/** Lines over labels or severities from rows; null where the rows hold no such thing. */
function rowLines(title, rows, xKeys, nameKeys, { log = false, xName = "" } = {}) {
  const yKeys = ["mean", "accuracy", "value", "score"];
  const groups = new Map();
  for (const row of rows) {
    const x = Number(pick(row, xKeys)), y = pick(row, yKeys);
    if (!Number.isFinite(x) || typeof y !== "number") continue;
    const name = nameKeys.map((k) => row[k]).filter((v) => v !== undefined && v !== null).join(", ");
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push({ x, y, low: row.low ?? (row.interval && row.interval[0]), high: row.high ?? (row.interval && row.interval[1]) });
  }
  const series = [...groups].slice(0, COLOURS).map(([name, points], i) => {
    points.sort((a, b) => a.x - b.x);
    const whole = points.every((p) => typeof p.low === "number" && typeof p.high === "number");
    return { name: words(name), colour: colour(i), dash: i % 2 ? "6 4" : undefined, x: points.map((p) => p.x), y: points.map((p) => p.y), low: whole ? points.map((p) => p.low) : undefined, high: whole ? points.map((p) => p.high) : undefined };
  });
  if (!series.length || series.every((s) => s.x.length < 2)) return null;
  const xs = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
  return [el("div", { class: "legend" }, series.map((s) => el("span", { class: "key" }, el("i", { style: `background:${s.colour}` }), s.name))),
    lines(title, series, { log, xName, xTicks: xs, box: { w: 620, h: 320, left: 46, right: 14, top: 10, bottom: 44 } })];
}

/** What pre-training saves of labels, in sentences. */
function saved(run) {
  const found = (run.label_curve.saved || []).filter((s) => typeof s.needs === "number");
  const unit = run.label_curve.unit || "labels";
  const than = { at_most: "at most ", more_than: "more than " };
  const times = (s) => (s.known === "more_than" ? `more than ${number(s.times)}` : s.known === "at_most" ? `at most ${number(s.times)}` : number(s.times));
  const list = found.map((s) => el("li", {}, el("b", {}, words(s.setting)), ` with ${number(s.amount)} ${unit} is as good as `, el("b", {}, words(s.against)),
    ` with ${than[s.known] || ""}${number(s.needs)}`, el("span", { class: "soft" }, ` (${times(s)} times)`)));
  return list.length ? el("ul", { class: "worst", style: "margin-top:.8rem" }, list) : null;
}

function written(id, title, about, key, plot, more) {
  const having = RUNS.filter((run) => run[key] && rowsOf(run[key]).length);
  if (!having.length) return null;
  return section(id, title, about, having.map((run) => {
    const rows = rowsOf(run[key]);
    const drawn = plot(run, rows);
    return el("div", { class: "card", style: "margin-bottom:1rem" }, RUNS.length > 1 && el("h3", {}, run.name),
      drawn ? el("div", { class: "beside" }, el("div", {}, drawn), anyTable(rows)) : anyTable(rows), more && more(run));
  }));
}

const labelCurve = () => written("labels", "What labels are worth", "The same labels for every way of using them; shaded: 95% interval.", "label_curve",
  (run, rows) => rowLines("label curve", rows, ["amount", "labels", "n", "count"], ["setting", "arm", "method", "name"], { log: true, xName: run.label_curve.unit || "labels" }), saved);
/** Accuracies by kind of corruption and severity: shaded cells for the trained encoder, means and drops for all features. */
function corrupted(run) {
  const r = run.robustness, { measure } = r;
  const value = (scores, set) => (scores && scores[set] && typeof scores[set][measure] === "number" ? scores[set][measure] : null);
  const sets = Object.keys(r.clean || {}).filter((set) => value(r.clean, set) !== null);
  const called = (set) => ({ random: "random weights", raw: run.raw || r.raw || "raw features", tuned: "fine-tuned" })[set] || set;
  const severities = [...new Set(r.kinds.flatMap((k) => k.severities.map((s) => s.severity)))].sort((a, b) => a - b);
  const at = (kind, severity, set) => value((kind.severities.find((s) => s.severity === severity) || {}).scores, set);
  const counted = r.kinds.filter((k) => k.counts !== false);
  const mean = (severity, set) => {
    const found = counted.map((k) => at(k, severity, set)).filter((v) => v !== null);
    return found.length === counted.length && found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
  };
  const colours = { trained: 0, tuned: 0, random: 1, raw: 2 };
  const series = sets.map((set, i) => {
    const points = [[0, value(r.clean, set)], ...severities.map((s) => [s, mean(s, set)])].filter(([, v]) => v !== null);
    return { name: called(set), colour: colour(colours[set] ?? i + 3), dash: set === "random" ? "6 4" : set === "raw" ? "2 3" : undefined, x: points.map((p) => p[0]), y: points.map((p) => p[1]) };
  });
  const first = sets[0], best = value(r.clean, first) || 1;
  const cell = (v) => {
    const share = v === null ? 0 : Math.max(0, Math.min(1, v / best));
    return el("td", { style: `background:rgba(var(--shade),${(share ** 1.6 * 0.8).toFixed(3)});${share > 0.8 ? "color:var(--bg)" : ""}`, title: v === null ? "" : `${percent(v)}%` }, v === null ? "" : Math.round(v));
  };
  const drop = (scores, set) => { const v = value(scores, set); return v === null ? "–" : `${v.toFixed(0)}%`; };
  let group = null;
  const rows = r.kinds.map((kind) => {
    const head = kind.group !== group ? el("tr", {}, el("th", { colspan: severities.length + 1, class: "group" }, words(kind.group || ""))) : null;
    group = kind.group;
    return [head, el("tr", {}, el("th", { scope: "row", title: kind.about || "" }, words(kind.name), kind.counts === false ? " *" : ""), severities.map((s) => cell(at(kind, s, first))),
      sets.map((set) => el("td", { class: "plain" }, drop(kind.relative_drop, set))))];
  });
  const grid = el("div", { class: "scroll tall" }, el("table", { class: "confusion severity" },
    el("thead", {}, el("tr", {}, el("th", {}, called(first)), severities.map((s) => el("th", { scope: "col" }, s)), sets.map((set) => el("th", { scope: "col", class: "plain" }, `lost, ${called(set)}`)))),
    el("tbody", {}, rows)));
  const said = sets.map((set) => [value(r.clean, set), value(r.mean, set), set]).filter(([, m]) => m !== null)
    .map(([c, m, set]) => el("li", {}, el("b", {}, called(set)), ` ${percent(c)} on clean samples, ${percent(m)} on corrupted ones`, el("span", { class: "soft" }, ` (${drop(r.relative_drop, set)} lost)`)));
  return el("div", { class: "card", style: "margin-bottom:1rem" }, el("h3", {}, RUNS.length > 1 ? run.name : `${measure === "linear" ? "linear probe" : words(measure)}, accuracy in %`, RUNS.length > 1 && el("span", { class: "soft" }, words(measure))),
    el("div", { class: "beside" }, el("div", {}, el("div", { class: "legend" }, series.map((s) => el("span", { class: "key" }, el("i", { style: `background:${s.colour}` }), s.name))),
      lines("accuracy by severity", series, { xName: "severity", xTicks: [0, ...severities], box: { w: 620, h: 320, left: 46, right: 14, top: 10, bottom: 44 } }),
      el("ul", { class: "worst" }, said)), grid),
    counted.length < r.kinds.length && el("p", { class: "soft small" }, "* does not count for the mean."));
}

function robustness() {
  const known = RUNS.filter((run) => run.robustness && Array.isArray(run.robustness.kinds) && run.robustness.clean);
  if (!known.length) {
    return written("robustness", "Robustness", "Accuracy as the samples get worse.", "robustness",
      (run, rows) => rowLines("robustness", rows, ["severity", "level", "snr_db"], ["set", "encoder", "corruption", "kind", "name"], { xName: "severity" }));
  }
  return section("robustness", "Robustness", "Accuracy as samples get worse, from clean (0) to the worst severity (5): the mean over the kinds, and each kind for the trained encoder.",
    known.map(corrupted));
}

function pictures() {
  const having = RUNS.filter((run) => run.pictures);
  if (!having.length) return null;
  return section("pictures", "What was learnt", null, having.map((run) => el("div", { class: "grid wide", style: "margin-bottom:1rem" }, run.pictures.map((p) =>
    el("figure", { class: "card picture" }, el("h3", {}, p.title, RUNS.length > 1 && el("span", { class: "soft" }, run.name)), p.src && el("img", { src: p.src, alt: p.title }),
      p.rows && el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, p.rows[0].map((c) => el("th", { scope: "col" }, c)))), el("tbody", {}, p.rows.slice(1).map((row) => el("tr", {}, row.map((c) => el("td", {}, c))))))),
      p.caption && el("figcaption", {}, p.caption))))));
}

/** How the runs were made: what differs first, then all of it. */
function howMade() {
  const keys = [...new Set(RUNS.flatMap((run) => run.config.map(([k]) => k)))];
  const values = RUNS.map((run) => new Map(run.config));
  const differ = keys.filter((k) => new Set(values.map((v) => v.get(k) ?? "–")).size > 1);
  const table = (list) => el("div", { class: "scroll" }, el("table", {}, RUNS.length > 1 && el("thead", {}, el("tr", {}, el("th", {}, ""), RUNS.map((run) => el("th", { scope: "col" }, run.name)))),
    el("tbody", {}, list.map((k) => el("tr", {}, el("th", { scope: "row" }, k), values.map((v) => el("td", { class: "mono" }, v.get(k) ?? "–")))))));
  const facts = [...new Set(RUNS.flatMap((run) => run.facts.map(([k]) => k)))];
  const known = RUNS.map((run) => new Map(run.facts));
  const costs = el("div", { class: "scroll" }, el("table", {}, RUNS.length > 1 && el("thead", {}, el("tr", {}, el("th", {}, ""), RUNS.map((run) => el("th", { scope: "col", class: "n" }, run.name)))),
    el("tbody", {}, facts.map((k) => el("tr", {}, el("th", { scope: "row" }, k), known.map((v) => el("td", { class: "n" }, v.get(k) ?? "–")))))));
  return section("run", "How it was made", null, el("div", { class: "grid wide" },
    facts.length > 0 && el("div", { class: "card" }, el("h3", {}, "Data and cost"), costs),
    el("div", { class: "card" }, el("h3", {}, RUNS.length > 1 ? "What differs" : "Configuration"),
      RUNS.length > 1 && (differ.length ? table(differ) : el("p", { class: "soft" }, "Nothing: the configurations are the same.")),
      el("details", { open: RUNS.length === 1 && keys.length < 40 }, el("summary", {}, `All ${keys.length} keys`), table(keys)))));
}
