"""Producers into consumers: pointwise, rows, contractions; and what stands in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.expr import Num
from ke_ir.ir import Module
from ke_ir.ops import Select
from ke_ir.rewrites import NoMatch, unique_names
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.fuse import Fuse, Recompute
from ke_ir.verify import verify
from tests.ir.derive_check import agree
from tests.ir.op_strategies import Sample, contractions, ops
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    assert_verifies,
    module_of,
    only_kernel,
    refusal,
)

MLP = """
op @mlp(x: f16[M, K], w: f16[K, N], v: f16[N, P]) -> (y: f16[M, P])
dims M in 1..4096 = 300, K = 40, N = 150, P = 50
{
  h[m, n] = sum[k](x[m, k] * w[k, n])
  g[m, n] = h[m, n] * sigmoid(h[m, n]) + 1
  y[m, p] = sum[n](g[m, n] * v[n, p])
}
"""
NORM_MATMUL = """
op @nm(x: f16[M, K], w: f16[K, N]) -> (y: f16[M, N])
dims M in 1..9000 = 4096, K = 200, N = 90
{
  s[m] = sum[k](x[m, k] * x[m, k]) / K
  y[m, n] = sum[k](x[m, k] * rsqrt(s[m] + 1e-5) * w[k, n])
}
"""
MATMUL_SOFTMAX = """
op @ms(x: f32[M, K], w: f32[K, N]) -> (y: f32[M, N])
dims M in 1..9000 = 4096, K = 40, N = 90
{
  z[m, n] = sum[k](x[m, k] * w[k, n])
  t[m] = max[n](z[m, n])
  l[m] = sum[n](exp(z[m, n] - t[m]))
  y[m, n] = exp(z[m, n] - t[m]) / l[m]
}
"""


def derived(text: str) -> Module:
    return unique_names(with_derived(module_of(text)))


def fuse_all(module: Module, limit: int = 8) -> list[Module]:
    """The module after each of the first fusions offered, one after the other."""
    out = [module]
    for _ in range(limit):
        step = next(iter(Fuse.applicable(out[-1])), None)
        if step is None:
            break
        out.append(after(out[-1], step))
    return out


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (MLP, {"M": 1}),
        (MLP, {"M": 67}),
        (NORM_MATMUL, {"M": 70}),
        (MATMUL_SOFTMAX, {"M": 70}),
    ],
)
def test_chains_become_one_kernel(text: str, sizes: dict[str, int]) -> None:
    module = derived(text)
    steps = fuse_all(module)
    assert len(steps) > 1
    only_kernel(steps[-1])
    (name,) = module.ops
    for m in steps[1:]:
        assert_same_meaning(module, m, name, sizes)


def test_a_fused_operand_is_masked_where_the_product_would_count_its_padding() -> None:
    """silu(h) + 1 is 1 beyond the end of %n, where the load gave 0."""
    k = only_kernel(fuse_all(derived(MLP))[-1])
    f = facts(k)
    assert any(isinstance(s, Select) for _, s in f.statements)


ROWS = """
kernel @f_s(%x: f32[B, D]) -> (%s: f32[B, D])
dims B = 6, D = 10
{
  parallel %b = 0 to B tile 2, %d = 0 to D tile 4 {
    store abs load %x[%b, %d] : f32[2, 4], %s[%b, %d]
  }
}
kernel @f_y(%s: f32[B, D]) -> (%y: f32[B])
dims B = 6, D = 10
{
  parallel %b = 0 to B tile 3 {
    %one = full 1.0 : f32[3]
    %r = for %d = 0 to D tile 4 carry (%a = %one) {
      %t = mul %a, reduce prod load %s[%b, %d else 1.0] : f32[3, 4] dim 1
      yield %t
    }
    store %r, %y[%b]
  }
}
program @f(%x: f32[B, D]) -> (%y: f32[B])
dims B = 6, D = 10
{
  temp %s : f32[B, D]
  call @f_s(%x) -> (%s)
  call @f_y(%s) -> (%y)
}
"""


def test_what_a_load_gave_outside_is_kept() -> None:
    module = module_of(ROWS)
    got = after(module, "fuse(@f_s)")
    assert any(isinstance(s, Select) for _, s in facts(only_kernel(got)).statements)
    assert_same_meaning(module, got, "f")


def test_a_map_stored_in_a_loop_is_computed_where_it_is_read() -> None:
    """A row normalised in a loop, then summed: the statistics stay outside the reader's loop."""
    module = derived("""
    op @f(x: f32[B, D], w: f32[D, P]) -> (y: f32[B, P])
    dims B = 12, D = 200, P = 20
    {
      m[b] = max[d](x[b, d])
      e[b, d] = exp(x[b, d] - m[b])
      y[b, p] = sum[d](e[b, d] * w[d, p])
    }
    """)
    for m in fuse_all(module):
        assert_same_meaning(module, m, "f")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("load %s[%b, %d else 1.0]", "load %s[%b, 9 - %d else 1.0]"), "not all loop variables"),
        (("store abs", "accumulate add abs"), "by one store"),
        (("%b = 0 to B tile 3", "%b = 0 to B - 1 tile 3"), "runs from 0 to B - 1"),
        (("call @f_s(%x) -> (%s)", "call @f_s(%x) -> (%s) call @f_s(%x) -> (%s2)"), "2 times"),
        (("(%y: f32[B])\ndims B = 6, D = 10\n{\n  temp %s : f32[B, D]",
          "(%y: f32[B], %s: f32[B, D])\ndims B = 6, D = 10\n{"), "no temporary"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said(change: tuple[str, str], says: str) -> None:
    text = ROWS.replace(*change)
    if "%s2" in text:
        text = text.replace("  temp %s :", "  temp %s2 : f32[B, D]\n  temp %s :")
    if "B - 1" in text:
        text = text.replace("%y: f32[B]", "%y: f32[B - 1]")
    assert says in refusal(module_of(text), "fuse(@f_s)")


def test_a_changed_argument_is_not_read_later() -> None:
    module = module_of("""
    kernel @inc(%a: f32[B]) -> (%r: f32[B])
    dims B = 6
    {
      parallel %b = 0 to B tile 4 { store add load %a[%b] : f32[4], 1.0, %r[%b] }
    }
    kernel @twice(%a: f32[B]) -> (%r: f32[B])
    dims B = 6
    {
      parallel %b = 0 to B tile 4 { store mul load %a[%b] : f32[4], 2.0, %r[%b] }
    }
    kernel @sum(%a: f32[B], %c: f32[B]) -> (%r: f32[B])
    dims B = 6
    {
      parallel %b = 0 to B tile 4 {
        store add load %a[%b] : f32[4], load %c[%b] : f32[4], %r[%b]
      }
    }
    program @f(%x: f32[B]) -> (%y: f32[B])
    dims B = 6
    {
      temp %s : f32[B]
      temp %t : f32[B]
      call @inc(%x) -> (%s)
      call @twice(%s) -> (%t)
      call @sum(%s, %t) -> (%y)
    }
    """)
    for m in fuse_all(module):
        assert_same_meaning(module, m, "f")
    got = after(module, "recompute(@inc, @twice)")
    assert_same_meaning(module, got, "f")
    assert "use `fuse`" in refusal(got, "recompute(@inc, @sum)")


ONE_TRIP = """
kernel @f_s(%x: f32[D]) -> (%s: f32[])
dims D = 12
{
  parallel %one = 0 to 1, %d = 0 to D tile 16 {
    %r = reduce sum load %x[%d] : f32[16] dim 0
    store %r, %s[]
  }
}
kernel @f_t(%x: f32[D], %s: f32[]) -> (%t: f32[])
dims D = 12
{
  parallel %one = 0 to 1, %d = 0 to D tile 16 {
    %v = load %s[] : f32
    %r = reduce max sub load %x[%d else -inf] : f32[16], %v dim 0
    store %r, %t[]
  }
}
kernel @f_y(%x: f32[D], %t: f32[]) -> (%y: f32[D])
dims D = 12
{
  parallel %d = 0 to D tile 4 {
    %v = load %t[] : f32
    %q = mul load %x[%d] : f32[4], %v
    store %q, %y[%d]
  }
}
program @f(%x: f32[D]) -> (%y: f32[D])
dims D = 12
{
  temp %s : f32[]
  temp %t : f32[]
  call @f_s(%x) -> (%s)
  call @f_t(%x, %s) -> (%t)
  call @f_y(%x, %t) -> (%y)
}
"""


def test_variables_of_one_trip_come_along() -> None:
    """What is summed over one tile of `parallel` is, in the reader, over that tile or a new one."""
    module = module_of(ONE_TRIP)
    first = after(module, "fuse(@f_s)")
    assert [v.name for v in facts(first.kernels["f_t"]).parallel.vars] == ["one", "d"]
    both = after(first, "fuse(@f_t)")
    assert [v.tile for v in facts(only_kernel(both)).parallel.vars] == [4, 16]
    for m in (first, both):
        assert_same_meaning(module, m, "f")


def sized(sample: Sample) -> Module:
    """The op with its static dims at the sizes at which it is checked: tiles may rest on them."""
    dims = tuple(
        d if d.is_range or d.is_derived else replace(d, size=Num(sample.sizes[d.name]))
        for d in sample.op.dims
    )
    return Module((replace(sample.op, dims=dims),))


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(sample=ops() | contractions(), data=st.data())
def test_random_programs_keep_their_meaning(sample: Sample, data: st.DataObject) -> None:
    op = sized(sample)
    assume(not verify(op))
    module = unique_names(with_derived(op))
    assume(not verify(module))  # a loop that is empty at these sizes
    assume(len(module.kernels) > 1)
    steps = [*Fuse.applicable(module), *Recompute.applicable(module)]
    assume(steps)
    got = data.draw(st.sampled_from(steps)).apply(module)
    assert not isinstance(got, NoMatch)
    assert_verifies(got)
    agree(got, sample.sizes, limits=sample.limits)
