"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.nodes.map((n) => [n.key, n]));
const NS = "http://www.w3.org/2000/svg";

// All text goes in as text nodes: nothing of a candidate is ever read as markup.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}
function svg(tag, attributes, text) {
  const e = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attributes || {})) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}
function time(s) {
  for (const [scale, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "us"]])
    if (s >= scale) return `${(s / scale).toPrecision(4)} ${unit}`;
  return `${(s / 1e-9).toPrecision(4)} ns`;
}
const short = (key) => key.slice(0, 8);
function opener(key) {
  const b = el("button", { type: "button" }, short(key));
  b.addEventListener("click", () => choose(key, true));
  return b;
}

// ---- best -------------------------------------------------------------------------------------
function showBest() {
  const table = document.getElementById("best");
  const head = ["target", "best", "on", "gain over the root", "of the roofline", "knobs", "candidate"];
  table.append(el("tr", {}, ...head.map((h) => el("th", {}, h))));
  for (const t of data.targets) {
    const n = byKey.get(data.best[t]);
    if (!n) { table.append(el("tr", {}, el("td", {}, t), el("td", { colspan: 6 }, "no candidate is correct"))); continue; }
    const s = n.scores[t];
    table.append(el("tr", {}, el("td", {}, t), el("td", {}, `${time(s.seconds)} ${s.kind}`), el("td", {}, s.on),
      el("td", {}, s.gain ? `${s.gain.toFixed(2)}x` : "-"),
      el("td", {}, s.fraction === null ? "-" : `${(100 * s.fraction).toFixed(0)} %`),
      el("td", {}, knobs(s)), el("td", {}, opener(n.key))));
  }
}
const knobs = (s) => Object.entries(s.knobs).map(([k, v]) => `${k} = ${v}`).join(", ") || "default";

