// The map of samples: points on a canvas, what is under the pointer, and the sample that is looked at.

const SHAPES = ["circle", "square", "triangle", "diamond"];
/** Categories that get colours of their own: beyond, they would not be told apart. */
const CATEGORIES = COLOURS * SHAPES.length;
const shape = (i) => SHAPES[Math.floor(i / COLOURS) % SHAPES.length];

const VIEW = { layout: null, by: null, only: null, lit: null };
const MAPS = [];

/** The gallery of a map, if its samples are on the page. */
const galleryOf = (map) => (map && map.gallery !== undefined ? DATA.galleries[map.gallery] : null);
const sampleOf = (map, i) => {
  const gallery = galleryOf(map);
  return gallery ? gallery.items[i] : null;
};
const className = (map, c) => (c === null || c === undefined ? "no label" : map.classes[c] || `class ${c}`);
const labelOf = (map, i) => (map.label ? className(map, map.label[i]) : null);

/** Ways to colour a map. */
function colourings(map) {
  const out = [];
  if (map.label) out.push(["label", "label"]);
  if (map.guessed) out.push(["error", "right or wrong"]);
  if (map.group) out.push(["group", "group"]);
  out.push(["strange", "distance to others"]);
  return out;
}

/** The category of a sample, or a share from 0 to 1 for what is a quantity. */
function category(map, by, i) {
  if (by === "label") return map.label[i] === null ? -1 : map.label[i];
  if (by === "group") return map.group[i] === null ? -1 : map.group[i];
  if (by === "error") return map.label[i] === null ? -1 : map.guessed.class[i] === map.label[i] ? 0 : 1;
  return 0;
}

/** The categories of a colouring with their names. */
function categories(map, by) {
  if (by === "label") return map.classes.map((name, i) => [i, name]);
  if (by === "error") return [[0, "right"], [1, "wrong"]];
  if (by === "group") {
    const n = Math.max(...map.group.filter((g) => g !== null)) + 1;
    return Array.from({ length: n }, (_, i) => [i, `group ${i + 1}`]);
  }
  return [];
}
const colourIndex = (by, c) => (by === "error" ? [5, 1][c] : c);

/** A mark as an SVG. */
function swatch(by, c) {
  const fill = c < 0 || c >= CATEGORIES ? "var(--soft)" : colour(colourIndex(by, c));
  const kind = by === "error" ? ["circle", "diamond"][c] : shape(Math.max(c, 0));
  const path = { circle: "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0 -10z", square: "M1.5 1.5h9v9h-9z", triangle: "M6 .8l5.4 9.8h-10.8z", diamond: "M6 .3l5.7 5.7l-5.7 5.7l-5.7 -5.7z" }[kind];
  return svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("path", { d: path, fill }));
}

/** Colours from near to far, dark where the page is light. */
function ramp(share) {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  const stops = dark ? [[58, 66, 92], [126, 124, 120], [240, 228, 66]] : [[200, 205, 214], [109, 127, 160], [18, 38, 92]];
  const at = Math.min(Math.max(share, 0), 1) * 2, k = Math.min(Math.floor(at), 1), t = at - k;
  return `rgb(${stops[k].map((v, i) => Math.round(v + (stops[k + 1][i] - v) * t)).join(",")})`;
}

class Plot {
  constructor(map, run) {
    this.map = map;
    this.run = run;
    this.zoom = 1;
    this.centre = [0.5, 0.5];
    this.selected = null;
    this.hovered = null;
    this.canvas = el("canvas", {
      tabindex: 0, role: "application",
      "aria-label": `Map of ${map.n} ${map.called} of ${run.name}. Arrow keys go from sample to sample, plus and minus zoom.`,
    });
    this.panel = el("div", { class: "inspect" });
    this.bind();
    this.use(VIEW.layout);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.inspect();
  }

  use(name) {
    this.layout = this.map.layouts.find((l) => l.name === name) || this.map.layouts[0];
    const n = this.layout.index ? this.layout.index.length : this.map.n;
    this.ids = this.layout.index || Array.from({ length: n }, (_, i) => i);
    this.px = this.ids.map((_, k) => this.layout.xy[2 * k] / 9999);
    this.py = this.ids.map((_, k) => 1 - this.layout.xy[2 * k + 1] / 9999);
    this.place = new Map(this.ids.map((id, k) => [id, k]));
    this.cells = new Map();
    this.ids.forEach((_, k) => {
      const key = Math.floor(this.px[k] * 48) * 100 + Math.floor(this.py[k] * 48);
      if (!this.cells.has(key)) this.cells.set(key, []);
      this.cells.get(key).push(k);
    });
    if (this.selected !== null && !this.place.has(this.selected)) this.selected = null;
    this.draw();
  }

