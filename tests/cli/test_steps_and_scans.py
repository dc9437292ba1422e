"""Recurrences and scans on all three targets, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest_cli import process
from tests.ir.recurrences import CELLS, EXTRA

TARGETS = ("nvidia.sm_90", "amd.gfx942", "kea.kea2")
SCANS = """
op @scans(x: f32[A, N, C], m: i1[A, N, C])
  -> (y: f32[A, N, C], z: f16[A, C, N], w: f32[A, N, C], q: f32[A, N, C])
dims A = 2, N in 1..4096 = 37, C = 5
{
  s[a, i in 0 to N, c] = sum[j in 0 to i](select(m[a, j, c], x[a, j, c], 0))
  y[a, i, c] = s[a, i, c] * 2 + x[a, i, c]
  z[a, c, i] = max[j in i to N](x[a, j, c])
  w[a, i, c] = prod[j in i + 1 to N](1 + x[a, j, c] / 1000) + y[a, i, c]
  q[a, i, c] = min[j in 0 to i + 1](x[a, j, c])
}
"""
ROWS = """
op @rows(x: f16[B, N]) -> (y: f32[B, N]) dims B = 5, N in 1..9000 = 70
{ y[b, i] = sum[j in 0 to i + 1](x[b, j]) }
"""
OPS = {"scans": SCANS, "rows": ROWS, **{n: CELLS[n] for n in ("rnn", "lstm", "gru_reverse")},
       **{n: EXTRA[n] for n in ("layers", "lengths", "running_logsumexp")}}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    for name in ("triton", "torch", "mlir"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("ops")
    files: list[Path] = []
    for name, text in OPS.items():
        files.append(folder / f"{name}.ir")
        files[-1].write_text(text)
    done = process("eval", "--json", *files, "--targets", ",".join(TARGETS), timeout=280)
    found = json.loads(done.out)
    assert done.code == 0, done.out + done.err
    return {(v["program"], f"{v['target']}.{v['arch']}"): v["summary"] for v in found}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OPS)
def test_correct(verdicts: dict[tuple[str, str], str], name: str, target: str) -> None:
    assert verdicts[name, target] == "correct"
