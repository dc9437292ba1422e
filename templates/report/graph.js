const graph = document.getElementById("graph");
const marks = new Map(), lines = [];
let view = { x: 0, y: 0, w: 100, h: 100 };
let chosen = "";

function drawGraph() {
  const layer = svg("g"), width = Math.max(...data.nodes.map((n) => n.x)) + 200, height = Math.max(...data.nodes.map((n) => n.y)) + 80;
  // A tall graph has its generations apart, so that all of it makes use of the space.
  const apart = Math.max(1, height / width);
  for (const n of data.nodes) n.x *= apart;
  const last = Math.max(...data.nodes.map((n) => n.generation)), top = Math.min(...data.nodes.map((n) => n.y));
  for (let g = 0; g <= last; g++) {
    const at = data.nodes.find((n) => n.generation === g);
    if (at) layer.append(svg("text", { class: "generation", x: at.x, y: top - 26, "text-anchor": "middle" }, `gen:${g}`));
  }
  for (const e of data.edges) {
    const a = byKey.get(e.from), b = byKey.get(e.to), m = (a.x + b.x) / 2;
    const line = svg("path", { class: e.first ? "edge" : "edge again", d: `M${a.x},${a.y}C${m},${a.y} ${m},${b.y} ${b.x},${b.y}` });
    lines.push([e, line]);
    layer.append(line);
  }
  const parents = new Set(data.nodes.map((n) => n.parent));
  for (const n of data.nodes) {
    const g = svg("g", { class: "n", tabindex: 0, role: "button", "data-key": n.key, transform: `translate(${n.x},${n.y})` });
    // Failed ones differ in shape, too, not in colour only.
    g.append(n.status === "correct" ? svg("circle", { r: 7 }) : svg("rect", { x: -6, y: -6, width: 12, height: 12, rx: 2 }));
    g.append(svg("title"), svg("text", parents.has(n.key) ? { x: 2, y: -10 } : { x: 12, y: 3.5 }));
    g.addEventListener("click", () => choose(n.key, false));
    g.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(n.key, false); } });
    marks.set(n.key, g);
    layer.append(g);
  }
  graph.append(layer);
  const group = document.getElementById("targets");
  for (const t of data.targets) {
    const b = el("button", { type: "button", "data-target": t }, t);
    b.addEventListener("click", () => { target = t; paint(); if (data.best[t]) choose(data.best[t], false); });
    group.append(b);
  }
  paint();
  fit();
}

// Colours and labels say how each candidate does on the chosen target.
function paint() {
  const best = lineage(data.best[target] || "");
  const most = Math.max(1.0001, ...data.nodes.map((n) => (n.scores[target] && n.scores[target].gain) || 0));
  for (const n of data.nodes) {
    const g = marks.get(n.key), s = n.scores[target], gain = s && s.gain;
    const failed = n.status === "wrong" || n.status === "rejected" || (s && s.stage);
    g.setAttribute("class", `n ${failed ? "failed" : gain ? "correct" : "unknown"}${n.front && data.targets.length > 1 ? " front" : ""}${n.key === data.best[target] ? " best" : ""}${n.key === chosen ? " chosen" : ""}`);
    const share = gain ? Math.max(0, Math.log(Math.max(gain, 1e-9)) / Math.log(most)) : 0;
    g.style.setProperty("--share", `${Math.round(100 * share)}%`);
    const names = steps(n).map((step) => step.split("(")[0]);
    const what = names.length > 1 ? `${names[names.length - 1]} +${names.length - 1}` : names[0] || "";
    const how = failed ? (s && s.stage) || n.status : gain ? gainText(gain) : known(n, target) ? time(s.seconds) : "-";
    g.querySelector("text").textContent = `${how} ${what.length > 20 ? `${what.slice(0, 18)}…` : what}`;
    g.querySelector("title").textContent = `${short(n.key)}: ${how} on ${target}\n${n.label}${n.reason ? `\n${n.reason}` : ""}`;
  }
  markPaths(best);
  for (const b of document.querySelectorAll("#targets button")) b.setAttribute("aria-pressed", String(b.dataset.target === target));
  const key = (name, text, shape) => el("span", {}, el("i", { class: `${name} ${shape || ""}` }), text);
  document.getElementById("legend").replaceChildren(
    key("correct", `correct; the fuller, the faster on ${target}`), key("failed", "failed", "square"), key("unknown", "no time"),
    ...(data.targets.length > 1 ? [key("front", "on the Pareto front")] : []),
    key("best-path", `path to the best of ${target}`, "line"), key("path", "path to the chosen one", "line"),
    key("again", "reached again", "line"));
}
function markPaths(best) {
  const on = new Set(best), path = new Set(lineage(chosen));
  for (const [e, line] of lines) {
    line.classList.toggle("best-path", e.first && on.has(e.from) && on.has(e.to));
    line.classList.toggle("path", e.first && path.has(e.from) && path.has(e.to));
  }
}