  /** From the map to pixels of the canvas. */
  screen(k) {
    const { w, h, side } = this.size;
    return [w / 2 + (this.px[k] - this.centre[0]) * side * this.zoom, h / 2 + (this.py[k] - this.centre[1]) * side * this.zoom];
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.size = { w: box.width, h: box.height, side: Math.min(box.width, box.height) * 0.93 };
    const c = this.canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, box.width, box.height);
    const style = getComputedStyle(document.documentElement);
    const palette = Array.from({ length: COLOURS }, (_, i) => style.getPropertyValue(`--c${i}`).trim());
    const soft = style.getPropertyValue("--soft").trim(), ink = style.getPropertyValue("--ink").trim();
    const { map } = this, by = VIEW.by, focus = VIEW.lit === null ? VIEW.only : VIEW.lit;
    const n = this.ids.length;
    const r = Math.max(1.6, Math.min(4.2, 70 / Math.sqrt(n))) * Math.sqrt(this.zoom) ** 0.8;
    // Points of one look are drawn together: a canvas is slow at changing colours, and fast at paths.
    const looks = new Map();
    const top = map.strange.length ? [...map.strange].sort((a, b) => a - b)[Math.floor(map.strange.length * 0.98)] || 1 : 1;
    for (let k = 0; k < n; k++) {
      const cat = by === "strange" ? Math.min(15, Math.floor((map.strange[this.ids[k]] / top) * 15)) : category(map, by, this.ids[k]);
      const key = cat * 2 + (focus !== null && by !== "strange" && cat !== focus ? 1 : 0);
      if (!looks.has(key)) looks.set(key, []);
      looks.get(key).push(k);
    }
    const order = [...looks.keys()].sort((a, b) => (b & 1) - (a & 1) || a - b);
    for (const key of order) {
      const dim = key & 1, cat = (key - dim) / 2;
      const known = cat >= 0 && cat < CATEGORIES;
      c.fillStyle = by === "strange" ? ramp(cat / 15) : known ? palette[colourIndex(by, cat) % COLOURS] : soft;
      c.globalAlpha = dim ? 0.1 : by === "error" && cat === 0 ? 0.45 : 0.82;
      const kind = by === "strange" ? "circle" : by === "error" ? ["circle", "diamond"][cat] || "circle" : known ? shape(cat) : "circle";
      c.beginPath();
      for (const k of looks.get(key)) {
        const [x, y] = this.screen(k);
        if (x < -9 || y < -9 || x > box.width + 9 || y > box.height + 9) continue;
        mark(c, kind, x, y, r);
      }
      c.fill();
    }
    c.globalAlpha = 1;
    const look = this.hovered === null ? this.selected : this.hovered;
    if (look !== null && this.place.has(look)) {
      const [x, y] = this.screen(this.place.get(look));
      c.strokeStyle = ink;
      c.lineWidth = 1;
      c.globalAlpha = 0.55;
      for (let j = 0; j < map.k; j++) {
        const to = this.place.get(map.near[look * map.k + j]);
        if (to === undefined) continue;
        const [a, b] = this.screen(to);
        c.beginPath();
        c.moveTo(x, y);
        c.lineTo(a, b);
        c.stroke();
      }
      c.globalAlpha = 1;
      c.lineWidth = 2;
      c.beginPath();
      c.arc(x, y, r + 4, 0, 7);
      c.stroke();
    }
  }

  /** The sample nearest to a place of the canvas, within some pixels. */
  at(x, y, within) {
    if (!this.size) return null;
    const { w, h, side } = this.size;
    const mx = (x - w / 2) / (side * this.zoom) + this.centre[0], my = (y - h / 2) / (side * this.zoom) + this.centre[1];
    const reach = Math.ceil((within / (side * this.zoom)) * 48) + 1;
    let best = null, least = within;
    for (let i = Math.floor(mx * 48) - reach; i <= mx * 48 + reach; i++) {
      for (let j = Math.floor(my * 48) - reach; j <= my * 48 + reach; j++) {
        for (const k of this.cells.get(i * 100 + j) || []) {
          const [a, b] = this.screen(k);
          const apart = Math.hypot(a - x, b - y);
          if (apart < least) [best, least] = [k, apart];
        }
      }
    }
    return best === null ? null : this.ids[best];
  }

  look(id) {
    if (id === this.hovered) return;
    this.alike((plot) => { plot.hovered = id; });
  }

  select(id) {
    this.alike((plot) => {
      plot.selected = id;
      plot.hovered = null;
    });
  }

  /** Changes this map, and those of other runs of the same samples: a sample is looked at in all of them. */
  alike(change) {
    for (const plot of MAPS.filter((m) => m === this || m.map.same === this.map.same)) {
      change(plot);
      plot.draw();
      plot.inspect();
    }
  }

  scale(by) {
    this.zoom = Math.min(Math.max(this.zoom * by, 1), 40);
    if (this.zoom === 1) this.centre = [0.5, 0.5];
    this.draw();
  }

  bind() {
    const { canvas } = this;
    let from = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (from && event.buttons && this.zoom > 1) {
        const step = this.size.side * this.zoom;
        this.centre = [from.centre[0] - (x - from.x) / step, from.centre[1] - (y - from.y) / step];
        from.moved = from.moved || Math.hypot(x - from.x, y - from.y) > 4;
        hideTip();
        this.draw();
        return;
      }
      const id = this.at(x, y, 14);
      this.look(id);
      if (id === null || event.pointerType === "touch") hideTip();
      else showTip(event.clientX, event.clientY, brief(this.map, id));
    });
    canvas.addEventListener("pointerleave", () => {
      hideTip();
      this.look(null);
    });
    canvas.addEventListener("pointerdown", (event) => {
      const [x, y] = place(event);
      from = { x, y, centre: [...this.centre], moved: false };
    });
    canvas.addEventListener("pointerup", (event) => {
      const [x, y] = place(event);
      if (from && !from.moved) this.select(this.at(x, y, 22));
      from = null;
    });
    canvas.addEventListener("wheel", (event) => {
      // The page scrolls unless the map was chosen.
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      const [x, y] = place(event), { w, h, side } = this.size;
      const mx = (x - w / 2) / (side * this.zoom) + this.centre[0], my = (y - h / 2) / (side * this.zoom) + this.centre[1];
      this.scale(Math.exp(-event.deltaY * 0.002));
      if (this.zoom > 1) this.centre = [mx - (x - w / 2) / (side * this.zoom), my - (y - h / 2) / (side * this.zoom)];
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) {
        event.preventDefault();
        this.step(way);
      } else if (event.key === "+" || event.key === "=") this.scale(1.5);
      else if (event.key === "-") this.scale(1 / 1.5);
      else if (event.key === "0") this.scale(0);
      else if (event.key === "Escape") this.select(null);
    });
  }

  /** To the next sample in a direction: near, and not far aside. */
  step([dx, dy]) {
    if (this.selected === null || !this.place.has(this.selected)) {
      const start = this.ids.reduce((best, _, k) => (Math.hypot(this.px[k] - .5, this.py[k] - .5) < Math.hypot(this.px[best] - .5, this.py[best] - .5) ? k : best), 0);
      return this.select(this.ids[start]);
    }
    const own = this.place.get(this.selected);
    let best = null, least = Infinity;
    this.ids.forEach((id, k) => {
      const [x, y] = [this.px[k] - this.px[own], this.py[k] - this.py[own]];
      const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 1e-4 && along + 2 * aside < least) [best, least] = [id, along + 2 * aside];
    });
    if (best !== null) this.select(best);
    const [x, y] = this.screen(this.place.get(this.selected));
    const { w, h } = this.size;
    if (x < 0 || y < 0 || x > w || y > h) {
      const k = this.place.get(this.selected);
      this.centre = [this.px[k], this.py[k]];
      this.draw();
    }
  }

  inspect() {
    const id = this.hovered === null ? this.selected : this.hovered;
    this.panel.replaceChildren(...(id === null ? this.idle() : about(this.map, id, (other) => this.select(other))));
  }

  idle() {
    const touch = matchMedia("(hover: none)").matches;
    return [
      el("p", { class: "soft small" }, touch ? "Tap a point to see the sample and its nearest neighbours."
        : "Point at a sample to see it with its nearest neighbours; click to keep it. With the map focused, arrow keys go from sample to sample, + and − zoom."),
      el("p", { class: "soft small", style: "margin-top:.6rem" }, this.layout.note),
    ];
  }
}

