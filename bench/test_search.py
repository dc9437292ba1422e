"""How the graph, the store and the report take a large run: ``pytest bench/test_search.py``.

100,000 nodes with edges, scores and artifacts of two kilobytes, on a local disk.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from search.config import Config
from search.graph import Edge, Node, Score
from search.report import report_html
from search.run import Search
from search.store import Store, open_store
from search.store.store import FINISHED, Round

NODES, BATCH = 100_000, 8
OP = """op @f(x: f32[B]) -> (y: f32[B])
dims B = 64
{
  y[b] = x[b]
}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("large")))


def config(store: Store) -> Config:
    return Config("f", store.artifacts.put(OP), "f.ir", ("kea.kea2",))


def fill(store: Store) -> str:
    """A made-up run: every node has a random earlier one as its parent."""
    rng = random.Random(0)
    run = store.create_run(config(store).to_dict(), "f")
    keys: list[str] = []
    generations: list[int] = []
    for i in range(NODES):
        key = f"{rng.getrandbits(128):032x}"
        at = rng.randrange(i) if i else 0
        generations.append(generations[at] + 1 if i else 0)
        score = Score(1e-3 * rng.uniform(0.5, 2.0), "simulated", "made up", {}, {"cycles": 1.0})
        text = store.artifacts.put(f"{OP}# {i}\n" + "#" * 2000)
        features = {"kernels": 1.0, "intensity": rng.random(), "local_bytes": rng.random() * 1e5}
        scores = {"kea.kea2": score}
        number = i // BATCH
        node = Node(key, i, number, generations[i], text, "correct", 0, scores, features)
        parent = keys[at] if i else ""
        store.insert(run, node, Edge(parent, key, number, i % BATCH, f"p({i})"))
        keys.append(key)
        if i % BATCH == BATCH - 1:
            store.finish_round(run, Round(number, (), (), {}), 1.0)
    store.end(run, FINISHED, 1.0, "made up")
    return run


def test_100_000_nodes(benchmark: BenchmarkFixture, store: Store, tmp_path: Path) -> None:
    """Insert each as a checkpoint, resume, pick, and report."""
    run = benchmark.pedantic(fill, args=(store,), rounds=1)
    begin = time.perf_counter()
    with Search(store, run, 1) as search:
        resumed = time.perf_counter() - begin
        begin = time.perf_counter()
        picks = search.policy.pick(search.view, 8, random.Random(0))
        picked = time.perf_counter() - begin
    begin = time.perf_counter()
    page = report_html(store, store.run(run), config(store), search.graph)
    reported = time.perf_counter() - begin
    (tmp_path / "r.html").write_text(page)
    assert len(search.graph) == NODES and picks
    benchmark.extra_info.update(
        resume_seconds=resumed, pick_seconds=picked, report_seconds=reported, page=len(page)
    )
    print(f"\nresume {resumed:.1f} s, pick {1e3 * picked:.1f} ms, report {reported:.1f} s, "
          f"page {len(page) / 1e6:.1f} MB")  # fmt: skip
