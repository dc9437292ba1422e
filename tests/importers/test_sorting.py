"""Sorting and searching at sizes where it is not done by comparing all pairs.

OpInfo's samples are short rows. Here rows are long enough to be merged, and hold what an order may
stumble over: equal elements, NaN, infinities, zeros of both signs, the ends of a dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.evaluate import evaluate_op
from ke_ir.expr import Call, Expr, Num
from ke_ir.importers.aten import merging, searching
from ke_ir.importers.aten import sorting as sorting_module
from ke_ir.importers.sizes import DynamicDim
from ke_ir.importers.torch_export import Imported, import_module
from ke_ir.ir import For, Module, statements
from targets.base import Presence
from targets.registry import find_target, knobs_for
from tests.importers.agree import arguments, check, compare, expected

INF, NAN = math.inf, math.nan


def rows(n: int) -> torch.Tensor:
    """Rows that an order may stumble over, of ``n`` elements."""
    made = torch.Generator().manual_seed(n)
    plain = torch.randn(n, generator=made)
    odd = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0])
    picked = odd[torch.randint(0, len(odd), (n,), generator=made)]
    return torch.stack([
        plain, torch.randint(0, 3, (n,), generator=made).float(), torch.full((n,), 2.5),
        plain.sort().values, plain.sort(descending=True).values, picked,
        torch.where(plain > 1, NAN, plain), torch.full((n,), NAN),
    ])  # fmt: skip


def sorting(descending: bool = False, dim: int = -1) -> Callable[[torch.Tensor], Any]:
    """The order is said to be stable, so that the places are specified too."""

    def f(x: torch.Tensor) -> Any:
        return torch.sort(x, dim=dim, stable=True, descending=descending)

    return f


def largest(k: int, descending: bool = True) -> Callable[[torch.Tensor], Any]:
    """Values alone: PyTorch does not say which of equal elements ``topk`` gives."""

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.topk(x, k, largest=descending).values

    return f


def kth(k: int) -> Callable[[torch.Tensor], Any]:
    return lambda x: torch.kthvalue(x, k).values


def is_merged(imported: Imported) -> bool:
    return any("_run0" in e.target for e in imported.op.equations)


def both_ways(x: torch.Tensor) -> Any:
    return sorting()(x), sorting(True)(x)


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 127, 128, 129, 1000])
def test_rows_are_sorted_as_by_pytorch(n: int) -> None:
    assert is_merged(check(both_ways, (rows(n),))) == (n > 100)


@pytest.mark.parametrize("n", [5000, 50_000])
def test_long_rows_are_sorted_as_by_pytorch(n: int) -> None:
    check(sorting(), (rows(n)[5:6],))


def test_the_sign_of_zero_stays_where_it_was() -> None:
    x = rows(300)[5:6]
    imported = import_module(sorting(), (x,), "f")
    got = evaluate_op(imported.op, None, arguments(imported, (x,)))
    want = expected(sorting(), (x,), imported)
    value = imported.results[0].name
    np.testing.assert_array_equal(np.signbit(got[value]), np.signbit(want[value]))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_along_any_dim(dim: int) -> None:
    shape = [2, 3, 2]
    shape[dim] = 200
    x = torch.randint(0, 60, shape).float()
    assert is_merged(check(sorting(True, dim), (x,), derived=True))


def ends(dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.bool:
        return rows(200)[:2] > 0
    if dtype.is_floating_point:
        return rows(200)[[0, 1, 5]].to(dtype)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    few = torch.tensor([high, low, high - 1, low + 1, 3, high, low])
    return few[torch.randint(0, 7, (2, 200), generator=torch.Generator().manual_seed(1))].to(dtype)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64,
                                   torch.float16, torch.bfloat16, torch.float64])  # fmt: skip
def test_dtypes_up_to_their_ends(dtype: torch.dtype) -> None:
    assert is_merged(check(both_ways, (ends(dtype),), derived=True))


@pytest.mark.parametrize("k", [1, 50, 64, 65])
def test_the_first_of_a_row(k: int) -> None:
    x = rows(200)
    assert is_merged(check(largest(k, k != 50), (x,), derived=k in (1, 65)))
    stable = import_module(sorting(True), (x,), "f")
    few = import_module(lambda x: torch.topk(x, k), (x,), "f")
    want = evaluate_op(stable.op, None, arguments(stable, (x,)))
    got = evaluate_op(few.op, None, arguments(few, (x,)))
    for a, b in zip(few.results, stable.results, strict=True):
        np.testing.assert_array_equal(got[a.name], want[b.name][:, :k])


ONES: dict[str, Callable[[torch.Tensor], Any]] = {
    "the 3rd": kth(3),
    "the 190th": kth(190),
    "median": lambda x: torch.median(x, -1).values,
    "nanmedian": lambda x: torch.nanmedian(x, -1).values,
    "median of all": torch.median,
    "nanmedian of all": torch.nanmedian,
    "mode": lambda x: torch.mode(x, -1).values,
}


@pytest.mark.parametrize("name", ONES)
@pytest.mark.parametrize("n", [200, 701])
def test_one_element_of_a_row(name: str, n: int) -> None:
    x = rows(n)[:5] if name == "mode" else rows(n)
    assert is_merged(check(ONES[name], (x,))) == (name != "mode" or n == 701)


def test_a_mode_leaves_nans_out_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """As numbers that equal nothing: only where there are no others it is one, at place 0."""
    found = []
    for work in (1, 10**12):
        monkeypatch.setattr(sorting_module, "MODE_PAIR", work)
        imported = import_module(lambda x: torch.mode(x, 1), (rows(100),), "f")
        assert is_merged(imported) == (work > 1)
        got = evaluate_op(imported.op, None, arguments(imported, (rows(100),)))
        found.append([got[r.name] for r in imported.results])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert np.isnan(found[0][0]).tolist() == [False] * 7 + [True]


def test_the_place_of_a_mode_is_the_last_where_it_stands() -> None:
    for n in (100, 1000):
        x = torch.randint(0, 6, (3, 1, n, 2)).to(torch.uint8) + 200
        imported = import_module(lambda x: torch.mode(x, 2, keepdim=True), (x,), "f")
        assert is_merged(imported) == (n == 1000)
        found = evaluate_op(imported.op, None, arguments(imported, (x,)))
        value, where = (torch.from_numpy(found[r.name]) for r in imported.results)
        same = x == torch.mode(x, 2, keepdim=True).values
        assert torch.equal(value.to(torch.uint8), torch.mode(x, 2, keepdim=True).values)
        last = torch.where(same, torch.arange(n)[:, None], -1).amax(2, keepdim=True)
        assert torch.equal(where, last)


def test_the_place_of_a_median_is_of_that_element() -> None:
    x = rows(301)
    imported = import_module(lambda x: torch.median(x, 1), (x,), "f")
    found = evaluate_op(imported.op, None, arguments(imported, (x,)))
    value, where = (torch.from_numpy(found[r.name].copy()) for r in imported.results)
    np.testing.assert_array_equal(x.double().gather(1, where[:, None])[:, 0], value)


# The laws of an order


KINDS = [NAN, INF, -INF, 0.0, -0.0, 1.0, 1.5, -2.0, 3.0]


@cache
def sorted_op(n: int, descending: bool) -> Imported:
    return import_module(sorting(descending), (torch.zeros(n),), "f")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_result_is_the_elements_in_order_and_equal_ones_as_they_stood(data: Any) -> None:
    n = data.draw(st.sampled_from([89, 129]))
    descending = data.draw(st.booleans())
    x = np.array(data.draw(st.lists(st.sampled_from(KINDS), min_size=n, max_size=n)))
    imported = sorted_op(n, descending)
    given_ = arguments(imported, (torch.from_numpy(x),))
    found = evaluate_op(imported.op, None, given_)
    values, where = (found[r.name] for r in imported.results)
    assert sorted(where) == list(range(n))
    np.testing.assert_array_equal(values, x[where])
    keys = np.where(np.isnan(values), 9.0, np.clip(values, -8, 8)) * (-1 if descending else 1)
    assert (np.diff(keys) >= 0).all()
    assert (np.diff(where)[np.diff(keys) == 0] > 0).all()


# What is wrong is seen


def strict(self: merging.Order, a: Expr, b: Expr) -> Expr:
    """An order in which the later of equal elements comes first."""
    return Call("not", (STAYS(self, b, a),))


STAYS = merging.Order.stays


def at_most_one(self: merging.Merge) -> Any:
    """The first run never gives more than an element."""
    taken = TAKEN(self)
    return lambda i: Call("min", (taken(i), Num(1)))


TAKEN = merging.Merge.taken


@pytest.mark.parametrize(("where", "name", "wrong"), [
    (merging.Order, "stays", strict), (merging.Merge, "taken", at_most_one),
])  # fmt: skip
def test_a_wrong_merge_fails(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises(AssertionError):
        check(sorting(), (rows(200)[:2],))


def test_one_halving_less_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it takes all of them: of the first 64 one is of the first run."""
    x = torch.cat([torch.zeros(1), torch.arange(200.0, 263.0), torch.arange(1.0, 65.0)])
    check(sorting(), (x,))
    whole = merging.halved

    def shorter(node: Any, what: str, shape: Any, width: int, *rest: Any) -> Any:
        return whole(node, what, shape, width // 2, *rest)

    monkeypatch.setattr(merging, "halved", shorter)
    with pytest.raises(AssertionError):
        check(sorting(), (x,))


def test_a_row_that_is_filled_with_the_wrong_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging.Order, "last", Num(0.0))
    with pytest.raises(AssertionError):
        check(sorting(), (rows(200)[:1],))


