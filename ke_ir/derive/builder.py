"""Builds the body of a kernel: values with named axes, blocks, and reuse of equal statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ke_ir.expr import Expr, Num, Var, variables
from ke_ir.intervals import ANY, Interval
from ke_ir.ir import For, LoopVar, Yield
from ke_ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Expand,
    Full,
    Iota,
    Permute,
    Reduce,
    Scan,
    Select,
    Unary,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.types import DType, TileType

I32 = Interval(-(1 << 31), (1 << 31) - 1)
"""Values that an i32 holds."""


@dataclass(frozen=True)
class Val:
    """A value: an SSA name, a literal, or (``x`` an expression) a size known from the dims.

    ``axes`` names the tiled loop variable of each dimension. ``span`` bounds an integer.
    """

    x: Operand | Expr
    dtype: DType
    axes: tuple[str, ...] = ()
    span: Interval = ANY

    @property
    def is_constant(self) -> bool:
        return not isinstance(self.x, str)

    @property
    def is_literal(self) -> bool:
        return isinstance(self.x, int | float)


class Builder:
    """Emits statements in order. ``order`` is the canonical order of the axes in scope."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self.used: set[str] = set(reserved)
        self.tiles: dict[str, int] = {}
        self.order: list[str] = []
        self.spans: dict[str, Interval] = {}
        self.blocks: list[list[Stmt]] = [[]]
        self.known: list[dict[str, str]] = [{}]
        self.definitions: dict[str, Op] = {}
        self.level: dict[str, int] = {}
        self.floor = 0

    def fresh(self, hint: str, numbered: bool = False) -> str:
        """A name not used in this kernel: ``hint`` itself if free (and not to be numbered)."""
        base = hint.split("'")[0]
        name, n = base, 1
        while name in self.used or (numbered and name == base):
            name = f"{base}_{n}"
            n += 1
        self.used.add(name)
        return name

    def emit(self, op: Op, dtype: DType, axes: Sequence[str], span: Interval = ANY,
             hint: str = "") -> Val:  # fmt: skip
        """The value of ``op``: of an equal one in scope, or of a new statement.

        A statement stands in the outermost block in which all that it uses is known.
        """
        key = repr(op)
        for scope in self.known:
            if key in scope:
                return Val(scope[key], dtype, tuple(axes), span)
        name = self.fresh(hint or op.mnemonic, numbered=True)
        at = max((self.level.get(n, 0) for n in used_names(op)), default=0)
        at = max(at, self.floor)
        self.level[name] = at
        self.known[at][key] = name
        self.definitions[name] = op
        self.blocks[at].append(replace(op, result=name))
        return Val(name, dtype, tuple(axes), span)

    def effect(self, op: Op) -> None:
        """Append an op that gives no value."""
        self.blocks[-1].append(op)

    def shape(self, axes: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.tiles[a] for a in axes)

    def ordered(self, axes: Iterable[str]) -> tuple[str, ...]:
        """These axes, each once, in canonical order."""
        wanted = set(axes)
        return tuple(a for a in self.order if a in wanted)

    # Values

    def operand(self, v: Val, dtype: DType) -> Operand:
        """An operand of ``dtype``; constants become literals where an op allows one."""
        if v.is_literal:
            assert isinstance(v.x, int | float)
            if dtype.is_float:
                return float(v.x)
            return bool(v.x) if dtype.is_bool else int(v.x)
        return self.name(v, dtype)

    def name(self, v: Val, dtype: DType) -> str:
        """The SSA name of the value converted to ``dtype``."""
        return str(self.value(v, dtype).x)

    def value(self, v: Val, dtype: DType) -> Val:
        """The value as an SSA value of ``dtype``."""
        if isinstance(v.x, str):
            return self.cast(v, dtype)
        x = v.x
        if isinstance(x, int | float):
            x = float(x) if dtype.is_float else bool(x) if dtype.is_bool else int(x)
        return self.emit(Full(x, TileType(dtype)), dtype, (), v.span)

    def cast(self, v: Val, dtype: DType) -> Val:
        if v.dtype is dtype:
            return v
        if v.is_literal:
            return replace(v, x=self.operand(v, dtype), dtype=dtype)
        if v.is_constant:
            return self.value(v, dtype)
        return self.emit(Cast(str(v.x), dtype), dtype, v.axes, v.span)

    def full(self, x: int | float | bool, dtype: DType, axes: Sequence[str]) -> Val:
        return self.emit(Full(x, TileType(dtype, self.shape(axes))), dtype, axes)

    def stretched(self, v: Val, axes: tuple[str, ...], dtype: DType) -> Operand:
        """An operand whose dimensions are ``axes``, of size 1 where ``v`` has none."""
        if not v.axes:
            return self.operand(v, dtype)
        v = self.permuted(self.cast(v, dtype), tuple(a for a in axes if a in v.axes))
        x = str(v.x)
        for i, a in enumerate(axes):
            if a not in v.axes:
                x = str(self.emit(Expand(x, i), dtype, ()).x)
        return x

    def permuted(self, v: Val, axes: tuple[str, ...]) -> Val:
        """The dimensions of ``v`` in the order ``axes``."""
        if v.axes == axes:
            return v
        order = tuple(v.axes.index(a) for a in axes)
        made = self.definitions.get(str(v.x))
        if isinstance(made, Permute):
            order = tuple(made.order[i] for i in order)
            if order == tuple(range(len(order))):
                return replace(v, x=made.x, axes=axes)
            return self.emit(Permute(made.x, order), v.dtype, axes, v.span)
        return self.emit(Permute(str(v.x), order), v.dtype, axes, v.span)

    def spread(self, v: Val, axes: tuple[str, ...]) -> Val:
        """``v`` as an SSA value with all of ``axes`` at their full size."""
        if v.axes == axes and isinstance(v.x, str):
            return v
        if not v.axes and isinstance(v.x, int | float):
            return self.full(v.x, v.dtype, axes)
        if not v.axes:
            x = self.name(v, v.dtype)
            if not axes:
                return replace(v, x=x)
        elif set(v.axes) == set(axes):
            return self.permuted(v, axes)
        else:
            x = str(self.stretched(v, axes, v.dtype))
        tile = TileType(v.dtype, self.shape(axes))
        return self.emit(Broadcast(x, tile), v.dtype, axes, v.span)

    # Elementwise ops

    def _aligned(self, vals: Sequence[Val]) -> tuple[str, ...]:
        return self.ordered(a for v in vals for a in v.axes)

    def unary(self, fn: str, v: Val, dtype: DType, span: Interval = ANY) -> Val:
        return self.emit(Unary(fn, self.name(v, dtype)), dtype, v.axes, span)

    def binary(self, fn: str, a: Val, b: Val, dtype: DType, span: Interval = ANY) -> Val:
        axes = self._aligned((a, b))
        if a.is_constant and b.is_constant:
            a = self.value(a, dtype)
        x, y = (self.stretched(v, axes, dtype) for v in (a, b))
        return self.emit(Binary(fn, x, y), dtype, axes, span)

    def compare(self, pred: str, a: Val, b: Val, dtype: DType) -> Val:
        axes = self._aligned((a, b))
        if a.is_constant and b.is_constant:
            a = self.value(a, dtype)
        x, y = (self.stretched(v, axes, dtype) for v in (a, b))
        return self.emit(Cmp(pred, x, y), DType.I1, axes)

    def select(self, c: Val, a: Val, b: Val, dtype: DType, span: Interval = ANY) -> Val:
        axes = self._aligned((c, a, b))
        if a.is_constant and b.is_constant:
            a = self.value(a, dtype)
        if c.is_constant:
            c = self.value(c, DType.I1)
        got, x, y = (self.stretched(v, axes, d) for v, d in ((c, DType.I1), (a, dtype), (b, dtype)))
        return self.emit(Select(got, x, y), dtype, axes, span)

    def reduce(self, kind: str, v: Val, axis: str) -> Val:
        axes = tuple(a for a in v.axes if a != axis)
        return self.emit(Reduce(kind, str(v.x), v.axes.index(axis)), v.dtype, axes)

    def scan(self, kind: str, v: Val, axis: str) -> Val:
        return self.emit(Scan(kind, str(v.x), v.axes.index(axis)), v.dtype, v.axes)

    def iota(self, var: str) -> Val:
        """The indices of a loop variable: i32 where they fit, else i64."""
        axes = (var,) if var in self.tiles else ()
        span = self.spans.get(var, ANY)
        dtype = DType.I32 if fits_i32(span) else DType.I64
        op = Iota(var, TileType(dtype, self.shape(axes)))
        return self.emit(op, dtype, axes, span, f"{var}_at")

    # Loops

    def enter(self, var: LoopVar, span: Interval, before: str = "") -> None:
        """Bring a loop variable into scope; a tiled one gives an axis, last or ``before`` one."""
        self.spans[var.name] = span
        self.level[var.name] = len(self.blocks) - 1
        if var.tile is not None:
            self.tiles[var.name] = var.tile
            at = self.order.index(before) if before in self.order else len(self.order)
            self.order.insert(at, var.name)

    def for_loop(
        self,
        var: LoopVar,
        span: Interval,
        carries: Sequence[Val],
        body: Callable[[list[Val]], list[Val]],
        hints: Sequence[str] = (),
        stages: int = 1,
        before: str = "",
    ) -> list[Val]:
        """A ``for``: ``body`` gets the carried values and returns those of the next iteration.

        ``hints`` are names for the results; ``before`` places the axis, as in ``enter``.
        """
        names = [self.fresh("acc") for _ in carries]
        carried = [replace(c, x=n) for n, c in zip(names, carries, strict=True)]
        with self.block():
            self.enter(var, span, before)
            self.level |= dict.fromkeys(names, len(self.blocks) - 1)
            out = body(carried)
            if out:
                self.blocks[-1].append(Yield(tuple(str(v.x) for v in out)))
            statements = tuple(self.blocks[-1])
            if var.tile is not None:
                self.order.remove(var.name)
        results = tuple(self.fresh(h) for h in hints)
        self.level |= dict.fromkeys(results, len(self.blocks) - 1)
        inits = tuple((n, str(c.x)) for n, c in zip(names, carries, strict=True))
        self.blocks[-1].append(For(var, statements, inits, results, stages))
        return [replace(c, x=r) for r, c in zip(results, carries, strict=True)]

    @contextmanager
    def block(self) -> Iterator[None]:
        self.blocks.append([])
        self.known.append({})
        yield
        self.blocks.pop()
        self.known.pop()

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Emit into nothing: what is built inside only tells types and axes."""
        used, order, tiles = set(self.used), list(self.order), dict(self.tiles)
        level, floor = dict(self.level), self.floor
        self.floor = len(self.blocks)
        with self.block():
            yield
        self.used, self.order, self.tiles = used, order, tiles
        self.level, self.floor = level, floor

    @contextmanager
    def axis_order(self, first: str, second: str) -> Iterator[None]:
        """Inside, axis ``first`` comes just before ``second``."""
        saved = list(self.order)
        self.order.remove(first)
        self.order.insert(self.order.index(second), first)
        yield
        self.order = saved


def used_names(op: Op) -> set[str]:
    """Values and loop variables that an op uses."""
    names = {x for x in op.operands() if isinstance(x, str)}
    if isinstance(op, Iota):
        names.add(op.index)
    return names.union(*(variables(c) for c in op.coordinates()))


def fits_i32(span: Interval) -> bool:
    return span.inside(I32.lo or 0, (I32.hi or 0) + 1)


def coordinate(v: Val) -> Expr:
    """A rank-0 or tile value as (part of) a coordinate or bound."""
    if isinstance(v.x, Expr):
        return v.x
    return Var(v.x) if isinstance(v.x, str) else Num(int(v.x))
