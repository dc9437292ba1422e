"""Local memory of a PE: which tiles share a buffer, and where each buffer lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowering.mlir.tree import Block, Tile, live_ranges

ALIGN = 64
"""Bytes; the width of the vector core."""


class DoesNotFit(Exception):
    """A kernel's tiles need more local memory than a PE has."""

    def __init__(self, kernel: str, needed: int, capacity: int, largest: str) -> None:
        super().__init__(f"@{kernel} needs {needed:,} bytes of local memory; a PE has {capacity:,}")
        self.kernel, self.needed, self.capacity, self.largest = kernel, needed, capacity, largest


@dataclass(frozen=True)
class Buffer:
    """``copies`` of ``bytes`` at ``offset``."""

    offset: int
    bytes: int
    copies: int


@dataclass(frozen=True)
class Plan:
    """Buffers, and the number of the buffer of each base tile."""

    buffers: tuple[Buffer, ...]
    of: Mapping[Tile, int]

    @property
    def total(self) -> int:
        return sum(b.bytes * b.copies for b in self.buffers)


def plan(kernel: str, body: Block, capacity: int) -> Plan:
    """Give every tile a buffer. Raises DoesNotFit.

    Sharing a buffer makes commands wait for each other, so it is done only when it must be.
    """
    ranges = live_ranges(body)
    apart = _plan(ranges, None)
    if apart.total <= capacity:
        return apart
    shared = shared_plan(body)
    if shared.total > capacity:
        tiles = sorted(ranges, key=lambda t: -t.bytes * t.copies)[:3]
        largest = ", ".join(f"%{t.name} {t.type}" + f" x{t.copies}" * (t.copies > 1) for t in tiles)
        raise DoesNotFit(kernel, shared.total, capacity, largest)
    return shared


def shared_plan(body: Block) -> Plan:
    """Tiles that are never needed at the same time share buffers."""
    return _plan(live_ranges(body), _overwritten(body))


def _overwritten(body: Block) -> dict[Tile, set[Tile]]:
    """For each base tile, those whose memory it may take at the very command that defines it."""
    out: dict[Tile, set[Tile]] = {}
    for line in body.lines():
        if line.dst is None:
            continue
        operands = {t.base for t in line.may_overwrite()}
        known = out.get(line.dst.base)
        out[line.dst.base] = operands if known is None else known & operands
    return out


def _plan(
    ranges: Mapping[Tile, tuple[int, int]], overwrites: Mapping[Tile, set[Tile]] | None
) -> Plan:
    """One buffer for each tile, or shared ones where ``overwrites`` is given."""
    sizes: list[int] = []
    holds: list[Tile] = []
    of: dict[Tile, int] = {}

    def free(i: int, tile: Tile) -> bool:
        held = holds[i]
        if overwrites is None or held.copies != tile.copies:
            return False
        last, first = ranges[held][1], ranges[tile][0]
        return last < first or (last == first and held in overwrites.get(tile, ()))

    for tile, _ in sorted(ranges.items(), key=lambda item: item[1][0]):
        need = max(ALIGN, -(-tile.bytes // ALIGN) * ALIGN)
        # The closest fit; growing a small buffer costs only the difference.
        fits = [(abs(sizes[i] - need), i) for i in range(len(sizes)) if free(i, tile)]
        if fits:
            best = min(fits)[1]
            sizes[best] = max(sizes[best], need)
            holds[best] = tile
        else:
            best = len(sizes)
            sizes.append(need)
            holds.append(tile)
        of[tile] = best
    buffers, offset = [], 0
    for size, held in zip(sizes, holds, strict=True):
        buffers.append(Buffer(offset, size, held.copies))
        offset += size * held.copies
    return Plan(tuple(buffers), of)
