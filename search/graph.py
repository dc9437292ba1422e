"""The search graph: every candidate, and the rewrite or edit that led to it.

Nodes are keyed by structural hash, so that equal programs merge; several edges may lead to one
node. The first edge that reached a node is its lineage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx

ROOT = "root"


@dataclass(frozen=True)
class Score:
    """How a node did on one target (``name.arch``).

    ``seconds`` is of the given ``kind`` (measured, simulated, estimated) ``on`` a device or model,
    None unless the candidate is correct. ``estimate`` is the analytic model's figure in seconds.
    ``knobs`` are the target's own choices that ``seconds`` belongs to. ``fraction`` is of the
    roofline. ``reason`` says why there is no time; ``stage`` where it failed. ``resources`` are
    what the compiler says of each kernel: ``registers``, ``spills``, ``shared_bytes``,
    ``occupancy``.
    """

    seconds: float | None = None
    kind: str = ""
    on: str = ""
    knobs: Mapping[str, int | str | bool] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    estimate: float | None = None
    fraction: float | None = None
    established: str = ""
    stage: str = ""
    reason: str = ""
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """One candidate. ``text`` is the digest of its KE-IR text among the artifacts.

    ``status`` is ``correct`` (on at least one target), ``wrong``, ``unknown`` (could not be
    judged) or ``rejected`` (not valid KE-IR). ``features`` are figures of its structure.
    """

    key: str
    seq: int
    round: int
    generation: int
    text: str
    status: str
    island: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; what is in them is shared with the node."""
        return {**vars(self), "scores": {t: dict(vars(s)) for t, s in self.scores.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Node:
        """The inverse of ``to_dict``."""
        scores = {name: Score(**s) for name, s in data["scores"].items()}
        return cls(**{**data, "scores": scores})


@dataclass(frozen=True)
class Edge:
    """How ``child`` came from ``parent`` (empty for a root).

    ``label`` is the rewrites' text, joined by ``"; "``; ``kind`` is ``rewrite``, or the form that
    a model's reply took: ``edit`` or ``kernel``. ``rationale`` is what it said beside it, and
    ``transcript`` the artifact that holds the conversation. ``outcome`` is the child's status, or
    ``duplicate`` where the child was known already; ``reason`` why it failed. ``cost`` is what
    finding and judging it took: seconds of wall clock, tokens, money. ``changes`` counts the
    statements added, removed and changed.
    """

    parent: str
    child: str
    round: int
    index: int
    label: str
    kind: str = "rewrite"
    outcome: str = "correct"
    reason: str = ""
    seconds: float = 0.0
    tokens: int = 0
    money: float = 0.0
    changes: Mapping[str, int] = field(default_factory=dict)
    rationale: str = ""
    transcript: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; what is in them is shared with the edge."""
        return dict(vars(self))


class SearchGraph:
    """Nodes and edges of one run, in the order in which they were inserted."""

    def __init__(self) -> None:
        self.nx: nx.MultiDiGraph = nx.MultiDiGraph()
        self.roots: list[str] = []
        self._best: dict[str, str] = {}
        self._front: list[str] = []
        self._tried: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return int(self.nx.number_of_nodes())

    def __contains__(self, key: str) -> bool:
        return key in self.nx

    def node(self, key: str) -> Node:
        """Raises KeyError."""
        found: Node = self.nx.nodes[key]["node"]
        return found

    def nodes(self) -> Iterator[Node]:
        """In order of insertion."""
        for _, found in self.nx.nodes(data="node"):
            yield found

    def edges(self) -> Iterator[Edge]:
        """Edges between nodes; the roots' own edges are left out."""
        for _, _, found in self.nx.edges(data="edge"):
            yield found

    def add(self, node: Node, edge: Edge) -> bool:
        """Insert; False when the node was known, and only the edge is new."""
        new = node.key not in self.nx
        if new:
            self.nx.add_node(node.key, node=node, lineage=edge)
            self._record(node)
        if edge.parent:
            self.nx.add_edge(edge.parent, node.key, key=(edge.round, edge.index), edge=edge)
            self._tried.setdefault(edge.parent, set()).add(edge.label)
        elif new:
            self.roots.append(node.key)
        return new

    def _record(self, node: Node) -> None:
        for target, score in node.scores.items():
            if score.seconds is not None:
                best = self.best(target)
                if best is None or _faster(score, best.scores[target]):
                    self._best[target] = node.key
        if any(s.seconds is not None for s in node.scores.values()):
            if any(dominates(self.node(k), node) for k in self._front):
                return
            self._front = [k for k in self._front if not dominates(node, self.node(k))]
            self._front.append(node.key)

    # ---- questions ----------------------------------------------------------------------------

    def lineage_edge(self, key: str) -> Edge:
        """The edge by which a node was first reached."""
        found: Edge = self.nx.nodes[key]["lineage"]
        return found

    def parent(self, key: str) -> str:
        """The parent on the lineage; empty for a root."""
        return self.lineage_edge(key).parent

    def lineage(self, key: str) -> list[str]:
        """From the root to ``key``, both included."""
        path = [key]
        while parent := self.parent(path[-1]):
            path.append(parent)
        return path[::-1]

    def ancestors(self, key: str) -> set[str]:
        """All nodes from which some path leads here."""
        return set(nx.ancestors(self.nx, key))

    def children(self, key: str) -> list[str]:
        """Nodes that edges lead to, each once, in order."""
        return list(self.nx.successors(key))

    def edges_from(self, key: str) -> list[Edge]:
        """Edges that leave a node, with those that failed."""
        return [e for _, _, e in self.nx.out_edges(key, data="edge")]

    def siblings(self, key: str) -> list[str]:
        """Other children of the parent on the lineage."""
        parent = self.parent(key)
        return [k for k in self.children(parent) if k != key] if parent else []

    def tried(self, key: str) -> set[str]:
        """Labels of the edges that leave a node."""
        return self._tried.get(key, set())

    def best(self, target: str) -> Node | None:
        """The fastest correct node on a target."""
        return self.node(self._best[target]) if target in self._best else None

    def front(self) -> list[Node]:
        """The Pareto front over all targets: nodes that no other dominates."""
        return [self.node(k) for k in self._front]

    def dominated(self) -> list[Node]:
        """Correct nodes that are not on the front."""
        front = set(self._front)
        return [n for n in self.nodes() if n.status == "correct" and n.key not in front]

    def find(self, prefix: str) -> Node:
        """The node whose key begins with ``prefix``. Raises KeyError, also when there are more."""
        if prefix in self.nx:
            return self.node(prefix)
        found = [k for k in self.nx if k.startswith(prefix)] if prefix else []
        if len(found) != 1:
            raise KeyError(f"{len(found)} nodes begin with `{prefix}`")
        return self.node(found[0])

    # ---- export -------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """All nodes and edges as plain JSON types."""
        return {
            "roots": list(self.roots),
            "nodes": [n.to_dict() for n in self.nodes()],
            "edges": [e.to_dict() for e in self.edges()],
        }

    def write_graphml(self, path: str) -> None:
        """GraphML with flat attributes; scores as JSON text."""
        flat: nx.MultiDiGraph = nx.MultiDiGraph()
        for n in self.nodes():
            flat.add_node(n.key, **_flat(n.to_dict()))
        for e in self.edges():
            flat.add_edge(e.parent, e.child, **_flat(e.to_dict()))
        nx.write_graphml(flat, path)


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for k, v in data.items()}


def _faster(a: Score, b: Score) -> bool:
    return a.kind == b.kind and (a.seconds or math.inf) < (b.seconds or math.inf)


def dominates(a: Node, b: Node) -> bool:
    """``a`` is nowhere slower than ``b`` and somewhere faster; times of one kind only."""
    better = False
    for target, theirs in b.scores.items():
        mine = a.scores.get(target)
        if theirs.seconds is None:
            better |= mine is not None and mine.seconds is not None
            continue
        if mine is None or mine.seconds is None or mine.kind != theirs.kind:
            return False
        if mine.seconds > theirs.seconds:
            return False
        better |= mine.seconds < theirs.seconds
    return better


def generation_best(nodes: Iterable[Node], target: str) -> Sequence[Node]:
    """For each generation from 0, the fastest node up to and including it; repeats where equal."""
    by_generation: dict[int, list[Node]] = {}
    for n in nodes:
        score = n.scores.get(target)
        if score is not None and score.seconds is not None:
            by_generation.setdefault(n.generation, []).append(n)
    best: Node | None = None
    out: list[Node] = []
    for generation in range(max(by_generation, default=-1) + 1):
        for n in by_generation.get(generation, ()):
            if best is None or _faster(n.scores[target], best.scores[target]):
                best = n
        if best is not None:
            out.append(best)
    return out


def with_score(node: Node, target: str, score: Score) -> Node:
    """The node with one score replaced."""
    return replace(node, scores={**node.scores, target: score})
