"""What may happen to a search as a whole: kill -9, interrupts, full disks, a second search."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.store import open_store
from tests.search.conftest import OP

KILLS = int(os.environ.get("KE_GEN_KILLS", "4"))
TO_KILL = str(max(30, 4 * KILLS))
"""Candidates enough for each kill to fall on a search that is not over."""


@pytest.fixture
def folder(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scale.ir").write_text(OP)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "times"))
    return tmp_path


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ke_gen", *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [
            os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])]))},
    )  # fmt: skip


def search(folder: Path, store: str, *more: str) -> subprocess.Popen[str]:
    given = ("--targets", "toy.good", "--candidates", "20", "--jobs", "1")
    return command(folder, "search", "scale.ir", *given, "--store", store, *more)


def shape(folder: Path, store: str, run: str = "scale-1") -> str:
    """A run's graph without the clock."""
    with open_store(str(folder / store)) as opened:
        data = opened.graph(run).to_json()
    for e in data["edges"]:
        e["seconds"] = 0
    return json.dumps(data)


def recorded(folder: Path, store: str) -> set[str]:
    """What the store holds the result of, as the target logs it: verdicts are of runs with one
    setting of the knob; tuning is known by the setting that nothing else times, 4.
    """
    path = folder / store / "store.db"
    if not path.exists():
        return set()
    with sqlite3.connect(path, timeout=60) as db:
        try:
            rows = db.execute("select program, target, knobs from evaluations").fetchall()
        except sqlite3.OperationalError:  # killed before there were tables
            return set()
    found = set()
    for program, target, text in rows:
        knobs, arch = json.loads(text), target.partition(".")[2]
        what, speed = ("time", 4) if "tune" in knobs else ("run", knobs.get("speed", 1))
        found.add(f"{what} {program} {arch} {speed}")
    return found


def logged(folder: Path) -> Counter[str]:
    """What the target did so far, and how often."""
    path = folder / "times"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until the condition holds or the process ends, however slow the machine is."""
    while not condition() and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.timeout(1800)
def test_kill_9_at_random_points(folder: Path) -> None:
    """After each kill, what was recorded is not evaluated again; the end is the same.

    Kills are spread over the run: each falls a random time after the process has recorded
    something new, or anywhere in its start.
    """
    begin = time.monotonic()
    whole = search(folder, "whole", "--candidates", TO_KILL, "--jobs", "2")
    wait_for(lambda: bool(recorded(folder, "whole")), whole)
    start = time.monotonic() - begin
    out, err = whole.communicate()
    assert whole.returncode == 0, err
    step = (time.monotonic() - begin - start) / KILLS
    (folder / "times").unlink()
    rng = random.Random(7)
    known: set[str] = set()
    before: Counter[str] = Counter()
    progress, killed = [], 0
    process = search(folder, "cut", "--candidates", TO_KILL, "--jobs", "2")
    for _ in range(KILLS):
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0.0, start))
        else:
            had = len(recorded(folder, "cut"))
            wait_for(lambda had=had: len(recorded(folder, "cut")) > had, process)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, step))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        progress.append(len(recorded(folder, "cut")))
        assert not (logged(folder) - before).keys() & known, "evaluated twice"
        assert known <= recorded(folder, "cut"), "lost"
        known, before = recorded(folder, "cut"), logged(folder)
        process = (
            command(folder, "resume", "scale-1", "--store", "cut", "--jobs", "2")
            if _has_run(folder / "cut")
            else search(folder, "cut", "--candidates", TO_KILL, "--jobs", "2")
        )
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert not (logged(folder) - before).keys() & known, "evaluated twice"
    assert shape(folder, "cut") == shape(folder, "whole")
    assert f"{TO_KILL} candidates" in out
    assert killed >= 0.8 * KILLS and len(set(progress)) > KILLS // 2, progress
    print(f"\n{killed} of {KILLS} kills hit; results recorded at each: {progress}")


def _has_run(store: Path) -> bool:
    if not (store / "store.db").exists():
        return False
    with open_store(str(store)) as opened:
        return bool(opened.runs())


def test_an_interrupt_says_how_to_resume(folder: Path) -> None:
    process = search(folder, "s", "--candidates", "5000")
    wait_for(lambda: len(recorded(folder, "s")) >= 4, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "ke-gen resume scale-1 --store s" in err and "Traceback" not in err
    with open_store(str(folder / "s")) as store:
        assert store.run("scale-1").state == "stopped"
    done = command(folder, "resume", "scale-1", "--jobs", "1", "--store", "s", "--candidates", "20")
    _, err = done.communicate()
    assert done.returncode == 0, err


def test_two_searches_on_one_store(folder: Path) -> None:
    both = [search(folder, "shared", "--seed", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    one, two = (shape(folder, "shared", f"scale-{n}") for n in (1, 2))
    assert one == two


@pytest.fixture
def tiny(folder: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    place = folder / "tiny"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(place)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("a tmpfs cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(folder: Path, tiny: Path) -> None:
    """The search stops with a message; with more space it goes on to the same end."""
    process = search(folder, "tiny", "--candidates", "200")
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "error:" in err and "Traceback" not in err
    assert "full" in err or "No space" in err
    subprocess.run(["mount", "-o", "remount,size=50m", str(tiny)], check=True)
    done = command(
        folder, "resume", "scale-1", "--jobs", "1", "--store", "tiny", "--candidates", "30"
    )
    _, err = done.communicate()
    assert done.returncode == 0, err


def test_a_damaged_artifact_is_named(folder: Path) -> None:
    process = search(folder, "s", "--candidates", "12")
    assert process.wait() == 0
    for path in (folder / "s" / "artifacts").rglob("*"):
        if path.is_file():
            path.write_text("op @other")
    for arguments in (("show", "scale-1", "root"), ("report", "scale-1")):
        shown = command(folder, *arguments, "--store", "s")
        _, err = shown.communicate()
        assert shown.returncode == 2 and "is damaged" in err and "Traceback" not in err
    resumed = command(
        folder, "resume", "scale-1", "--jobs", "1", "--store", "s", "--candidates", "20"
    )
    _, err = resumed.communicate()
    assert resumed.returncode == 2 and "is damaged" in err and "Traceback" not in err
