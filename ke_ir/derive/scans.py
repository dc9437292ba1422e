"""Prefixes along an index, ``sum[j in 0 to i + 1](x[b, j])``: one loop with ``scan`` on its tiles.

What the tiles before have come to is carried along the loop. Suffixes are prefixes of the elements
in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ke_ir.derive.builder import Val
from ke_ir.derive.node import Node, Scan, free_indices, hi_of, lo_of
from ke_ir.derive.reductions import COMBINE, Accumulator, Fold, Loop, Nest, neutral_value
from ke_ir.expr import Bin, Expr, Num, Range, Reduce, Ref, Var, substitute, walk
from ke_ir.ir import LoopVar
from ke_ir.ops.shape import SCANS


@dataclass(frozen=True)
class Form:
    """A reduction as a scan along an index of the left side: its places add the terms at ``at``."""

    along: Range
    at: Expr
    scan: Scan


def as_scan(node: Node) -> Node:
    """The node with what one place adds for its expression, if it is made of prefixes."""
    e = node.expr
    if not isinstance(e, Reduce) or any(isinstance(n, Reduce) for n in walk(e.body)):
        return node
    form = scan_form(e, node.indices)
    if form is None:
        return node
    return replace(node, expr=substitute(e.body, {e.ranges[0].name: form.at}), scan=form.scan)


def scan_form(e: Reduce, indices: Sequence[Range]) -> Form | None:
    """The scan that a reduction under these indices is; None if it is another reduction."""
    if e.kind not in SCANS or len(e.ranges) != 1:
        return None
    lo, hi = lo_of(e.ranges[0]), hi_of(e.ranges[0])
    found = _suffixes if free_indices(lo) else _prefixes
    return found(e, indices, lo, hi)


def _prefixes(e: Reduce, indices: Sequence[Range], lo: Expr, hi: Expr) -> Form | None:
    """Up to ``i + shift``: the place ``i`` adds the term at ``i + shift - 1``."""
    along, shift = _moving(indices, e, hi)
    if along is None or not isinstance(lo, Num) or shift - 1 > lo.value:
        return None  # the first place would have to add several terms
    late = int(lo.value) - (shift - 1)
    live = Bin(">=", Var(along.name), Num(late)) if late > 0 else None
    return Form(along, _moved(along, shift - 1), Scan(e.kind, along.name, False, live))


def _suffixes(e: Reduce, indices: Sequence[Range], lo: Expr, hi: Expr) -> Form | None:
    """From ``i + shift``: the place ``i`` adds the term there."""
    along, shift = _moving(indices, e, lo)
    if along is None or any(isinstance(n, Ref | Var) for n in walk(hi)):
        return None
    spare = _difference(hi_of(along), hi)
    if spare is None or spare + shift < 0:
        return None  # the last place would have to add several terms
    live = Bin("<", Var(along.name), Bin("-", hi, Num(shift))) if spare + shift > 0 else None
    return Form(along, _moved(along, shift), Scan(e.kind, along.name, True, live))


def _moving(indices: Sequence[Range], e: Reduce, bound: Expr) -> tuple[Range | None, int]:
    """The index that a bound is, but for a constant, if nothing else uses it."""
    match bound:
        case Var(name):
            shift = 0
        case Bin("+", Var(name), Num(int() as shift)) | Bin("+", Num(int() as shift), Var(name)):
            pass
        case Bin("-", Var(name), Num(int() as back)):
            shift = -back
        case _:
            return None, 0
    found = [r for r in indices if r.name == name]
    if not found or name in free_indices(e.body):
        return None, 0
    return found[0], shift


def _difference(a: Expr, b: Expr) -> int | None:
    """``a - b`` where it is a known number."""
    match a, b:
        case Num(int() as x), Num(int() as y):
            return x - y
        case _, Bin("-", rest, Num(int() as y)) if rest == a:
            return y
    return 0 if a == b else None


def _moved(along: Range, shift: int) -> Expr:
    at: Expr = Var(along.name)
    return Bin("+" if shift > 0 else "-", at, Num(abs(shift))) if shift else at


def scan_loop(along: Range, reverse: bool, tile: int | None, stages: int) -> Loop:
    """The loop along a scan, from the last index to the first for suffixes."""
    at: Expr = Var(along.name)
    if reverse:
        at = Bin("-", Bin("-", hi_of(along), Num(1)), at)
    return Loop(along.name, Num(0), hi_of(along), tile, {along.name: at}, stages)


class Prefixes(Accumulator):
    """The scans of one group. ``then`` gets their values, tile by tile, inside the loop."""

    def __init__(
        self, nest: Nest, nodes: Sequence[Node], then: Callable[[list[Val]], None]
    ) -> None:
        self.k, self.then = nest, then
        self.scans = [n.scan for n in nodes if n.scan is not None]
        self.folds = [
            Fold(nest, Reduce(s.kind, (Range(s.along),), n.expr))
            for n, s in zip(nodes, self.scans, strict=True)
        ]
        self.e = self.folds[0].e

    def probe(self, loops: Sequence[LoopVar]) -> None:
        for f in self.folds:
            f.probe(loops)

    def start(self) -> list[Val]:
        return [v for f in self.folds for v in f.start()]

    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        (var,) = loops
        made = [
            self.one(f, s, acc, var)
            for f, s, acc in zip(self.folds, self.scans, carried, strict=True)
        ]
        self.then([prefix for prefix, _ in made])
        return [total for _, total in made]

    def one(self, fold: Fold, scan: Scan, before: Val, var: LoopVar) -> tuple[Val, Val]:
        """The prefixes at this tile, and what to carry on.

        What lies past the loop's end comes after all that is kept, so it needs no mask.
        """
        k, b, kind, dtype = self.k, self.k.b, scan.kind, fold.dtype
        v = b.cast(k.value(fold.e.body), dtype)
        if scan.live is not None:
            v = b.select(k.value(scan.live), v, Val(neutral_value(kind, dtype), dtype), dtype)
        if var.tile is None:
            total = b.spread(b.binary(COMBINE[kind], before, v, dtype), fold.axes)
            return total, total
        v = b.spread(v, b.ordered((*fold.axes, var.name)))
        prefix = b.binary(COMBINE[kind], before, b.scan(kind, v, var.name), dtype)
        total = b.binary(COMBINE[kind], before, b.reduce(kind, v, var.name), dtype)
        return prefix, b.spread(total, fold.axes)

    def finish(self, carried: list[Val]) -> Val:
        return carried[0]
