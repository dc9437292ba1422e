"""Sums of what data assign to elements become atomic writes, and mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ke_ir.derive import scatter
from ke_ir.evaluate import evaluate_op
from ke_ir.interpret import interpret_program
from ke_ir.ir import For, Kernel, Module, statements
from ke_ir.ops import Accumulate, Store
from ke_ir.parser import parse
from ke_ir.ranges import infer_ranges
from ke_ir.types import DType
from ke_ir.verify import verify
from tests.ir.derive_check import derived

ADDED = """
op @added(x: f32[{n}, {k}], id: i32[{l}], s: f32[{l}, {k}]) -> (y: f32[{n}, {k}])
{{ y[j, k] = x[j, k] + sum[l](select(id[l] == j, s[l, k], 0.0)) }}
"""
ALONG = """
op @along(id: i64[{k}, {l}], s: f32[{k}, {l}]) -> (y: f32[{k}, {n}])
{{ y[k, j] = sum[l](select(j == id[k, l], s[k, l], 0.0)) }}
"""
ACROSS = """
op @across(id: i32[{l}, {k}], s: f32[{l}, {k}]) -> (y: f32[{n}, {k}])
{{ y[j, k] = sum[l](select(id[l, k] == j, s[l, k], 0.0)) }}
"""
COUNTED = """
op @counted(id: i32[{l}]) -> (y: i64[{n}])
{{ y[j] = sum[l](select(id[l] == j, 1, 0)) }}
"""
TESTED = """
op @tested(id: i32[{l}], ok: i1[{l}], s: f32[{l}]) -> (y: f32[{n}])
{{ y[j] = sum[l](select(ok[l] and id[l] - 1 == j, s[l] * s[l], 0)) }}
"""
TWO = """
op @two(a: i32[{l}], b: i32[{l}], s: bf16[{l}]) -> (y: bf16[{n}, {k}])
{{ y[i, j] = sum[l](select(a[l] == i and b[l] == j, s[l], 0.0)) }}
"""
FLAT = """
op @flat(id: i64[{l}], s: f64[{l}]) -> (y: f64[{n}, {k}, 3])
{{ y[h, i, j] = sum[l](select(id[l] == (h * {k} + i) * 3 + j, s[l], 0.0)) }}
"""
LAST = """
op @last(x: f32[{n}, {k}], id: i32[{l}], s: f32[{l}, {k}]) -> (y: f32[{n}, {k}])
{{
  at[j in 0 to {n}] = max[l](select(id[l] == j, l, -1))
  y[j, k] = select(at[j] < 0, x[j, k], s[max(at[j], 0), k])
}}
"""
NESTED = """
op @nested(id: i32[{l}, 3], s: f32[{l}, 3]) -> (y: f32[{n}])
{{ y[j] = sum[l, m](select(id[l, m] == j, s[l, m], 0.0)) * 2.0 }}
"""
FORMS = {"added": ADDED, "along": ALONG, "across": ACROSS, "counted": COUNTED, "tested": TESTED,
         "two": TWO, "flat": FLAT, "last": LAST, "nested": NESTED}  # fmt: skip


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sizes are scattered too."""
    for name in ("LARGE", "SPREAD", "PLACES"):
        monkeypatch.setattr(scatter, name, 0)


def written(m: Module) -> tuple[list[Accumulate], list[Store]]:
    """What all kernels of a derivation write."""
    found = [s for k in m.kernels.values() for s in statements(k.body)]
    return ([s for s in found if isinstance(s, Accumulate)],
            [s for s in found if isinstance(s, Store)])  # fmt: skip


def inputs(m: Module, name: str, places: int, seed: int) -> dict[str, Any]:
    """Floats; ids of which some lie outside on both sides, and many are the same."""
    rng = np.random.default_rng(seed)
    out = {}
    for p in m.ops[name].inputs:
        shape, d = p.type.sizes({}), p.type.dtype
        if d.is_bool:
            out[p.name] = rng.random(shape) < 0.5
        elif d.is_int:
            out[p.name] = rng.integers(-2, places + 2, shape).astype(d.numpy())
        else:
            out[p.name] = rng.standard_normal(shape).astype(d.numpy())
    return out


