const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.nodes.map((n) => [n.key, n]));
const NS = "http://www.w3.org/2000/svg";
let target = data.targets.find((t) => data.best[t]) || data.targets[0];

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
const known = (n, t) => n.scores[t] !== undefined && n.scores[t].seconds !== null;
const knobs = (s) => Object.entries(s.knobs).map(([k, v]) => `${k} = ${v}`).join(", ") || "default";
const gainText = (g) => (g ? `${g.toFixed(2)}x` : "-");
const steps = (n) => (n.label ? n.label.split("; ") : []);
const head = (...names) => el("tr", {}, ...names.map((h) => el("th", { scope: "col" }, h)));
const row = (...cells) => el("tr", {}, ...cells.map((c) => (c instanceof Element && c.tagName === "TD" ? c : el("td", {}, c))));
function opener(key) {
  const b = el("button", { type: "button", class: "key" }, short(key));
  if (byKey.has(key)) b.addEventListener("click", () => choose(key, true));
  else { b.disabled = true; b.title = "not in this file"; }
  return b;
}
function lineage(key) {
  const path = [];
  for (let n = byKey.get(key); n; n = byKey.get(n.parent)) path.unshift(n.key);
  return path;
}

function showBest() {
  const table = document.getElementById("best"), root = byKey.get(data.root);
  table.append(head("target", "best", "root", "gain", "of the roofline", "on", "knobs", "candidate"));
  for (const t of data.targets) {
    const n = byKey.get(data.best[t]);
    if (!n) { table.append(row(t, el("td", { colspan: 7 }, "no candidate is correct"))); continue; }
    const s = n.scores[t];
    table.append(row(t, `${time(s.seconds)} ${s.kind}`, known(root, t) ? `${time(root.scores[t].seconds)} ${root.scores[t].kind}` : "-",
      gainText(s.gain), s.fraction === null ? "-" : `${(100 * s.fraction).toFixed(0)} %`, s.on, knobs(s), opener(n.key)));
  }
}

function showFailures() {
  const box = document.getElementById("failures");
  if (!data.reasons.length) { box.append(el("p", { class: "note" }, "No candidate failed.")); return; }
  box.append(el("p", {}, Object.entries(data.failures).map(([stage, n]) => `${n} at ${stage}`).join(", ")));
  const table = el("table", {}, head("candidates", "reason (the first of those alike)", "such as"));
  for (const r of data.reasons) {
    const cell = el("td", { class: "keys" });
    for (const k of r.nodes) cell.append(opener(k), " ");
    table.append(row(el("td", { class: "num" }, String(r.count)), el("td", { class: "reason" }, r.text), cell));
  }
  box.append(table);
}