# What comes of it


@pytest.mark.parametrize(("f", "kernels", "bytes_each"), [
    (sorting(), 12, 400), (largest(8), 12, 30),
])  # fmt: skip
def test_a_level_is_a_kernel_and_no_work_is_quadratic(
    f: Any, kernels: int, bytes_each: int
) -> None:
    """For rows of 50,000: ten levels; chunks, ranks; no loop longer than a chunk."""
    imported = import_module(f, (torch.zeros(64, 50_000),), "f")
    module = with_derived(Module((imported.op,)))
    program = module.programs["f"]
    assert len(program.calls) == kernels
    loops = [s.var.hi for k in module.kernels.values() for s in statements(k.body)
             if isinstance(s, For)]  # fmt: skip
    assert loops and max(n.value for n in loops if isinstance(n, Num)) <= 64
    assert all(isinstance(n, Num) for n in loops)
    held = sum(t.dtype.bytes * math.prod(t.sizes({})) for t in program.temps.values())
    assert held < bytes_each * 64 * 50_000


def test_a_row_whose_length_a_run_gives_is_ranked_by_pairs() -> None:
    x = torch.randn(2, 200)
    batch = import_module(sorting(), (x,), "f", [DynamicDim("B", ((0, 0),), 1, 64)])
    assert is_merged(batch)
    length = import_module(sorting(), (x,), "f", [DynamicDim("N", ((0, 1),), 2, 1000)])
    assert not is_merged(length)
    for imported, sizes in ((batch, {"B": 2}), (length, {"N": 200})):
        given_ = arguments(imported, (x,))
        compare(evaluate_op(imported.op, sizes, given_), expected(sorting(), (x,), imported))


