"""Scattering at sizes where terms are written one by one: meaning, and numbers on every target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ke_ir.derive import with_derived
from ke_ir.importers.torch_export import import_module
from ke_ir.ir import Module, statements
from ke_ir.ops import Accumulate
from ke_ir.printer import print_module
from search.evaluation.evaluator import Candidate, Evaluator
from tests.importers.agree import check

A = torch.ops.aten
Inputs = tuple[torch.Tensor, ...]


def _ids(high: int, *shape: int, low: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0))


def _pooled() -> Inputs:
    x = torch.randn(2, 3, 41, 40)
    y, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    return torch.randn_like(y), x, places


CASES: dict[str, tuple[Callable[..., Any], Callable[[], Inputs]]] = {
    "gradient of an embedding": (
        lambda g, i: A.embedding_dense_backward(g, i, 1000, 7, False),
        lambda: (torch.randn(60, 50, 67), _ids(1000, 60, 50))),
    "along the last dim": (
        lambda x, i, s: x.scatter_add(1, i, s),
        lambda: (torch.randn(37, 500), _ids(500, 37, 1001), torch.randn(37, 1001))),
    "along the first dim": (
        lambda x, i, s: x.scatter_add(0, i, s),
        lambda: (torch.randn(500, 67), _ids(500, 1003, 67), torch.randn(1003, 67))),
    "two indices, some negative": (
        lambda x, i, j, s: torch.index_put(x, (i, j), s, accumulate=True),
        lambda: (torch.randn(100, 90), _ids(100, 3001), _ids(90, 3001, low=-90),
                 torch.randn(3001))),
    "rows copied": (
        lambda x, i, s: x.index_copy(0, i, s),
        lambda: (torch.randn(9000, 3), torch.randperm(9000)[:700], torch.randn(700, 3))),
    "means": (
        lambda x, i, s: x.scatter_reduce(0, i, s, "mean", include_self=False),
        lambda: (torch.randn(500, 67), _ids(500, 1003, 67), torch.randn(1003, 67))),
    "gradient of pooling": (
        lambda g, x, i: A.max_pool2d_with_indices_backward(
            g, x, [3, 3], [2, 2], [1, 1], [1, 1], False, i),
        _pooled),
    "wide integers": (
        lambda x, i, s: x.index_add(0, i, s),
        lambda: (_ids(10, 5000), _ids(5000, 9001), _ids(2**40, 9001, low=-(2**40)))),
    "bfloat16": (
        lambda x, i, s: x.index_add(0, i, s),
        lambda: (torch.randn(1000, 64).bfloat16(), _ids(1000, 5000),
                 torch.randn(5000, 64).bfloat16())),
}  # fmt: skip
ON_TARGETS = ("gradient of an embedding", "rows copied", "wide integers", "bfloat16")


class Case(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *xs: torch.Tensor) -> Any:
        return CASES[self.name][0](*xs)


@pytest.mark.parametrize("name", CASES)
def test_meaning(name: str) -> None:
    torch.manual_seed(0)
    imported = check(Case(name), CASES[name][1](), derived=True)
    kernels = with_derived(Module((imported.op,))).kernels.values()
    assert any(isinstance(s, Accumulate) for k in kernels for s in statements(k.body))


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with Evaluator(2) as made:
        yield made


@pytest.mark.parametrize("name", ON_TARGETS)
def test_numbers_on_each_target(name: str, evaluator: Evaluator) -> None:
    text = print_module(Module((import_module(Case(name), CASES[name][1](), "f").op,)))
    verdicts = evaluator.evaluate(Candidate(text), ["nvidia", "amd", "kea"])
    assert len(verdicts) == 3
    for v in verdicts:
        assert v.correct, (v.target, v.failures)
