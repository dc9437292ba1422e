"""One value of an op that is derived: its indices, its expression, and how it is gone through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ke_ir.expr import (
    Bin,
    Call,
    Expr,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    rewrite,
    substitute,
    variables,
    walk,
)
from ke_ir.types import DType


@dataclass(frozen=True)
class Scan:
    """Prefixes along the index ``along``, or suffixes (``reverse``).

    Only the places where ``live`` holds add anything (None: all do).
    """

    kind: str
    along: str
    reverse: bool
    live: Expr | None


@dataclass(frozen=True)
class State:
    """A value that is carried along an index, upwards or in ``reverse``, with all of ``together``.

    ``start`` is what it is before the first step, None if no step asks for the one before.
    ``dtype`` is known once those of all nodes are.
    """

    along: str
    reverse: bool
    start: Expr | None
    together: frozenset[str]
    dtype: DType | None = None


@dataclass(frozen=True)
class Scatter:
    """Where each value is accumulated, by ``kind``: at ``places`` of a tensor of this ``shape``.

    A value whose place is outside goes nowhere. ``terms`` are the indices that are no index of the
    tensor: several of their values may go to one element.
    """

    kind: str
    places: tuple[Expr, ...]
    shape: tuple[Expr, ...]
    terms: tuple[str, ...]

    def changed(self, fn: Callable[[Expr], Expr], names: Mapping[str, str]) -> Scatter:
        """With its places changed, and other names for the terms."""
        terms = tuple(names.get(t, t) for t in self.terms)
        return replace(self, places=tuple(map(fn, self.places)), terms=terms)


def before(name: str) -> str:
    """What the carried value of the step before is called in expressions."""
    return f"{name}'before"


@dataclass(frozen=True)
class Node:
    """``name[indices] = expr``, with all ranges given.

    ``expr`` is pointwise, or a reduction of a pointwise body; with a ``scan`` it is what one place
    adds, with a ``state`` the value at one step, with a ``scatter`` what is accumulated into the
    tensor ``name``, whose indices are others. Indices start at 0. ``origin`` is the equation that
    it is of. ``beside`` names the reduction whose result it needs, of the same tile, ``after`` the
    node with a state whose value after the last step it is.
    """

    name: str
    indices: tuple[Range, ...]
    expr: Expr
    scan: Scan | None = None
    state: State | None = None
    origin: str = ""
    beside: str = ""
    after: str = ""
    scatter: Scatter | None = None

    @property
    def is_reduction(self) -> bool:
        return isinstance(self.expr, Reduce)

    @property
    def index_names(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.indices)

    @property
    def inner(self) -> tuple[Range, ...]:
        """Ranges of the reduction; empty for a pointwise node."""
        return self.expr.ranges if isinstance(self.expr, Reduce) else ()

    def rewritten(self, fn: Callable[[Expr], Expr | None]) -> Node:
        """With its expressions rewritten, as by ``rewrite``."""
        state = self.state
        if state is not None and state.start is not None:
            state = replace(state, start=rewrite(state.start, fn))
        scatter = self.scatter and self.scatter.changed(lambda e: rewrite(e, fn), {})
        return replace(self, expr=rewrite(self.expr, fn), state=state, scatter=scatter)

    def renamed(self, names: Mapping[str, str]) -> Node:
        """With other names for the indices on the left."""
        values = {a: Var(b) for a, b in names.items()}
        scan = self.scan
        if scan is not None:
            live = None if scan.live is None else substitute(scan.live, values)
            scan = replace(scan, along=names.get(scan.along, scan.along), live=live)
        state = self.state
        if state is not None:
            start = None if state.start is None else substitute(state.start, values)
            state = replace(state, along=names.get(state.along, state.along), start=start)
        return Node(
            self.name,
            tuple(
                replace(r, name=names.get(r.name, r.name), hi=substitute(hi_of(r), values))
                for r in self.indices
            ),
            substitute(self.expr, values),
            scan,
            state,
            self.origin,
            self.beside,
            self.after,
            self.scatter and self.scatter.changed(lambda e: substitute(e, values), names),
        )


def hi_of(r: Range) -> Expr:
    """The upper bound of a range that has been inferred."""
    assert r.hi is not None
    return r.hi


def lo_of(r: Range) -> Expr:
    return Num(0) if r.lo is None else r.lo


def unclipped(hi: Expr) -> Expr:
    """The upper bound of a chunk, also of the last one, which ends where its range does."""
    return hi.args[0] if isinstance(hi, Call) and hi.fn == "min" else hi


def chunk_size(lo: Expr, hi: Expr) -> int | None:
    """How many indices there are from ``lo`` to ``lo + n``, for a number n; None for other ends."""
    size = hi.rhs if isinstance(hi, Bin) and (hi.op, hi.lhs) == ("+", lo) else None
    return int(size.value) if isinstance(size, Num) else None


def is_dense(r: Range) -> bool:
    """True for a range from 0 to a size known from the dims."""
    return lo_of(r) == Num(0) and not any(isinstance(n, Ref | Var) for n in walk(hi_of(r)))


def free_indices(e: Expr) -> list[str]:
    """Indices that ``e`` uses and does not bind, in order of first appearance."""
    bound = {r.name for n in walk(e) if isinstance(n, Reduce) for r in n.ranges}
    return [v for v in variables(e) if v not in bound]


def references(node: Node) -> list[Ref]:
    """All elements that a node reads."""
    exprs = [node.expr, *(hi_of(r) for r in node.indices)]
    if node.state is not None and node.state.start is not None:
        exprs.append(node.state.start)
    if node.scatter is not None:
        exprs += node.scatter.places
    return [n for e in exprs for n in walk(e) if isinstance(n, Ref)]
