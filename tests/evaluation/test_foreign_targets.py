"""A target of somebody else's that is faulty costs its own verdict, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.evaluation.evaluator import Candidate, Evaluator
from targets.registry import BrokenTarget, clear_cache, find_target
from tests.evaluation.sources import ADD

TARGETS = """
from fake_target import FakeTarget
class Half:
    name = "half"
class Renamed(FakeTarget):
    pass
class Moody(FakeTarget):
    name = "moody"
    def availability(self):
        raise OSError("no such device")
class Shy(FakeTarget):
    name = "shy"
    def __init__(self, arch):
        raise KeyError(arch)
"""


@pytest.fixture(scope="module")
def faulty(third_party: Path) -> Iterator[None]:
    (third_party / "faulty.py").write_text(TARGETS)
    info = third_party / "faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    names = {"half": "Half", "renamed": "Renamed", "moody": "Moody", "shy": "Shy"}
    lines = [f"{name} = faulty:{cls}\n" for name, cls in names.items()]
    (info / "entry_points.txt").write_text("[ke_gen.targets]\n" + "".join(lines))
    clear_cache()
    yield
    for file in info.iterdir():
        file.unlink()
    info.rmdir()
    clear_cache()


def ke_gen(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ke_gen", *args], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("half", "it has no `archs`, `spec`, `emits`"),
        ("renamed", "asked for `renamed.good` it calls itself `fake.good`"),
        ("shy", "KeyError: 'good'"),
    ],
)
def test_what_does_not_follow_the_protocol_is_broken(faulty: None, name: str, why: str) -> None:
    with pytest.raises(BrokenTarget) as caught:
        find_target(name)
    assert why in str(caught.value) and "`faulty`" in caught.value.fix


def test_the_list_of_targets_names_all_that_are_faulty(faulty: None) -> None:
    done = ke_gen("targets", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["target"]: row for row in json.loads(done.stdout)}
    assert {"kea.kea2", "fake.good"} <= rows.keys()
    for name in ("half", "renamed", "shy", "moody"):
        assert rows[name]["presence"] == "missing" and rows[name]["fix"]
    assert "OSError: no such device" in rows["moody"]["reason"]


def test_others_are_evaluated_beside_a_target_that_crashes(faulty: None) -> None:
    with Evaluator(2) as evaluator:
        found = evaluator.evaluate(
            Candidate(ADD, "t.ir"), ["fake.crash", "moody", "fake.good", "fake.raises"]
        )
    assert [v.correct for v in found] == [False, False, True, False]
    (crashed, moody, _, raised) = found
    assert "SIGABRT" in crashed.failures[0].reason
    # An exception of the target's own says nothing of the kernel: unknown, not wrong.
    assert [v.summary for v in found] == ["wrong", "unknown", "correct", "unknown"]
    for v, said in ((moody, "OSError: no such device"), (raised, "KeyError")):
        assert any(said in s.reason and "a fault in" in s.reason for s in v.stages)


def test_of_all_targets_broken_ones_are_named_and_left_out(faulty: None) -> None:
    done = ke_gen("eval", "no-such-file.ir")
    assert "target `half` cannot be loaded" in done.stderr
    assert "no such file" in done.stderr, "it went on to the files"
    asked = ke_gen("eval", "no-such-file.ir", "--targets", "half,fake")
    assert "target `half` cannot be loaded" in asked.stderr
    assert "no such file" not in asked.stderr, "what was asked for by name must be there"
