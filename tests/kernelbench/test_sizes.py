"""Inputs at other sizes: what is replaced, what changes together, and what must stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

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
    assert not case.error


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
    assert not case.error


_STATISTICS = "self.f = nn.BatchNorm2d(4, momentum=1.0)"


def test_buffers_are_to_be_near_too(tmp_path: Path) -> None:
    """The output says nothing of the mean, which is lost in a batch of three."""
    much = "1e6 * (x.shape[0] < 4)"
    result = f"self.f(x + {much} - {much}).sum() * 0"
    loaded = problem(tmp_path, _STATISTICS, "x", result, "torch.randn(64, 4, 24, 24)")
    assert shapes(reduced(loaded).inputs) == [(16, 4, 24, 24)]


def test_more_samples_than_the_problem_has(tmp_path: Path) -> None:
    """Of two images that nearly agree, what a batch norm leaves is noise in float32."""
    loaded = problem(
        tmp_path, "self.f = nn.BatchNorm2d(4, eps=1e-12)", "x",
        "self.f(x.mean((2, 3), keepdim=True) / 20 + 1)", "torch.rand(2, 4, 256, 256)",
    )  # fmt: skip
    case = reduced(loaded)
    assert shapes(case.inputs) == [(64, 4, 4, 4)] and not case.error


def test_where_nothing_is_near_the_smallest_sizes_are_taken(tmp_path: Path) -> None:
    """Unless others have much less of an error."""
    result = "x + 1e6 - 1e6"
    loaded = problem(tmp_path, "pass", "x", result, "torch.randn(64, 4, 256, 256)")
    case = reduced(loaded)
    assert shapes(case.inputs) == [(3, 4, 24, 24)] and case.error > 1e-4
    better = "x + 1e6 / (x.shape[0] // 8 + 1) - 1e6 / (x.shape[0] // 8 + 1)"
    loaded = problem(tmp_path, "pass", "x", better, "torch.randn(64, 4, 256, 256)")
    assert shapes(reduced(loaded).inputs)[0][0] > 3


def test_large_weights_are_widened_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(30, 40)
            self.weight = torch.nn.Parameter(torch.randn(40, 7))
            self.lstm = torch.nn.LSTM(7, 5)
            self.norm = torch.nn.BatchNorm1d(40)

        def forward(self, x: Any) -> Any:
            narrow.append(self.linear.weight.itemsize == 4)
            y = self.norm(self.linear(x)).to(self.weight.dtype)
            z = y @ self.weight.T.T + torch.einsum("bi,ij->bj", y, self.weight[:, :])
            return self.lstm(z[None])[0], self.weight.shape[0] * z

    narrow: list[bool] = []
    module, x = Model().requires_grad_(False), torch.randn(3, 30)
    want = eager.run_float64(module, [x])
    monkeypatch.setattr(eager, "AT_ONCE", 16)
    got = eager.run_float64(module, [x])
    assert narrow == [False, True]
    for mine, other in zip(got.outputs, want.outputs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    mine, other = (x.buffers["norm.running_var"] for x in (got, want))
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_buffers_are_put_back() -> None:
    norm = torch.nn.BatchNorm1d(4)
    given = eager.run(norm, [torch.randn(8, 4) + 3])
    assert float(norm.running_mean.abs().max()) == 0.0
    assert float(given.buffers["running_mean"].min()) > 0.1
    assert int(given.buffers["num_batches_tracked"]) == 1


def test_a_large_linear_layer_is_never_wide_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that is made of a weight of 64 x 32 elements, 100 being large."""

    class Largest(TorchDispatchMode):  # type: ignore[misc]
        elements = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            wide = [x for x in eager.tensors(out) if x.dtype == torch.float64]
            Largest.elements = max([Largest.elements, *(x.numel() for x in wide)])
            return out

    layer, x = torch.nn.Linear(32, 64).requires_grad_(False), torch.randn(3, 2, 32)
    want = layer.double()(x.double())
    layer.float()
    monkeypatch.setattr(eager, "AT_ONCE", 100)
    with Largest():
        (got,) = eager.run_float64(layer, [x]).outputs
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert Largest.elements == got.numel() < 64 * 32
