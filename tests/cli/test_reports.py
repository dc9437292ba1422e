"""``check``, ``eval``, ``diff`` and ``targets``: what they print and how they exit."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ke_gen.report import bytes_text
from search.evaluation.processes import tree
from tests.cli.conftest_cli import COMMAND, EXAMPLES, Run, process
from tests.ir.once_program import TEXT

GOOD = EXAMPLES / "add_relu.ir"
SMALL = """
op @add(x: f32[B], y: f32[B]) -> (z: f32[B])
dims B in 1..1000 = 40
{ z[b] = x[b] + y[b] }
"""
pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.ir"
    path.write_text(SMALL)
    return path


def test_check_says_how_the_meaning_was_checked(run: Run) -> None:
    done = run("check", GOOD)
    assert done.code == 0 and done.err == ""
    assert "@add_relu: ok: equal in float64 at reduced size" in done.out


def test_check_json(run: Run, small: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ir"
    bad.write_text("op @f(x: f32[4]) -> (y: f32[4]) { y[i] = z[i] }")
    done = run("check", "--json", small, bad, tmp_path / "none.ir")
    assert done.code == 1
    first, second, third = json.loads(done.out)
    assert [s["outcome"] for s in first["kernels"][0]["stages"]] == ["passed"] * 3
    (diagnostic,) = second["kernels"][0]["stages"][1]["detail"]["diagnostics"]
    assert diagnostic["line"] == 1 and diagnostic["message"]
    assert "no such file" in third["error"]


def test_eval_prints_one_row_a_target(run: Run, small: Path) -> None:
    done = run("eval", small, "--targets", "fake.good,fake.wrong,fake.missing")
    assert done.code == 1
    rows = [line.split() for line in done.out.splitlines() if line.startswith("fake.")]
    assert [r[:3] for r in rows] == [
        ["fake.good", "correct", "simulated"],
        ["fake.wrong", "wrong", "-"],
        ["fake.missing", "unknown", "-"],
    ]
    assert "1 s simulated" in done.out and "8 regs, 1 KiB" in done.out
    assert "fake.wrong: numbers failed: z[39] is" in done.out
    assert "fake.missing: compile skipped: no fake here; pip install fake" in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("targets", "code"),
    [("fake.good", 0), ("fake.good,fake.wrong", 1), ("fake.good,fake.missing", 2),
     ("fake.wrong,fake.missing", 1)],
)  # fmt: skip
def test_eval_exit_codes(run: Run, small: Path, targets: str, code: int) -> None:
    assert run("eval", small, "--targets", targets).code == code


def test_eval_json_is_one_verdict_a_target(run: Run, small: Path) -> None:
    done = run("eval", "--json", small, "--targets", "fake.good,fake.too-fast")
    good, fast = json.loads(done.out)
    assert done.code == 1 and done.err == ""
    assert good["summary"] == "correct" and good["established"] == "simulated"
    assert good["timing"]["kind"] == "simulated" and good["timing"]["on"] == "a fake"
    assert fast["timing"] is None and fast["stages"][-1]["outcome"] == "failed"
    assert [s["stage"] for s in good["stages"]] == [
        "parse", "verify", "meaning", "legal", "compile", "numbers", "time",
    ]  # fmt: skip


def test_eval_of_several_files_goes_on_after_a_bad_one(run: Run, small: Path) -> None:
    done = run("eval", small.parent / "none.ir", small, "-t", "fake")
    assert done.code == 2 and "no such file" in done.err and "fake.good  correct" in done.out


def test_limits_are_options(run: Run, small: Path) -> None:
    done = run("eval", small, "--targets", "fake.hang", "--seconds", "3")
    assert done.code == 1 and "no result within 3 s" in done.out
    done = run("eval", small, "--targets", "fake.memory", "--memory", "1")
    assert done.code == 1 and "limit 1 GiB" in done.out


def test_a_narrow_terminal_gets_one_block_a_target(small: Path, third_party: Path) -> None:
    done = process("eval", small, "--targets", "fake", COLUMNS="50")
    assert done.code == 0
    assert "fake.good\n  verdict: correct\n" in done.out
    assert all(len(line) <= 50 for line in done.out.splitlines()[1:])


def _on_terminal(*arguments: str, **environment: str) -> str:
    """Output of the command when it writes to a terminal."""
    ours, theirs = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    done = subprocess.Popen(
        [str(COMMAND), *arguments], stdout=theirs, stderr=theirs,
        env={**kept, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            text += os.read(ours, 65536)
        except OSError:
            break
    assert done.wait() == 0
    os.close(ours)
    return text.decode()


def test_colour_on_a_terminal_unless_refused(third_party: Path, small: Path) -> None:
    arguments = ("eval", str(small), "--targets", "fake")
    assert "\x1b[32m" in _on_terminal(*arguments)
    plain = _on_terminal(*arguments, NO_COLOR="1").replace("\r\x1b[K", "")
    assert "\x1b" not in plain
    assert "\x1b" not in _on_terminal(*arguments, TERM="dumb")


def test_diff(run: Run, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.ir"
    other.write_text(SMALL.replace("x[b] + y[b]", "x[b] - y[b]"))
    done = run("diff", small, other)
    assert done.code == 0
    assert "-   z[b] = x[b] + y[b]" in done.out and "+   z[b] = x[b] - y[b]" in done.out
    assert "0 added, 0 removed, 1 changed" in done.out
    found = json.loads(run("diff", "--json", small, other).out)
    assert found["count"] == {"added": 0, "removed": 0, "changed": 1}
    assert run("diff", small, small).out == "no difference\n"


def test_diff_of_what_does_not_parse(run: Run, small: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ir"
    bad.write_text("kernel")
    done = run("diff", small, bad)
    assert done.code == 2 and f"{bad}:1:" in done.err


def test_targets_says_what_is_here_and_why_not(run: Run) -> None:
    done = run("targets")
    assert done.code == 0
    for name in ("amd.gfx942", "amd.gfx90a", "amd.gfx950", "kea.kea1", "kea.kea2",
                 "nvidia.sm_80", "nvidia.sm_90", "nvidia.sm_100", "fake.good"):  # fmt: skip
        assert any(line.startswith(name) for line in done.out.splitlines()), name
    assert "fake.missing: no fake here" in done.out and "pip install fake" in done.out
    rows = {r["target"]: r for r in json.loads(run("targets", "--json").out)}
    assert rows["fake.missing"]["presence"] == "missing"
    assert rows["broken"]["presence"] == "missing" and "no_such_module" in rows["broken"]["reason"]
    assert all(r["reason"] for r in rows.values())


def test_an_interrupt_ends_the_workers_at_once(third_party: Path, small: Path) -> None:
    running = subprocess.Popen(
        [str(COMMAND), "eval", str(small), "--targets", "fake.hang,fake.good"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    workers: list[int] = []
    while not workers:
        time.sleep(0.05)
        workers = tree(running.pid)[1:]
    time.sleep(2)  # until one of them hangs
    workers = tree(running.pid)[1:]
    begin = time.perf_counter()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "interrupted\n")
    assert time.perf_counter() - begin < 5
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_what_is_computed_once_is_reported_beside_the_time(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "once.ir"
    path.write_text(TEXT)
    done = run("eval", str(path), "--targets", "kea")
    assert done.code == 0
    said = re.search(r"once per set of weights, beside the time: (\S+ us) simulated", done.out)
    assert said
    assert f"{said[1]} simulated" not in done.out.splitlines()[2]
    done = run("eval", str(path), "--targets", "kea", "--json")
    (verdict,) = json.loads(done.out)
    assert 0 < verdict["timing"]["detail"]["once_seconds"] < verdict["timing"]["seconds"]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (64, "64 B"), (1024, "1 KiB"), (66560, "65 KiB")]
)
def test_small_sizes_are_in_bytes(size: int, text: str) -> None:
    assert bytes_text(size) == text
