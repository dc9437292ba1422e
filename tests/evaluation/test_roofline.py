"""The floor under a time follows from the op alone, and is a lower bound."""

from __future__ import annotations

import math

import pytest

from ke_ir.ir import OpDef
from ke_ir.parser import parse
from search.evaluation.roofline import OpCost, op_cost, roofline
from targets.base import HardwareSpec

SPEC = HardwareSpec(
    arch="a", name="A", units=1, clock_hz=1e9, matrix_flops={"f16": 1e12, "tf32": 5e11},
    vector_flops={"f32": 1e11}, dram_bytes_per_s=1e9, cache_bytes_per_s=1e10, cache_bytes=1,
    local_bytes=1, register_bytes=1, launch_seconds=0.0, sources=("a test",),
)  # fmt: skip


def cost(text: str) -> OpCost:
    op: OpDef = next(iter(parse(text).ops.values()))
    return op_cost(op, op.sizes())


def test_a_matrix_product() -> None:
    c = cost("op @m(a: f16[8, 16], b: f16[16, 32]) -> (c: f16[8, 32]) "
             "{ c[i, j] = sum[k](a[i, k] * b[k, j]) }")  # fmt: skip
    assert c == OpCost(2 * (8 * 16 + 16 * 32 + 8 * 32), 2 * 8 * 16 * 32, 0)


def test_a_reduction_inside_is_counted_once_for_what_it_depends_on() -> None:
    c = cost("op @n(x: f32[8, 16]) -> (y: f32[8, 16]) "
             "{ y[b, d] = x[b, d] * rsqrt(sum[k](x[b, k] * x[b, k])) }")  # fmt: skip
    # per row: 16 products, 16 additions, one rsqrt; then 128 products.
    assert c.vector_flops == 8 * (16 + 16 + 1) + 8 * 16
    assert c.bytes == 2 * 4 * 8 * 16


def test_what_a_condition_on_indices_excludes_does_not_count() -> None:
    whole = "s[i, j] = sum[d](q[i, d] * k[j, d])"
    masked = "s[i, j] = select(j <= i, sum[d](q[i, d] * k[j, d]), 0.0)"
    head = "op @s(q: f16[64, 8], k: f16[64, 8]) -> (s: f16[64, 64]) {"
    full = cost(f"{head} {whole} }}").matrix_flops
    half = cost(f"{head} {masked} }}").matrix_flops
    assert half / full == pytest.approx(65 / 128)


def test_causal_attention_needs_half_of_both_products() -> None:
    c = cost("""
op @a(q: f16[64, 8], k: f16[64, 8], v: f16[64, 8]) -> (o: f16[64, 8])
{
  s[i, j] = select(j <= i, sum[d](q[i, d] * k[j, d]), -inf)
  m[i] = max[j](s[i, j])
  p[i, j] = exp(s[i, j] - m[i])
  l[i] = sum[j](p[i, j])
  o[i, d] = sum[j](p[i, j] * v[j, d]) / l[i]
}
""")
    assert c.matrix_flops == pytest.approx(2 * 2 * 64 * 64 * 8 * 65 / 128)


def test_an_intermediate_is_needed_only_where_it_is_used() -> None:
    c = cost("""
op @a(q: f16[64, 8], k: f16[64, 8]) -> (o: f16[64, 64])
{
  s[i, j] = sum[d](q[i, d] * k[j, d])
  o[i, j] = select(j <= i, s[i, j], 0.0)
}
""")
    assert c.matrix_flops == pytest.approx(2 * 64 * 64 * 8 * 65 / 128)


def test_a_condition_on_data_promises_nothing() -> None:
    c = cost("op @s(x: f32[64], c: i1[64]) -> (y: f32[64]) "
             "{ y[i] = select(c[i], exp(x[i]), 0.0) }")  # fmt: skip
    assert c.vector_flops < 1


