"""Loops that reduce: a nest over the reduced indices that carries one accumulator for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from ke_ir.derive.access import Access, dtype_span
from ke_ir.derive.builder import Val
from ke_ir.derive.node import chunk_size, unclipped
from ke_ir.derive.padding import Constant, Padding
from ke_ir.derive.scalar import int_dtype
from ke_ir.expr import Bin, Expr, Num, Range, Reduce, Ref, Var, substitute, variables, walk
from ke_ir.intervals import ANY, Interval, interval
from ke_ir.ir import LoopVar
from ke_ir.types import DType

COMBINE = {
    "sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and",
}  # fmt: skip
"""The op that combines two values of a reduction."""


def sum_span(term: Interval, count: int | None) -> Interval:
    """The values of a sum of at most ``count`` terms; None for any number of them."""
    ends = {"a": term, "b": Interval(0, count)}
    return interval(Bin("*", Var("a"), Var("b")), {}, ends)


@dataclass(frozen=True)
class Loop:
    """A loop to be made over ``name`` from ``lo`` to ``hi`` (bounds over the op's indices).

    ``members`` gives each index of the op that it stands for as an expression of ``Var(name)``:
    several when they are flattened into one.
    """

    name: str
    lo: Expr
    hi: Expr
    tile: int | None
    members: dict[str, Expr] = field(default_factory=dict)
    stages: int = 1


def plain_loop(r: Range, tile: int | None, stages: int = 1) -> Loop:
    """The loop of one index of the op."""
    lo = Num(0) if r.lo is None else r.lo
    assert r.hi is not None
    return Loop(r.name, lo, r.hi, tile, {r.name: Var(r.name)}, stages)


class Accumulator(ABC):
    """The reduction ``e`` while its loops run."""

    e: Reduce

    @abstractmethod
    def probe(self, loops: Sequence[LoopVar]) -> None:
        """Look, in scratch, at the body inside the loops: dtypes and axes."""

    @abstractmethod
    def start(self) -> list[Val]:
        """The carried values before the first iteration."""

    @abstractmethod
    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        """The carried values after one more iteration of the innermost loop."""

    @abstractmethod
    def finish(self, carried: list[Val]) -> Val:
        """The result, after the loops."""


class Nest(Access):
    """Emits loops. ``inner_loops`` plans those of a reduction that stays inside an expression."""

    inner_loops: Callable[[Reduce], list[Loop]]

    def declare(self, loop: Loop) -> tuple[LoopVar, Interval]:
        """Name a loop variable, with its live indices, and say where its members are."""
        lo, hi = self.bound(loop.lo), self.bound(loop.hi)
        name = self.b.fresh(loop.name)
        for index, e in loop.members.items():
            self.where[index] = substitute(e, {loop.name: Var(name)})
        spans = {**self.b.spans, **{n: v.span for n, v in self.scalars.items()}}
        first, last = self.span_of(lo, spans), self.span_of(hi, spans)
        span = Interval(first.lo, None if last.hi is None else last.hi - 1)
        return LoopVar(name, lo, hi, loop.tile), span

    def span_of(self, e: Expr, spans: dict[str, Interval]) -> Interval:
        if not variables(e):
            return self.dim_span(e)
        return interval(e, self.fixed, spans)

    def nest(
        self, loops: Sequence[Loop], accumulators: Sequence[Accumulator], hints: Sequence[str]
    ) -> list[Val]:
        """Run the loops, outermost first, around one step of every accumulator.

        ``hints`` name the results.
        """
        with self.b.scratch():
            inside = []
            for loop in loops:
                var, span = self.declare(loop)
                self.b.enter(var, span, self.place(loop, accumulators))
                inside.append(var)
            for a in accumulators:
                a.probe(inside)
        starts = [a.start() for a in accumulators]
        counts = [len(s) for s in starts]
        names = [h for h, n in zip(hints, counts, strict=True) for _ in range(n)]

        def level(i: int, carried: list[Val], vars_: tuple[LoopVar, ...]) -> list[Val]:
            if i == len(loops):
                out: list[Val] = []
                for a, part in zip(accumulators, _split(carried, counts), strict=True):
                    out += a.step(part, vars_)
                return out
            var, span = self.declare(loops[i])
            return self.b.for_loop(
                var, span, carried, lambda vals: level(i + 1, vals, (*vars_, var)),
                names, loops[i].stages, self.place(loops[i], accumulators),
            )  # fmt: skip

        results = level(0, [v for s in starts for v in s], ())
        return [
            a.finish(part) for a, part in zip(accumulators, _split(results, counts), strict=True)
        ]

    def place(self, loop: Loop, accumulators: Sequence[Accumulator]) -> str:
        """The axis before which a loop's axis stands, so that large loads need no permuting.

        It is the first axis after the loop's index in the subscripts of the largest element read.
        """
        if loop.tile is None:
            return ""
        best, most = "", -1
        for a in accumulators:
            for ref in walk(a.e.body):
                if not isinstance(ref, Ref):
                    continue
                axes = self.subscript_axes(ref)
                own = [i for i, (n, _) in enumerate(axes) if n in loop.members]
                if own and len(axes) > most:
                    after = [x for _, x in axes[own[0] + 1 :] if x in self.b.tiles]
                    best, most = (after[0] if after else ""), len(axes)
        return best

    def subscript_axes(self, ref: Ref) -> list[tuple[str, str]]:
        """Indices in the subscripts, in order, each with the loop variable that it is."""
        names = dict.fromkeys(v for i in ref.indices for v in variables(i))
        out = []
        for n in names:
            e = self.where.get(n)
            out.append((n, e.name if isinstance(e, Var) else ""))
        return out

    def reduction(self, e: Reduce) -> Val:
        return self.nest(self.inner_loops(e), [accumulator(self, e)], [e.kind])[0]

    def inside(self, loops: Sequence[LoopVar]) -> Val | None:
        """The condition that every tiled loop variable is within its range."""
        out: Val | None = None
        for v in loops:
            if v.tile is not None and not _is_whole_chunk(v):
                i, hi = self.b.iota(v.name), self.index(v.hi)
                c = self.b.compare("lt", i, hi, self.common(i, hi))
                out = c if out is None else self.b.binary("and", out, c, DType.I1)
        return out

    def padded_fill(
        self, body: Expr, loops: Sequence[LoopVar], neutral: Constant
    ) -> Constant | None:
        """A fill for loads with which ``body`` is ``neutral`` wherever a tile reaches too far."""
        tiled = [v.name for v in loops if v.tile is not None]
        for fill in dict.fromkeys((0, neutral)):
            if all(
                self.is_neutral(body, frozenset(out), fill, neutral)
                for n in range(1, len(tiled) + 1)
                for out in combinations(tiled, n)
            ):
                return fill
        return None

    def is_neutral(
        self, body: Expr, out: frozenset[str], fill: Constant, neutral: Constant
    ) -> bool:
        saved, self.fill = self.fill, fill
        got = Padding(out, self.where, self.pad).value(body)
        self.fill = saved
        return got is not None and got == neutral

    def masked(self, body: Expr, loops: Sequence[LoopVar], neutral: Constant, dtype: DType) -> Val:
        """The body's value, ``neutral`` where a tile reaches past its loop."""
        fill = self.padded_fill(body, loops, neutral)
        saved, self.fill = self.fill, 0 if fill is None else fill
        v = self.b.cast(self.value(body), dtype)
        self.fill = saved
        if fill is None and (condition := self.inside(loops)) is not None:
            v = self.b.select(condition, v, Val(neutral, dtype), dtype, v.span)
        return v


def _split(vals: list[Val], counts: Sequence[int]) -> list[list[Val]]:
    out, at = [], 0
    for n in counts:
        out.append(vals[at : at + n])
        at += n
    return out


def neutral_value(kind: str, dtype: DType) -> Constant:
    """The neutral element of a reduction, as a literal of ``dtype``."""
    if kind == "sum":
        return 0.0 if dtype.is_float else 0
    if kind == "prod":
        return 1.0 if dtype.is_float else 1
    if kind in ("any", "all"):
        return kind == "all"
    low = kind.endswith("max")
    if dtype.is_float:
        return float("-inf") if low else float("inf")
    span = dtype_span(dtype)
    assert span.lo is not None and span.hi is not None
    return span.lo if low else span.hi


def _is_whole_chunk(v: LoopVar) -> bool:
    """True where the chunk of a range is tiles without padding."""
    size = chunk_size(v.lo, v.hi)
    return size is not None and size % (v.tile or 1) == 0


def runs_once(loop: Loop) -> bool:
    """True if a loop is one tile at any size: over a range, or over a chunk of one."""
    hi = unclipped(loop.hi)
    size = chunk_size(loop.lo, hi)
    if size is None and loop.lo == Num(0) and isinstance(hi, Num):
        size = int(hi.value)
    return size is not None and size <= (loop.tile or 1)


class Fold(Accumulator):
    """``sum prod max min any all`` of a pointwise body.

    ``name``: under which those after it in the same nest read it, where all loops run once.
    """

    def __init__(self, nest: Nest, e: Reduce, name: str = "") -> None:
        self.k, self.e, self.name = nest, e, name
        self.dtype = DType.F32
        self.axes: tuple[str, ...] = ()

    def probe(self, loops: Sequence[LoopVar]) -> None:
        v = self.k.value(self.e.body)
        inner = {x.name for x in loops}
        self.axes = self.k.b.ordered(a for a in v.axes if a not in inner)
        self.dtype = v.dtype
        if v.dtype.is_int:
            self.dtype = self.int_dtype(v.span, loops)
        self.tell(self.start()[0])

    def tell(self, v: Val) -> None:
        if self.name:
            self.k.values[self.name] = v

    def int_dtype(self, span: Interval, loops: Sequence[LoopVar]) -> DType:
        """i32 if no sum or product of the body over the loops can leave it."""
        if self.e.kind in ("max", "min"):
            return int_dtype(span)
        total = span
        for v in loops:
            lo, hi = (self.k.span_of(b, self.k.b.spans) for b in (v.lo, v.hi))
            n = None if hi.hi is None or lo.lo is None else max(0, hi.hi - lo.lo)
            total = sum_span(total, n)
        return int_dtype(total) if self.e.kind == "sum" else DType.I64

    def start(self) -> list[Val]:
        return [self.k.b.full(neutral_value(self.e.kind, self.dtype), self.dtype, self.axes)]

    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        b, kind = self.k.b, self.e.kind
        v = self.k.masked(self.e.body, loops, neutral_value(kind, self.dtype), self.dtype)
        tiled = [x.name for x in loops if x.tile is not None]
        if tiled:
            v = b.spread(v, b.ordered((*v.axes, *tiled)))
            for a in reversed(tiled):
                v = b.reduce(kind, v, a)
        out = b.binary(COMBINE[kind], carried[0], v, self.dtype)
        out = b.spread(out, self.axes)
        self.tell(out)
        return [out]

    def finish(self, carried: list[Val]) -> Val:
        return Val(carried[0].x, self.dtype, self.axes, ANY)


class Position(Accumulator):
    """``argmax`` and ``argmin``: the best value so far and the first index that has it."""

    def __init__(self, nest: Nest, e: Reduce) -> None:
        self.k, self.e = nest, e
        self.kind = e.kind.removeprefix("arg")
        self.dtype = self.index_dtype = DType.F32
        self.axes: tuple[str, ...] = ()
        self.first: Expr = Num(0)
        self.span = ANY

    def probe(self, loops: Sequence[LoopVar]) -> None:
        (var,) = loops
        v = self.k.value(self.e.body)
        self.axes = self.k.b.ordered(a for a in v.axes if a != var.name)
        self.dtype = v.dtype
        at = self.k.b.iota(var.name)
        self.index_dtype, self.span = at.dtype, at.span
        self.first = var.lo

    def start(self) -> list[Val]:
        b = self.k.b
        best = b.full(neutral_value(self.kind, self.dtype), self.dtype, self.axes)
        first = b.cast(self.k.index(self.first), self.index_dtype)
        return [best, b.spread(first, self.axes)]

    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        b, dtype = self.k.b, self.dtype
        (var,) = loops
        best, where = carried
        v = self.k.masked(self.e.body, loops, neutral_value(self.kind, dtype), dtype)
        at = b.iota(var.name)
        if var.tile is not None:
            v = b.spread(v, b.ordered((*v.axes, var.name)))
            top = b.reduce(self.kind, v, var.name)
            none = Val(neutral_value("min", at.dtype), at.dtype)
            at = b.select(b.compare("eq", v, top, dtype), at, none, at.dtype)
            at = b.reduce("min", b.spread(at, b.ordered((*v.axes, var.name))), var.name)
            v = top
        better = b.compare("gt" if self.kind == "max" else "lt", v, best, dtype)
        best = b.select(better, v, best, dtype)
        where = b.select(better, at, where, at.dtype)
        return [b.spread(best, self.axes), b.spread(where, self.axes)]

    def finish(self, carried: list[Val]) -> Val:
        return Val(carried[1].x, self.index_dtype, self.axes, self.span)


def accumulator(nest: Nest, e: Reduce, name: str = "") -> Accumulator:
    """The accumulator of one reduction, without `dot`; ``name`` as in ``Fold``."""
    return Position(nest, e) if e.kind.startswith("arg") else Fold(nest, e, name)
