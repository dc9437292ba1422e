"""Linear systems, inverses and determinants, by the factors of ``factors``.

What PyTorch raises for a matrix that has no factors is not said: the result is then not finite.
"""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.factors import (
    LU,
    cholesky,
    first_where,
    lu,
    lu_solved,
    permutation,
    solved,
    spread,
    turned,
)
from ke_ir.importers.aten.scatter import common_shape
from ke_ir.importers.aten.terms import absolute, select, unit
from ke_ir.importers.graph import Index, Value, constant
from ke_ir.importers.registry import Node, aten, whole
from ke_ir.types import DType


def _row_major(node: Node) -> bool:
    """Of such a matrix PyTorch takes the determinant by the factors of its transpose, which is what
    LAPACK sees in it; gradients read them."""
    layout = node.layouts[0] if node.layouts else None
    return layout is not None and layout.strides[-1] == 1


def _result(node: Node, x: Value, k: int, suffix: str) -> Value:
    """A value as the ``k``-th result."""
    return node.define(lambda i: x[i], k, suffix)


def _info(node: Node, both: Value, k: int) -> Value:
    """Which element of U's diagonal is 0 first, counted from 1."""
    count = min(both.shape[-2:], key=whole)
    return node.define(lambda i: first_where(node, count, lambda r: Bin(
        "==", both[[*i, r, r]], Num(0))), k, "_info")  # fmt: skip


def _pivots(node: Node, factors: LU, k: int) -> Value:
    """PyTorch counts rows from 1."""
    return node.define(lambda i: Bin("+", factors.pivots[i], Num(1)), k, "_pivots")


@aten("linalg_lu_factor_ex.default")
def lu_factor(node: Node, x: Value, pivoted: bool, _: bool) -> list[Value]:
    found = lu(node, x, pivoted)
    return [_result(node, found.both, 0, ""), _pivots(node, found, 1),
            _info(node, found.both, 2)]  # fmt: skip


def _unpacked(
    node: Node, both: Value, rows: Value, order: bool = True, data: bool = True
) -> list[Value]:
    """P if the order is asked for, L and U if the data are; the rest is empty."""

    def place(i: Index) -> Expr:
        return select(Bin("==", rows[[*i[:-2], i[-1]]], i[-2]), Num(1.0), Num(0.0))

    def lower(i: Index) -> Expr:
        return select(Bin("<", i[-1], i[-2]), both[i], unit(*i[-2:]))

    def upper(i: Index) -> Expr:
        return select(Bin(">=", i[-1], i[-2]), both[i], Num(0.0))

    parts = (place, order, ""), (lower, data, "_l"), (upper, data, "_u")
    return [node.define(f, k, suffix) if asked else constant(0, *node.results[k][::-1])
            for k, (f, asked, suffix) in enumerate(parts)]  # fmt: skip


@aten("linalg_lu.default")
def lu_parts(node: Node, x: Value, pivoted: bool) -> list[Value]:
    found = lu(node, x, pivoted)
    return _unpacked(node, found.both, found.rows)


def _from_zero(pivots: Value) -> Value:
    """Rows from 0; what is none is the first, so that the op is defined for any pivots."""
    return Value(pivots.shape, DType.I64, lambda i: Call(
        "max", (Bin("-", pivots[i], Num(1)), Num(0))))  # fmt: skip


def _given(node: Node, both: Value, pivots: Value, batch: Sequence[Expr]) -> LU:
    """Factors that are inputs, under the batch dims of the result."""
    wide = node.builder.stored(spread(both, batch), f"{node.name}_lu")
    from_zero = _from_zero(pivots)
    rows = permutation(node, from_zero, both.shape[-2])
    return LU(wide, from_zero, spread(rows, batch, 1))


@aten("lu_unpack.default")
def lu_unpack(node: Node, both: Value, pivots: Value, data: bool, order: bool) -> list[Value]:
    rows = permutation(node, _from_zero(pivots), both.shape[-2])
    return _unpacked(node, both, rows, order, data)


def _both_sides(node: Node, factors: LU, b: Value, left: bool, adjoint: bool) -> Value:
    if left:
        return lu_solved(node, factors, b, adjoint)
    return turned(lu_solved(node, factors, turned(b), not adjoint))


@aten("linalg_lu_solve.default")
def lu_solve(node: Node, both: Value, pivots: Value, b: Value, left: bool, adjoint: bool) -> Value:
    batch = node.shape[:-2]
    found = _given(node, both, pivots, batch)
    return _result(node, _both_sides(node, found, spread(b, batch), left, adjoint), 0, "")


@aten("_linalg_solve_ex.default")
def solve(node: Node, a: Value, b: Value, left: bool, _: bool) -> list[Value]:
    """A right side of as many dims as A has but one is a vector for each matrix."""
    vector = b.rank == 1 or (b.rank == a.rank - 1 and list(b.shape) == list(a.shape[:-1]))
    columns = b.view((*b.shape, Num(1)), lambda i: i[:-1]) if vector else b
    batch = common_shape([a.shape[:-2], columns.shape[:-2]]) if a.rank + columns.rank > 4 else []
    found = lu(node, a)
    wide = LU(spread(found.both, batch), found.pivots, spread(found.rows, batch, 1))
    x = _both_sides(node, wide, spread(columns, batch), left, False)
    out = node.define(lambda i: x[[*i, Num(0)] if vector else i])
    return [out, _result(node, found.both, 1, "_lu"), _pivots(node, found, 2),
            _info(node, found.both, 3)]  # fmt: skip