def compared(name: str, sizes: Mapping[str, int], seed: int = 0) -> Module:
    m = derived(next(iter(parse(FORMS[name].format(**sizes)).ops.values())))
    assert not verify(m)
    places = sizes["n"] * (sizes["k"] * 3 if name == "flat" else 1)
    given_ = inputs(m, name, places, seed)
    want = evaluate_op(m.ops[name], None, given_)
    got = interpret_program(m, m.programs[name], {}, given_, exact=True)
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-12, atol=1e-12)
    return m


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("sizes", [(7, 5, 13), (1, 1, 1), (64, 32, 128), (130, 3, 1000)])
def test_each_term_is_written_to_the_element_that_it_belongs_to(
    name: str, sizes: tuple[int, int, int]
) -> None:
    m = compared(name, dict(zip("nkl", sizes, strict=True)))
    accumulated, _ = written(m)
    assert len(accumulated) == 1
    for k in m.kernels.values():
        folds = [s for s in statements(k.body) if isinstance(s, For) and s.carries]
        assert not folds, "nothing looks at all terms"


@pytest.mark.usefixtures("always")
@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(FORMS)), st.integers(1, 70), st.integers(1, 40), st.integers(1, 300),
       st.integers(0, 1000))  # fmt: skip
def test_any_sizes(name: str, n: int, k: int, length: int, seed: int) -> None:
    compared(name, {"n": n, "k": k, "l": length}, seed)


def test_one_kernel_is_enough_where_an_output_is_nothing_but_the_sums() -> None:
    sizes = {"n": 1000, "k": 64, "l": 5000}
    (op,) = parse(ALONG.format(**{**sizes, "k": 8})).ops.values()
    m = derived(op)
    assert len(m.kernels) == 1
    assert [s.tensor for s in written(m)[0]] == ["y"]
    (op,) = parse(ADDED.format(**sizes)).ops.values()
    m = derived(op)
    assert len(m.kernels) == 2
    (kept,) = written(m)[0]
    assert kept.tensor != "y", "what is added to is read, so that it cannot be the output"


def test_sums_in_narrow_dtypes_are_made_in_wide_ones() -> None:
    (op,) = parse(TWO.format(n=100, k=90, l=3000)).ops.values()
    m = derived(op)
    (kept,) = written(m)[0]
    kernel = next(k for k in m.kernels.values() for s in statements(k.body) if s is kept)
    assert isinstance(kernel, Kernel)
    assert kernel.outputs[0].type.dtype is DType.F32


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ADDED.format(n=32, k=2000, l=5000), "few places"),
        (ADDED.format(n=64, k=2, l=100000), "many writes to each element"),
        (ADDED.format(n=100, k=100, l=50), "few comparisons"),
        (ADDED.replace("s[l, k]", "s[l, k] * x[j, k]").format(n=1000, k=64, l=5000),
         "terms that differ from element to element"),
        (ADDED.replace("0.0", "1.0").format(n=1000, k=64, l=5000), "terms of what is elsewhere"),
        (ADDED.replace("id[l] == j", "id[l] < j").format(n=1000, k=64, l=5000), "another question"),
        (ADDED.replace("id[l] == j", "id[l] == j and id[j % {l}] == l")
         .format(n=1000, k=64, l=5000), "a second question for the same index"),
        (FLAT.replace("* 3 + j", "* 4 + j").format(n=100, k=50, l=5000), "no row-major place"),
        (LAST.replace("-1)", "1)").format(n=5000, k=4, l=5000), "a value above some of the terms"),
        (LAST.replace(", l, -1", ", 0 - l, -1").format(n=5000, k=4, l=5000), "terms below it"),
    ],
)  # fmt: skip
def test_what_stays_a_sum(text: str, why: str) -> None:
    (op,) = parse(text).ops.values()
    assert not written(derived(op))[0], why


