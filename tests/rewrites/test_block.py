"""Loops in blocks, and rows of odd lengths copied to longer ones."""

from __future__ import annotations

import pytest

from ke_ir.derive import with_derived
from ke_ir.expr import Num
from ke_ir.ir import For, Module, statements
from ke_ir.ops import Load, Permute
from ke_ir.rewrites import unique_names
from ke_ir.rewrites.align import Align
from ke_ir.rewrites.block import Block
from tests.rewrites.support import after, assert_same_meaning, module_of, refusal

CONVOLUTION = """
op @f(x: f32[{n}, 6, 12, 13], w: f32[10, 6, {p}, {q}]) -> (y: f32[{n}, 10, 12, 13])
{{
  y[n, o, i, j] = sum[c, p, q](x[n, c, i + p - 1, j + q - 1 else 0] * w[o, c, p, q])
}}
"""


ANY_LENGTH = """
kernel @k(%x: f32[B, D]) -> (%y: f32[B])
dims B = 4, D in 1..64 = 40
{
  parallel %b = 0 to B tile 4 {
    %zero = full 0.0 : f32[4]
    %s = for %d = 0 to D tile 8 carry (%acc = %zero) {
      %v = load %x[%b, %d] : f32[4, 8]
      %r = reduce sum %v dim 1
      %t = add %acc, %r
      yield %t
    }
    store %s, %y[%b]
  }
}
"""


def derived(text: str) -> Module:
    return unique_names(with_derived(module_of(text)))


def loops(module: Module, kernel: str) -> dict[str, int | None]:
    body = module.kernels[kernel].body
    return {s.var.name: s.var.tile for s in statements(body) if isinstance(s, For)}


@pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 5), (1, 7)])
def test_the_taps_of_a_convolution_are_the_same_in_each_block(p: int, q: int) -> None:
    module = derived(CONVOLUTION.format(n=3, p=p, q=q))
    (offered,) = {(r.loop, r.size) for r in Block.applicable(module) if r.size == p * q}
    got = after(module, f"block(@f, %{offered[0]}, {p * q})")
    assert loops(got, "f").keys() == {offered[0], f"{offered[0]}_block"}
    loads = [s for s in statements(got.kernels["f"].body) if isinstance(s, Load)]
    assert all(f"{offered[0]}_block * " not in str(s.coords) for s in loads)
    assert_same_meaning(module, got, "f")
    again = after(got, f"retile(@f, %{offered[0]}, 16)")
    assert_same_meaning(module, again, "f")


def test_a_tile_whose_dimensions_change_their_order_is_turned() -> None:
    """The first place named the loop before, and names its block now."""
    module = module_of("""
kernel @k(%w: f32[4, 9, 6]) -> (%y: f32[9])
{
  parallel %j = 0 to 9 tile 16 {
    %zero = full 0.0 : f32[16]
    %s = for %k = 0 to 24 tile 8 carry (%acc = %zero) {
      %v = load %w[%k // 6, %j, %k % 6] : f32[8, 16]
      %r = reduce sum %v dim 0
      %t = add %acc, %r
      yield %t
    }
    store %s, %y[%j]
  }
}
""")
    got = after(module, "block(@k, %k, 6)")
    turned = [s for s in statements(got.kernels["k"].body) if isinstance(s, Permute)]
    assert len(turned) == 1
    assert_same_meaning(module, got, "k")


def test_a_tile_that_would_lose_its_dimension_stays() -> None:
    module = module_of("""
kernel @k(%w: f32[4], %x: f32[4, 6]) -> (%y: f32[1])
{
  parallel %j = 0 to 1 {
    %zero = full 0.0 : f32
    %s = for %k = 0 to 24 tile 8 carry (%acc = %zero) {
      %v = load %w[%k // 6] : f32[8]
      %u = load %x[%k // 6, %k % 6] : f32[8]
      %p = mul %u, %v
      %r = reduce sum %p dim 0
      %t = add %acc, %r
      yield %t
    }
    store %s, %y[%j]
  }
}
""")
    assert "%w is addressed alike throughout" in refusal(module, "block(@k, %k, 6)")


def test_what_cannot_be_gone_through_in_blocks() -> None:
    module = derived(CONVOLUTION.format(n=1, p=3, q=3))
    (name,) = loops(module, "f")
    assert "not several blocks of 7" in refusal(module, f"block(@f, %{name}, 7)")
    assert "no sequential loop" in refusal(module, "block(@f, %nope, 9)")
    assert "size that is known" in refusal(module_of(ANY_LENGTH), "block(@k, %d, 8)")


PRODUCT = """
op @f(x: {t}[20, {k}], w: {t}[17, {k}]) -> (y: f32[20, 17])
{{
  y[i, j] = sum[l](x[i, l] * w[j, l])
}}
"""


@pytest.mark.parametrize(("t", "multiple"), [("f32", 4), ("f16", 8), ("i8", 16)])
@pytest.mark.parametrize("k", [37, 51, 130])
def test_rows_of_odd_lengths(t: str, multiple: int, k: int) -> None:
    text = PRODUCT.format(t=t, k=k)
    module = derived(text if t != "i8" else text.replace("(y: f32", "(y: i32"))
    (loop,) = loops(module, "f")
    got = after(module, f"align(@f, %{loop}, {multiple})")
    copies = [c for name, c in got.kernels.items() if "align_" in name]
    widths = {c.outputs[0].type.shape[-1] for c in copies}
    assert len(copies) == 2 and widths == {Num(-(-k // multiple) * multiple)}
    assert_same_meaning(module, got, "f")
    assert "already" in refusal(got, f"align(@f_aligned, %{loop}, {multiple})")


@pytest.mark.parametrize("kind", ["sum", "max"])
@pytest.mark.parametrize("body", [
    "x[i, l] * w[j, l] * exp(x[i, l])", "(x[i, l] + 1.0) * w[j, l]",
    "x[i, l] * w[j, l] / (abs(v[l]) + 1.0)", "exp(x[i, l]) * exp(w[j, l])",
    "select(x[i, l] > 0.0, x[i, l] * w[j, l], 1.0)",
])  # fmt: skip
def test_what_lies_beyond_the_rows_does_not_count(kind: str, body: str) -> None:
    module = derived(f"""
op @f(x: f32[7, 37], w: f32[5, 37], v: f32[37]) -> (y: f32[7, 5])
{{
  y[i, j] = {kind}[l]({body})
}}
""")
    for step in Align.applicable(module):
        assert_same_meaning(module, after(module, step), "f")


def test_what_is_not_copied_to_longer_rows() -> None:
    taps = derived(CONVOLUTION.format(n=1, p=3, q=3))
    (name,) = loops(taps, "f")
    assert "does not go along whole rows" in refusal(taps, f"align(@f, %{name}, 4)")
    assert "size that is known" in refusal(module_of(ANY_LENGTH), "align(@k, %d, 8)")
    assert not list(Align.applicable(taps))
