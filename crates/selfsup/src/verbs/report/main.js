// The page from its parts, the switch between light and dark, and where the reader is.

const TAGS = { helped: "✓ Helped", behind: "◐ Helped, behind raw features", level: "≈ No clear difference", worse: "✗ Did not help", unknown: "" };

function verdicts() {
  return el("section", { id: "verdict", class: RUNS.length > 1 ? "verdicts many" : "verdicts", "aria-label": "Verdict" }, RUNS.map((run) => {
    const counts = run.map && run.map.counts;
    const facts = [];
    if (counts && counts[0]) facts.push([`${run.map.called} to train on`, counts[0].toLocaleString("en")]);
    const wanted = ["Parameters of the encoder", "Steps", "Training", "Samples a second", "Peak memory"];
    for (const name of wanted) {
      const found = run.facts.find(([k]) => k === name);
      if (found) facts.push([name.toLowerCase().replace("parameters of the encoder", "parameters"), found[1]]);
    }
    return el("article", { class: `verdict ${run.outcome}` },
      el("p", { class: "meta" }, el("span", { class: "name" }, run.name), TAGS[run.outcome] && el("span", { class: "tag" }, TAGS[run.outcome]),
        el("span", {}, [run.method, run.encoder, run.modality].filter(Boolean).join(" · ")), run.state !== "finished" && el("span", {}, run.state)),
      el("h1", {}, run.verdict), el("ul", {}, run.more.map((line) => el("li", {}, line))),
      run.ill.map((g) => el("div", { class: "ill" }, el("b", {}, `${words(g.gauge)} ${number(g.value)}`), g.band && `, healthy ${g.band}`, `, since step ${g.since_step}. `, g.cause, g.cause && " ", g.remedy && el("b", {}, g.remedy))),
      facts.length > 0 && el("dl", { class: "facts" }, facts.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v)))));
  }));
}

function theme() {
  const button = document.getElementById("theme"), root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.textContent = dark() ? "☀︎" : "☾";
    button.setAttribute("aria-pressed", "false");
    repaint.forEach((f) => f());
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  addEventListener("beforeprint", () => { root.dataset.before = root.dataset.theme || ""; root.dataset.theme = "light"; MAPS.forEach((m) => m.paint()); });
  addEventListener("afterprint", () => { if (root.dataset.before) root.dataset.theme = root.dataset.before; else delete root.dataset.theme; show(); });
  show();
}

function page() {
  const parts = [verdicts(), results(), curves(), maps(), neighbourGrid(), confusions(), labelCurve(), robustness(), pictures(), howMade()].filter(Boolean);
  document.getElementById("page").append(...parts);
  const names = { verdict: "Verdict", results: "Results", curves: "Training", map: "Map", neighbours: "Neighbours", confusion: "Confusion", labels: "Labels", robustness: "Robustness", pictures: "Pictures", run: "Setup" };
  const nav = document.getElementById("nav");
  const links = new Map(parts.map((part) => [part.id, el("a", { href: "#" + part.id }, names[part.id])]));
  nav.append(...links.values());
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((a) => a.removeAttribute("aria-current"));
      const link = links.get(entry.target.id);
      link.setAttribute("aria-current", "true");
      nav.scrollTo({ left: link.offsetLeft - nav.offsetLeft - 60 });
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  parts.forEach((part) => seen.observe(part));
  const samples = DATA.galleries.length ? "Samples are on this page; their names are not." : "This page holds no samples.";
  document.getElementById("foot").append(`Made by selfsup ${DATA.version}. One file, nothing is fetched. ${samples}`);
  addEventListener("scroll", hideTip, { passive: true });
  theme();
}

page();
