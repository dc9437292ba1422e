"""Terms that data assign to elements: combined with their own, or compared with all, it is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ke_ir import evaluate_scatter
from ke_ir.evaluate import evaluate_with_error
from ke_ir.parser import parse
from ke_ir.rounding import Rounding

OPS = {
    "rows": "op @f(id: i32[300], s: f32[300, 5]) -> (y: f32[40, 5])\n"
            "{ y[j, k] = sum[l](select(id[l] == j, s[l, k], 0.0)) }",
    "shifted": "op @f(id: i32[300], s: f32[300]) -> (y: f32[40])\n"
               "{ y[j] = sum[l](select(j * 2 - 3 == id[l], exp(s[l]), 0)) }",
    "flat": "op @f(id: i32[3, 300], s: f32[3, 300]) -> (y: f32[3, 8, 5])\n"
            "{ y[n, h, w] = sum[l](select(id[n, l] == h * 5 + w, s[n, l], 0.0)) }",
    "two": "op @f(id: i32[300], on: i32[300], s: f32[300]) -> (y: f32[20, 30])\n"
           "{ y[i, j] = sum[l](select(id[l] == i and on[l] == j and s[l] > 0.0, s[l], 0.0)) }",
    "most": "op @f(id: i32[300], s: f32[300]) -> (y: f32[40])\n"
            "{ y[j] = max[l](select(id[l] == j, s[l], -1.0)) }",
    "least": "op @f(id: i32[1], s: f32[300]) -> (y: f32[2])\n"
             "{ y[j] = min[l](select(id[l // 300] == j, s[l], -100.0)) }",
    "last": "op @f(id: i32[300]) -> (y: i64[40])\n"
            "{ y[j] = max[l](select(id[l] == j, l, -1)) }",
    "folded": "op @f(id: i32[300], s: f32[300]) -> (y: f32[40])\n"
              "{ y[j] = sum[l](select(id[l] == j // 2, s[l], 0.0)) }",
    "rounded": "op @f(x: f32[300], s: f32[300]) -> (y: f32[40])\n"
               "{ y[j] = sum[l](select(floor(x[l] * 10.0) == j, s[l], 0.0)) }",
}  # fmt: skip
DIRECT = ("folded", "rounded")
"""Ops of which a term may belong to several elements, or rounding may change to which."""


def evaluated(text: str, seed: int = 0) -> tuple[Any, Any]:
    (op,) = parse(text).ops.values()
    rng = np.random.default_rng(seed)
    given = {}
    for p in op.inputs:
        shape = p.type.sizes({})
        x = rng.standard_normal(shape) if p.type.dtype.is_float else rng.integers(-3, 45, shape)
        given[p.name] = x.astype(p.type.dtype.numpy())
    if "id[l // 300]" in text:
        given["id"][:] = 0
    return evaluate_with_error(op, None, given, Rounding())["y"]


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("chunk", [1 << 22, 100])
def test_both_ways_give_one_value(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    own = evaluate_scatter._Scatter.finished

    def finished(self: Any, *given: Any) -> Any:
        used.append(name)
        return own(self, *given)

    monkeypatch.setattr(evaluate_scatter._Scatter, "finished", finished)
    monkeypatch.setattr(evaluate_scatter, "PAIRS", 1 << 62)
    want, wide = evaluated(OPS[name])
    assert not used
    monkeypatch.setattr(evaluate_scatter, "PAIRS", 0)
    monkeypatch.setattr(evaluate_scatter, "CHUNK", chunk)
    got, bound = evaluated(OPS[name])
    assert bool(used) == (name not in DIRECT)
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)
    assert (bound <= wide * (1 + 1e-9)).all(), "what is not there adds no error"


def test_the_bound_covers_what_single_precision_does() -> None:
    """2,000 terms to each of few elements, added one after the other in f32."""
    text = OPS["rows"].replace("300", "20000").replace("40", "10")
    (op,) = parse(text).ops.values()
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 10, 20000).astype(np.int32)
    s = rng.standard_normal((20000, 5)).astype(np.float32)
    value, bound = evaluate_with_error(op, None, {"id": ids, "s": s}, Rounding())["y"]
    single = np.zeros((10, 5), np.float32)
    for i, row in zip(ids, s, strict=True):
        single[i] += row
    error = np.abs(single - value)
    assert (error <= bound).all()
    assert error.max() > 0
