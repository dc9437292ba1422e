"""Factors of matrices as recurrences over their columns: LU with pivots, Cholesky's, and solving
with triangles. Each step changes the whole matrix, as elimination by hand does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import At, Index, Value
from ke_ir.importers.registry import Node, whole
from ke_ir.index_maps import add, earlier, sub
from ke_ir.types import DType


def turned(x: Value) -> Value:
    """The transpose of the last two dims."""
    *lead, m, n = x.shape
    return x.view((*lead, n, m), lambda i: [*i[:-2], i[-1], i[-2]])


def spread(x: Value, batch: Sequence[Expr], rank: int = 2) -> Value:
    """The last ``rank`` dims under more batch dims, or broadcast ones."""
    return broadcast(x, (*batch, *x.shape[x.rank - rank :]))


class Steps:
    """States of a recurrence that are defined one after the other, each over [step, ...]."""

    def __init__(self, node: Node, name: str, count: int) -> None:
        self.builder, self.name, self.count = node.builder, f"{node.name}_{name}", count

    def reserve(self, suffix: str) -> str:
        return self.builder.name(f"{self.name}_{suffix}")

    def define(self, state: str, shape: Sequence[Expr], dtype: DType, body: At) -> Value:
        return self.builder.define(state, (Num(self.count), *shape), dtype, body, True)

    def last(self, x: Value) -> Value:
        """The state after all steps."""
        return x.view(x.shape[1:], lambda i: [Num(self.count - 1), *i])


def _swapped(row: Expr, step: Expr, pivot: Expr) -> Expr:
    """Where a row comes from when row ``step`` and row ``pivot`` change places."""
    return select(Bin("==", row, step), pivot, select(Bin("==", row, pivot), step, row))


@dataclass(frozen=True)
class LU:
    """P L U of a matrix: both triangles in one, the row that each step took (from 0), and for
    each row of L U the row of the matrix that it came from."""

    both: Value
    pivots: Value
    rows: Value


def permutation(node: Node, pivots: Value, count: Expr) -> Value:
    """Pivots [..., steps] (from 0) as rows [..., count]."""
    steps = Steps(node, "rows", whole(pivots.shape[-1]))
    name = steps.reserve("of")

    def row(i: Index) -> Expr:
        source = _swapped(i[-1], i[0], pivots[[*i[1:-1], i[0]]])
        return earlier(name, [*i[:-1], source], source)

    found = steps.define(name, (*pivots.shape[:-1], count), DType.I64, row)
    return steps.last(found)


def lu(node: Node, x: Value, pivoted: bool = True) -> LU:
    """The pivot is the first of the largest elements below the diagonal, as LAPACK takes it."""
    x = node.builder.stored(x, f"{node.name}_in")
    *batch, m, n = x.shape
    steps = Steps(node, "lu", min(whole(m), whole(n)))
    state, swaps = steps.reserve("state"), steps.reserve("swapped")
    pivots = steps.reserve("pivot")

    def before(i: Index) -> Expr:
        return earlier(state, i, x[i[1:]])

    def pivot(i: Index) -> Expr:
        return node.builder.reduce("argmax", [m], lambda r: select(
            Bin(">=", r[0], i[0]), absolute(before([*i, r[0], i[0]])), Num(-1.0),
        ))  # fmt: skip

    rows = steps.define(pivots, batch, DType.I64, pivot if pivoted else lambda i: i[0])

    def swapped(i: Index) -> Expr:
        return before([*i[:-2], _swapped(i[-2], i[0], rows[i[:-2]]), i[-1]])

    moved = steps.define(swaps, x.shape, x.dtype, swapped)

    def eliminated(i: Index) -> Expr:
        *lead, r, c = i
        t = i[0]
        top, own = moved[[*lead, t, t]], moved[[*lead, r, t]]
        share = select(Bin("==", top, Num(0)), own, Bin("/", own, top))
        rest = Bin("-", moved[i], Bin("*", share, moved[[*lead, t, c]]))
        below = select(Bin("==", c, t), share, select(Bin(">", c, t), rest, moved[i]))
        return select(Bin(">", r, t), below, moved[i])

    both = steps.last(steps.define(state, x.shape, x.dtype, eliminated))
    picked = rows.view((*batch, Num(steps.count)), lambda i: [i[-1], *i[:-1]])
    return LU(both, picked, permutation(node, picked, m))


def solved_lower(node: Node, a: Value, b: Value, unit: bool, name: str) -> Value:
    """X of A X = B, of A its lower triangle only. Batch dims are the same."""
    a = node.builder.stored(a, f"{node.name}_{name}_of")
    b = node.builder.stored(b, f"{node.name}_{name}_to")
    steps = Steps(node, name, whole(a.shape[-1]))
    state, found = steps.reserve("state"), steps.reserve("row")

    def before(i: Index) -> Expr:
        return earlier(state, i, b[i[1:]])

    def row(i: Index) -> Expr:
        *lead, c = i
        e = before([*lead, i[0], c])
        return e if unit else Bin("/", e, a[[*lead[1:], i[0], i[0]]])

    line = steps.define(found, (*b.shape[:-2], b.shape[-1]), b.dtype, row)

    def rest(i: Index) -> Expr:
        *lead, r, c = i
        own = line[[*lead, c]]
        less = Bin("-", before(i), Bin("*", a[[*lead[1:], r, i[0]]], own))
        return select(Bin("==", r, i[0]), own, select(Bin(">", r, i[0]), less, before(i)))

    return steps.last(steps.define(state, b.shape, b.dtype, rest))


def _reversed(x: Value, dims: Sequence[int]) -> Value:
    def back(k: int, i: Expr) -> Expr:
        return sub(add(x.shape[k], Num(-1)), i) if k - x.rank in dims else i

    return x.view(x.shape, lambda i: [back(k, j) for k, j in enumerate(i)])


def solved(node: Node, a: Value, b: Value, upper: bool, unit: bool, name: str = "solved") -> Value:
    """X of A X = B for a triangle A; an upper one is a lower one read from its end."""
    if not upper:
        return solved_lower(node, a, b, unit, name)
    found = solved_lower(node, _reversed(a, (-1, -2)), _reversed(b, (-2,)), unit, name)
    return _reversed(found, (-2,))


def lu_solved(node: Node, factors: LU, b: Value, adjoint: bool) -> Value:
    """X of P L U X = B, or of its transpose."""
    both, rows = factors.both, node.builder.stored(factors.rows, f"{node.name}_row_of")
    if not adjoint:
        order = b.view(b.shape, lambda i: [*i[:-2], rows[[*i[:-2], i[-2]]], i[-1]])
        half = solved(node, both, order, False, True, "forward")
        return solved(node, both, half, True, False, "backward")
    half = solved(node, turned(both), b, False, False, "forward")
    z = solved(node, turned(both), half, True, True, "backward")

    def back(i: Index) -> Expr:
        *lead, r, c = i
        return node.reduce("sum", [z.shape[-2]], lambda k: select(
            Bin("==", rows[[*lead, k[0]]], r), z[[*lead, k[0], c]], Num(0.0)))  # fmt: skip

    return node.builder.define(f"{node.name}_ordered", b.shape, b.dtype, back)


def cholesky(node: Node, x: Value) -> tuple[Value, Value]:
    """L of A = L L^T by the lower triangle of A, and what was under each root: [..., n]."""
    x = node.builder.stored(x, f"{node.name}_in")
    *batch, n, _ = x.shape
    steps = Steps(node, "cholesky", whole(n))
    state, under = steps.reserve("state"), steps.reserve("under")

    def before(i: Index) -> Expr:
        return earlier(state, i, x[i[1:]])

    tops = steps.define(under, batch, x.dtype, lambda i: before([*i, i[0], i[0]]))

    def changed(i: Index) -> Expr:
        *lead, r, c = i
        t, top = i[0], tops[i[:-2]]
        column = Bin("*", before([*lead, r, t]), Call("rsqrt", (top,)))
        product = Bin("*", before([*lead, r, t]), before([*lead, c, t]))
        rest = Bin("-", before(i), Bin("/", product, top))
        inside = select(Bin("==", r, t), Call("sqrt", (top,)), column)
        return select(Bin("==", c, t), inside, select(Bin(">", c, t), rest, before(i)))

    both = steps.last(steps.define(state, x.shape, x.dtype, changed))
    out = Value(both.shape, both.dtype, lambda i: select(
        Bin("<=", i[-1], i[-2]), both[i], Num(0.0)))  # fmt: skip
    return out, tops.view((*batch, n), lambda i: [i[-1], *i[:-1]])


def first_where(node: Node, count: Expr, test: Callable[[Expr], Expr]) -> Expr:
    """One more than the first place where a test holds; 0 where none does."""
    size = whole(count)
    least = node.reduce("min", [count], lambda k: select(
        test(k[0]), add(k[0], Num(1)), Num(size + 1)))  # fmt: skip
    return select(Bin(">", least, Num(size)), Num(0), least)
