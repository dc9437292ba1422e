"""Two passes over a row as one: softmax, logsumexp, layer norm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ke_ir.derive import with_derived
from ke_ir.interpret import interpret_program
from ke_ir.ir import Module, statements
from ke_ir.ops import Binary, Load
from ke_ir.printer import print_module
from ke_ir.rewrites import NoMatch, applicable, apply_text, unique_names
from ke_ir.rewrites.base import replace_kernel
from ke_ir.rewrites.body import facts, splice
from ke_ir.rewrites.online import Online
from ke_ir.rewrites.welford import Welford
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    example,
    module_of,
    only_kernel,
    refusal,
)

LOGSUMEXP = """
op @lse(x: f32[B, D]) -> (y: f32[B])
dims B in 1..64 = 4, D in 1..5000 = 2100
{
  m[b] = max[d](x[b, d])
  y[b] = m[b] + log(sum[d](exp2((x[b, d] - m[b]) * 1.4426950408889634)))
}
"""


def derived(text: str) -> Module:
    return unique_names(with_derived(module_of(text)))


@pytest.mark.parametrize("b", [1, 7])
@pytest.mark.parametrize("d", [1, 1000, 1024, 2600])
def test_softmax_in_two_passes(b: int, d: int) -> None:
    module = example("softmax")
    (step,) = Online.applicable(module)
    assert_same_meaning(module, after(module, step), "softmax", {"B": b, "D": d})


@pytest.mark.parametrize("d", [1, 1023, 2600])
def test_logsumexp_by_exp2(d: int) -> None:
    module = derived(LOGSUMEXP)
    (step,) = Online.applicable(module)
    got = after(module, step)
    assert_same_meaning(module, got, "lse", {"B": 3, "D": d})


def test_elements_of_minus_infinity_are_left_out() -> None:
    """A whole first tile of them must not give NaN: there is no finite maximum yet."""
    module = example("softmax")
    (step,) = Online.applicable(module)
    x = np.random.default_rng(0).standard_normal((2, 2100)).astype(np.float16)
    x[0, :1500] = -np.inf
    x[1, 1024:] = -np.inf
    assert_same_meaning(module, after(module, step), "softmax", {"B": 2, "D": 2100}, {"x": x})


@pytest.mark.parametrize("b", [1, 7])
@pytest.mark.parametrize("d", [1, 1000, 1024, 2600])
def test_layer_norm_in_two_passes(b: int, d: int) -> None:
    module = example("layer_norm")
    (step,) = Welford.applicable(module)
    assert_same_meaning(module, after(module, step), "layer_norm", {"B": b, "D": d})


def test_deviations_stay_accurate_far_from_zero() -> None:
    """As typed, in float32: a sum of squares less a squared sum would lose every digit here."""
    module = derived("""
    op @var(x: f32[B, D]) -> (y: f32[B])
    dims B = 2, D = 3000
    {
      m[b] = sum[d](x[b, d]) / D
      y[b] = sum[d]((x[b, d] - m[b]) * (x[b, d] - m[b])) / D
    }
    """)
    (step,) = Welford.applicable(module)
    got = after(module, step)
    x = (np.random.default_rng(0).standard_normal((2, 3000)) + 1e4).astype(np.float32)
    run = interpret_program(got, got.programs["var"], None, {"x": x}, exact=False)
    want = np.var(x.astype(np.float64), axis=1)
    np.testing.assert_allclose(run["y"], want, rtol=1e-4)


def test_one_pass_reads_the_row_once() -> None:
    module = after(example("softmax"), *Online.applicable(example("softmax")))
    loads = [s for s in statements(only_kernel(module).body) if isinstance(s, Load)]
    assert len(loads) == 2


SUMS = """
kernel @f(%x: f32[B, D]) -> (%y: f32[B])
dims B = 4, D = 10
{{
  parallel %b = 0 to B tile 2 {{
    %low = full -inf : f32[2]
    %m = for %d = 0 to D tile 4 carry (%mi = %low) {{
      %t = max %mi, reduce max load %x[%b, %d else -inf] : f32[2, 4] dim 1
      yield %t
    }}
    %zero = full 0.0 : f32[2]
    %me = expand %m dim 1
    %s = for %e = 0 to D tile {tile} carry (%si = %zero) {{
      %v = load %x[%b, %e else -inf] : f32[2, {tile}]
      {body}
      %u = add %si, reduce sum %p dim 1
      yield %u
    }}
    store %s, %y[%b]
  }}
}}
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("%z = sub %v, %me\n%p = tanh %z", "otherwise than by its exponential"),
        ("%z = sub %me, %v\n%p = exp %z", "otherwise than by its exponential"),
        ("%z = sub %v, %me\n%q = exp %z\n%p = mul %q, %q", "is multiplied by"),
        ("%z = sub %v, %me\n%q = exp %z\n%p = add %q, 1.0", "otherwise than by its exponential"),
        ("%z = sub %v, %me\n%zz = mul %z, -1.0\n%p = exp %zz", "is multiplied by"),
        ("%p = exp %v", "does not depend"),
    ],
)
def test_what_does_not_scale_with_the_maximum_is_refused(body: str, says: str) -> None:
    module = module_of(SUMS.format(tile=4, body=body))
    assert says in refusal(module, "online(@f, %d, %e)")