@pytest.mark.parametrize(("target", "name"), [
    ("kea.kea2", "sort"), ("nvidia.sm_90", "sort"), ("amd.gfx942", "sort"), ("kea.kea2", "topk"),
    ("kea.kea2", "searchsorted"), ("nvidia.sm_90", "searchsorted"),
])  # fmt: skip
def test_on_targets(target: str, name: str) -> None:
    """As compiled and simulated, or interpreted: elements and places to the last bit."""
    on = find_target(target)
    if on.availability().presence is Presence.MISSING:
        pytest.skip(on.availability().reason)
    x = rows(130)[[0, 5]]
    cases: dict[str, tuple[Any, tuple[torch.Tensor, ...]]] = {
        "sort": (sorting(), (x,)),
        "topk": (largest(5), (x,)),
        "searchsorted": (torch.searchsorted, (x.sort().values, x[:, :20].contiguous())),
    }
    f, given_ = cases[name]
    imported = import_module(f, given_, "f")
    module = with_derived(Module((imported.op,)))
    program = module.programs["f"]
    arrays = {a.name: given_[a.position].numpy() for a in imported.arguments}
    got = on.run(module, program, knobs_for(on, module, program), {}, arrays).outputs
    for key, want in expected(f, given_, imported).items():
        np.testing.assert_array_equal(got[key], want)


# Searching


def borders(n: int) -> torch.Tensor:
    x = torch.randint(0, n // 3, (3, n), generator=torch.Generator().manual_seed(n)).float()
    if n > searching.FEW:
        x[1, -5:] = NAN
    x[2, :3], x[2, -3:] = -INF, INF
    return x.sort().values


@pytest.mark.parametrize("n", [64, 65, 1000])
@pytest.mark.parametrize("right", [False, True])
def test_searching(n: int, right: bool) -> None:
    order = borders(n)
    x = torch.cat([order[:, ::3], order[:, :5] + 0.5], 1)
    x[:, :3] = torch.tensor([NAN, INF, -INF])

    def each(order: torch.Tensor, x: torch.Tensor) -> Any:
        return torch.searchsorted(order, x, right=right), torch.bucketize(x, order[0], right=right)

    imported = check(each, (order, x), derived=n == 65)
    assert any("_mid" in e.target for e in imported.op.equations) == (n > searching.FEW)


def test_searching_by_another_order_and_for_a_number() -> None:
    given_ = borders(200)[0][torch.randperm(200)]

    def f(x: torch.Tensor, values: torch.Tensor) -> Any:
        by = torch.argsort(x, stable=True)
        return torch.searchsorted(x, values, sorter=by), torch.searchsorted(x[by], 17.0)

    check(f, (given_, torch.arange(-3.0, 80.0, 0.5)))


def test_searching_integers_up_to_their_ends() -> None:
    order = ends(torch.int64).sort().values
    check(torch.searchsorted, (order, ends(torch.int64)[:, :9].contiguous()))


def test_searching_what_is_in_no_order_is_what_pytorch_gives() -> None:
    """The same places are tried."""
    order = torch.randn(3, 150, generator=torch.Generator().manual_seed(0))
    check(torch.searchsorted, (order, order[:, ::2].contiguous()))
