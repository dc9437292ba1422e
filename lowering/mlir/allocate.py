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
        super().__init__(
            f"@{kernel} needs {needed:,} bytes of local memory; a PE has {capacity:,}"
        )
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
    apart = _plan(ranges, share=False)
    if apart.total <= capacity:
        return apart
    shared = _plan(ranges, share=True)
    if shared.total > capacity:
        tiles = sorted(ranges, key=lambda t: -t.bytes * t.copies)[:3]
        largest = ", ".join(f"%{t.name} {t.type}" + f" x{t.copies}" * (t.copies > 1) for t in tiles)
        raise DoesNotFit(kernel, shared.total, capacity, largest)
    return shared


def _plan(ranges: Mapping[Tile, tuple[int, int]], share: bool) -> Plan:
    sizes: list[int] = []
    copies: list[int] = []
    busy_until: list[int] = []
    of: dict[Tile, int] = {}
    for tile, (first, last) in sorted(ranges.items(), key=lambda item: item[1][0]):
        need = max(ALIGN, -(-tile.bytes // ALIGN) * ALIGN)
        free = [
            i for i in range(len(sizes))
            if share and busy_until[i] < first and copies[i] == 1 == tile.copies
        ]  # fmt: skip
        if free:
            # The closest fit; growing a small buffer costs only the difference.
            best = min(free, key=lambda i: (abs(sizes[i] - need), i))
            sizes[best] = max(sizes[best], need)
            busy_until[best] = last
            of[tile] = best
            continue
        of[tile] = len(sizes)
        sizes.append(need)
        copies.append(tile.copies)
        busy_until.append(last)
    buffers, offset = [], 0
    for size, n in zip(sizes, copies, strict=True):
        buffers.append(Buffer(offset, size, n))
        offset += size * n
    return Plan(tuple(buffers), of)
