"""What a model was asked, what it replied, and what came of it: for training one later."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from search.config import Config
from search.parts import FITNESS, Fitness, find_part

if TYPE_CHECKING:
    from search.graph import Edge, SearchGraph
    from search.store import Store

FAILED = -1.0
"""The reward of a reply that cannot be used, or whose kernel is wrong."""
REFUSED = "refused"


def trajectories(store: Store, run: str) -> Iterator[dict[str, Any]]:
    """One record for each reply of a run, in the order of the edges that they led to.

    ``prompt`` is the chat, ``reply`` the text. ``verdict`` is ``refused`` (sent back with
    ``diagnostics``) or the edge's outcome. ``reward`` is the logarithm of the speed-up over the
    parent in the run's fitness, ``FAILED`` for what is of no use, None where nothing could be
    judged. Calls that brought no reply are left out. Raises StoreError, ArtifactError.
    """
    config, graph = Config.from_dict(store.run(run).config), store.graph(run)
    if not graph.roots:
        return
    reference = graph.node(graph.roots[-1]).scores
    fitness: Fitness = find_part(FITNESS, config.fitness)(reference, config.weights)
    for edge in graph.edges():
        if not edge.transcript:
            continue
        talk = json.loads(store.artifacts.text(edge.transcript))
        for at, turn in enumerate(talk["turns"]):
            if not turn["error"]:
                last = at == len(talk["turns"]) - 1
                yield _record(run, config, graph, fitness, edge, turn, at, last)


def _record(
    run: str, config: Config, graph: SearchGraph, fitness: Fitness, edge: Edge,
    turn: Mapping[str, Any], at: int, last: bool,
) -> dict[str, Any]:  # fmt: skip
    used = last and "diagnostics" not in turn
    child = graph.node(edge.child)
    return {
        "run": run,
        "op": config.program,
        "targets": list(config.targets),
        "parent": edge.parent,
        "node": edge.child if used else "",
        "turn": at,
        "model": turn["model"],
        "prompt": turn["messages"],
        "reply": turn["reply"],
        "form": turn.get("form", ""),
        "label": turn.get("label", ""),
        "verdict": _outcome(graph, edge) if used else REFUSED,
        "reason": edge.reason if used else "",
        "diagnostics": turn.get("diagnostics", []),
        "reward": _reward(graph, fitness, edge) if used else FAILED,
        "scores": {
            t: {"seconds": s.seconds, "kind": s.kind, "on": s.on} for t, s in child.scores.items()
        } if used else {},
        "tokens_in": turn["tokens_in"],
        "tokens_out": turn["tokens_out"],
    }  # fmt: skip


def _outcome(graph: SearchGraph, edge: Edge) -> str:
    return graph.node(edge.child).status if edge.outcome == "duplicate" else edge.outcome


def _reward(graph: SearchGraph, fitness: Fitness, edge: Edge) -> float | None:
    outcome = _outcome(graph, edge)
    if outcome != "correct":
        return None if outcome == "unknown" else FAILED
    gain = fitness.score(graph.node(edge.child)) - fitness.score(graph.node(edge.parent))
    return round(gain, 6) if math.isfinite(gain) else None
