const W = 560, H = 190, L = 74, B = 40;

// A caption, axes, and the places of values. An axis is { values, text, name }, and logarithmic
// where its values are more than a factor of two apart and none is zero, unless it is `even`.
function chart(caption, across, up) {
  const c = svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": caption });
  const X = scale(across, L, W - 14), Y = scale(up, H - B, 14);
  c.append(svg("path", { class: "axis", d: `M${L},10V${H - B}H${W - 10}` }));
  for (const y of ticks(up)) c.append(svg("path", { class: "grid", d: `M${L},${Y(y)}H${W - 10}` }), svg("text", { x: L - 6, y: Y(y) + 4, "text-anchor": "end" }, up.text(y)));
  for (const x of ticks(across)) c.append(svg("text", { x: X(x), y: H - B + 15, "text-anchor": "middle" }, across.text(x)));
  c.append(svg("text", { x: (L + W) / 2, y: H - 6, "text-anchor": "middle" }, across.name));
  return [el("figure", {}, el("p", { class: "caption" }, caption), c), c, X, Y];
}
const isLog = (a) => !a.even && Math.min(...a.values) > 0 && Math.max(...a.values) > 2 * Math.min(...a.values);
function scale(a, from, to) {
  const lo = Math.min(...a.values), hi = Math.max(...a.values), f = isLog(a) ? Math.log : (v) => v, d = f(hi) - f(lo);
  const share = (v) => (v > hi ? 0.99 : d ? 0.04 + (0.92 * (f(v) - f(lo))) / d : 0.5);
  return (v) => from + (to - from) * share(v);
}
function ticks(a) {
  const lo = Math.min(...a.values), hi = Math.max(...a.values), log = isLog(a);
  if (hi === lo) return [lo];
  return [0, 1, 2, 3].map((i) => (log ? lo * (hi / lo) ** (i / 3) : lo + ((hi - lo) * i) / 3));
}
// A few very slow candidates would squeeze all others together: they stand at the edge.
function range(nodes, t) {
  const times = nodes.map((n) => n.scores[t].seconds).sort((a, b) => a - b);
  const root = byKey.get(data.root), most = Math.max(times[Math.floor(0.85 * (times.length - 1))], known(root, t) ? root.scores[t].seconds : 0);
  return { values: times.filter((s) => s <= most), text: time, most };
}
function beyond(nodes, limits) {
  const count = nodes.filter((n) => limits.some(([t, r]) => n.scores[t].seconds > r.most)).length;
  return count ? `; ${count} slower ${count === 1 ? "one stands" : "ones stand"} at the edge` : "";
}
function dot(n, x, y, ring) {
  const d = svg("circle", { cx: x, cy: y, r: ring ? 5 : 3.5, class: ring ? "front" : "" });
  d.append(svg("title", {}, `${short(n.key)}: ${data.targets.filter((t) => known(n, t)).map((t) => `${time(n.scores[t].seconds)} ${n.scores[t].kind} on ${t}`).join(", ")}`));
  d.addEventListener("click", () => choose(n.key, true));
  return d;
}
function showProgress() {
  const box = document.getElementById("progress"), last = Math.max(...data.nodes.map((n) => n.seq + 1));
  for (const t of data.targets) {
    const p = data.progress[t];
    if (!p.steps.length) { box.append(el("p", { class: "note" }, `${t}: no candidate is correct`)); continue; }
    const all = data.nodes.filter((n) => known(n, t) && n.scores[t].kind === p.kind);
    const end = Math.max(last, p.steps[p.steps.length - 1][0]), up = range(all, t);
    up.values = [...up.values, ...p.steps.map((s) => s[1])];
    const [f, c, X, Y] = chart(`${t}: best so far (line) and each candidate, ${p.kind} on ${p.on}${beyond(all, [[t, up]])}`,
      { values: [1, end], even: true, text: (x) => String(Math.round(x)), name: "candidates, in order" }, up);
    for (const n of all) c.append(dot(n, X(n.seq + 1), Y(n.scores[t].seconds), false));
    let d = "";
    p.steps.forEach(([x, y], i) => { d += i ? `H${X(x)}V${Y(y)}` : `M${X(x)},${Y(y)}`; });
    c.append(svg("path", { class: "curve", d: `${d}H${X(end)}` }));
    box.append(f);
  }
}
function showFront() {
  const box = document.getElementById("front");
  if (data.targets.length < 2) { box.append(el("p", { class: "note" }, "One target: its front is its best candidate.")); return; }
  const front = data.nodes.filter((n) => n.front);
  if (!front.length) { box.append(el("p", { class: "note" }, "No candidate is correct.")); return; }
  const table = el("table", {}, head("candidate", ...data.targets));
  for (const n of front)
    table.append(row(opener(n.key), ...data.targets.map((t) => (known(n, t) ? `${time(n.scores[t].seconds)} ${n.scores[t].kind}, ${gainText(n.scores[t].gain)}` : "-"))));
  box.append(el("p", { class: "note" }, "No candidate is at least as fast as one of these on all targets and faster on some."), el("div", { class: "scroll" }, table));
  data.targets.forEach((a, i) => data.targets.slice(i + 1).forEach((b) => {
    const both = data.nodes.filter((n) => known(n, a) && known(n, b));
    if (!both.length) { box.append(el("p", { class: "note" }, `No candidate has times on both ${a} and ${b}.`)); return; }
    const kind = (t) => [...new Set(both.map((n) => n.scores[t].kind))].join(", ");
    const across = { ...range(both, a), name: `${a}, ${kind(a)}` }, up = range(both, b);
    const [f, c, X, Y] = chart(`${b} (${kind(b)}) upwards, ${a} (${kind(a)}) across${beyond(both, [[a, across], [b, up]])}`, across, up);
    for (const n of [...both].sort((p, q) => p.front - q.front)) c.append(dot(n, X(n.scores[a].seconds), Y(n.scores[b].seconds), n.front));
    box.append(f);
  }));
}
