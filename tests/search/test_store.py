"""The store: what is kept, and what it says when something is wrong with it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from search.graph import Edge, Node, Score
from search.store import ArtifactError, Artifacts, Store, StoreError, open_store, schema
from search.store.store import RUNNING, STOPPED, Round


def fill(store: Store, run: str) -> None:
    score = Score(1.5, "simulated", "a toy", {"k": 2}, {"cycles": 3.0}, 1.0, 0.5, "simulated")
    a = Node("a" * 32, 0, 0, 0, "t", "correct", scores={"toy.good": score})
    store.insert(run, a, Edge("", a.key, 0, 0, "derived"))
    store.finish_round(run, Round(0, (), (), {}), 1.0)
    b = Node("b" * 32, 1, 1, 1, "t", "wrong", features={"kernels": 2.0})
    store.insert(run, b, Edge(a.key, b.key, 1, 0, "p(1)", reason="no"))


def test_what_is_inserted_is_there_for_others(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as store:
        run = store.create_run({"policy": "x"}, "op")
        fill(store, run)
    with open_store(str(tmp_path)) as store:
        graph = store.graph(run)
        assert [n.key[0] for n in graph.nodes()] == ["a", "b"]
        assert graph.node("a" * 32).scores["toy.good"].knobs == {"k": 2}
        assert graph.lineage_edge("b" * 32).reason == "no"
        assert [n.key[0] for n in store.graph(run, 1).nodes()] == ["a"]
        assert store.rounds(run) == [Round(0, (), (), {})]
        assert store.run(run).config == {"policy": "x"}


def test_inserting_again_changes_nothing(store: Store) -> None:
    run = store.create_run({}, "op")
    fill(store, run)
    before = store.graph(run).to_json()
    fill(store, run)
    assert store.graph(run).to_json() == before


def test_runs_are_numbered(store: Store) -> None:
    assert [store.create_run({}, "op") for _ in range(3)] == ["op-1", "op-2", "op-3"]


def test_the_first_evaluation_stays(store: Store) -> None:
    store.add_evaluation("k", "p", "toy.good", {}, {"n": 1})
    store.add_evaluation("k", "p", "toy.good", {}, {"n": 2})
    assert store.evaluation("k") == {"n": 1} and store.count_evaluations() == 1
    assert store.evaluation("other") is None


def test_an_unknown_run_names_the_near_one(store: Store) -> None:
    store.create_run({}, "softmax")
    with pytest.raises(StoreError) as caught:
        store.run("sofmax-1")
    assert "softmax-1" in caught.value.fix


def test_a_run_belongs_to_one_living_process(store: Store) -> None:
    run = store.create_run({}, "op")
    store.claim(run)
    code = (
        "import sys; from search.store import open_store, StoreError\n"
        "try: open_store(sys.argv[1]).claim(sys.argv[2])\n"
        "except StoreError as error: print(error.what)"
    )
    where = str(Path(store.url.removeprefix("sqlite:///")).parent)
    other = [sys.executable, "-c", code, where, run]
    refused = subprocess.run(other, capture_output=True, text=True, check=True)
    assert f"carried on by process {os.getpid()}" in refused.stdout
    store.end(run, STOPPED, 1.0, "")
    taken = subprocess.run(other, capture_output=True, text=True, check=True)
    assert taken.stdout == ""
    assert store.run(run).state == RUNNING
    store.claim(run)  # the other process is gone


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    open_store(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / "store.db") as db:
        db.execute("update meta set value = '99' where name = 'schema'")
    with pytest.raises(StoreError) as caught:
        open_store(str(tmp_path))
    assert "version 99" in caught.value.what and "newer ke-gen" in caught.value.fix


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("not a database at all, just text\n" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(str(tmp_path))
    for url in ("nosuch://x/y", "postgresql://127.0.0.1:1/none"):
        with pytest.raises(StoreError) as caught:
            open_store(url)
        assert caught.value.fix


def test_a_damaged_or_missing_artifact_is_never_used(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path))
    digest = artifacts.put("op @x")
    assert artifacts.text(digest) == "op @x" and artifacts.put("op @x") == digest
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    path.write_text("op @y")
    with pytest.raises(ArtifactError, match="damaged"):
        Artifacts(str(tmp_path)).text(digest)
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Artifacts(str(tmp_path)).text(digest)


def test_artifacts_on_another_file_system() -> None:
    artifacts = Artifacts("memory://artifacts-test")
    assert artifacts.text(artifacts.put("text")) == "text"


def test_a_full_disk_leaves_no_half_of_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = Artifacts(str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts._fs, "mv", full)
    with pytest.raises(ArtifactError, match=r"No space left.*resume"):
        artifacts.put("text")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_store_whose_tables_are_being_created_gets_the_rest(tmp_path: Path) -> None:
    """SQLite creates them one after the other, where another process can see it."""
    with open_store(str(tmp_path)) as opened:
        url = opened.url
        with opened.engine.begin() as db:
            for table in schema.metadata.sorted_tables:
                if table.name != "meta":
                    db.execute(sa.text(f"DROP TABLE {table.name}"))
    with open_store(str(tmp_path)) as opened:
        assert opened.url == url
        assert opened.create_run({}, "f") == "f-1"


def _begins(where: str) -> str:
    with open_store(where) as opened:
        return opened.create_run({}, "f")


def test_a_new_store_is_opened_by_many_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for i in range(20):
            runs = pool.map(_begins, [str(tmp_path / str(i))] * 4, chunksize=1)
            assert sorted(runs) == ["f-1", "f-2", "f-3", "f-4"]
