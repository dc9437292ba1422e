"""``ke-gen bench kernelbench``: on problems of our own, and on some that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.cli.conftest_cli import Run
from tests.kernelbench.conftest import OWN


def lines(out: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return [row for row in rows if "run" not in row]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--path", "nowhere"], "there is no folder nowhere"),
        (["--path", str(OWN.parent)], "is not a checkout of KernelBench"),
        (["--path", str(OWN), "--problems", "99"], "no such problem in level 1, 2, 3"),
        (["--path", str(OWN), "--level", "4"], "has no level 4"),
        (["--path", str(OWN), "--level", "one"], "is not a list of numbers"),
        (["--path", str(OWN), "--target", "nvidja"], "unknown target `nvidja`"),
        ([], "Missing option '--path'"),
    ],
)
def test_bad_input(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run("bench", "kernelbench", *arguments, "--out", tmp_path / "out")
    assert done.code == 2 and said in done.err


def test_own_problems(run: Run, tmp_path: Path) -> None:
    """Weights, a buffer that changes, a degenerate task; done once, and again only on demand."""
    out = tmp_path / "out"
    command = ["bench", "kernelbench", "--path", OWN, "--reduced", "--target", "kea",
               "--problems", "1/15,2/20,3/9", "--jobs", 1, "--out", out]  # fmt: skip
    done = run(*command)
    assert done.code == 0, done.out + done.err
    assert "numbers kea.kea2: 3 of 3 passed" in done.out
    found = lines(out)
    stages = ["load", "import", "derive", "op", "program", "compile", "numbers"]
    assert [x["stage"] for x in found] == 3 * stages
    assert {x["outcome"] for x in found} == {"passed"}
    norm = next(x for x in found if x["problem"] == "1/15" and x["stage"] == "numbers")
    assert len(norm["detail"]["outputs"]) >= 3
    page = (out / "summary-reduced.md").read_text()
    degenerate = page.partition("## Degenerate")[2].partition("##")[0]
    assert [row for row in degenerate.splitlines() if row.startswith("- ")] == [
        "- 2/20 LinearSubtractOwnMean: is zero within tolerance"
    ]
    assert "| normalisation | 1 | 1 | 1 | 1 | 1 |" in page
    assert (out / "reduced" / "level1" / "15_BatchNormTraining" / "program.ir").exists()
    again = run(*command)
    assert again.code == 0 and "3 of 3 problems are done already" in again.out
    assert lines(out) == found


def test_problems_that_are_wrong(run: Run, tmp_path: Path, bad: Path) -> None:
    """A clear reason each; none disturbs another; nothing is tried that cannot be."""
    out = tmp_path / "out"
    done = run("bench", "kernelbench", "--path", bad, "--reduced", "--target", "kea",
               "--problems", "1,2,3,4,5,7", "--level", 1, "--jobs", 1, "--out", out)  # fmt: skip
    assert done.code == 2
    failed = {x["problem"]: x for x in lines(out) if x["outcome"] == "failed"}
    want = {
        "1/1": ("load", "does not define `get_inputs`"),
        "1/2": ("load", "ZeroDivisionError"),
        "1/3": ("import", "depends on the values of a tensor"),
        "1/4": ("load", "the process was killed by SIGSEGV"),
        "1/5": ("import", "linalg"),
        "1/7": ("load", "no_such_package"),
    }
    for key, (stage, text) in want.items():
        assert failed[key]["stage"] == stage and text in failed[key]["reason"], failed[key]
        assert text in done.out.replace("\n    ", " ")
    assert failed["1/2"]["reason"].startswith("line 14: ")
    skipped = [x for x in lines(out) if x["problem"] == "1/3" and x["outcome"] == "skipped"]
    assert [x["stage"] for x in skipped] == ["derive", "op", "program", "compile", "numbers"]
    assert all(x["reason"] for x in skipped)


def test_time_limit(run: Run, tmp_path: Path, bad: Path) -> None:
    out = tmp_path / "out"
    done = run("bench", "kernelbench", "--path", bad, "--reduced", "--target", "kea", "--level", 1,
               "--problems", "6", "--seconds", 2, "--jobs", 1, "--json", "--out", out)  # fmt: skip
    assert done.code == 2
    assert json.loads(done.out)["passed"]["load"] == 0
    first = lines(out)[0]
    assert first["stage"] == "load" and first["reason"] == "timeout: not done in 2 s"


def test_full_size_without_a_device(run: Run, tmp_path: Path) -> None:
    """Everything up to the compiler; the rest is said to be not tried, never to have passed."""
    out = tmp_path / "out"
    done = run("bench", "kernelbench", "--path", OWN, "--target", "kea", "--problems", "1/8",
               "--jobs", 1, "--out", out)  # fmt: skip
    assert done.code == 0, done.out
    found = {x["stage"]: x for x in lines(out)}
    assert [s for s, x in found.items() if x["outcome"] == "passed"] == [
        "load", "import", "derive", "compile"
    ]  # fmt: skip
    assert found["time"]["outcome"] == "skipped" and found["time"]["reason"]
    assert "geomean" not in (out / "summary-full.md").read_text().partition("## By family")[0]
