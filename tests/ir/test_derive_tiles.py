"""Tiles of reductions: where memory lies along what is kept, and where along what is reduced."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.interpret import interpret_program
from ke_ir.ir import For, Kernel, Parallel, statements
from ke_ir.parser import parse
from tests.ir.derive_check import Module, agree, derived, kernels

ACROSS = """op @f(x: f32[{0}, {1}, {2}]) -> (y: f32[{0}, {2}]) {{
  y[i, k] = {kind}[j](x[i, j, k])
}}"""
PIXELS = """op @f(x: f32[{0}, {1}, {2}, {3}]) -> (y: f32[{0}, {3}]) {{
  y[n, c] = sum[h, w](x[n, h, w, c])
}}"""


def module(text: str, *sizes: int, kind: str = "sum") -> Module:
    return derived(parse(text.format(*sizes, kind=kind)).ops["f"])


def only_kernel(m: Module) -> tuple[Parallel, list[For]]:
    (k,) = kernels(m)
    (top,) = k.body
    assert isinstance(k, Kernel) and isinstance(top, Parallel)
    return top, [s for s in statements(k.body) if isinstance(s, For)]


def tiles(m: Module) -> tuple[list[int | None], list[int | None]]:
    """Tiles of the parallel variables, and of the loops from the outermost."""
    top, loops = only_kernel(m)
    return [v.tile for v in top.vars], [s.var.tile for s in loops]


@pytest.mark.parametrize("kind", ["sum", "max", "prod", "argmax"])
def test_many_terms_at_once_where_memory_lies_along_what_is_kept(kind: str) -> None:
    """One row of the kept, contiguous axis, and as many terms as a tile has room for."""
    assert tiles(module(ACROSS, 128, 4096, 4095, kind=kind)) == ([None, 128], [32])
    agree(module(ACROSS, 3, 70, 150, kind=kind))


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ((512, 4096, 16), ([None, 16], [256])),  # a short row: more terms
        ((8192, 20, 128), ([None, 128], [32])),
        ((8192, 20, 32), ([4, 32], [32])),  # room that terms leave goes to rows
        ((8192, 3, 64), ([32, 64], [None])),  # a window of few terms, one by one, over rows
    ],
)
def test_rows_take_the_room_that_terms_leave(
    sizes: tuple[int, int, int], want: tuple[list[int | None], list[int | None]]
) -> None:
    assert tiles(module(ACROSS, *sizes)) == want


def test_terms_of_several_indices() -> None:
    top, loops = tiles(module(PIXELS, 256, 56, 56, 256))
    assert top == [None, 128] and loops == [None, 32]
    agree(module(PIXELS, 2, 18, 19, 40))


def test_tiles_along_what_is_reduced_hold_rows() -> None:
    """Memory lies along the terms themselves: they fill the tile, then rows do."""
    text = "op @f(x: f32[8192, {0}]) -> (y: f32[8192]) {{\n  y[i] = sum[j](x[i, j])\n}}"
    assert tiles(module(text, 4096)) == ([4], [1024])


def test_additions_in_sequence_are_few() -> None:
    """In the dtypes that a kernel computes in: one after the other, they are 1.7e-6 off here."""
    m = module(ACROSS, 2, 4096, 130)
    x = np.random.default_rng(0).random((2, 4096, 130)).astype(np.float32)
    got = interpret_program(m, m.programs["f"], {}, {"x": x}, exact=False)["y"]
    want = x.astype(np.float64).sum(1)
    assert np.abs(got / want - 1).max() < 6e-7


def test_tiles_lie_along_the_index_beside_which_memory_goes_on() -> None:
    """Not along the longest: the chunks are more than the elements of one, and 64 apart."""
    text = """op @f(x: f32[8, {1}]) -> (y: i64[8, {0}, 64]) {{
      y[b, g in 0 to {0}, k in 0 to 64] = sum[l in 0 to 64](
        select(x[b, 64 * g + l] < x[b, k + g * 64], 1, 0))
    }}"""
    (_, chunks, inside), loops = tiles(module(text, 782, 782 * 64))
    assert inside == 64 and (chunks or 1) < 16 and loops == [32]
    agree(module(text, 3, 192))
    windows = """op @f(x: f32[8, {0}]) -> (y: f32[8, {1}]) {{
      y[b, i] = max[p in 0 to 3](x[b, 2 * i + p])
    }}"""
    (_, columns), _ = tiles(module(windows, 2049, 1024))
    assert columns is not None and columns >= 128  # few terms fill no tile
