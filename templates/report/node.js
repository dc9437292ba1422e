function showNode(n) {
  const panel = document.getElementById("node");
  const parts = [
    el("h3", {}, el("span", { class: `badge ${n.status}` }, n.status), ` ${short(n.key)}`),
    el("p", { class: "note" }, `Generation ${n.generation}, candidate ${n.seq + 1}; finding and judging it took ${cost(n)}. ${n.key}`),
  ];
  if (n.parent) {
    parts.push(el("p", {}, "From ", opener(n.parent), steps(n).length > 1 ? ` by ${steps(n).length} rewrites:` : " by:"),
      el("ol", { class: "steps" }, ...steps(n).map((step) => el("li", {}, el("code", {}, step)))));
  } else parts.push(el("p", {}, `A root: ${n.label}.`));
  if (n.reason) parts.push(el("p", { class: "fault" }, n.reason));
  parts.push(scores(n));
  const path = lineage(n.key), trail = el("p", {}, "Path: ");
  path.forEach((k, i) => trail.append(i ? " → " : "", opener(k)));
  if (path.length > 1) parts.push(trail);
  if (n.diff) parts.push(el("h3", {}, "Difference from its parent"), marked(n.diff));
  if (n.ir !== undefined) parts.push(fold("KE-IR", !n.diff, el("pre", {}, n.ir)));
  else parts.push(el("p", { class: "note" }, `Its text is not in this file: ke-gen show RUN ${short(n.key)}`));
  for (const t of data.targets) {
    const figures = n.scores[t] ? Object.entries(n.scores[t].detail) : [];
    if (!figures.length) continue;
    const inner = el("table");
    for (const [k, v] of figures) inner.append(row(k, el("td", { class: "num" }, typeof v === "number" ? String(+v.toPrecision(4)) : v)));
    parts.push(fold(`Parts of the time on ${t}, ${n.scores[t].kind}`, false, inner));
  }
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}
const cost = (n) => `${n.cost.toFixed(2)} s` + (n.tokens ? `, ${n.tokens} tokens` : "") + (n.money ? `, ${n.money} of money` : "");
function fold(title, opened, content) {
  const d = el("details", {}, el("summary", {}, title), content);
  d.open = opened;
  return d;
}
function scores(n) {
  const list = el("dl", { class: "scores" });
  for (const t of data.targets) {
    const s = n.scores[t];
    if (!s) continue;
    list.append(el("dt", {}, t));
    if (s.seconds === null) { list.append(el("dd", { class: s.stage ? "fault" : "" }, s.stage ? `failed at ${s.stage}: ${s.reason}` : s.reason || "not judged")); continue; }
    const facts = [s.gain ? `${s.gain.toFixed(3)}x the root's speed` : "", s.fraction === null ? "" : `${(100 * s.fraction).toFixed(0)} % of the roofline`,
      s.estimate === null ? "" : `${time(s.estimate)} estimated before it was run`, `knobs ${knobs(s)}`];
    list.append(el("dd", {}, el("b", {}, `${time(s.seconds)} ${s.kind}`), ` on ${s.on}`, el("br"), facts.filter(Boolean).join(" · "),
      el("br"), el("span", { class: "note" }, `numbers ${s.reason || s.established || "-"}`)));
  }
  return list;
}
function marked(text) {
  const pre = el("pre");
  for (const line of text.split("\n"))
    pre.append(el("span", { class: line[0] === "+" ? "add" : line[0] === "-" ? "del" : "same" }, line + "\n"));
  return pre;
}
