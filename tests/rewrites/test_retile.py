"""When the tile size of a loop may change, and that the meaning then stays."""

from __future__ import annotations

import pytest

from ke_ir.rewrites.retile import Retile
from tests.rewrites.support import (
    EXAMPLES,
    after,
    assert_same_meaning,
    example,
    module_of,
    refusal,
    small,
)

NAMES = ("rms_norm", "softmax", "layer_norm", "add_relu")


@pytest.mark.parametrize("name", NAMES)
def test_every_tile_of_a_derived_kernel_keeps_its_meaning(name: str) -> None:
    module = example(name)
    sizes = {**small(module, 7), "D": 96}
    found = list(Retile.applicable(module))
    assert len({r.loop for r in found}) >= 2
    for r in found[::2]:
        assert_same_meaning(module, after(module, r), name, sizes)


@pytest.mark.parametrize("tile", [16, 24, 128])
def test_online_sums_are_a_known_form(tile: int) -> None:
    module = module_of((EXAMPLES / "attention.ir").read_text())
    got = after(module, f"retile(@attention, %j, {tile})")
    assert_same_meaning(module, got, "attention", {"B": 1, "H": 1, "N": 256})


@pytest.mark.parametrize("tile", [32, 256])
def test_rows_of_a_loop_that_ends_with_their_tile(tile: int) -> None:
    module = module_of((EXAMPLES / "attention.ir").read_text())
    got = after(module, f"retile(@attention, %i, {tile})")
    assert_same_meaning(module, got, "attention", {"B": 1, "H": 1, "N": 256})


def kernel(body: str, out: str = "f32[B]") -> str:
    return f"""
    kernel @k(%x: f32[B, D]) -> (%y: {out})
    dims B = 4, D = 12
    {{
      parallel %b = 0 to B tile 2 {{
        {body}
      }}
    }}
    """


UNMASKED = kernel("""
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %e = exp %v
          %r = reduce sum %e dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]""")
COUNTS = kernel("""
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %t = add %acc, 1.0
          yield %t
        }
        store %s, %y[%b]""")
MEANS = kernel("""
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce max %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]""")
PREFIX = kernel(
    """
        for %d = 0 to D tile 4 {
          %v = load %x[%b, %d] : f32[2, 4]
          %t = scan sum %v dim 1
          store %t, %y[%b, %d]
        }""",
    "f32[B, D]",
)
EACH = kernel("""
        for %d = 0 to D tile 4 {
          accumulate add 1.0, %y[%b]
        }""")
UNSCALED = kernel("""
        %low = full -inf : f32[2]
        %zero = full 0.0 : f32[2]
        %m, %s = for %d = 0 to D tile 4 carry (%mi = %low, %si = %zero) {
          %v = load %x[%b, %d else -inf] : f32[2, 4]
          %r = reduce max %v dim 1
          %mn = max %mi, %r
          %me = expand %mn dim 1
          %c = sub %v, %me
          %p = exp %c
          %ps = reduce sum %p dim 1
          %sn = add %si, %ps
          yield %mn, %sn
        }
        store %s, %y[%b]""")


@pytest.mark.parametrize(
    ("text", "step", "says"),
    [
        (UNMASKED, "retile(@k, %d, 8)", "beyond the end"),
        (COUNTS, "retile(@k, %d, 6)", "not a known form"),
        (MEANS, "retile(@k, %d, 6)", "not a known form"),
        (PREFIX, "retile(@k, %d, 6)", "prefix of one tile"),
        (EACH, "retile(@k, %d, 6)", "accumulated in each iteration"),
        (UNSCALED, "retile(@k, %d, 6)", "used otherwise"),
        (UNMASKED, "retile(@k, %d, 4)", "already"),
        (UNMASKED, "retile(@k, %d, 0)", "a tile of 0"),
        (UNMASKED, "retile(@k, %e, 4)", "no loop %e"),
    ],
)
def test_what_would_change_the_meaning_is_refused(text: str, step: str, says: str) -> None:
    assert says in refusal(module_of(text), step)


def test_a_sum_without_mask_may_have_any_tile_that_divides() -> None:
    module = module_of(UNMASKED)
    tiles = {r.tile for r in Retile.applicable(module) if r.loop == "d"}
    assert tiles == {1, 2, 3, 6, 12}
    for r in Retile.applicable(module):
        assert_same_meaning(module, after(module, r), "k")
