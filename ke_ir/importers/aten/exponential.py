"""The exponential of a matrix by its series, of a smaller one that is squared again."""

from __future__ import annotations

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.factors import Steps
from ke_ir.importers.aten.terms import absolute, negated, select, unit
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import earlier

_TERMS = 18
"""Of the series, for a norm of at most 1: what is left out is below 1e-17."""
_SQUARES = 24
"""At most so many; a norm above 2^24 has no exponential in float64 worth the name."""


@aten("linalg_matrix_exp.default", "matrix_exp.default")
def matrix_exp(node: Node, x: Value) -> Value:
    """exp(A) = exp(A / 2^s)^(2^s) (C. Moler, C. Van Loan, SIAM Review 45, 2003, method 3)."""
    b, n = node.builder, x.shape[-1]
    batch = x.shape[:-2]
    x = b.stored(x, f"{node.name}_in")
    columns = b.define(f"{node.name}_columns", (*batch, n), x.dtype, lambda i: node.reduce(
        "sum", [n], lambda r: absolute(x[[*i[:-1], r[0], i[-1]]])))  # fmt: skip
    norm = b.define(f"{node.name}_norm", batch, x.dtype, lambda i: node.reduce(
        "max", [n], lambda c: columns[[*i, c[0]]]))  # fmt: skip
    # A power of two is at least the norm where its exponent is; below 1 nothing is scaled.
    count = b.define(f"{node.name}_count", batch, x.dtype, lambda i: Call("min", (Call(
        "floor", (Bin("+", Call("log2", (Call("max", (norm[i], Num(0.5))),)), Num(1.0)),)),
        Num(float(_SQUARES)))))  # fmt: skip
    scaled = b.define(f"{node.name}_scaled", x.shape, x.dtype, lambda i: Bin(
        "*", x[i], Call("exp2", (negated(count[i[:-2]]),))))  # fmt: skip
    found = _squared(node, _series(node, scaled), count)
    return node.define(lambda i: found[i])


def _series(node: Node, x: Value) -> Value:
    """I + A (I + A / 2 (I + A / 3 ...)), from its end."""
    steps = Steps(node, "series", _TERMS)
    state, n = steps.reserve("state"), x.shape[-1]

    def term(i: Index) -> Expr:
        *lead, r, c = i
        total = node.reduce("sum", [n], lambda k: Bin("*", x[[*lead[1:], r, k[0]]], earlier(
            state, [*lead, k[0], c], unit(k[0], c))))  # fmt: skip
        return Bin("+", unit(r, c), Bin("/", total, Bin("-", Num(_TERMS), i[0])))

    return steps.last(steps.define(state, x.shape, x.dtype, term))


def _squared(node: Node, x: Value, count: Value) -> Value:
    steps = Steps(node, "square", _SQUARES)
    state, n = steps.reserve("state"), x.shape[-1]

    def square(i: Index) -> Expr:
        *lead, r, c = i

        def before(row: Expr, column: Expr) -> Expr:
            return earlier(state, [*lead, row, column], x[[*lead[1:], row, column]])

        product = node.reduce("sum", [n], lambda k: Bin("*", before(r, k[0]), before(k[0], c)))
        return select(Bin("<", i[0], count[lead[1:]]), product, before(r, c))

    return steps.last(steps.define(state, x.shape, x.dtype, square))