function mark(c, kind, x, y, r) {
  if (kind === "circle") {
    c.moveTo(x + r, y);
    c.arc(x, y, r, 0, 6.2832);
  } else if (kind === "square") {
    c.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  } else if (kind === "triangle") {
    c.moveTo(x, y - r * 1.25);
    c.lineTo(x + r * 1.15, y + r * 0.85);
    c.lineTo(x - r * 1.15, y + r * 0.85);
    c.closePath();
  } else {
    c.moveTo(x, y - r * 1.3);
    c.lineTo(x + r * 1.3, y);
    c.lineTo(x, y + r * 1.3);
    c.lineTo(x - r * 1.3, y);
    c.closePath();
  }
}

/** A sample itself: a picture or a text. */
function picture(map, i, size) {
  const item = sampleOf(map, i), gallery = galleryOf(map);
  if (!item || gallery.kind === "audio") return null;
  if (gallery.kind === "text") return size === "big" ? el("blockquote", {}, item) : el("span", { class: "words" }, item);
  return el("img", { src: item, alt: labelOf(map, i) || `sample ${i + 1}` });
}

function guess(map, i) {
  if (!map.guessed || map.label[i] === null) return null;
  const right = map.guessed.class[i] === map.label[i];
  return el("span", { class: right ? "right" : "wrong" }, right ? "✓ the same" : `✗ ${className(map, map.guessed.class[i])}`);
}

