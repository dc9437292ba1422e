"""The graph: lineage, merging, best, front, export."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import pytest

from search.graph import Edge, Node, Score, SearchGraph, dominates, generation_best


def node(key: str, seq: int, generation: int = 0, **seconds: float) -> Node:
    scores = {t: Score(s, "simulated", "a toy") for t, s in seconds.items()}
    return Node(key, seq, generation, generation, f"t{key}", "correct", scores=scores)


@pytest.fixture
def graph() -> SearchGraph:
    """a -> b -> d, a -> c, c -> d again, a -> e which failed."""
    g = SearchGraph()
    g.add(node("aa", 0, 0, x=4.0, y=4.0), Edge("", "aa", 0, 0, "derived"))
    g.add(node("bb", 1, 1, x=2.0, y=5.0), Edge("aa", "bb", 1, 0, "p(1)"))
    g.add(node("cc", 2, 1, x=3.0, y=3.0), Edge("aa", "cc", 1, 1, "q(1)"))
    g.add(node("dd", 3, 2, x=2.0, y=2.5), Edge("bb", "dd", 2, 0, "r(1)"))
    g.add(node("dd", 3, 2, x=2.0, y=2.5), Edge("cc", "dd", 2, 1, "s(1)", outcome="duplicate"))
    failed = Node("ee", 4, 2, 1, "tee", "wrong", scores={"x": Score(stage="legal", reason="big")})
    g.add(failed, Edge("aa", "ee", 2, 2, "u(1)", outcome="wrong", reason="legal: big"))
    return g


def test_lineage_and_relatives(graph: SearchGraph) -> None:
    assert graph.lineage("dd") == ["aa", "bb", "dd"]
    assert graph.parent("dd") == "bb" and graph.parent("aa") == ""
    assert graph.ancestors("dd") == {"aa", "bb", "cc"}
    assert graph.children("aa") == ["bb", "cc", "ee"]
    assert graph.siblings("bb") == ["cc", "ee"]
    assert graph.tried("aa") == {"p(1)", "q(1)", "u(1)"}
    assert len(graph) == 5 and len(list(graph.edges())) == 5


def test_a_failed_edge_keeps_its_reason(graph: SearchGraph) -> None:
    assert [e.reason for e in graph.edges_from("aa") if e.outcome == "wrong"] == ["legal: big"]


def test_best_and_front(graph: SearchGraph) -> None:
    best = graph.best("x")
    assert best is not None and best.key == "bb"
    assert [n.key for n in graph.front()] == ["dd"]
    assert {n.key for n in graph.dominated()} == {"aa", "bb", "cc"}
    assert graph.best("z") is None


def test_kinds_of_time_are_never_mixed() -> None:
    a = node("a", 0, x=2.0)
    b = Node("b", 1, 0, 0, "t", "correct", scores={"x": Score(1.0, "estimated", "a model")})
    assert not dominates(b, a) and not dominates(a, b)
    g = SearchGraph()
    g.add(a, Edge("", "a", 0, 0, "derived"))
    g.add(b, Edge("a", "b", 1, 0, "p(1)"))
    best = g.best("x")
    assert best is not None and best.key == "a"


def test_generations(graph: SearchGraph) -> None:
    assert [n.key for n in generation_best(graph.nodes(), "y")] == ["aa", "cc", "dd"]


def test_prefixes(graph: SearchGraph) -> None:
    assert graph.find("d").key == "dd"
    for wrong in ("", "zz"):
        with pytest.raises(KeyError):
            graph.find(wrong)


def test_export(graph: SearchGraph, tmp_path: Path) -> None:
    data = json.loads(json.dumps(graph.to_json()))
    assert [Node.from_dict(n) for n in data["nodes"]] == list(graph.nodes())
    assert [Edge(**e) for e in data["edges"]] == list(graph.edges())
    path = tmp_path / "g.graphml"
    graph.write_graphml(str(path))
    read = nx.read_graphml(path)
    assert set(read.nodes) == {"aa", "bb", "cc", "dd", "ee"}
    assert read.number_of_edges() == 5
