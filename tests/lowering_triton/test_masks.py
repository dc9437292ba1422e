"""A mask stands where it is needed, and nowhere else."""

from __future__ import annotations

import pytest

from ke_ir.expr import Bin, Dim, Num, Var
from lowering.triton.bounds import Bounds, Interval, Poly
from tests.lowering_triton.conftest import function, kernel, lowered, read


def copy(dims: str, tile: int, coordinate: str = "%i", extent: str = "N", size: str = "N") -> str:
    module = kernel(
        f"(%x: f32[{size}]) -> (%y: f32[{extent}])", dims,
        f"parallel %i = 0 to {extent} tile {tile} {{\n"
        f"  %v = load %x[{coordinate}] : f32[{tile}]\n  store %v, %y[%i]\n}}",
    )  # fmt: skip
    return function(lowered(module))


def test_a_static_multiple_of_the_tile_needs_none() -> None:
    assert "mask" not in copy("N = 1024", 64)


def test_a_remainder_needs_one() -> None:
    text = copy("N = 1000", 64)
    assert "mask_i = offs_i < N" in text
    assert text.count("mask=mask_i") == 2


def test_a_run_time_size_needs_one() -> None:
    assert copy("N in 1..4096 = 1024", 64).count("mask=mask_i") == 2


def test_a_run_time_size_times_the_tile_needs_none() -> None:
    assert "mask" not in copy("N in 1..64 = 8", 64, extent="N * 128", size="N * 128")


def test_a_padded_tile_keeps_to_its_lanes() -> None:
    text = copy("N = 96", 48)
    assert "tl.arange(0, LANES_I)" in text
    assert "mask_i = offs_i < end_i" in text
    assert "end_i = i_start + BLOCK_I" in text


def test_a_shift_is_checked_on_the_side_where_it_leaves() -> None:
    text = copy("N = 1024", 64, "%i - 1")
    assert "mask=x_n >= 0" in text
    assert "x_n < N" not in text


def test_a_shorter_tensor_is_checked_once() -> None:
    text = copy("N = 1000, M = 500", 64, size="M")
    assert "mask=offs_i < M" in text


def test_implicit_gemm_coordinates_are_known_to_stay_inside() -> None:
    """``m // (H * W)`` is below N whatever N is, and ``m % W`` below W."""
    module = kernel(
        "(%x: f32[N, H, W]) -> (%y: f32[N, H, W])", "N in 1..100 = 3, H = 8, W = 16",
        "parallel %m = 0 to N * H * W tile 64 {\n"
        "  %v = load %x[%m // (H * W), (%m // W) % H, %m % W] : f32[64]\n"
        "  store %v, %y[%m // (H * W), (%m // W) % H, %m % W]\n}",
    )  # fmt: skip
    text = function(lowered(module))
    assert "mask" not in text
    assert "floor_divide" not in text


def test_causal_attention_has_no_mask_on_loads() -> None:
    assert "mask" not in function(lowered(read("attention")), "attention_kernel")


def test_gathered_rows_are_checked_but_not_their_columns() -> None:
    text = function(lowered(read("embedding_sum")), "embedding_sum_kernel")
    assert "(ids_1[:, None] >= 0) & (ids_1[:, None] < V)" in text
    assert "offs_d[None, :] <" not in text


def test_large_tensors_are_addressed_with_64_bits() -> None:
    small, large = copy("N in 1..1000000 = 8", 64), copy("N in 1..3000000000 = 8", 64)
    assert "int64" not in small
    assert "tl.cast(offs_i, tl.int64)" in large


BOUNDS = Bounds({"C": 12}, {"N": (1, 100)}, {})
N, C, X = Dim("N"), Dim("C"), Var("x")
ENV = {"x": Interval(Poly.const(0), Poly.symbol("N") * Poly.const(12) + Poly.const(-1))}


def test_division_of_a_symbolic_bound_is_exact() -> None:
    got = BOUNDS.interval(Bin("//", X, C), ENV)
    assert got == Interval(Poly.const(0), Poly.symbol("N").plus(-1))


def test_division_by_a_run_time_dim() -> None:
    got = BOUNDS.interval(Bin("//", X, N), ENV)
    assert got == Interval(Poly.const(0), Poly.const(11))


def test_a_product_with_a_negative_number_swaps_the_ends() -> None:
    got = BOUNDS.interval(Bin("*", X, Num(-2)), ENV)
    assert got.hi == Poly.const(0)


def test_nothing_is_assumed_of_unknown_values() -> None:
    got = BOUNDS.interval(Bin("+", Var("loaded"), C), ENV)
    assert got == Interval(None, None)


@pytest.mark.parametrize(
    ("a", "b", "proved"),
    [(Num(1), N, True), (N, Num(100), True), (N, Num(99), False), (Bin("*", N, C), C, False)],
)
def test_comparison_over_all_sizes(a: Num, b: Dim, proved: bool) -> None:
    assert BOUNDS.at_most(BOUNDS.exact(a), BOUNDS.exact(b)) is proved


def test_divisibility() -> None:
    assert BOUNDS.multiple(Bin("*", N, C), {}) == 12
    assert BOUNDS.multiple(Bin("-", Bin("*", N, C), Num(4)), {}) == 4
    assert BOUNDS.multiple(Bin("//", Bin("*", N, C), Num(4)), {}) == 3
