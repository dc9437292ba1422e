"""Reduced sizes keep what a kernel can get wrong."""

from __future__ import annotations

import math

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check
from search.evaluation.sizes import Sizes, edge_sizes, reduce_sizes
from search.evaluation.work import program_work

ROWS = """
kernel @k(%x: f32[B, D]) -> (%y: f32[B, D])
dims B in 1..65536 = 8192, D = {d}
{{
  parallel %b = 0 to B tile 4, %d = 0 to D tile 128 {{
    %v = load %x[%b, %d] : f32[4, 128]
    {more}
    store %v, %y[%b, %d]
  }}
}}
"""
FLAT = """
kernel @k(%x: f32[N, H, W]) -> (%y: f32[N, H, W])
dims N = 64, H = 56, W = 56
{
  parallel %m = 0 to N * H * W tile 128 {
    %v = load %x[%m // (H * W), (%m // W) % H, %m % W] : f32[128]
    store %v, %y[%m // (H * W), (%m // W) % H, %m % W]
  }
}
"""


def module(text: str) -> Module:
    return check(parse(text))


def reduced(text: str, **given: int) -> Sizes:
    made = module(text)
    program = made.programs["k"]
    full = program.sizes(given)
    return reduce_sizes(made, program, full, lambda s: math.prod(s.values()) < 20_000)


def test_divisible_dims_stay_divisible_with_two_trips() -> None:
    assert reduced(ROWS.format(d=4096, more="")) == {"B": 8, "D": 256}


def test_dims_that_a_tile_does_not_divide_stay_so() -> None:
    assert reduced(ROWS.format(d=4099, more=""), B=8190) == {"B": 6, "D": 128 + 3}


def test_sizes_that_are_afforded_are_kept() -> None:
    assert reduced(ROWS.format(d=200, more=""), B=17) == {"B": 17, "D": 200}


def test_a_size_written_into_the_kernel_is_kept() -> None:
    inverse = "%w = mul %v, 0.000244140625"
    assert reduced(ROWS.format(d=4096, more=inverse))["D"] == 4096
    bounded = ROWS.format(d=4096, more="").replace("0 to D tile", "0 to 4096 tile")
    assert reduced(bounded)["D"] == 4096


def test_a_loop_over_a_product_of_dims_keeps_its_trips_and_divisibility() -> None:
    sizes = reduced(FLAT)
    length = sizes["N"] * sizes["H"] * sizes["W"]
    assert length > 128 and length % 128 == 0
    assert sizes["H"] < 56


def test_edge_sizes_are_one_a_prime_and_a_non_multiple() -> None:
    made = module(ROWS.format(d=4096, more=""))
    base = {"B": 8, "D": 256}
    found = [s["B"] for s in edge_sizes(made, made.programs["k"], base)]
    assert found == [1, 5, 3]
    assert all(s["D"] == 256 for s in edge_sizes(made, made.programs["k"], base))


def test_edge_sizes_stay_in_the_declared_range() -> None:
    text = ROWS.format(d=4096, more="").replace("1..65536 = 8192", "2..4 = 4")
    made = module(text)
    found = [s["B"] for s in edge_sizes(made, made.programs["k"], {"B": 4, "D": 256})]
    assert found == [2, 3] or found == [2, 4, 3]


def test_static_dims_have_no_edge_sizes() -> None:
    made = module(FLAT)
    assert list(edge_sizes(made, made.programs["k"], made.programs["k"].sizes())) == []


def test_work_grows_with_the_grid_and_counts_every_statement() -> None:
    made = module(ROWS.format(d=256, more=""))
    program = made.programs["k"]
    one = program_work(made, program, {"B": 4, "D": 128})
    four = program_work(made, program, {"B": 8, "D": 256})
    assert one.steps == 2 and four.steps == 8
    assert four.elements == 4 * one.elements
