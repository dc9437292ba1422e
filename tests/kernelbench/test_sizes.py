"""Inputs at other sizes: what is replaced, what changes together, and what must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ke_ir.importers.source import Problem, load_problem  # noqa: E402
from search.kernelbench import eager  # noqa: E402
from search.kernelbench.reduce import reduced, without_values  # noqa: E402
from search.kernelbench.sizes import Sizes, asked_sizes  # noqa: E402

_LARGE = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        {make}

    def forward(self, {names}):
        return {result}


def get_inputs():
    return [{inputs}]


def get_init_inputs():
    return []
"""


def problem(tmp_path: Path, make: str, names: str, result: str, inputs: str) -> Problem:
    path = tmp_path / "problem.py"
    path.write_text(_LARGE.format(make=make, names=names, result=result, inputs=inputs))
    loaded = load_problem(path, seed=42)
    loaded.module.requires_grad_(False)
    return loaded


def shapes(values: Any) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in eager.tensors(values)]


def test_every_way_to_make_a_tensor() -> None:
    def make() -> list[Any]:
        return [
            torch.rand(10, 20), torch.randn((10, 20)), torch.zeros(size=(10, 20)),
            torch.full((10, 20), 1.5), torch.randint(0, 5, (10, 20)),
            torch.randint(7, size=(10, 20)), torch.ones([10, 20]),
            torch.rand(()), torch.arange(10), torch.tril(torch.rand(20, 20)),
        ]  # fmt: skip

    asked = asked_sizes(make)
    assert set(asked.values()) == {10, 20}
    with Sizes({p: n // 5 for p, n in asked.items()}):
        made = make()
    assert shapes(made) == [(2, 4)] * 7 + [(), (10,), (4, 4)]
    assert bool((made[3] == 1.5).all()) and bool((made[9].triu(1) == 0).all())


CASES = [
    # A convolution keeps its channels.
    ("self.f = nn.Conv2d(16, 8, 3)", "x", "self.f(x)", "torch.rand(64, 16, 512, 512)",
     [(3, 16, 24, 24)]),
    # What is contracted changes on both sides.
    ("pass", "a, b", "a @ b", "torch.rand(4096, 4096), torch.rand(4096, 4096)",
     [(72, 72), (72, 72)]),
    # The features of a linear layer stay.
    ("self.f = nn.Linear(600, 8)", "x", "self.f(x)", "torch.rand(1024, 600)", [(3, 600)]),
    # Class numbers must be below the number of classes, which therefore stays.
    ("self.f = nn.CrossEntropyLoss()", "x, y", "self.f(x, y)",
     "torch.rand(512, 900), torch.randint(0, 900, (512,))", [(3, 900), (3,)]),
    # What is left of a size by 8 stays.
    ("pass", "x", "x.cumsum(1)", "torch.rand(4096, 4093)", [(3, 77)]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "names", "result", "inputs", "want"), CASES)
def test_what_can_change(
    tmp_path: Path, make: str, names: str, result: str, inputs: str, want: list[tuple[int, ...]]
) -> None:
    loaded = problem(tmp_path, make, names, result, inputs)
    full = shapes(without_values(loaded))
    case = reduced(loaded)
    assert shapes(case.inputs) == want and full != want
    assert eager.allclose(case.own, case.exact)


def test_full_size_takes_no_memory(tmp_path: Path) -> None:
    """17 GB of inputs, of which nothing is made."""
    loaded = problem(tmp_path, "pass", "x", "x", "torch.rand(16, 64, 2048, 2048)")
    assert shapes(without_values(loaded)) == [(16, 64, 2048, 2048)]


def test_sizes_where_float32_is_near_float64(tmp_path: Path) -> None:
    """Differences of two equal values, normalised, are noise: a larger batch is taken."""
    loaded = problem(
        tmp_path, "pass", "x",
        "(x.mean(0) - 0.5) / (x - 0.5 > 0).double().mean().float().sub(1 / 3).abs().clamp(1e-9)",
        "0.5 + torch.zeros(256, 600)",
    )  # fmt: skip
    case = reduced(loaded)
    assert eager.allclose(case.own, case.exact)


def test_buffers_are_put_back() -> None:
    norm = torch.nn.BatchNorm1d(4)
    given = eager.run(norm, [torch.randn(8, 4) + 3])
    assert float(norm.running_mean.abs().max()) == 0.0
    assert float(given.buffers["running_mean"].min()) > 0.1
    assert int(given.buffers["num_batches_tracked"]) == 1
