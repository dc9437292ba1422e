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
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.store import open_store
from tests.search.conftest import OP

KILLS = int(os.environ.get("KE_GEN_KILLS", "6"))
CANDIDATES = "60"


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
    given = ("--targets", "toy.good", "--candidates", CANDIDATES, "--jobs", "2")
    return command(folder, "search", "scale.ir", *given, "--store", store, *more)


def shape(folder: Path, store: str, run: str = "scale-1") -> str:
    """A run's graph without the clock."""
    with open_store(str(folder / store)) as opened:
        data = opened.graph(run).to_json()
    for e in data["edges"]:
        e["seconds"] = 0
    return json.dumps(data)


def recorded(folder: Path, store: str) -> set[str]:
    """Programs whose evaluation is in the store."""
    path = folder / store / "store.db"
    if not path.exists():
        return set()
    with sqlite3.connect(path) as db:
        try:
            rows = db.execute(
                "select program from evaluations group by program having count(*) > 0"
            ).fetchall()
        except sqlite3.OperationalError:
            return set()
    return {row[0] for row in rows}


def timed(folder: Path) -> Counter[str]:
    path = folder / "times"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line for line in lines if line.endswith("1"))


@pytest.mark.timeout(600)
def test_kill_9_at_random_points(folder: Path) -> None:
    """After each kill, what was recorded is not evaluated again; the end is the same."""
    whole = search(folder, "whole")
    assert whole.wait() == 0, whole.stderr and whole.stderr.read()
    rng = random.Random(7)
    (folder / "times").unlink()
    process = search(folder, "cut")
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.4, 1.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        known, before = recorded(folder, "cut"), timed(folder)
        started = (folder / "cut" / "store.db").exists() and _has_run(folder / "cut")
        process = (
            command(folder, "resume", "scale-1", "--store", "cut") if started
            else search(folder, "cut")
        )  # fmt: skip
    time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 0, err
    again = timed(folder) - before
    assert not [line for line in again if line.split()[0] in known]
    assert shape(folder, "cut") == shape(folder, "whole")
    assert "60 candidates" in out


def _has_run(store: Path) -> bool:
    with open_store(str(store)) as opened:
        return bool(opened.runs())


def test_an_interrupt_says_how_to_resume(folder: Path) -> None:
    process = search(folder, "s", "--candidates", "5000")
    deadline = time.monotonic() + 30
    while len(recorded(folder, "s")) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ke-gen resume scale-1 --store s" in err and "Traceback" not in err
    with open_store(str(folder / "s")) as store:
        assert store.run("scale-1").state == "stopped"
    done = command(folder, "resume", "scale-1", "--store", "s", "--candidates", "20")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err


def test_two_searches_on_one_store(folder: Path) -> None:
    both = [search(folder, "shared", "--seed", "1") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    one, two = (shape(folder, "shared", f"scale-{n}") for n in (1, 2))
    assert one == two


@pytest.fixture
def tiny(folder: Path) -> Iterator[Path]:
    """A file system of 300 KiB."""
    place = folder / "tiny"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(place)], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("a tmpfs cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(folder: Path, tiny: Path) -> None:
    """The search stops with a message; with more space it goes on to the same end."""
    process = search(folder, "tiny", "--candidates", "200")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "error:" in err and "Traceback" not in err
    assert "full" in err or "No space" in err
    subprocess.run(["mount", "-o", "remount,size=50m", str(tiny)], check=True)
    done = command(folder, "resume", "scale-1", "--store", "tiny", "--candidates", "60")
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err


def test_a_damaged_artifact_is_named(folder: Path) -> None:
    process = search(folder, "s", "--candidates", "12")
    assert process.wait(60) == 0
    for path in (folder / "s" / "artifacts").rglob("*"):
        if path.is_file():
            path.write_text("op @other")
    for arguments in (("show", "scale-1", "root"), ("report", "scale-1")):
        shown = command(folder, *arguments, "--store", "s")
        _, err = shown.communicate(timeout=60)
        assert shown.returncode == 2 and "is damaged" in err and "Traceback" not in err
    resumed = command(folder, "resume", "scale-1", "--store", "s", "--candidates", "20")
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 2 and "is damaged" in err and "Traceback" not in err
