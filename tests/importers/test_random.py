"""Random draws are inputs of the op: with what PyTorch drew it means what PyTorch computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ke_ir.derive import with_derived
from ke_ir.evaluate import evaluate_op
from ke_ir.importers.torch_export import Imported, ImportFailure, import_module
from ke_ir.interpret import interpret_program
from ke_ir.ir import Module
from search.kernelbench import eager
from search.kernelbench.draws import OtherDraws, as_arguments, fresh
from tests.importers.agree import check, compare


class Calls(nn.Module):  # type: ignore[misc]
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *xs: torch.Tensor) -> Any:
        return self.function(*xs)


class StartsAtRandom(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(3, 5, 2, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = torch.randn(2, x.size(0), 5), torch.randn(2, x.size(0), 5)
        out, _ = self.lstm(x, start)
        out = self.fc(out[:, -1, :])
        assert isinstance(out, torch.Tensor)
        return out


def several(x: torch.Tensor) -> Any:
    """One of each kind, in an order that matters."""
    a = torch.rand(3, 4) * x
    b = torch.randn_like(x) + a
    c = torch.empty(3, 4).uniform_(1, 2) * torch.empty(3, 4).normal_(1, 2)
    d = torch.normal(0.5, 2.0, (3, 4)) - torch.rand_like(x)
    return b, c, d, torch.bernoulli(x, 0.3), F.dropout(x, 0.4), F.dropout(x, 1.0)


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dropout": (nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Softmax(1)), (3, 4)),
    "dropout_with_its_mask": (Calls(lambda x: torch.native_dropout(x, 0.3, True)), (3, 4)),
    "dropout_twice": (nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.1)), (3, 4)),
    "dropout_of_channels": (nn.Dropout2d(0.4), (2, 3, 4, 5)),
    "alpha_dropout": (nn.AlphaDropout(0.4), (3, 4)),
    "probabilities_in_a_tensor": (Calls(lambda x: torch.bernoulli(x.sigmoid())), (30, 40)),
    "means_in_a_tensor": (Calls(lambda x: torch.normal(x, x.abs() + 1)), (3, 4)),
    "several": (Calls(several), (3, 4)),
    "starts_at_random": (StartsAtRandom(), (2, 4, 3)),
}


def imported(name: str) -> tuple[nn.Module, torch.Tensor, Imported]:
    torch.manual_seed(0)
    module, shape = CASES[name]
    x = torch.randn(shape)
    return module, x, import_module(module, (x,), "f")


def arguments(found: Imported, x: torch.Tensor, draws: list[torch.Tensor]) -> dict[str, Any]:
    drawn = as_arguments(found.arguments, found.draws, draws)
    given = {"input": lambda _: x, "random": lambda a: drawn[a.name]}
    values = {a.name: given.get(a.source, lambda a: a.tensor)(a) for a in found.arguments}
    return {n: (v.double() if v.is_floating_point() else v).numpy() for n, v in values.items()}


@pytest.mark.parametrize("name", CASES)
def test_with_what_pytorch_drew_it_computes_the_same(name: str) -> None:
    module, x, found = imported(name)
    own = eager.run(module, (x,))
    exact = eager.run_float64(module, (x,), own.draws)
    for mine, theirs in zip(exact.outputs, own.outputs, strict=True):
        torch.testing.assert_close(mine.to(theirs.dtype), theirs, rtol=1e-4, atol=1e-4)
    want = {n: t.numpy() for n, t in exact.tensors(found.results).items()}
    given = arguments(found, x, own.draws)
    compare(evaluate_op(found.op, None, given), want)
    full = with_derived(Module((found.op,)))
    compare(interpret_program(full, full.programs["f"], None, given), want)


def test_other_draws_give_another_result() -> None:
    module, x, found = imported("dropout")
    first, second = (eager.run(module, (x,)).draws for _ in range(2))
    one, other = (evaluate_op(found.op, None, arguments(found, x, d)) for d in (first, second))
    assert not np.allclose(*(next(iter(v.values())) for v in (one, other)))


def test_what_is_drawn_is_said() -> None:
    *_, found = imported("several")
    draws = [a for a in found.arguments if a.source == "random"]
    assert [a.position for a in draws] == list(range(8))
    assert [str(a.draw) for a in draws] == [
        "uniform(0, 1)", "normal(0, 1)", "uniform(1, 2)", "normal(1, 2)", "normal(0.5, 2)",
        "uniform(0, 1)", "bernoulli(0.3)", "bernoulli(0.6)",
    ]  # fmt: skip


def test_new_draws_are_of_the_kind() -> None:
    torch.manual_seed(0)
    module = Calls(lambda x: F.dropout(torch.empty(9999).normal_(3, 2) + x, 0.2) + torch.rand(9999))
    found = import_module(module, (torch.zeros(9999),), "f")
    normal, mask, uniform = (fresh(a.draw, "cpu") for a in found.arguments if a.draw is not None)
    assert normal.mean() == pytest.approx(3, abs=0.1) and normal.std() == pytest.approx(2, abs=0.1)
    assert mask.dtype is torch.bool
    assert mask.float().mean() == pytest.approx(0.8, abs=0.02)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.02)


def test_draws_that_the_graph_does_not_make_are_not_taken_for_others() -> None:
    module = Calls(lambda x: (torch.rand(3, 4), torch.rand(3, 4) * x)[1])
    x = torch.ones(3, 4)
    found = import_module(module, (x,), "f")
    with pytest.raises(OtherDraws, match="draws 2 times, its graph 1 time"):
        as_arguments(found.arguments, found.draws, eager.run(module, (x,)).draws)
    with pytest.raises(OtherDraws, match=r"where it drew nothing more"):
        eager.run(module, (x,), [torch.rand(3, 4)])


def test_nothing_is_drawn_where_dropout_does_nothing() -> None:
    for module in (nn.Dropout(0.5).eval(), nn.Dropout(0.0), nn.Dropout(1.0)):
        assert not check(module, (torch.randn(3, 2),)).draws


def test_draws_inside_an_operator_are_refused() -> None:
    with pytest.raises(ImportFailure, match="random numbers"):
        import_module(nn.LSTM(4, 5, 2, dropout=0.3), (torch.randn(3, 2, 4),), "f")
    q = torch.randn(2, 3, 4)
    with pytest.raises(ImportFailure, match="random numbers"):
        import_module(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), (q,), "f")