@pytest.mark.parametrize(
    "body",
    [
        "sum[l](select(i[l] == j, x[l], 0.0))",
        "sum[l](select(i[j] == l and x[l] > 0.0, x[l], 0.0))",
        "sum[l](select(x[l] > x[j], 1, 0))",
    ],
)
def test_comparisons_of_all_pairs_promise_nothing(body: str) -> None:
    """Scattering and sorting make fewer."""
    c = cost(f"op @p(i: i32[4096], x: f32[4096]) -> (y: f32[4096]) {{ y[j] = {body} }}")
    assert c.vector_flops < 4096
    assert c.bytes >= 4096 * 8


def test_a_comparison_within_one_row_counts_its_sum() -> None:
    c = cost("op @p(x: f32[64, 64]) -> (y: f32[64]) "
             "{ y[j] = sum[l](select(x[j, l] > 0.0, x[j, l], 0.0)) }")  # fmt: skip
    assert c.vector_flops >= 64 * 64


def test_a_product_of_three_may_be_reassociated() -> None:
    c = cost("op @m(a: f32[8, 8], b: f32[8, 8], c: f32[8, 8]) -> (y: f32[8, 8]) "
             "{ y[i, j] = sum[k, l](a[i, k] * b[k, l] * c[l, j]) }")  # fmt: skip
    assert c.matrix_flops == 0


def test_gathered_rows_count_as_often_as_random_indices_touch_them() -> None:
    text = """
op @g(t: f32[{v}, 4], i: i32[64]) -> (y: f32[64, 4]) {{ y[k, d] = t[i[k], d] }}
"""
    few, many = cost(text.format(v=2)), cost(text.format(v=10**6))
    base = 64 * 4 + 64 * 4 * 4
    assert few.bytes - base == pytest.approx(2 * 16, abs=4)
    assert many.bytes - base == pytest.approx(64 * 16, rel=1e-2)


def test_jagged_rows_cover_their_elements_once() -> None:
    c = cost("""
op @bag(x: f32[T, D], off: i32[B + 1]) -> (y: f32[B, D]) dims T = 100, D = 4, B = 10
{ y[b, d] = sum[t in off[b] to off[b + 1]](x[t, d]) }
""")
    assert c.bytes == 4 * (100 * 4 + 10 + 10 * 4)  # one reference alone reads 10 offsets
    assert c.vector_flops == 100 * 4


def test_rows_that_data_chooses_may_be_empty() -> None:
    c = cost("""
op @bag(x: f32[T, D], off: i32[V + 1], id: i32[B]) -> (y: f32[B, D])
dims T = 100, D = 4, B = 10, V = 20
{ y[b, d] = sum[t in off[id[b]] to off[id[b] + 1]](x[t, d] * x[t, 0]) }
""")
    assert c.bytes <= 4 * (20 + 1 + 10 + 10 * 4)
    assert c.vector_flops == c.matrix_flops == 0


def test_the_floor_is_the_slowest_of_memory_and_compute() -> None:
    memory = roofline(OpCost(10**9, 1e9, 0), SPEC, "f16", 1, 2.0)
    assert (memory.floor_seconds, memory.bound, memory.fraction) == (1.0, "memory", 0.5)
    compute = roofline(OpCost(1, 3e12, 0), SPEC, "f16", 1, 3.0)
    assert (compute.floor_seconds, compute.bound, compute.fraction) == (3.0, "compute", 1.0)


def test_split_products_cost_their_parts() -> None:
    one = roofline(OpCost(1, 1e12, 0), SPEC, "tf32", 1, 1.0).floor_seconds
    three = roofline(OpCost(1, 1e12, 0), SPEC, "tf32", 3, 1.0).floor_seconds
    assert three == pytest.approx(3 * one)


def test_no_time_is_no_fraction() -> None:
    assert roofline(OpCost(1, 1, 1), SPEC, "f16", 1, 0.0).fraction == math.inf