def test_what_is_scattered_is_read_by_later_kernels_only() -> None:
    """A norm of what was scattered: its kernels come after."""
    (op,) = parse("""
op @n(id: i32[5000], s: f32[5000, 64]) -> (z: f32[1000, 64])
{
  y[j in 0 to 1000, k] = sum[l](select(id[l] == j, s[l, k], 0.0))
  t[j] = sum[k](y[j, k] * y[j, k])
  z[j, k] = y[j, k] * rsqrt(t[j] + 1.0)
}
""").ops.values()
    m = derived(op)
    calls = m.programs["n"].calls
    accumulating = [i for i, c in enumerate(calls)
                    if any(isinstance(s, Accumulate)
                           for s in statements(m.kernels[c.kernel].body))]  # fmt: skip
    reading = [i for i, c in enumerate(calls) if any(v.tensor == "y" for v in c.args)]
    assert accumulating == [0]
    assert reading
    assert min(reading) > 0
    ids = np.arange(5000, dtype=np.int32) % 1000
    x = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    given_ = {"id": ids, "s": x}
    got = interpret_program(m, m.programs["n"], {}, given_, exact=True)
    want = evaluate_op(op, None, given_)
    np.testing.assert_allclose(got["z"], want["z"], rtol=1e-10, atol=1e-12)


def test_a_dim_may_be_a_run_time_argument() -> None:
    (op,) = parse("""
op @d(id: i32[L], s: f32[L, K]) -> (y: f32[N, K])
dims L in 1..100000 = 5000, N in 1..100000 = 1000, K = 64
{ y[j, k] = sum[l](select(id[l] == j, s[l, k], 0.0)) }
""").ops.values()
    assert infer_ranges(op)
    m = derived(op)
    assert written(m)[0]
    rng = np.random.default_rng(1)
    for n, length in ((1, 1), (17, 33), (100, 999)):
        dims = {"L": length, "N": n, "K": 64}
        given_ = {
            "id": rng.integers(-1, n + 1, length).astype(np.int32),
            "s": rng.standard_normal((length, 64)).astype(np.float32),
        }
        got = interpret_program(m, m.programs["d"], dims, given_, exact=True)
        want = evaluate_op(op, dims, given_)
        np.testing.assert_allclose(got["y"], want["y"], rtol=1e-12, atol=1e-12)


COMPUTED = {
    "chosen by a reduction": """
op @c(w: f32[{l}, 9], s: f32[{l}, {k}]) -> (y: f32[9, {k}])
{{
  best[l] = argmax[c](w[l, c])
  y[j in 0 to 9, k] = sum[l](select(best[l] == j, s[l, k], 0.0))
}}
""",
    "weighed by a reduction": """
op @c(w: f32[{l}, 9], id: i32[{l}]) -> (y: f32[{n}])
{{ y[j] = sum[l](select(id[l] == j, sum[c](w[l, c]), 0.0)) }}
""",
    "counted by a scan": """
op @c(ok: i1[{l}], s: f32[{l}]) -> (y: f32[{l}])
{{
  at[l in 0 to {l}] = sum[m in 0 to l + 1](select(ok[m], 1, 0))
  y[j] = sum[l](select(ok[l] and at[l] == j + 1, s[l], 0.0))
}}
""",
    "carried by a recurrence": """
op @c(x: f32[{l}, 4], s: f32[{l}, 4]) -> (y: f32[{n}, 4])
{{
  h[l, b] = (h[l - 1, b else 0.0] + x[l, b]) * 0.5
  y[j, b] = sum[l](select(floor(h[l, b] * 8.0) == j, s[l, b], 0.0))
}}
""",
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("sizes", [(7, 5, 13), (1, 1, 2), (70, 33, 128), (130, 3, 1000)])
def test_where_a_term_belongs_may_have_to_be_computed(
    name: str, sizes: tuple[int, int, int]
) -> None:
    text = COMPUTED[name].format(**dict(zip("nkl", sizes, strict=True)))
    (op,) = parse(text).ops.values()
    m = derived(op)
    assert len(written(m)[0]) == 1
    given_ = inputs(m, "c", sizes[0], 0)
    want = evaluate_op(op, None, given_)
    got = interpret_program(m, m.programs["c"], {}, given_, exact=True)
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-10, atol=1e-12)
    assert sizes[2] < 10 or (want["y"] != 0).any()
