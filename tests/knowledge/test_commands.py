"""``ke-gen knowledge``: what it prints, refuses and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest_cli import Run
from tests.knowledge.conftest import Write


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KE_GEN_STORE", raising=False)
    monkeypatch.delenv("KE_GEN_KNOWLEDGE", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def test_list(run: Run) -> None:
    done = run("knowledge", "list")
    assert done.code == 0 and done.err == ""
    assert "constraints (" in done.out and "hardware/kea (" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    fewer = run("knowledge", "list", "--target", "amd.gfx942")
    assert "amd-lds" in fewer.out and "kea-lpddr" not in fewer.out
    plain = json.loads(run("knowledge", "list", "--json").out)
    assert len(plain["notes"]) >= 60 and plain["problems"] == []


def test_search(run: Run) -> None:
    done = run("knowledge", "search", "lpddr", "--limit", "2")
    assert done.code == 0 and "204.8" in done.out and "source:" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    fits = ("-t", "kea.kea2", "--bound", "vector", "--op", "attention", "--phase", "refine")
    done = run("knowledge", "search", *fits, "--limit", "1", "--json")
    assert [n["id"] for n in json.loads(done.out)["notes"]] == ["kea-attention"]
    both = run("knowledge", "search", *fits, "flash", "--json")
    assert all("kea" in n["targets"] or not n["targets"] for n in json.loads(both.out)["notes"])
    assert "no note fits" in run("knowledge", "search", "zzzqqq").out
    every = run("knowledge", "search", "--limit", "1000")
    assert max(len(x) for x in every.out.splitlines()) <= 80 and "--limit shows" not in every.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "--bound", "memry"), "did you mean `memory`"),
        (("search", "--op", "matmull"), "did you mean `matmul`"),
        (("search", "--phase", "x"), "draft, refine, repair"),
        (("search", "--folder", "nowhere"), "no such folder"),
        (("list", "--folder", "nowhere"), "no such folder"),
        (("add", "nowhere.md"), "not a regular file"),
        (("add",), "FILE"),
        (("learn", "nosuch-1"), "no run `nosuch-1`"),
        (("learn", "last"), "no run `last`"),
        (("serch",), "serch"),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run("knowledge", *arguments)
    assert done.code == 2 and said in done.err


def test_a_folder_of_the_variable_must_exist(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KE_GEN_KNOWLEDGE", "nowhere")
    done = run("knowledge", "list")
    assert done.code == 2 and "KE_GEN_KNOWLEDGE: no such folder: nowhere" in done.err


def test_add_and_find(run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("tip", "Use zebra tiles.", targets="kea", bounds="memory")
    assert "no note fits" in run("knowledge", "search", "zebra").out
    assert "zebra" in run("knowledge", "search", "zebra", "--folder", path.parent).out
    done = run("knowledge", "add", path, "--folder", "mine")
    assert done.code == 0 and "mine/tip.md" in done.out
    monkeypatch.setenv("KE_GEN_KNOWLEDGE", "mine")
    assert "zebra" in run("knowledge", "search", "zebra").out
    monkeypatch.delenv("KE_GEN_KNOWLEDGE")
    assert run("knowledge", "add", path).code == 0
    assert "zebra" in run("knowledge", "search", "zebra").out, "the store's own folder"


def test_bad_notes_are_told_of_and_left_out(run: Run, write: Write) -> None:
    bad = write("odd", bounds="memry")
    good = write("good", "A quagga is a zebra.")
    done = run("knowledge", "search", "quagga", "--folder", bad.parent)
    assert done.code == 2 and "A quagga" in done.out
    assert "odd.md:5:9" in done.err and "did you mean `memory`" in done.err
    plain = json.loads(run("knowledge", "list", "--folder", bad.parent, "--json").out)
    assert [p["line"] for p in plain["problems"]] == [5]
    done = run("knowledge", "add", bad, good)
    assert done.code == 2 and "good.md" in done.out and "odd.md:5" in done.err


def test_hostile_notes_stay_text(run: Run, write: Write) -> None:
    path = write("evil", "quagga [red]x[/red] <script>alert(1)</script> $(touch gone) `touch gone`")
    done = run("knowledge", "search", "quagga", "--folder", path.parent)
    assert "[red]x[/red] <script>alert(1)</script> $(touch gone) `touch gone`" in " ".join(
        done.out.split()
    )
    path.write_bytes(path.read_bytes().replace(b"quagga", b"quagga\x1b[2J\x1b]0;x\x07"))
    done = run("knowledge", "search", "quagga", "--folder", path.parent)
    assert done.code == 2 and "\x1b" not in done.out + done.err and "U+001B" in done.err
    assert not Path("gone").exists()
