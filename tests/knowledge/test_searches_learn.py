"""A search writes down what it found when it ends, and never fails by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import pytest

from ke_gen.cli import main
from search.config import Config
from search.knowledge.index import Knowledge
from search.knowledge.learn import learned
from search.knowledge.notes import Note, dumped, loaded
from search.llm.types import LlmConfig, Model
from search.operators.llm import Llm
from search.parts import Surroundings
from search.run import Search, start
from search.store import Store, open_store
from search.termination import Limits
from tests.knowledge import test_learn

OP = test_learn.OP.replace("B = 64, D = 512", "B = 8, D = 4096")
NOTE = "---\nid: mine\ntitle: Mine\nsource: a test\n---\nUse wide tiles.\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KE_GEN_STORE", raising=False)
    monkeypatch.delenv("KE_GEN_KNOWLEDGE", raising=False)
    Path("rms.ir").write_text(OP)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as found:
        yield found


SEARCH = ("search", "rms.ir", "-t", "kea.kea2")
ONE = ("--jobs", "1")


def run(*more: str, command: Sequence[str] = SEARCH, jobs: Sequence[str] = ONE) -> int:
    with pytest.raises(SystemExit) as end:
        main([*command, "--store", "store", *jobs, *more])
    return int(end.value.code or 0)


def notes() -> list[Path]:
    return sorted(Path("store/knowledge").glob("*.md"))


def test_a_search_writes_down_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--candidates", "5") == 0
    captured = capsys.readouterr()
    (path,) = notes()
    assert "knowledge" not in captured.out + captured.err, "quietly"
    assert main_output(capsys, "knowledge", "list", "--store", "store").count(path.stem) == 1
    assert run("--candidates", "5") == 0 and notes() == [path], "one note for one task"


def main_output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().out


def test_no_learn_holds_for_the_run() -> None:
    assert run("--candidates", "5", "--no-learn") == 0
    assert run("--candidates", "6", command=("resume", "last")) == 0
    assert notes() == []
    assert run("last", command=("knowledge", "learn"), jobs=()) == 0 and len(notes()) == 1


def test_what_cannot_be_written_takes_nothing_away(capsys: pytest.CaptureFixture[str]) -> None:
    Path("store").mkdir()
    Path("store/knowledge").write_text("a file where the folder should be")
    assert run("--candidates", "5", "--out", "best") == 0
    assert list(Path("best").iterdir())
    assert "nothing is learned from this search" in capsys.readouterr().err


def test_it_is_quick(store: Store, tmp_path: Path) -> None:
    config = Config("rms", store.artifacts.put(OP), "rms.ir", ("kea.kea2",), drafts=4,
                    tuning=False, limits=Limits(candidates=5))  # fmt: skip
    with Search(store, start(store, config), 1) as search:
        search.run()
    begun = perf_counter()
    assert learned(store, search.id, tmp_path / "notes", search.graph)
    assert perf_counter() - begun < 1.0, "it takes 10 ms on an idle machine"


def surroundings(store: Store, run: str) -> Surroundings:
    config = Config.from_dict(store.run(run).config)
    return Surroundings(
        config, lambda f, t: None, store.artifacts.put, store.folder, read=store.artifacts.text
    )


def known(store: Store, run: str) -> Knowledge:
    """What the operator of a run retrieves from."""
    operator = Llm.connect(surroundings(store, run))
    operator.close()
    return operator.knowledge


def test_a_run_has_the_notes_of_its_start(store: Store, tmp_path: Path) -> None:
    """Whatever is learned, added, changed or removed while it is stopped."""
    folder = tmp_path / "store" / "knowledge"
    folder.mkdir()
    (folder / "mine.md").write_text(NOTE)
    llm = LlmConfig("http://127.0.0.1:1/v1", (Model("m"),))
    config = Config("rms", store.artifacts.put(OP), "rms.ir", ("kea.kea2",), operator="llm",
                    llm=llm)  # fmt: skip
    first = start(store, config)
    (folder / "mine.md").write_text(NOTE.replace("wide", "narrow"))
    (folder / "new.md").write_text(NOTE.replace("id: mine", "id: new"))
    second = start(store, config)
    (folder / "mine.md").unlink()
    one, two = known(store, first), known(store, second)
    assert [n.body for n in one.notes if not n.own] == ["Use wide tiles."]
    assert {n.id: n.body for n in two.notes if not n.own} == {
        "mine": "Use narrow tiles.", "new": "Use wide tiles."
    }  # fmt: skip
    assert sum(n.own for n in one.notes) >= 60, "ke-gen's own are read where they lie"
    asked = ("kea.kea2", {"memory": 1.0}, "norm", "refine", 100_000)
    with Knowledge(one.folders, more=[n for n in one.notes if not n.own]) as again:
        assert "mine" in [n.id for n in again.retrieve(*asked)]


def test_a_note_of_a_file_stays_before_one_of_none() -> None:
    mine = Note("kea-lpddr", "Mine", "Other words.", source="a test")
    with Knowledge((), more=[mine]) as alone:
        assert alone.get("kea-lpddr") == mine
    own = Path("notes")
    own.mkdir()
    (own / "it.md").write_text(NOTE.replace("id: mine", "id: kea-lpddr"))
    with Knowledge([own], Path("index.sqlite"), [mine]) as both:
        (note,) = both.notes
        assert note.body == "Use wide tiles." and [n.id for n in both.search("wide")] == [note.id]
    assert not Path("index.sqlite").exists()


def test_notes_survive_being_kept() -> None:
    note = Note("a", "A", "b", ("kea",), ("memory",), ("norm",), ("draft",), "s", "x", False, "f")
    (again,) = loaded(dumped([note]))
    assert (again.id, again.ops, again.phase, again.file) == ("a", ("norm",), ("draft",), "")