/** What the pointer shows. */
function brief(map, i) {
  return [picture(map, i), el("b", {}, labelOf(map, i) || `sample ${i + 1}`), guess(map, i) && el("div", {}, "neighbours: ", guess(map, i))];
}

/** What the panel shows: the sample, what is known of it, and its neighbours. */
function about(map, i, select) {
  const item = sampleOf(map, i), gallery = galleryOf(map);
  const facts = [];
  if (map.label) facts.push(["label", labelOf(map, i)]);
  if (map.guessed) facts.push(["neighbours", guess(map, i)]);
  if (map.group && map.group[i] !== null) facts.push(["group", String(map.group[i] + 1)]);
  facts.push(["distance", number(map.strange[i] / 1000)]);
  const list = el("dl", {}, facts.map(([a, b]) => [el("dt", {}, a), el("dd", {}, b)]));
  const image = gallery && gallery.kind === "image" && item && el("img", { src: item, alt: labelOf(map, i) || "sample" });
  return [
    gallery && gallery.kind === "text" && item && el("blockquote", {}, item),
    gallery && gallery.kind === "audio" && item && el("audio", { controls: true, src: item, preload: "none" }),
    el("div", { class: "big" }, image, list),
    el("h4", {}, "Nearest among these samples"),
    nearest(map, i, select),
  ].filter(Boolean);
}

function nearest(map, i, select) {
  const near = Array.from({ length: map.k }, (_, j) => [map.near[i * map.k + j], map.similar[i * map.k + j]]);
  const gallery = galleryOf(map);
  if (gallery && gallery.kind === "image") {
    return el("ul", { class: "thumbs" }, near.map(([j, s]) => el("li", {}, thumb(map, j, i, s, select))));
  }
  return el("ol", { class: "nearlist" }, near.map(([j, s]) => {
    const item = sampleOf(map, j);
    const same = map.label && map.label[i] === map.label[j];
    return el("li", {}, el("span", { class: "soft" }, (s / 1000).toFixed(2)),
      el("span", { class: "text" }, gallery && gallery.kind === "text" && item ? item.slice(0, 90) : labelOf(map, j) || `sample ${j + 1}`),
      map.label && gallery && gallery.kind === "text" && el("span", { class: same ? "soft" : "wrong" }, labelOf(map, j)),
      gallery && gallery.kind === "audio" && item && el("button", { type: "button", onclick: () => new Audio(item).play() }, "▶"));
  }));
}