@aten("linalg_inv_ex.default")
def inverse(node: Node, a: Value, _: bool) -> list[Value]:
    found = lu(node, a)
    one = Value(a.shape, node.dtype, lambda i: unit(*i[-2:]))
    x = lu_solved(node, found, one, False)
    return [_result(node, x, 0, ""), _info(node, found.both, 1)]


def _sign(node: Node, found: LU) -> Value:
    """-1 for an odd number of rows that changed places."""
    steps = found.pivots.shape[-1]
    return node.builder.define(f"{node.name}_parity", found.pivots.shape[:-1], node.dtype,
        lambda i: node.reduce("prod", [steps], lambda t: select(
            Bin("==", found.pivots[[*i, t[0]]], t[0]), Num(1.0), Num(-1.0))))  # fmt: skip


@aten("_linalg_det.default")
def det(node: Node, a: Value) -> list[Value]:
    found = lu(node, turned(a) if _row_major(node) else a)
    sign = _sign(node, found)
    both = found.both
    out = node.define(lambda i: Bin("*", sign[i], node.reduce("prod", [a.shape[-1]], lambda t: both[
        [*i, t[0], t[0]]])))  # fmt: skip
    return [out, _result(node, both, 1, "_lu"), _pivots(node, found, 2)]


@aten("_linalg_slogdet.default")
def slogdet(node: Node, a: Value) -> list[Value]:
    found = lu(node, turned(a) if _row_major(node) else a)
    parity, both, n = _sign(node, found), found.both, a.shape[-1]

    def sign_of(e: Expr) -> Expr:
        return select(Bin(">", e, Num(0)), Num(1.0), select(Bin("<", e, Num(0)), Num(-1.0), e))

    sign = node.define(lambda i: Bin("*", parity[i], node.reduce(
        "prod", [n], lambda t: sign_of(both[[*i, t[0], t[0]]]))))  # fmt: skip
    size = node.define(lambda i: node.reduce("sum", [n], lambda t: Call(
        "log", (absolute(both[[*i, t[0], t[0]]]),))), 1, "_log")  # fmt: skip
    return [sign, size, _result(node, both, 2, "_lu"), _pivots(node, found, 3)]


# Triangles


@aten("linalg_solve_triangular.default")
def solve_triangular(node: Node, a: Value, b: Value, upper: bool, left: bool, unit: bool) -> Value:
    batch = node.shape[:-2]
    a, b = spread(a, batch), spread(b, batch)
    if left:
        return _result(node, solved(node, a, b, upper, unit), 0, "")
    return _result(node, turned(solved(node, turned(a), turned(b), not upper, unit)), 0, "")


@aten("triangular_solve.default")
def triangular_solve(
    node: Node, b: Value, a: Value, upper: bool, transpose: bool, unit: bool
) -> list[Value]:
    batch = node.shape[:-2]
    wide = spread(turned(a) if transpose else a, batch)
    x = solved(node, wide, spread(b, batch), upper != transpose, unit)
    shape = node.results[1][0]
    return [_result(node, x, 0, ""), spread(a, shape[:-2])]


# Positive definite matrices


def _cholesky(node: Node, a: Value, upper: bool) -> tuple[Value, Value]:
    lower, under = cholesky(node, turned(a) if upper else a)
    return (turned(lower) if upper else lower), under


@aten("cholesky.default")
def cholesky_(node: Node, a: Value, upper: bool) -> Value:
    return _result(node, _cholesky(node, a, upper)[0], 0, "")


@aten("linalg_cholesky_ex.default")
def cholesky_ex(node: Node, a: Value, upper: bool, _: bool) -> list[Value]:
    found, under = _cholesky(node, a, upper)
    info = node.define(lambda i: first_where(node, a.shape[-1], lambda k: Call(
        "not", (Bin(">", under[[*i, k]], Num(0)),))), 1, "_info")  # fmt: skip
    return [_result(node, found, 0, ""), info]


def _by_cholesky(node: Node, factor: Value, b: Value, upper: bool) -> Value:
    """X of L L^T X = B, or of U^T U X = B."""
    first, second = (turned(factor), factor) if upper else (factor, turned(factor))
    half = solved(node, first, b, False, False, "forward")
    return solved(node, second, half, True, False, "backward")


@aten("cholesky_solve.default")
def cholesky_solve(node: Node, b: Value, factor: Value, upper: bool) -> Value:
    batch = node.shape[:-2]
    found = _by_cholesky(node, spread(factor, batch), spread(b, batch), upper)
    return _result(node, found, 0, "")


@aten("cholesky_inverse.default")
def cholesky_inverse(node: Node, factor: Value, upper: bool) -> Value:
    one = Value(factor.shape, node.dtype, lambda i: unit(*i[-2:]))
    return _result(node, _by_cholesky(node, factor, one, upper), 0, "")
