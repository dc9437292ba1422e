"""What windows read again and again stays near: tiles are as small as that asks for."""

from __future__ import annotations

import pytest

from ke_ir.derive import derive
from ke_ir.derive.windows import NEAR
from ke_ir.ir import Kernel, Parallel
from ke_ir.parser import parse


def tiles_of(text: str) -> dict[str, int]:
    """Tile of each parallel index; 1 where there is none."""
    (op,) = parse(text).ops.values()
    kernel = derive(op)[0]
    assert isinstance(kernel, Kernel)
    (parallel,) = (s for s in kernel.body if isinstance(s, Parallel))
    return {v.name: v.tile or 1 for v in parallel.vars}


def pooled(dims: int, size: int, step: int, window: int, apart: int = 1) -> str:
    """Largest values of windows in ``dims`` dimensions."""
    outer, inner = "ijk"[3 - dims :], "pqr"[:dims]
    at = ", ".join(f"{o} * {step} + {w} * {apart}" for o, w in zip(outer, inner, strict=True))
    out = (size - (window - 1) * apart - 1) // step + 1
    ranges = ", ".join(f"{w} in 0 to {window}" for w in inner)
    return (
        f"op @pool(x: f32[512{f', {size}' * dims}]) -> (y: f32[512{f', {out}' * dims}]) {{\n"
        f"  y[b, {', '.join(outer)}] = max[{ranges}](x[b, {at}])\n}}"
    )


def region(tiles: dict[str, int], dims: int, step: int, window: int, apart: int) -> int:
    """Elements that a program reads, counted place by place."""
    n = 1
    for o in "ijk"[3 - dims :]:
        n *= len({a * step + w * apart for a in range(tiles[o]) for w in range(window)})
    return n


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("step", "window", "apart"), [(1, 3, 1), (2, 3, 1), (2, 3, 3), (3, 3, 1)])
def test_a_program_reads_no_more_again_than_stays_near(
    dims: int, step: int, window: int, apart: int
) -> None:
    tiles = tiles_of(pooled(dims, 128, step, window, apart))
    assert tiles["k"] >= 32, "tiles lie along memory"
    # Places between those that a window reads are counted, too, where steps leave some out.
    assert region(tiles, dims, step, window, apart) <= NEAR
    wider = {**tiles, "j": 2 * tiles["j"]}
    assert region(wider, dims, step, window, apart) > NEAR // 2, "and not much less"


def test_what_covers_everything_is_no_window() -> None:
    """An average over all of an image is read once, however large the image is."""
    text = pooled(2, 32, 32, 32)
    assert tiles_of(text)["b"] > 1 or "b" not in tiles_of(text)


def test_small_windows_leave_tiles_as_they_are() -> None:
    tiles = tiles_of(pooled(1, 8192, 1, 3))
    assert tiles["b"] * tiles["k"] >= 1024