function fit() {
  const xs = data.nodes.map((n) => n.x), ys = data.nodes.map((n) => n.y);
  const x = Math.min(...xs) - 40, y = Math.min(...ys) - 50;
  view = { x, y, w: Math.max(...xs) - x + 190, h: Math.max(...ys) - y + 30 };
  apply();
}
function apply() {
  graph.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  const scale = Math.min(graph.clientWidth / view.w, graph.clientHeight / view.h);
  graph.classList.toggle("far", scale < 0.5);
  graph.style.setProperty("--far", String(Math.max(1, 0.4 / scale)));
}
function place(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(graph.getScreenCTM().inverse());
}
function zoom(f, p) {
  view = { x: p.x - (p.x - view.x) * f, y: p.y - (p.y - view.y) * f, w: view.w * f, h: view.h * f };
  apply();
}
const middle = () => ({ x: view.x + view.w / 2, y: view.y + view.h / 2 });
graph.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(Math.sign(event.deltaY) * 0.15), place(event)); }, { passive: false });
let drag = null;
graph.addEventListener("pointerdown", (event) => { if (!event.target.closest(".n")) { drag = place(event); graph.setPointerCapture(event.pointerId); } });
graph.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const p = place(event);
  view.x -= p.x - drag.x; view.y -= p.y - drag.y;
  apply();
});
for (const end of ["pointerup", "pointercancel"]) graph.addEventListener(end, () => { drag = null; });
document.getElementById("fit").addEventListener("click", fit);
document.getElementById("best-one").addEventListener("click", () => {
  const n = byKey.get(data.best[target]);
  if (!n) return;
  view = { x: n.x - 0.6 * graph.clientWidth, y: n.y - 0.5 * graph.clientHeight, w: graph.clientWidth, h: graph.clientHeight };
  apply();
  choose(n.key, false);
});
document.getElementById("in").addEventListener("click", () => zoom(0.7, middle()));
document.getElementById("out").addEventListener("click", () => zoom(1 / 0.7, middle()));
window.addEventListener("resize", apply);
document.getElementById("find").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  const fits = (n) => n.key.startsWith(wanted) || n.label.toLowerCase().includes(wanted) || n.reason.toLowerCase().includes(wanted);
  let count = 0;
  for (const n of data.nodes) { const yes = fits(n); count += yes; marks.get(n.key).classList.toggle("dim", wanted !== "" && !yes); }
  document.getElementById("found").textContent = wanted ? `${count} of ${data.nodes.length}` : "";
});

// Opens a candidate; brings it into view when it was named elsewhere than in the graph.
function choose(key, show) {
  const n = byKey.get(key);
  if (!n) return;
  if (chosen) marks.get(chosen).classList.remove("chosen");
  chosen = key;
  marks.get(key).classList.add("chosen");
  markPaths(lineage(data.best[target] || ""));
  if (show) {
    const inside = n.x > view.x && n.x < view.x + view.w * 0.9 && n.y > view.y && n.y < view.y + view.h;
    if (!inside) { view.x = n.x - view.w / 2; view.y = n.y - view.h / 2; apply(); }
    document.getElementById("h-graph").scrollIntoView({ block: "nearest" });
  }
  showNode(n);
}
