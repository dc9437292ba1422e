"""The commands about searches: what they print, refuse and write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from search.config import Config
from search.graph import Edge, Node, Score
from search.store import open_store
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
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert err == "", "quiet when piped"
    (folder / "summary").write_text(out)
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:  # fmt: skip
    """``run(*arguments)`` in this process: what was printed, or the error if ``code`` is not 0."""
    from ke_gen.cli import main

    monkeypatch.chdir(folder)

    def go(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capfd.readouterr()
        assert caught.value.code == code, out + err
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


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_is_printed_fits_the_terminal(
    run: Run, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs are printed as they are; all else fits, one line a generation, without colour."""
    monkeypatch.setenv("COLUMNS", columns)
    log = run("log", "last")
    shown = run("show", "last", "best").partition("\n\n")[0]
    told = run("diff", "last", "root", "best").partition("\n\n")[0]
    for line in "\n".join((run("log"), log, shown, told)).splitlines():
        assert len(line) <= int(columns) and "\x1b" not in line and line == line.rstrip()
    assert re.search(r"^gen:1 +\d+ of \d+ .* simulated ", log, re.MULTILINE)
    assert re.search(r"-> \w{8} .* simulated, [\d.]+x as\s+fast", told) and "by " in told


HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title=1\">"


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
    assert "default-src 'none'" in page


@pytest.fixture
def browse(folder: Path) -> Callable[[str], str]:
    """The document that a browser makes of a page, its scripts run."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: apt-get install chromium")

    def go(page: str) -> str:
        return subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             "--virtual-time-budget=5000", f"--user-data-dir={folder / 'browser'}",
             f"file://{folder / page}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    return go


def test_the_report_in_a_browser(run: Run, browse: Callable[[str], str]) -> None:
    """Its script runs: nodes are drawn, the best is open, its path is marked, curves are there."""
    run("report", "scale-1", "-o", "r.html")
    page = browse("r.html")
    nodes = json.loads(run("log", "scale-1", "--json"))["nodes"]
    assert len(re.findall(r"<g[^>]*data-key", page)) == len(nodes) >= 24
    assert "Difference from its parent" in page and "kernel @scale" in page
    assert page.count('class="curve"') == 2 and "toy.other (simulated) upwards" in page
    assert re.search(r'class="n correct[^"]* best chosen"', page)
    assert 'class="edge best-path path"' in page
    assert re.search(r"<text[^>]*>[\d.]+x retile", page)


def test_a_click_opens_a_candidate(run: Run, folder: Path, browse: Callable[[str], str]) -> None:
    run("report", "scale-1", "-o", "r.html")

    def after(script: str) -> str:
        page = (folder / "r.html").read_text()
        (folder / "c.html").write_text(page.replace("</body>", f"<script>{script}</script></body>"))
        return browse("c.html")

    root, best = (
        json.loads(run("show", "scale-1", n, "--json"))["key"] for n in ("root", "best:toy.other")
    )
    assert "A root: derived." in after(f"marks.get('{root}').dispatchEvent(new Event('click'))")
    other = after("document.querySelector('[data-target=\"toy.other\"]').click()")
    assert 'data-target="toy.other" aria-pressed="true"' in other
    assert re.search(rf'class="n [^"]* best chosen"[^>]*data-key="{best}"', other)


def test_hostile_text_is_inert(run: Run, folder: Path, browse: Callable[[str], str]) -> None:
    """Whatever a candidate says, in labels, reasons and its text, is shown and never run."""
    with open_store(str(folder / "hostile")) as store:
        good = Score(1.0, "simulated", HOSTILE, {HOSTILE: 1}, {HOSTILE: HOSTILE}, reason=HOSTILE)
        bad = Score(stage=HOSTILE, reason=HOSTILE)
        text = store.artifacts.put(HOSTILE)
        name = f"op{HOSTILE}"
        run_id = store.create_run(Config(name, text, HOSTILE, (HOSTILE,)).to_dict(), "op")
        root = Node("a" * 32, 0, 0, 0, store.artifacts.put(OP), "correct", scores={HOSTILE: good})
        store.insert(run_id, root, Edge("", root.key, 0, 0, HOSTILE))
        child = Node("b" * 32, 1, 1, 1, text, "rejected", scores={HOSTILE: bad})
        store.insert(run_id, child, Edge(root.key, child.key, 1, 0, HOSTILE, reason=HOSTILE))
        store.end(run_id, "stopped", 1.0, HOSTILE)
    run("report", run_id, "--store", "hostile", "-o", "hostile.html")
    raw = (folder / "hostile.html").read_text()
    assert "<img" not in raw and raw.count("<script") == 2
    click = f"<script>choose('{child.key}', true)</script></body>"
    (folder / "hostile.html").write_text(raw.replace("</body>", click))
    page = browse("hostile.html")
    assert page.count("onerror") > 5 and "<img" not in page and page.count("<script") == 3
    assert re.search(r"<title>op-1: search for @op&lt;/script", page), "the title is as written"
    assert 'data-key="' + child.key in page and "failed at" in page