def test_scaled_sums_of_every_form() -> None:
    body = """%z = sub %v, %me
      %zh = mul %z, 0.5
      %q = exp %zh
      %w = load %x[%b, %e] : f32[2, 4]
      %qw = mul %w, %q
      %c = cmp gt %w, 0.0
      %k = select %c, %qw, 0.0
      %n = neg %k
      %h = div %q, 2.0
      %p = sub %n, %h"""
    module = module_of(SUMS.format(tile=4, body=body))
    # The padding of %e reads as -inf, so that %q is 0 there.
    assert_same_meaning(module, after(module, "online(@f, %d, %e)"), "f")


def test_loops_of_other_tiles_are_refused() -> None:
    module = module_of(SUMS.format(tile=2, body="%z = sub %v, %me\n%p = exp %z"))
    assert "differ in range or tile" in refusal(module, "online(@f, %d, %e)")


def test_a_wrong_rescaling_would_be_seen() -> None:
    """The check itself: without the factor, the meaning differs."""
    module = example("softmax")
    (step,) = Online.applicable(module)
    right = after(module, step)
    k = only_kernel(right)
    f = facts(k)
    name = next(n for n in f.definitions if n.endswith("_fixed"))
    op = f.definitions[name]
    assert isinstance(op, Binary)
    wrong = splice(k, f.places[name], (replace(op, y=1.0),))
    # The maximum grows from tile to tile.
    x = np.linspace(-3, 3, 6000).reshape(2, 3000).astype(np.float16)
    sizes = {"B": 2, "D": 3000}
    assert_same_meaning(module, right, "softmax", sizes, {"x": x})
    with pytest.raises(AssertionError):
        assert_same_meaning(module, replace_kernel(right, wrong), "softmax", sizes, {"x": x})


def test_neither_applies_to_what_has_no_second_pass() -> None:
    names = {r.name for r in applicable(example("rms_norm"))}
    assert not names & {"online", "welford"}
    assert isinstance(apply_text("welford(@softmax, %d, %d_1)", example("softmax")), NoMatch)


@pytest.mark.parametrize("tile", [128, 1000, 2048, 4096])
def test_tiles_of_carried_deviations_can_change(tile: int) -> None:
    module = after(example("layer_norm"), "welford(@layer_norm, %d, %d_1)")
    step = f"retile(@layer_norm, %d, {tile})"
    assert tile == 1000 or step in map(str, applicable(module))
    got = after(module, step)
    for d in (1, 130, 1000, 1024, 2500):
        assert_same_meaning(module, got, "layer_norm", {"B": 3, "D": d})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%next = add %last, 1\n", "%next = add %last, 2\n"),
        ("%full_3 = full D : i32", "%full_3 = full 4095 : i32"),
        ("%square = mul %apart, %apart", "%square = mul %apart, %tile_mean"),
        ("cmp lt %at, %full_3", "cmp le %at, %full_3"),
        ("%within = add %reduce_3, %between", "%within = add %reduce_3, %weight"),
    ],
)
def test_what_only_looks_like_carried_deviations_keeps_its_tile(old: str, new: str) -> None:
    module = after(example("layer_norm"), "welford(@layer_norm, %d, %d_1)")
    text = print_module(module)
    assert old in text
    changed = module_of(text.replace(old, new))
    assert isinstance(apply_text("retile(@layer_norm, %d, 512)", changed), NoMatch)