/** A neighbour in a row; dashed where its label is another. */
function thumb(map, j, of, similar, select) {
  const same = !map.label || of === null || map.label[j] === map.label[of];
  const name = labelOf(map, j) || `sample ${j + 1}`;
  const says = similar === null ? name : `${name}, similarity ${(similar / 1000).toFixed(2)}`;
  return el("button", { type: "button", class: `thumb ${same ? "same" : "other"}`, title: says, "aria-label": says + (same ? "" : ", another label"), onclick: () => select && select(j) },
    picture(map, j), el("span", {}, similar === null ? name : same ? (similar / 1000).toFixed(2) : name));
}

/** Buttons for the categories: one of them can be looked at alone. */
function classButtons(map, repaintAll) {
  const box = el("div", { class: "classes", role: "group", "aria-label": "Categories" });
  const update = () => {
    const list = categories(map, VIEW.by);
    if (VIEW.by === "strange") {
      box.replaceChildren(el("span", { class: "soft small" }, "pale: close to others · dark: far from all"));
      return;
    }
    box.replaceChildren(...list.slice(0, 60).map(([c, name]) =>
      el("button", {
        type: "button", "aria-pressed": String(VIEW.only === c),
        onclick: () => { VIEW.only = VIEW.only === c ? null : c; VIEW.lit = null; repaintAll(); },
        onpointerenter: (e) => { if (e.pointerType === "mouse") { VIEW.lit = c; MAPS.forEach((m) => m.draw()); } },
        onpointerleave: () => { VIEW.lit = null; MAPS.forEach((m) => m.draw()); },
      }, swatch(VIEW.by, c), name)),
      list.length > 60 ? el("span", { class: "soft small" }, `and ${list.length - 60} more`) : "");
  };
  box.update = update;
  return box;
}

function maps() {
  const having = RUNS.filter((run) => run.map);
  const notes = RUNS.filter((run) => run.map_note && !run.map);
  if (!having.length && !notes.length) return null;
  if (!having.length) return section("map", "Map of the samples", notes[0].map_note);
  const first = having[0].map;
  VIEW.layout = first.layouts[0].name;
  VIEW.by = colourings(first)[0][0];
  const one = having.length === 1;
  const legends = having.map((run) => classButtons(run.map, () => redo()));
  const redo = () => {
    legends.forEach((l) => l.update());
    MAPS.forEach((m) => { m.draw(); m.inspect(); });
  };
  const cards = having.map((run, i) => {
    const plot = new Plot(run.map, run);
    MAPS.push(plot);
    const zoom = el("div", { class: "zoom" }, [["+", 1.5, "Zoom in"], ["−", 1 / 1.5, "Zoom out"]].map(([text, by, says]) =>
      el("button", { type: "button", "aria-label": says, onclick: () => plot.scale(by) }, text)));
    return el("div", { class: "card" }, !one && el("h3", {}, run.name, el("span", { class: "soft" }, run.method)),
      el("div", { class: `mapcard${one ? " one" : ""}` },
        el("div", {}, el("div", { class: "stage" }, plot.canvas, zoom), el("div", { style: "margin-top:.6rem" }, legends[i])), plot.panel));
  });
  repaint.push(() => MAPS.forEach((m) => m.draw()));
  const layouts = first.layouts.map((l) => [l.name, { tsne: "t-SNE", pca: "PCA" }[l.name] || l.name]);
  const controls = el("div", { class: "controls" },
    layouts.length > 1 && choice("Layout", layouts, VIEW.layout, (key) => { VIEW.layout = key; MAPS.forEach((m) => { m.use(key); m.inspect(); }); }),
    choice("Colour", colourings(first), VIEW.by, (key) => { VIEW.by = key; VIEW.only = null; redo(); }));
  legends.forEach((l) => l.update());
  const gallery = galleryOf(first);
  const partial = gallery && gallery.shown < first.n ? ` ${gallery.shown} of them are on this page.` : "";
  const of = first.of > first.n ? `${first.n.toLocaleString("en")} of ${first.of.toLocaleString("en")}` : first.n.toLocaleString("en");
  const part = { test: "test", "held out": "held-out", training: "training", "other data": "other" }[first.part];
  return section("map", "Map of the samples", `${of} ${part} ${first.called}, each at the place of its ${first.dimensions} features.${partial}`,
    controls, el("div", { class: one ? "" : "grid wide" }, cards),
    notes.map((run) => el("p", { class: "soft small", style: "margin-top:.8rem" }, `${run.name}: ${run.map_note}`)));
}
