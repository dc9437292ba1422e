"""Emission of lines into blocks: names, constants, integer expressions and tiles."""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Var
from ke_ir.types import DType, TileType
from lowering.mlir.tree import Block, Line, Tile, number

_ARITH = {"+": "addi", "-": "subi", "*": "muli", "//": "floordivsi"}
_POINTWISE = frozenset({"unary", "binary", "cmp", "select", "cast"})
_CALLS = {"min": "minsi", "max": "maxsi"}


class Body:
    """The growing body of one kernel function. Values of type ``index`` are SSA names."""

    def __init__(self) -> None:
        self.top = Block(0)
        self.block = self.top
        self.tiles: list[Tile] = []
        self.prologue: list[str] = []
        self._names: set[str] = set()
        self._constants: dict[int, str] = {}
        self._indices: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        self._fills: dict[tuple[DType, str], Tile] = {}

    # ---- names and lines ----------------------------------------------------------------------

    def fresh(self, wish: str) -> str:
        """An unused name close to ``wish``."""
        if wish[0].isdigit():  # MLIR's numbered names take no suffix
            wish = f"v{wish}"
        name, n = wish, 0
        while name in self._names:
            n += 1
            name = f"{wish}_{n}"
        self._names.add(name)
        return name

    def line(
        self, text: str, dst: Tile | None = None, srcs: Sequence[Tile] = (),
        block: Block | None = None, tensor: str = "", scalar: bool = False,
        pointwise: bool = False,
    ) -> None:  # fmt: skip
        line = Line(text, dst, tuple(srcs), tensor, scalar, pointwise)
        (block or self.block).items.append(line)

    def op(
        self, name: str, tiles: Sequence[Tile], indices: Sequence[str] = (), attrs: str = "",
        block: Block | None = None,
    ) -> None:  # fmt: skip
        """A command that writes its first tile and reads the others."""
        operands = ", ".join([f"%{t.name}" for t in tiles] + list(indices))
        types = ", ".join([t.mlir for t in tiles] + ["index"] * len(indices))
        attrs = f" {{{attrs}}}" if attrs else ""
        text = f'"kea.{name}"({operands}){attrs} : ({types}) -> ()'
        self.line(text, tiles[0], tiles[1:], block, pointwise=name in _POINTWISE)

    def open(self, header: str) -> Block:
        """Start a nested block; lines go there until ``close``. Gives the block around it."""
        outer = self.block
        self.block = Block(outer.depth + 1, header)
        return outer

    def close(self, outer: Block) -> None:
        """End a block. Only now does it join ``outer``: what was hoisted meanwhile comes first."""
        outer.items.append(self.block)
        self.block = outer

    # ---- tiles --------------------------------------------------------------------------------

    def tile(self, wish: str, type: TileType, block: Block | None = None, copies: int = 1) -> Tile:
        t = Tile(self.fresh(wish), type, block or self.block, copies)
        self.tiles.append(t)
        return t

    def alias(self, source: Tile, shape: tuple[int, ...], wish: str = "") -> Tile:
        """The same bytes under another shape."""
        if shape == source.type.shape:
            return source
        name = self.fresh(wish or source.name)
        t = Tile(name, source.type.with_shape(shape), source.home, root=source)
        self.tiles.append(t)
        return t

    def constant_tile(self, value: int | float | bool, dtype: DType, block: Block) -> Tile:
        """A scalar tile holding a literal, filled once in ``block`` (the instance's start)."""
        key = (dtype, repr(value))
        if key not in self._fills:
            t = self._fills[key] = self.tile("lit", TileType(dtype), block)
            self.op("fill", [t], attrs=f"value = {number(value, dtype)}", block=block)
        return self._fills[key]

    # ---- integers of the scalar core ----------------------------------------------------------

    def constant(self, value: int) -> str:
        """An index constant, defined once at the function's start."""
        if value not in self._constants:
            name = self.fresh(f"c{value}" if value >= 0 else f"cm{-value}")
            self._constants[value] = f"%{name}"
            self.prologue.append(f"%{name} = arith.constant {value} : index")
        return self._constants[value]

    def define(self, name: str, ssa: str, end: str = "") -> None:
        """Bind a dim, loop variable or scalar value; ``end`` is where an index tile's loop ends."""
        self._indices[name] = ssa
        self._ends[name] = end

    def known(self, name: str) -> bool:
        return name in self._indices

    def ssa(self, name: str) -> str:
        return self._indices[name]

    def end(self, name: str) -> str:
        return self._ends[name]

    def arith(self, op: str, a: str, b: str, block: Block | None = None) -> str:
        name = self.fresh("i")
        self.line(f"%{name} = arith.{op} {a}, {b} : index", block=block)
        return f"%{name}"

    def integer(self, e: Expr, tiles: Sequence[tuple[str, int]] = ()) -> str:
        """An integer expression as an index. ``tiles``: sizes of the index tiles, for ``end``."""
        match e:
            case Num(int() as value):
                return self.constant(value)
            case Dim(name) | Var(name):
                return self._indices[name]
            case Neg(arg):
                return self.arith("subi", self.constant(0), self.integer(arg, tiles))
            case Bin("%", lhs, rhs):
                a, b = self.integer(lhs, tiles), self.integer(rhs, tiles)
                whole = self.arith("muli", self.arith("floordivsi", a, b), b)
                return self.arith("subi", a, whole)
            case Bin(op, lhs, rhs):
                return self.arith(_ARITH[op], self.integer(lhs, tiles), self.integer(rhs, tiles))
            case Call("begin", (Var(name),)):
                return self._indices[name]
            case Call("end", (Var(name),)):
                size = dict(tiles)[name]
                past = self.arith("addi", self._indices[name], self.constant(size))
                return self.arith("minsi", past, self._ends[name])
            case Call(fn, (x, y)):
                return self.arith(_CALLS[fn], self.integer(x, tiles), self.integer(y, tiles))
        raise TypeError(f"not an integer expression: {e!r}")
