"""All eight examples, on all three targets, through the command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest_cli import EXAMPLES, process

NAMES = sorted(p.stem for p in EXAMPLES.glob("*.ir"))
TARGETS = ("nvidia.sm_90", "amd.gfx942", "kea.kea2")


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], dict[str, Any]]:
    for name in ("triton", "torch", "mlir"):
        pytest.importorskip(name)
    files = [EXAMPLES / f"{name}.ir" for name in NAMES]
    done = process("eval", "--json", *files, "--targets", ",".join(TARGETS), timeout=280)
    assert done.code == 0, done.out + done.err
    return {(v["program"], f"{v['target']}.{v['arch']}"): v for v in json.loads(done.out)}


def test_there_are_eight() -> None:
    assert len(NAMES) == 8


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_correct_and_honest(
    verdicts: dict[tuple[str, str], dict[str, Any]], name: str, target: str
) -> None:
    v = verdicts[name, target]
    assert v["summary"] == "correct"
    assert all(s["outcome"] == "passed" for s in v["stages"])
    assert v["numbers"]["worst_ratio"] <= 1 and v["degenerate"] == ""
    how, time = v["established"], v["timing"]["kind"]
    if target.startswith("kea"):
        assert (how, time) == ("simulated", "simulated")
    else:
        assert (how, time) in (("interpreted", "estimated"), ("run", "measured"))
    assert 0 < v["roofline"]["fraction"] <= 1.02
    assert v["timing"]["seconds"] > 0 and v["timing"]["on"]
    if v["numbers"]["reduced"]:
        reason = next(s["reason"] for s in v["stages"] if s["stage"] == "numbers")
        assert "reduced size" in reason
