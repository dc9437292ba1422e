"""Arithmetic of integers that the language has no operator for, as sums and products."""

from __future__ import annotations

from collections.abc import Callable

from ke_ir.expr import Bin, Call, Expr, Neg, Num
from ke_ir.importers.aten.terms import one_if, select
from ke_ir.importers.registry import Node


def bits(node: Node, f: Callable[[Expr, Expr], Expr], a: Expr, b: Expr) -> Expr:
    """``f`` of each two bits, put together again; the topmost one counts negative if signed."""
    width = node.dtype.bits
    signed = node.dtype.name.startswith("I")

    def bit(e: Expr, k: int) -> Expr:
        return Bin("%", Bin("//", e, Num(1 << k)) if k else e, Num(2))

    total = f(bit(a, 0), bit(b, 0))
    for k in range(1, width - signed):
        total = Bin("+", total, Bin("*", f(bit(a, k), bit(b, k)), Num(1 << k)))
    if not signed:
        return total
    first, second = (one_if(Bin("<", e, Num(0))) for e in (a, b))
    return Bin("+", total, Bin("*", f(first, second), Num(-(1 << (width - 1)))))


def integer_power(node: Node, a: Expr, n: Expr) -> Expr:
    """A product of ``n`` times ``a``; below 0 only 1 and -1 have a power that is not 0."""
    product = node.builder.bounded("prod", Num(0), Call("max", (n, Num(0))), lambda _: a)
    odd = Bin("!=", Bin("%", n, Num(2)), Num(0))
    sign = select(odd, Neg(Num(1)), Num(1))
    below = select(Bin("==", a, Num(1)), Num(1), select(Bin("==", a, Num(-1)), sign, Num(0)))
    return select(Bin("<", n, Num(0)), below, product)