// ---- graph ------------------------------------------------------------------------------------
const graph = document.getElementById("graph");
const circles = new Map(), lines = [];
let view = { x: 0, y: 0, w: 100, h: 100 };
function drawGraph() {
  const layer = svg("g");
  for (const e of data.edges) {
    const a = byKey.get(e.from), b = byKey.get(e.to), m = (a.x + b.x) / 2;
    const line = svg("path", { class: e.first ? "edge" : "edge again", d: `M${a.x},${a.y}C${m},${a.y} ${m},${b.y} ${b.x},${b.y}` });
    lines.push([e, line]);
    layer.append(line);
  }
  for (const n of data.nodes) {
    const c = svg("circle", { class: `n ${n.status}${n.front ? " front" : ""}`, cx: n.x, cy: n.y, r: n.front ? 9 : 7, tabindex: 0, role: "button", "data-key": n.key });
    c.append(svg("title", {}, `${short(n.key)} ${n.status}: ${n.label}`));
    c.addEventListener("click", () => choose(n.key, false));
    c.addEventListener("keydown", (e) => { if (e.key === "Enter") choose(n.key, false); });
    circles.set(n.key, c);
    layer.append(c);
  }
  graph.append(layer);
  fit();
}
function fit() {
  const xs = data.nodes.map((n) => n.x), ys = data.nodes.map((n) => n.y);
  const x = Math.min(...xs) - 30, y = Math.min(...ys) - 30;
  view = { x, y, w: Math.max(...xs) - x + 30, h: Math.max(...ys) - y + 30 };
  apply();
}
function apply() { graph.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`); }
function place(event) {
  const m = graph.getScreenCTM().inverse();
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(m);
}
graph.addEventListener("wheel", (event) => {
  event.preventDefault();
  const p = place(event), f = Math.exp(Math.sign(event.deltaY) * 0.15);
  view = { x: p.x - (p.x - view.x) * f, y: p.y - (p.y - view.y) * f, w: view.w * f, h: view.h * f };
  apply();
}, { passive: false });
let drag = null;
graph.addEventListener("pointerdown", (event) => { if (event.target === graph) { drag = place(event); graph.setPointerCapture(event.pointerId); } });
graph.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const p = place(event);
  view.x -= p.x - drag.x; view.y -= p.y - drag.y;
  apply();
});
graph.addEventListener("pointerup", () => { drag = null; });
document.getElementById("fit").addEventListener("click", fit);
document.getElementById("find").addEventListener("input", (event) => {
  const wanted = event.target.value.trim();
  for (const n of data.nodes)
    circles.get(n.key).classList.toggle("dim", wanted !== "" && !n.key.startsWith(wanted) && !n.label.includes(wanted));
});

function choose(key, centre) {
  const n = byKey.get(key);
  if (!n) return;
  const path = new Set();
  for (let m = n; m; m = byKey.get(m.parent)) path.add(m.key);
  for (const [k, c] of circles) c.classList.toggle("chosen", k === key);
  for (const [e, line] of lines) line.classList.toggle("path", e.first && path.has(e.from) && path.has(e.to));
  if (centre) { view.x = n.x - view.w / 2; view.y = n.y - view.h / 2; apply(); }
  showNode(n, [...path].reverse());
}
function showNode(n, path) {
  const panel = document.getElementById("node");
  const table = el("table", {}, el("tr", {}, ...["target", "time", "gain", "verdict"].map((h) => el("th", {}, h))));
  for (const [t, s] of Object.entries(n.scores)) {
    const known = s.seconds !== null;
    table.append(el("tr", {}, el("td", {}, t), el("td", {}, known ? `${time(s.seconds)} ${s.kind} on ${s.on}` : "-"),
      el("td", {}, s.gain ? `${s.gain.toFixed(3)}x` : "-"),
      el("td", {}, known ? `correct (${s.established}); ${knobs(s)}` : `${s.stage || "not judged"}: ${s.reason}`)));
  }
  const cost = `${n.cost.toFixed(2)} s` + (n.tokens ? `, ${n.tokens} tokens` : "") + (n.money ? `, ${n.money}` : "");
  panel.replaceChildren(
    el("h3", {}, `${short(n.key)}: generation ${n.generation}, candidate ${n.seq + 1}, ${n.status}`),
    el("p", {}, n.parent ? "From " : "A root: ", ...(n.parent ? [opener(n.parent), " by "] : []), n.label),
    el("p", { class: "note" }, `${n.key}; cost ${cost}`));
  if (n.reason) panel.append(el("p", {}, n.reason));
  panel.append(table);
  const steps = el("p", {}, "Path: ");
  path.forEach((k, i) => steps.append(i ? " → " : "", opener(k)));
  panel.append(steps);
  if (n.diff) panel.append(el("h3", {}, "Difference from its parent"), marked(n.diff));
  if (n.ir !== undefined) panel.append(el("h3", {}, "KE-IR"), el("pre", {}, n.ir));
  else panel.append(el("p", { class: "note" }, `Its text is not in this file: ke-gen show RUN ${short(n.key)}`));
  for (const [t, s] of Object.entries(n.scores)) {
    const parts = Object.entries(s.detail);
    if (!parts.length) continue;
    const details = el("details", {}, el("summary", {}, `Parts of the time on ${t}`));
    const inner = el("table");
    for (const [k, v] of parts) inner.append(el("tr", {}, el("td", {}, k), el("td", { class: "num" }, typeof v === "number" ? v.toPrecision(4) : v)));
    details.append(inner);
    panel.append(details);
  }
  panel.scrollTop = 0;
}
function marked(text) {
  const pre = el("pre");
  for (const line of text.split("\n"))
    pre.append(el("span", { class: line[0] === "+" ? "add" : line[0] === "-" ? "del" : "same" }, line + "\n"));
  return pre;
}

// ---- charts -----------------------------------------------------------------------------------
const W = 560, H = 190, L = 70, B = 28;
function chart(title, xs, ys, xName, yName) {
  const c = svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  const pad = (a) => { const lo = Math.min(...a), hi = Math.max(...a), d = (hi - lo || Math.abs(hi) || 1) * 0.08; return [lo - d, hi + d]; };
  const [x0, x1] = pad(xs), [y0, y1] = pad(ys);
  const X = (x) => L + (W - L - 10) * (x - x0) / (x1 - x0), Y = (y) => H - B - (H - B - 20) * (y - y0) / (y1 - y0);
  c.append(svg("text", { x: L, y: 13 }, title), svg("line", { class: "axis", x1: L, y1: H - B, x2: W - 10, y2: H - B }),
    svg("line", { class: "axis", x1: L, y1: 20, x2: L, y2: H - B }),
    svg("text", { x: W - 10, y: H - 6, "text-anchor": "end" }, xName), svg("text", { x: 4, y: H - 6 }, yName));
  for (const y of [Math.min(...ys), Math.max(...ys)]) c.append(svg("text", { x: L - 5, y: Y(y) + 4, "text-anchor": "end" }, time(y)));
  return [c, X, Y];
}
function showProgress() {
  const box = document.getElementById("progress");
  for (const t of data.targets) {
    const p = data.progress[t];
    if (!p.steps.length) { box.append(el("p", { class: "note" }, `${t}: no candidate is correct`)); continue; }
    const last = Math.max(...data.nodes.map((n) => n.seq + 1), p.steps[p.steps.length - 1][0]);
    const [c, X, Y] = chart(`${t}: best so far, ${p.kind} on ${p.on}`, [1, last], p.steps.map((s) => s[1]), `candidates (1 to ${last})`, "");
    let d = "";
    p.steps.forEach(([x, y], i) => { d += i ? `H${X(x)}V${Y(y)}` : `M${X(x)},${Y(y)}`; });
    c.append(svg("path", { class: "curve", d: `${d}H${X(last)}` }));
    box.append(c);
  }
}
function showFront() {
  const box = document.getElementById("front");
  if (data.targets.length < 2) { box.append(el("p", { class: "note" }, "One target: the front is its best candidate.")); return; }
  for (let i = 0; i + 1 < data.targets.length; i++) for (let j = i + 1; j < data.targets.length; j++) {
    const [a, b] = [data.targets[i], data.targets[j]];
    const both = data.nodes.filter((n) => n.scores[a]?.seconds && n.scores[b]?.seconds);
    if (!both.length) { box.append(el("p", { class: "note" }, `No candidate has times on both ${a} and ${b}.`)); continue; }
    const kinds = (t) => [...new Set(both.map((n) => n.scores[t].kind))].join(", ");
    const [c, X, Y] = chart(`${b} (${kinds(b)}) against ${a} (${kinds(a)}, across)`, both.map((n) => n.scores[a].seconds), both.map((n) => n.scores[b].seconds),
      `${a}: ${time(Math.min(...both.map((n) => n.scores[a].seconds)))} to ${time(Math.max(...both.map((n) => n.scores[a].seconds)))}`, "");
    for (const n of both) {
      const dot = svg("circle", { cx: X(n.scores[a].seconds), cy: Y(n.scores[b].seconds), r: n.front ? 5 : 3, class: n.front ? "front" : "" });
      dot.append(svg("title", {}, short(n.key)));
      dot.addEventListener("click", () => choose(n.key, true));
      c.append(dot);
    }
    box.append(c);
  }
}
function showFailures() {
  const box = document.getElementById("failures");
  const reasons = Object.entries(data.reasons);
  if (!reasons.length) { box.append(el("p", { class: "note" }, "No candidate failed.")); return; }
  box.append(el("p", {}, Object.entries(data.failures).map(([stage, n]) => `${n} at ${stage}`).join(", ")));
  const table = el("table", {}, el("tr", {}, el("th", {}, "candidates"), el("th", {}, "reason (N stands for numbers)")));
  for (const [reason, n] of reasons) table.append(el("tr", {}, el("td", { class: "num" }, String(n)), el("td", {}, reason)));
  box.append(table);
}
showBest(); drawGraph(); showProgress(); showFront(); showFailures();
const first = data.best[data.targets[0]];
if (first) choose(first, false);
