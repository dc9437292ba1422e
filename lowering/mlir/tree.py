"""What a kernel's lowering builds: lines of MLIR in nested blocks, and the tiles that they use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ke_ir.types import DType, TileType
from lowering.mlir.dialect import LOCAL_SPACE

_ELEMENT = {DType.F8E4M3: "f8E4M3FN", DType.F8E5M2: "f8E5M2", DType.U8: "ui8"}


def element(dtype: DType) -> str:
    """MLIR's spelling of an element type."""
    return _ELEMENT.get(dtype, dtype.value)


def memref(dtype: DType, shape: Sequence[int | str], local: bool) -> str:
    """A memref type; sizes may be ``?``."""
    sizes = "".join(f"{s}x" for s in shape)
    return f"memref<{sizes}{element(dtype)}{f', {LOCAL_SPACE}' if local else ''}>"


def number(value: int | float | bool, dtype: DType) -> str:
    """An attribute that the runtime reads as a value of ``dtype``."""
    if not dtype.is_float:
        return f"{int(value)} : i64"
    value = float(value)
    if math.isnan(value):
        return "0x7FF8000000000000 : f64"
    if math.isinf(value):
        return f"0x{'7' if value > 0 else 'F'}FF0000000000000 : f64"
    text = repr(value)
    if "e" in text and "." not in text:  # MLIR wants a point in every float literal
        text = text.replace("e", ".0e")
    return f"{text} : f64"


@dataclass(eq=False)
class Tile:
    """A tile of local memory. ``root`` is the tile whose bytes it is, when only the shape differs.

    ``copies`` buffers are used in turn. ``home`` is the block in which it is defined.
    """

    name: str
    type: TileType
    home: Block
    copies: int = 1
    root: Tile | None = None
    control: bool = False

    @property
    def base(self) -> Tile:
        return self if self.root is None else self.root.base

    @property
    def bytes(self) -> int:
        return self.type.elements * self.type.dtype.bytes

    @property
    def mlir(self) -> str:
        return memref(self.type.dtype, self.type.shape, local=True)


@dataclass
class Line:
    """One operation. ``dst`` is the tile that it writes, ``srcs`` those it reads.

    ``tensor`` names what it moves to or from; ``scalar``: the scalar core takes the value.
    ``pointwise``: element i of the result needs only element i of operands of its shape.
    """

    text: str
    dst: Tile | None = None
    srcs: tuple[Tile, ...] = ()
    tensor: str = ""
    scalar: bool = False
    pointwise: bool = False

    def may_overwrite(self) -> Iterator[Tile]:
        """Operands whose memory the result may take, if nothing needs them afterwards."""
        for t in self.srcs if self.pointwise and self.dst is not None else ():
            a, b = t.type, self.dst.type  # type: ignore[union-attr]
            if a.shape == b.shape and a.dtype.bytes == b.dtype.bytes:
                yield t


@dataclass(eq=False)
class Block:
    """Lines in order; ``depth`` is how many blocks are around it. A loop's body has a header."""

    depth: int
    header: str = ""
    items: list[Line | Block] = field(default_factory=list)

    def lines(self) -> Iterator[Line]:
        for item in self.items:
            if isinstance(item, Line):
                yield item
            else:
                yield from item.lines()

    def text(self, indent: int = 1) -> Iterator[str]:
        """The block's lines, indented."""
        pad = "  " * indent
        for item in self.items:
            if isinstance(item, Line):
                yield pad + item.text
            else:
                yield pad + item.header + " {"
                yield from item.text(indent + 1)
                yield pad + "}"


def live_ranges(body: Block) -> dict[Tile, tuple[int, int]]:
    """First and last position at which each base tile must hold its value.

    A tile defined outside a loop and used in it lives to the loop's end, because the next
    iteration may use it again; so does one written in a loop before its home block ends.
    """
    ranges: dict[Tile, tuple[int, int]] = {}
    position = 0

    def touch(tile: Tile, at: int) -> None:
        first, last = ranges.get(tile.base, (at, at))
        ranges[tile.base] = (min(first, at), max(last, at))

    def go(block: Block) -> None:
        nonlocal position
        for item in block.items:
            position += 1
            if isinstance(item, Line):
                for t in (*item.srcs, *((item.dst,) if item.dst else ())):
                    touch(t, position)
                continue
            start = position
            go(item)
            position += 1
            for t in {x.base for x in used(item)}:
                if t.home.depth <= block.depth:
                    touch(t, start)
                    touch(t, position)

    go(body)
    return ranges


def used(block: Block) -> Iterator[Tile]:
    for line in block.lines():
        yield from line.srcs
        if line.dst is not None:
            yield line.dst
