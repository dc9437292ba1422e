"""The data of a run's HTML report, and the file itself.

One page without outside assets. What is drawn is bounded: of a large graph the best lineages and
the best candidates are, and the page says how many are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ke_ir.diff import diff_modules, render
from ke_ir.parser import parse
from search.results import failures, gain, reasons, reference

if TYPE_CHECKING:
    from search.config import Config
    from search.graph import Node, Score, SearchGraph
    from search.store import RunRecord, Store

_TEMPLATES = Path(__file__).resolve().parents[1] / "templates" / "report"
_DRAWN, _WITH_TEXT = 1500, 300
_COLUMN, _ROW = 200, 28
_REASONS, _EXAMPLES = 20, 6


def report_html(store: Store, record: RunRecord, config: Config, graph: SearchGraph) -> str:
    """The page. Raises ArtifactError when a text that it shows is missing or damaged."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("report.html.j2")
    data = report_data(store, config, graph)
    return template.render(record=record, config=config, data=data, size=len(graph))


def report_data(store: Store, config: Config, graph: SearchGraph) -> dict[str, Any]:
    """Plain JSON types: nodes with their places, edges, curves, failures and the front."""
    root = reference(graph)
    ordered = _by_worth(config, graph)
    drawn = _with_ancestors(graph, ordered, _DRAWN)
    texts = _with_ancestors(graph, ordered, _WITH_TEXT)
    places = layout(graph, drawn)
    front = {n.key for n in graph.front()}
    return {
        "targets": list(config.targets),
        "left_out": len(graph) - len(drawn),
        "nodes": [
            {
                **_node(graph, graph.node(k), config),
                "x": places[k][0],
                "y": places[k][1],
                "front": k in front,
                **(_texts(store, graph, k) if k in texts else {}),
            }
            for k in sorted(drawn, key=lambda k: graph.node(k).seq)
        ],
        "edges": [
            {"from": e.parent, "to": e.child, "first": graph.lineage_edge(e.child) == e}
            for e in graph.edges()
            if e.parent in drawn and e.child in drawn
        ],
        "progress": {t: _progress(graph, t) for t in config.targets},
        "root": root.key,
        "best": {t: n.key for t in config.targets if (n := graph.best(t)) is not None},
        "failures": failures(graph),
        "reasons": [
            {"text": r.text, "count": len(r.nodes), "nodes": r.nodes[:_EXAMPLES]}
            for r in reasons(graph)[:_REASONS]
        ],
    }


def _by_worth(config: Config, graph: SearchGraph) -> list[str]:
    """The best of each target and the front, then by the mean gain; failures last, by age."""
    first = [n.key for t in config.targets if (n := graph.best(t)) is not None]
    first += [n.key for n in graph.front()]

    def worth(n: Node) -> tuple[float, int]:
        gains = [g for t in config.targets if (g := gain(graph, n, t))]
        return (-sum(map(math.log, gains)) if gains else math.inf, n.seq)

    rest = [n.key for n in sorted(graph.nodes(), key=worth)]
    return list(dict.fromkeys([*graph.roots, *first, *rest]))


def _with_ancestors(graph: SearchGraph, ordered: list[str], most: int) -> set[str]:
    """The first of ``ordered`` with their lineages, until there are ``most``."""
    found: set[str] = set()
    for k in ordered:
        if len(found) >= most:
            break
        while k and k not in found:
            found.add(k)
            k = graph.parent(k)
    return found


def layout(graph: SearchGraph, drawn: set[str]) -> dict[str, tuple[int, int]]:
    """A place for each node: generations are columns, a parent stands amid its children.

    ``drawn`` holds the lineage of each of its nodes.
    """
    children: dict[str, list[str]] = {}
    for k in sorted(drawn, key=lambda k: graph.node(k).seq):
        children.setdefault(graph.parent(k), []).append(k)
    places: dict[str, tuple[int, int]] = {}
    below = 0
    open_ = list(reversed(children.get("", ())))
    while open_:
        k = open_[-1]
        waiting = [c for c in children.get(k, ()) if c not in places]
        if waiting:
            open_ += reversed(waiting)
            continue
        open_.pop()
        if rows := [places[c][1] for c in children.get(k, ())]:
            row = (rows[0] + rows[-1]) // 2
        else:
            row, below = below, below + _ROW
        places[k] = (graph.node(k).generation * _COLUMN, row)
    return places


def _node(graph: SearchGraph, n: Node, config: Config) -> dict[str, Any]:
    edge = graph.lineage_edge(n.key)
    return {
        "key": n.key, "seq": n.seq, "generation": n.generation, "status": n.status,
        "parent": edge.parent, "label": edge.label, "reason": edge.reason,
        "cost": edge.seconds, "tokens": edge.tokens, "money": edge.money,
        "changes": dict(edge.changes),
        "scores": {t: _score(graph, n, t, n.scores[t]) for t in config.targets if t in n.scores},
    }  # fmt: skip


def _score(graph: SearchGraph, n: Node, target: str, s: Score) -> dict[str, Any]:
    parts = {k: v for k, v in s.detail.items() if isinstance(v, str | int) or math.isfinite(v)}
    return {
        "seconds": s.seconds, "kind": s.kind, "on": s.on, "knobs": dict(s.knobs),
        "fraction": s.fraction, "estimate": s.estimate, "established": s.established,
        "stage": s.stage, "reason": s.reason, "gain": gain(graph, n, target), "detail": parts,
    }  # fmt: skip


def _texts(store: Store, graph: SearchGraph, key: str) -> dict[str, str]:
    text = store.artifacts.text(graph.node(key).text)
    parent = graph.parent(key)
    if not parent or graph.node(key).status == "rejected":
        return {"ir": text, "diff": ""}
    before = store.artifacts.text(graph.node(parent).text)
    return {"ir": text, "diff": render(diff_modules(parse(before), parse(text)))}


def _progress(graph: SearchGraph, target: str) -> Mapping[str, Any]:
    """Steps of the best so far: (candidate's number, seconds), of the reference's kind."""
    ref = reference(graph).scores.get(target)
    best, steps = math.inf, []
    for n in graph.nodes():
        s = n.scores.get(target)
        if ref is None or s is None or s.seconds is None or s.kind != ref.kind:
            continue
        if s.seconds < best:
            best = s.seconds
            steps.append((n.seq + 1, best))
    return {"kind": ref.kind if ref else "", "on": ref.on if ref else "", "steps": steps}
