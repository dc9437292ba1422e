"""Coordinates of a memory access as the DMA engine takes them.

Coordinate ``d`` is ``base + sum(step[r] * i_r)``, with ``i_r`` the position along the tile's
dimension ``r``; what is not affine in the index tiles (division, remainder, integer tiles) is
computed on the vector core into one integer tile that is added. Such tiles are computed in the
outermost block where everything they need is known, and shared by later accesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Neg, Num, Var, evaluate_int, show, variables
from ke_ir.scope import Axis, TypeScope
from ke_ir.types import DType, TileType
from lowering.mlir.body import Body
from lowering.mlir.dialect import MAX_RANK
from lowering.mlir.tree import Block, Tile, number

_BINARY = {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}
INDEX = DType.I64


@dataclass(frozen=True)
class Access:
    """Operands of a load, store or accumulate. ``steps`` is row-major, coordinates by tile dims.

    ``indices`` are the integer tiles, ``axes`` the coordinates to which they are added.
    """

    bases: tuple[str, ...]
    limits: tuple[str, ...]
    indices: tuple[Tile, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, ...]

    def attributes(self) -> str:
        steps = ", ".join(map(str, self.steps))
        present = [int(d in self.axes) for d in range(MAX_RANK)]
        sizes = ", ".join(map(str, [1, 1, len(self.bases), len(self.limits), *present]))
        return (
            f"steps = array<i64{': ' if steps else ''}{steps}>, "
            f"operandSegmentSizes = array<i32: {sizes}>"
        )


class Coordinates:
    """Lowers the coordinates of one kernel's accesses."""

    def __init__(
        self, body: Body, scope: TypeScope, fixed: Mapping[str, int], values: Mapping[str, Tile],
        homes: Mapping[str, Block],
    ) -> None:  # fmt: skip
        self.body, self.scope, self.fixed = body, scope, fixed
        self.values, self.homes = values, homes
        self._made: dict[tuple[Block, str, tuple[Axis, ...]], Tile] = {}

    def read_scalars(self, e: Expr) -> None:
        """Bring the scalar integer values of ``e`` to the scalar core, each once."""
        for v in variables(e):
            t = self.values.get(v)
            if t is None or t.type.shape or self.body.known(v):
                continue
            name = self.body.fresh(f"{v}_now")
            text = f'%{name} = "kea.read"(%{t.name}) : ({t.mlir}) -> index'
            self.body.line(text, srcs=[t], block=self.homes[v], scalar=True)
            self.body.define(v, f"%{name}")

    def access(self, coords: Sequence[Expr]) -> Access:
        for c in coords:
            self.read_scalars(c)
        axes = self.scope.access(coords)
        shape = tuple(a.size for a in axes)
        bases, indices, places, steps = [], [], [], []
        for d, c in enumerate(coords):
            base, row, rest = self._split(c, axes)
            bases.append(self.body.integer(base) if base is not None else self.body.constant(0))
            steps += row
            if rest is not None:
                indices.append(self._spread(rest, axes))
                places.append(d)
        limits = tuple(self._limit(a) for a in axes)
        return Access(
            tuple(bases), limits, tuple(indices), tuple(places), tuple(steps), shape
        )  # fmt: skip

    def _limit(self, axis: Axis) -> str:
        """How many positions along a dimension are inside the loop's range."""
        if not axis.index:
            return self.body.constant(axis.size)
        name = axis.index
        return self.body.arith("subi", self.body.end(name), self.body.ssa(name))

    def _split(self, c: Expr, axes: Sequence[Axis]) -> tuple[Expr | None, list[int], Expr | None]:
        """Scalar part, steps by tile dimension, and what must be computed as a tile."""
        place = {a.index: r for r, a in enumerate(axes) if a.index}
        row = [0] * len(axes)
        base: Expr | None = None
        rest: Expr | None = None
        for factor, term in _terms(c, 1, self.fixed):
            tiled = [v for v in variables(term) if self._is_tiled(v)]
            scaled = term if factor == 1 else Bin("*", Num(factor), term)
            if isinstance(term, Var) and term.name in place:
                row[place[term.name]] += factor
                base = _plus(base, scaled)  # the index tile's first element
            elif tiled:
                rest = _plus(rest, scaled)
            else:
                base = _plus(base, scaled)
        return base, row, rest

    def _is_tiled(self, name: str) -> bool:
        if name in self.scope.loops:
            return self.scope.loops[name].tile is not None
        return bool(self.scope.values[name].shape)

    # ---- integer tiles ------------------------------------------------------------------------

    def _spread(self, e: Expr, axes: Sequence[Axis]) -> Tile:
        """``e`` as an integer tile with the access's rank, of size 1 along axes it lacks."""
        names = {v for v in variables(e) if self._is_tiled(v)}
        mine = [
            (r, a) for r, a in enumerate(axes) if a.index in names or names.intersection(a.tiles)
        ]
        small = self._evaluate(e, tuple(a for _, a in mine), self._home(e))
        shape = [1] * len(axes)
        for (r, _), size in zip(mine, small.type.shape, strict=True):
            shape[r] = size
        return self.body.alias(small, tuple(shape))

    def _home(self, e: Expr) -> Block:
        """The outermost block in which all variables of ``e`` are known."""
        homes = [self.homes[v] for v in variables(e) if v in self.homes]
        return max(homes, key=lambda b: b.depth, default=self.body.block)

    def _evaluate(self, e: Expr, axes: tuple[Axis, ...], home: Block) -> Tile:
        """The value of ``e`` over ``axes``, computed in ``home`` unless it was before."""
        if isinstance(e, Var) and e.name in self.values and self.values[e.name].type.shape:
            return self._among(self.values[e.name], axes)
        key = (home, show(e, "%"), axes)
        if key not in self._made:
            self._made[key] = self._compute(e, axes, home)
        return self._made[key]

    def _among(self, t: Tile, axes: tuple[Axis, ...]) -> Tile:
        """An integer tile seen over ``axes``: its dimensions stand at the last of the tiles'."""
        places = [r for r, a in enumerate(axes) if a.tiles][-t.type.rank :]
        shape = [1] * len(axes)
        for r, size in zip(places, t.type.shape, strict=True):
            shape[r] = size
        return self.body.alias(t, tuple(shape))

    def _compute(self, e: Expr, axes: tuple[Axis, ...], home: Block) -> Tile:
        body = self.body
        if isinstance(e, Var) and e.name in self.scope.loops and self._is_tiled(e.name):
            place = [a.index for a in axes].index(e.name)
            shape = tuple(a.size if r == place else 1 for r, a in enumerate(axes))
            t = body.tile(f"{e.name}_index", TileType(INDEX, shape), home)
            body.op("iota", [t], [body.ssa(e.name)], "step = 1 : i64", home)
            return t
        if not any(self._is_tiled(v) for v in variables(e)):
            return self._scalar(e, home)
        if isinstance(e, Neg):
            x = self._wide(self._evaluate(e.arg, axes, home), home)
            t = body.tile("coord", x.type, home)
            body.op("unary", [t, x], attrs='fn = "neg"', block=home)
            return t
        fn, operands = _function(e)
        x, y = (self._wide(self._evaluate(s, axes, home), home) for s in operands)
        t = body.tile("coord", TileType(INDEX, _stretched(x, y)), home)
        body.op("binary", [t, x, y], attrs=f'fn = "{fn}"', block=home)
        return t

    def _scalar(self, e: Expr, home: Block) -> Tile:
        t = self.body.tile("scalar", TileType(INDEX), home)
        try:
            value = evaluate_int(e, self.fixed)
        except KeyError:
            now, self.body.block = self.body.block, home
            ssa = self.body.integer(e)
            self.body.block = now
            self.body.op("iota", [t], [ssa], "step = 0 : i64", home)
        else:
            self.body.op("fill", [t], attrs=f"value = {number(value, INDEX)}", block=home)
        return t

    def _wide(self, t: Tile, home: Block) -> Tile:
        if t.type.dtype is INDEX:
            return t
        wide = self.body.tile("coord", t.type.with_dtype(INDEX), home)
        self.body.op("cast", [wide, t], block=home)
        return wide


