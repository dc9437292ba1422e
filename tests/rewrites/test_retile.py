"""When the tile size of a loop may change, and that the meaning then stays."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.ir import Module
from ke_ir.rewrites import unique_names
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.retile import Retile
from ke_ir.verify import verify
from tests.ir.derive_check import agree
from tests.ir.op_strategies import Sample, contractions, ops
from tests.rewrites.support import (
    EXAMPLES,
    after,
    assert_same_meaning,
    example,
    module_of,
    refusal,
    small,
)
from tests.rewrites.test_fuse import sized

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


EACH = {
    "scalars beside tiles": """
      %v = load %x[%b, 3] : f32
      %n = iota %b : i32
      %f = cast %n : f32
      %c = cmp lt %f, %v
      %u = load %g[%d] : f32[12]
      %q = select %c, %u, %v
      %r = reduce sum %q dim 0
      store %r, %y[%b]""",
    "a column": """
      %u = load %w[%d, %b] : f32[12]
      %v = scan sum %u dim 0
      store %v, %z[%d, %b]
      %one = full 1.0 : f32
      store %one, %y[%b]""",
    "what is the same for all": """
      %u = load %g[%d] : f32[12]
      store %u, %z[%d, %b]
      store 2.0, %y[%b]""",
    "one number for a row": """
      %v = load %x[%b, 3] : f32
      store %v, %z[%d, %b]
      store %v, %y[%b]""",
    "a gather": """
      %n = load %i[%b] : i32
      %u = load %t[%n + 1, %d else 0.5] : f32[12]
      %v = load %t[%b, %n] : f32
      %q = mul %u, %v
      %r = reduce max %q dim 0
      store %r, %y[%b]""",
    "a gather of many": """
      %n = load %j[%b, %d] : i32[12]
      %u = load %x[%b, %n] : f32[12]
      store %u, %z[%d, %b]
      %m = load %i[%b] : i32
      %v = load %g[%m] : f32
      store %v, %y[%b]""",
    "shapes": """
      %u = load %x[%b, %d] : f32[12]
      %q = reshape %u : f32[3, 4]
      %h = permute %q [1, 0]
      %e = reduce sum %h dim 0
      %a = expand %e dim 1
      %l = broadcast %a : f32[3, 4]
      %m = add %q, %l
      %h2 = permute %m [1, 0]
      %r = reduce argmax %h2 dim 0
      %k2 = cast %r : f32
      %o = reduce sum %k2 dim 0
      store %o, %y[%b]""",
    "loops": """
      %zero = full 0.0 : f32
      %n = load %i[0] : i32
      %f = cast %n : f32
      %s1, %s2 = for %e = 0 to D tile 4 carry (%a1 = %zero, %a2 = %f) {
        %v = load %x[%b, %e] : f32[4]
        %r = reduce sum %v dim 0
        %t1 = add %a1, %r
        %t2 = mul %a2, 2.0
        yield %t1, %t2
      }
      %r2 = for %c = 0 to 3 carry (%a3 = %s2) {
        %v2 = load %x[%b, %c] : f32
        %t3 = max %v2, %s2
        yield %t3
      }
      %q = add %s1, %r2
      accumulate add %q, %y[%b]""",
}


def untiled(body: str) -> str:
    outs = {"y": "f32[B]", "z": "f32[D, B]"}
    written = ", ".join(f"%{n}: {t}" for n, t in outs.items() if f"%{n}[" in body)
    return f"""
    kernel @k(%x: f32[B, D], %w: f32[D, B], %g: f32[D], %i: i32[B], %j: i32[B, D], %t: f32[D, D])
      -> ({written})
    dims B = 5, D = 12
    {{
      parallel %b = 0 to B, %d = 0 to D tile 12 {{{body}
      }}
    }}
    """


@pytest.mark.parametrize("body", EACH.values(), ids=EACH)
@pytest.mark.parametrize("tile", [1, 2, 8])
def test_an_untiled_parallel_variable_becomes_a_tile(body: str, tile: int) -> None:
    module = module_of(untiled(body))
    step = f"retile(@k, %b, {tile})"
    assert tile == 1 or step in map(str, Retile.applicable(module))
    assert_same_meaning(module, after(module, step), "k")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("""
         %u = load %x[%b, %d] : f32[12]
         %a = expand %u dim 0
         %c = expand %u dim 1
         %p = dot %a, %c
         store reduce sum reduce sum %p dim 0 dim 0, %y[%b]""", "`dot` would be one of several %b"),
        ("""
         %z = full 0.0 : f32
         %r = for %e = 0 to %b + 1 carry (%acc = %z) {
           yield add %acc, load %g[%e] : f32
         }
         store %r, %y[%b]""", "range of %e depends on %b"),
        ("""
         %n = load %i[%b] : i32
         accumulate add load %g[%b] : f32, %y[%n]""", "where %y is written depends on %b"),
        ("accumulate add load %g[%b] : f32, %y[0]", "written for each %b, at one place"),
    ],
)  # fmt: skip
def test_a_variable_that_stays_untiled(body: str, says: str) -> None:
    module = module_of(untiled(body))
    assert says in refusal(module, "retile(@k, %b, 4)")
    assert "%b" not in {f"%{r.loop}" for r in Retile.applicable(module)}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(sample=ops() | contractions(), data=st.data())
def test_random_rows_of_programs(sample: Sample, data: st.DataObject) -> None:
    op = sized(sample)
    assume(not verify(op))
    module = unique_names(with_derived(op))
    assume(not verify(module))  # a loop that is empty at these sizes
    rows = [
        Retile(k.name, v.name, data.draw(st.integers(1, 9)))
        for k in module.kernels.values() for v in facts(k).parallel.vars if v.tile is None
    ]  # fmt: skip
    for step in rows:
        got = step.apply(module)
        if isinstance(got, Module):
            module = after(module, step)
    agree(module, sample.sizes, limits=sample.limits)
