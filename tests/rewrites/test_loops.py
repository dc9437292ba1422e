"""Loop order, unrolling, and moving statements across loops: what they do and what they refuse."""

from __future__ import annotations

import pytest

from ke_ir.ir import For, statements
from ke_ir.rewrites.interchange import Interchange
from ke_ir.rewrites.motion import Hoist, Sink
from ke_ir.rewrites.unroll import Unroll
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    example,
    module_of,
    only_kernel,
    refusal,
)

TAPS = """
kernel @k(%x: f32[N + 3], %w: f32[T]) -> (%y: f32[N])
dims N = 6, T = 4
{
  parallel %n = 0 to N tile 4 {
    %zero = full 0.0 : f32[4]
    %r = for %t = 0 to T carry (%a = %zero) {
      %v = load %x[%n + %t - 0] : f32[4]
      %u = load %w[%t] : f32
      %i = iota %t : i32
      %f = cast %i : f32
      %p = mul mul %v, %u, %f
      %q = add %a, %p
      yield %q
    }
    store %r, %y[%n]
  }
}
"""
LAST = """
kernel @k(%x: f32[A, B]) -> (%y: f32[])
dims A = 3, B = 4
{
  parallel %one = 0 to 1 {
    %zero = full 0.0 : f32
    %r = for %i = 0 to A carry (%a = %zero) {
      %s = for %j = 0 to B carry (%b = %a) {
        %v = load %x[%i, %j] : f32
        %h = mul %b, 0.5
        %q = add %h, %v
        yield %q
      }
      yield %s
    }
    store %r, %y[]
  }
}
"""
TRIANGLE = """
kernel @k(%x: f32[A, A]) -> (%y: f32[])
dims A = 5
{
  parallel %one = 0 to 1 {
    %zero = full 0.0 : f32
    %r = for %i = 0 to A carry (%a = %zero) {
      %s = for %j = 0 to %i + 1 carry (%b = %a) {
        %v = load %x[%i, %j] : f32
        %q = add %b, %v
        yield %q
      }
      yield %s
    }
    store %r, %y[]
  }
}
"""


@pytest.mark.parametrize("factor", [2, 4])
def test_unrolled_iterations_see_their_own_index(factor: int) -> None:
    module = module_of(TAPS)
    assert {r.factor for r in Unroll.applicable(module)} == {2, 4}
    got = after(module, f"unroll(@k, %t, {factor})")
    assert_same_meaning(module, got, "k")
    loops = [s for s in statements(only_kernel(got).body) if isinstance(s, For)]
    assert len(loops) == (factor != 4)
    if loops:
        assert_same_meaning(module, after(got, "unroll(@k, %t_1, 2)"), "k")


def test_unrolling_refuses_what_it_cannot_write_out() -> None:
    assert "not a multiple of 3" in refusal(module_of(TAPS), "unroll(@k, %t, 3)")
    assert "is tiled" in refusal(example("softmax"), "unroll(@softmax, %d, 2)")
    assert "is not known" in refusal(module_of(TRIANGLE), "unroll(@k, %j, 2)")


def test_a_nest_that_depends_on_its_order_stays() -> None:
    assert "depends on the order" in refusal(module_of(LAST), "interchange(@k, %i, %j)")
    assert "range of %j depends" in refusal(module_of(TRIANGLE), "interchange(@k, %i, %j)")
    assert not list(Interchange.applicable(module_of(LAST)))


def test_the_loops_of_a_derived_convolution_swap() -> None:
    module = example("conv1d")
    got = after(module, "interchange(@conv1d, %t, %c)")
    assert_same_meaning(module, got, "conv1d", {"B": 2})
    assert_same_meaning(module, after(got, "unroll(@conv1d, %t, 3)"), "conv1d", {"B": 2})


def test_parallel_variables_swap_with_their_neighbour_only() -> None:
    module = example("attention")
    assert after(module, "interchange(@attention_s, %h, %i)")
    assert "is not the parallel variable after" in refusal(
        module, "interchange(@attention_s, %b, %i)"
    )


def test_hoist_undoes_sink() -> None:
    module = example("layer_norm")
    sinkable = {r.value for r in Sink.applicable(module)}
    assert "expand_3" in sinkable
    sunk = after(module, "sink(@layer_norm, %expand_3)")
    assert_same_meaning(module, sunk, "layer_norm", {"B": 3, "D": 64})
    assert [r.loop for r in Hoist.applicable(sunk)] == ["d_2"]
    assert after(sunk, "hoist(@layer_norm, %d_2)").items == module.items


def test_what_two_loops_use_is_not_sunk() -> None:
    assert "not used in just one loop" in refusal(
        example("layer_norm"), "sink(@layer_norm, %expand_1)"
    )