def _function(e: Expr) -> tuple[str, tuple[Expr, Expr]]:
    """The elementwise function of a coordinate's outermost operation, and its operands."""
    match e:
        case Bin(op, lhs, rhs):
            return _BINARY[op], (lhs, rhs)
        case Call("min" | "max" as fn, (lhs, rhs)):
            return fn, (lhs, rhs)
    raise TypeError(f"not a coordinate: {e!r}")


def _stretched(x: Tile, y: Tile) -> tuple[int, ...]:
    """The shape of an elementwise result; operands have one rank, or are scalars."""
    a, b = x.type.shape, y.type.shape
    return tuple(max(m, n) for m, n in zip(a, b, strict=True)) if a and b else a or b


def _plus(a: Expr | None, b: Expr) -> Expr:
    return b if a is None else Bin("+", a, b)


def _terms(e: Expr, factor: int, fixed: Mapping[str, int]) -> list[tuple[int, Expr]]:
    """``e`` as a sum of integer multiples of terms."""
    match e:
        case Neg(arg):
            return _terms(arg, -factor, fixed)
        case Bin("+", lhs, rhs):
            return _terms(lhs, factor, fixed) + _terms(rhs, factor, fixed)
        case Bin("-", lhs, rhs):
            return _terms(lhs, factor, fixed) + _terms(rhs, -factor, fixed)
        case Bin("*", lhs, rhs):
            for number_side, other in ((lhs, rhs), (rhs, lhs)):
                if (n := _fixed(number_side, fixed)) is not None:
                    return _terms(other, factor * n, fixed)
    return [(factor, e)]


def _fixed(e: Expr, fixed: Mapping[str, int]) -> int | None:
    """The value of an expression of numbers and static dims; None if it has none."""
    if variables(e):
        return None
    try:
        return evaluate_int(e, fixed)
    except KeyError:
        return None
