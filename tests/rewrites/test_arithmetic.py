"""Precision, algebra and cheaper arithmetic."""

from __future__ import annotations

import pytest

from ke_ir.ir import Module
from ke_ir.rewrites.precision import NarrowDot, SetAccumulator, SetPrecision
from ke_ir.rewrites.strength import Strength
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    example,
    module_of,
    only_kernel,
    refusal,
)

SIZES = {"B": 1, "H": 1, "N": 64}


def one(body: str, kind: str = "f32") -> Module:
    """A kernel over a tile of 8 elements of %x, called %v; the result is %r."""
    return module_of(f"""
    kernel @k(%x: {kind}[N], %z: {kind}[N]) -> (%y: {kind}[N])
    dims N = 8
    {{
      parallel %n = 0 to N tile 8 {{
        %v = load %x[%n] : {kind}[8]
        %w = load %z[%n] : {kind}[8]
        {body}
        store %r, %y[%n]
      }}
    }}
    """)


def test_products_of_f32_tiles_take_any_precision() -> None:
    module = example("attention")
    found = [r for r in SetPrecision.applicable(module) if r.kernel == "attention_o"]
    assert {r.to for r in found} == {"tf32", "tf32x3", "bf16x3", "bf16x6"}
    for r in found:
        got = after(module, r)
        assert_same_meaning(module, got, "attention", SIZES)
        assert "already" in refusal(got, str(r))
    assert "not f32" in refusal(module, "set_precision(@attention_s, %dot_1, tf32)")


def test_ties_to_even_are_not_offered_but_taken() -> None:
    module = example("attention")
    got = after(module, "set_precision(@attention_o, %dot_1, tf32_even)")
    assert_same_meaning(module, got, "attention", SIZES)
    offered = {r.to for r in SetPrecision.applicable(got) if r.kernel == "attention_o"}
    assert offered == {"ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"}


def test_the_product_with_values_narrows_to_their_dtype() -> None:
    module = example("attention")
    assert {r.to for r in NarrowDot.applicable(module)} == {"f16", "bf16"}
    got = after(module, "narrow_dot(@attention_o, %dot_1, f16)")
    assert_same_meaning(module, got, "attention", SIZES)
    assert "not f32" in refusal(got, "narrow_dot(@attention_o, %dot_1, f16)")


def test_only_what_one_operation_carries_changes_its_dtype() -> None:
    module = example("layer_norm")
    assert {r.carry for r in SetAccumulator.applicable(module)} == {"acc", "acc_1"}
    got = after(module, "set_accumulator(@layer_norm, %acc, f64)")
    assert_same_meaning(module, got, "layer_norm", {"B": 3, "D": 64})
    says = refusal(example("matmul_gelu"), "set_accumulator(@matmul_gelu, %acc, f16)")
    assert "not one operation" in says


@pytest.mark.parametrize(
    "body",
    [
        "%r = exp %v",
        "%a = abs %v\n%b = add %a, 0.5\n%r = log %b",
        "%r = div %v, 0.3",
        "%r = pow %v, 2.0",
        "%r = pow %v, 3.0",
        "%r = pow %v, 4.0",
        "%a = abs %w\n%b = add %a, 0.5\n%s = sqrt %b\n%r = div %v, %s",
        "%a = abs %w\n%b = add %a, 0.5\n%s = sqrt %b\n%r = div 1.0, %s",
        "%s = reduce sum %w dim 0\n%r = div %v, %s",
    ],
)
def test_cheaper_forms_are_equal(body: str) -> None:
    module = one(body)
    got = after(module, "strength(@k, %r)")
    assert_same_meaning(module, got, "k")
    assert "strength(@k, %r)" not in map(str, Strength.applicable(got))


@pytest.mark.parametrize(
    "body", ["%r = div %v, %w", "%r = div %v, 0.0", "%r = pow %v, 0.5", "%r = div 2.0, %v"]
)
def test_what_has_no_cheaper_form(body: str) -> None:
    assert "no cheaper form" in refusal(one(body), "strength(@k, %r)")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("%r = mul %v, 1.0", "f32"),
        ("%r = sub %v, 0.0", "f32"),
        ("%a = full 0.0 : f32[8]\n%r = add %a, %v", "f32"),
        ("%a = neg %v\n%r = neg %a", "f32"),
        ("%a = full true : i1[8]\n%r = select %a, %v, %w", "f32"),
        ("%a = cast %v : f32\n%r = cast %a : f16", "f16"),
        ("%a = full -inf : f32[8]\n%r = max %a, %v", "f32"),
        ("%r = broadcast %v : f32[8]", "f32"),
        ("%r = min %v, %v", "f32"),
    ],
)
def test_what_changes_nothing_goes(body: str, kind: str) -> None:
    module = one(body, kind)
    got = after(module, "simplify(@k)")
    assert_same_meaning(module, got, "k")
    (parallel,) = only_kernel(got).body
    assert len(parallel.body) == 2, "load and store"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("%a = cast %v : f16\n%r = cast %a : f32", "f32"),  # rounds
        ("%a = cast %v : i8\n%r = cast %a : i32", "i32"),  # wraps
        ("%r = sub 0.0, %v", "f32"),
        ("%r = div 1.0, %v", "f32"),
        ("%a = full 1.0 : f32[2, 8]\n%b = expand %v dim 0\n%c = mul %a, %b\n"
         "%r = reduce sum %c dim 0", "f32"),  # stretches
    ],
)  # fmt: skip
def test_what_changes_something_stays(body: str, kind: str) -> None:
    module = one(body, kind)
    after(module, "dce(@k)")  # %w is not used
    assert "changes nothing" in refusal(module, "simplify(@k)")
