"""Recurrences: what they mean, against plain loops, and what is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ke_ir.diagnostics import IRError
from ke_ir.evaluate import evaluate_op, evaluate_with_error
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.rounding import Rounding
from ke_ir.verify import check
from tests.ir.recurrences import CELLS, EXTRA, inputs_of, numpy_of

Array = np.ndarray[Any, Any]


def op(text: str) -> OpDef:
    (o,) = check(parse(text)).ops.values()
    return o


def evaluate(text: str, **given: Any) -> dict[str, Array]:
    return evaluate_op(op(text), None, given)


def same(got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    assert set(got) == set(want)
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("name", [*CELLS, *EXTRA])
def test_values(name: str) -> None:
    o = op({**CELLS, **EXTRA}[name])
    for sizes in ({}, {"T": 1, "B": 1}):
        given = inputs_of(o, sizes)
        same(evaluate_op(o, sizes, given), numpy_of(name, given, o.sizes(sizes)["T"]))


@pytest.mark.parametrize("name", [*CELLS, *EXTRA])
def test_text_round_trip(name: str) -> None:
    module = parse({**CELLS, **EXTRA}[name])
    assert parse(print_module(module)).items == module.items


def test_a_bound_follows_the_steps() -> None:
    """An error of one step reaches all later ones; float32 loops stay within the bound."""
    text = """op @f(x: f32[T, B]) -> (y: f32[T, B]) dims T = 60, B = 50
    { y[t, b] = 0.9 * y[t - 1, b else 0] + x[t, b] * 0.3 }"""
    x = np.random.default_rng(0).standard_normal((60, 50)).astype(np.float32)
    value, bound = evaluate_with_error(op(text), None, {"x": x}, Rounding())["y"]
    y = np.zeros(50, np.float32)
    for t in range(60):
        y = np.float32(0.9) * y + x[t] * np.float32(0.3)
        assert (np.abs(y - value[t]) <= bound[t]).all()
    assert (bound[-1] > bound[0]).all() and bound.max() < 1e-5


def test_steps_are_vectorised() -> None:
    """A thousand steps of a thousand elements take a second or so, not minutes."""
    got = evaluate(
        """op @f(x: f32[T, B]) -> (y: f32[T, B]) dims T = 1000, B = 1000
        { y[t, b] = y[t - 1, b else 0] + x[t, b] }""",
        x=np.ones((1000, 1000)),
    )
    np.testing.assert_array_equal(got["y"][:, 7], np.arange(1, 1001))


HEAD = "op @f(a: f32[T, B], w: f32[B, B]) -> (h: f32[T, B]) dims T = 5, B = 3 {"
REFUSED = {
    "own place": ("h[t, b] = a[t, b] + h[t, b else 0]", "`h[t, b else 0]` is not known yet"),
    "later step": (
        "h[t, b] = h[t - 1, b else 0] + h[t + 1, b else 0]",
        "`h[t + 1, b else 0]` is of the step after",
    ),
    "two steps": ("h[t, b] = a[t, b] + h[t - 2, b else 0]", "is 2 steps away"),
    "two indices": (
        "h[t, b] = a[t, b] + h[t - 1, b else 0] + h[t, b - 1 else 0]",
        "goes along one index",
    ),
    "no else": ("h[t, b] = a[t, b] + h[t - 1, b]", "nothing says what `h[t - 1, b]` is at the"),
    "no step": ("h[t, b] = a[t, b] + h[b, b else 0]", "is no fixed step along `t`"),
    "no index": ("s[] = s[] + 1\nh[t, b] = a[t, b] * s[]", "no index counts the steps"),
    "other index": (
        "c[u, b] = h[u - 1, b else 0] + a[u, b]\nh[t, b] = c[t, b] + a[t, b]",
        "a recurrence goes along one index",
    ),
    "partner below": (
        "h[t, b] = c[t, b] + a[t, b]\nc[t, b] = h[t - 1, b else 0]",
        "define `c` before it",
    ),
    "whole row": (
        "h[t, b] = a[t, b] + sum[s in 0 to t](h[s, b else 0])", "is no fixed step along `t`",
    ),
    "lengths": (
        "c[t in 0 to 4, b] = h[t - 1, b else 0]\nh[t, b] = c[t - 1, b else 0] + a[t, b]",
        "`t` ranges to `4` in `c` but to `T` in `h`",
    ),
    "rank": ("h[t, b] = a[t, b] + h[t - 1 else 0]", "`h` has 2 dimensions but 1 indices"),
    "kind": ("h[t, b] = select(h[t - 1, b else 0 > 1], 1, 2)", "`else` gives a bool"),
    "range": (
        "c[t, k] = h[t - 1, k else 0]\nh[t, b] = c[t - 1, b else 0] + a[t, b]",
        "nothing says what `t` ranges over",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    equations, message = REFUSED[name]
    with pytest.raises(IRError) as found:
        check(parse(HEAD + equations + "}"))
    assert message in str(found.value), found.value


def test_an_equation_below_that_is_no_partner_is_still_refused() -> None:
    with pytest.raises(IRError, match="move that equation up"):
        check(parse(HEAD + "h[t, b] = h[t - 1, b else 0] + c[t, b]\nc[t, b] = a[t, b] }"))
