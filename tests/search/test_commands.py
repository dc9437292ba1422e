"""The commands about searches: what they print, refuse and write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.search.conftest import OP
from tests.search.test_faults import command


@pytest.fixture(scope="module")
def folder(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search on two targets."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "scale.ir").write_text(OP)
    done = command(
        folder, "search", "scale.ir", "-t", "toy.good,toy.other", "--candidates", "24",
        "--weights", "toy=1", "--out", "best",
    )  # fmt: skip
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert err == "", "quiet when piped"
    (folder / "summary").write_text(out)
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(folder: Path) -> Run:
    def go(*arguments: str, code: int = 0) -> str:
        process = command(folder, *arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return out if code == 0 else err

    return go


def test_the_end_of_a_search(folder: Path, run: Run) -> None:
    summary = (folder / "summary").read_text()
    assert "24 candidates evaluated" in summary and "simulated" in summary
    written = sorted(p.name for p in (folder / "best").iterdir())
    assert written == [
        "scale.toy.good.ir", "scale.toy.good.toy", "scale.toy.other.ir", "scale.toy.other.toy",
    ]  # fmt: skip
    best = (folder / "best" / "scale.toy.good.ir").read_text()
    assert "tuned @scale for toy.good { speed = 2 }" in best
    run("check", "best/scale.toy.good.ir")


def test_log(run: Run) -> None:
    assert "scale-1" in run("log")
    said = run("log", "last")
    assert "gen:1" in said and "toy.other" in said and "simulated" in said
    data = json.loads(run("log", "scale-1", "--json"))
    valid = [n for n in data["nodes"] if n["status"] != "rejected"]
    assert len(valid) == 24 and data["run"]["state"] == "finished"
    run("log", "scale-1", "--graphml", "g.graphml")


def test_show_blame_and_diff(run: Run) -> None:
    shown = run("show", "last", "best:toy.good")
    assert "simulated on a toy" in shown and "kernel @scale" in shown
    assert json.loads(run("show", "last", "root", "--json"))["generation"] == 0
    assert run("show", "last", "root", "--ir").startswith("op @scale")
    assert run("show", "last", "best", "--source", "toy.good").startswith("toy scale")
    blamed = run("blame", "last", "best")
    assert "derived" in blamed and "@scale," in blamed.partition("kernel")[2]
    told = run("diff", "last", "gen:0", "best", "--source", "toy.good")
    assert re.search(r"toy.good: \w{8} [\d.]+ ms simulated -> ", told)
    assert "changed" in told and told.count("\n+") >= 1
    assert json.loads(run("diff", "last", "root", "best", "--json"))["changes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("log", "scle-1"), "scale-1"),
        (("show", "last", "zzzz"), "no such node"),
        (("show", "last", "gen:99"), "the last one is gen:"),
        (("show", "last", "best:kea"), "targets: toy.good"),
        (("diff", "last", "root"), "no such file"),
        (("diff", "last"), "two files"),
        (("resume", "none"), "no run"),
        (("search", "scale.ir", "--policy", "gredy", "-t", "toy"), "greedy"),
        (("search", "scale.ir", "--weights", "kea=1", "-t", "toy"), "not a target and its weight"),
        (("search", "none.ir"), "no such file"),
        (("report", "last", "-o", "none/x.html"), "cannot write"),
    ],
)
def test_bad_input(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in run(*arguments, code=2)


def test_a_finished_run_resumes_to_its_end(run: Run) -> None:
    assert "24 candidates evaluated" in run("resume", "last", "--out", "again")


def test_the_report_stands_alone_and_escapes(run: Run, folder: Path) -> None:
    text = (folder / "scale.ir").read_text()
    name = "<img src=x onerror=alert(1)>.ir"
    (folder / name).write_text(text)
    run("search", name, "-t", "toy", "--candidates", "6", "--out", "other")
    run("report", "last", "-o", "page.html")
    page = (folder / "page.html").read_text()
    assert "<img" not in page and "&lt;img" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "import(" not in page and "fetch(" not in page and "XMLHttpRequest" not in page


def test_the_report_in_a_browser(run: Run, folder: Path) -> None:
    """Its script runs: nodes are drawn, the best is open, curves are there."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: apt-get install chromium")
    run("report", "scale-1", "-o", "r.html")
    page = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={folder / 'browser'}", f"file://{folder / 'r.html'}"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    nodes = json.loads(run("log", "scale-1", "--json"))["nodes"]
    assert len(re.findall(r"<circle[^>]*data-key", page)) == len(nodes) >= 24
    assert "Difference from its parent" in page and "kernel @scale" in page
    assert page.count('class="curve"') == 2
    assert "n correct" in page and "chosen" in page
