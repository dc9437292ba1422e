"""ATen operators by PyTorch's own samples: a few of each family, and how they are judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.aten.check import FAILED, PASSED, SKIPPED, UNSUPPORTED, check, run
from bench.aten.samples import Called, Gradient
from bench.aten.table import table
from ke_ir.importers.registry import handlers

ROOT = Path(__file__).parents[2]

FORWARD = (
    "addmm", "atan2", "acos", "copysign", "remainder", "where", "logaddexp",
    "amax", "var", "logsumexp", "cumprod", "cummax", "norm", "masked.softmax",
    "sort", "topk", "median", "mode", "bucketize", "histc",
    "scatter", "scatter_reduce.mean", "index_put", "masked_scatter", "take", "slice_scatter",
    "cdist", "nn.functional.pdist", "nn.functional.bilinear", "kron", "einsum",
    "nn.functional.conv_transpose2d", "nn.functional.max_pool2d", "nn.functional.max_unpool2d",
    "nn.functional.adaptive_max_pool2d", "nn.functional.avg_pool2d",
    "nn.functional.interpolate.bilinear", "nn.functional.interpolate.bicubic",
    "nn.functional.pad.reflect", "nn.functional.unfold", "nn.functional.embedding_bag",
    "nn.functional.batch_norm", "nn.functional.cross_entropy",
)  # fmt: skip
BACKWARD = ("nn.functional.conv2d", "nn.functional.max_pool2d", "nn.functional.avg_pool2d",
            "nn.functional.layer_norm", "softmax", "cumsum", "index_select")  # fmt: skip


def outcomes(name: str, dtypes: list[str], backward: bool) -> list[dict[str, Any]]:
    found: list[Any] = []
    run({"op": name, "dtypes": dtypes, "samples": 2, "backward": backward}, found.append)
    return [x for x in found if isinstance(x, dict)]


@pytest.mark.parametrize("name", FORWARD)
def test_samples_mean_what_pytorch_computes(name: str) -> None:
    found = outcomes(name, ["float32"], False)
    assert {x["outcome"] for x in found} <= {PASSED, SKIPPED}, found
    assert any(x["outcome"] == PASSED for x in found)


@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_mean_what_pytorch_computes(name: str) -> None:
    found = outcomes(name, ["float32"], True)
    assert {x["outcome"] for x in found} == {PASSED}, found


@pytest.mark.parametrize("name", ["scatter_add", "topk", "maximum"])
def test_integers_and_conditions(name: str) -> None:
    found = outcomes(name, ["int64", "bool"], False)
    assert {x["outcome"] for x in found} <= {PASSED, SKIPPED}, found
    assert any(x["outcome"] == PASSED for x in found)


def test_an_operator_that_is_not_there_is_said() -> None:
    command = [sys.executable, "-m", "bench.aten", "--ops", "relv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not in OpInfo: relv" in done.stderr


def called(f: Any, *args: Any) -> Called:
    return Called(f, (args, {}))


def test_a_wrong_import_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 4)
    assert check(called(torch.add, x, x)).outcome == PASSED
    monkeypatch.setitem(handlers(), "add.Tensor", handlers()["sub.Tensor"])
    done = check(called(torch.add, x, x))
    assert done.outcome == FAILED
    assert "12 of 12 differ" in done.reason


def test_a_wrong_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    call = called(torch.sin, torch.randn(3))
    assert check(Gradient(call)).outcome == PASSED
    monkeypatch.setitem(handlers(), "cos.default", handlers()["sin.default"])
    assert check(Gradient(call)).outcome == FAILED


def test_what_no_op_can_say_is_skipped_and_what_is_missing_is_named() -> None:
    x = torch.randn(3, 3)
    cases = {
        "an empty tensor": called(torch.neg, torch.randn(0, 3)),
        "complex numbers": called(torch.neg, torch.randn(3, dtype=torch.complex64)),
        "sizes or control flow that depend on data": called(torch.nonzero, x),
        "random numbers": called(torch.bernoulli, x.sigmoid()),
    }
    for reason, call in cases.items():
        done = check(call)
        assert (done.outcome, done.reason) == (SKIPPED, reason)
    done = check(called(torch.linalg.svdvals, x))
    assert (done.outcome, done.reason) == (UNSUPPORTED, "_linalg_svd.default")


def test_the_table_counts_what_passes_in_every_sample() -> None:
    def record(op: str, *outcomes: str) -> dict[str, Any]:
        return {"op": op, "samples": [{"outcome": o, "reason": o, "overloads": [f"{op}.default"]}
                                      for o in outcomes]}  # fmt: skip

    page = table([
        record("a", PASSED, SKIPPED), record("b", PASSED, FAILED), record("c", UNSUPPORTED),
        record("d", SKIPPED),
    ], "command")  # fmt: skip
    assert "4 entries (operators and their variants), **1 pass in every sample" in page
    assert "| `a` | 1 | 1 |  |  |  |" in page
    assert "| `b` | 1 |  |  | 1 | failed |" in page
    assert page.index("## Not imported") < page.index("`c`") < page.index("## No sample")


def test_the_command_runs_on_a_target_and_goes_on_where_it_was(tmp_path: Path) -> None:
    results, page = tmp_path / "r.jsonl", tmp_path / "t.md"
    command = [sys.executable, "-m", "bench.aten", "--ops", "neg", "--dtypes", "float32",
               "--samples", "2", "--targets", "kea", "--jobs", "1", "--results", str(results),
               "--table", str(page)]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (line,) = results.read_text().splitlines()
    (verdict,) = json.loads(line)["targets"]["kea.kea2"]
    assert verdict["outcome"] == "passed"
    assert "| `neg` | 1 |" in page.read_text()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert results.read_text() == line + "\n"
