"""Short names for the expressions that formulas are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from ke_ir.expr import Bin, Call, Expr, Num


def select(c: Expr, a: Expr, b: Expr) -> Expr:
    return Call("select", (c, a, b))


def one_if(c: Expr) -> Expr:
    """A condition as an integer."""
    return select(c, Num(1), Num(0))


def both(a: Expr, b: Expr) -> Expr:
    return Bin("and", a, b)


def either(a: Expr, b: Expr) -> Expr:
    return Bin("or", a, b)


def absolute(e: Expr) -> Expr:
    return Call("abs", (e,))


def negated(e: Expr) -> Expr:
    """0 - e: of 0 it is 0, which has no sign."""
    return Bin("-", Num(0.0), e)


def plus(a: Expr, b: Expr) -> Expr:
    return Bin("+", a, b)


def times(*es: Expr) -> Expr:
    """The product from the left on."""
    return reduce(lambda a, b: Bin("*", a, b), es)


def unit(row: Expr, column: Expr) -> Expr:
    """An element of the unit matrix."""
    return select(Bin("==", column, row), Num(1.0), Num(0.0))


OPERATION: dict[str, Callable[[Expr, Expr], Expr]] = {
    "sum": plus,
    "prod": times,
    "max": lambda a, b: Call("max", (a, b)),
    "min": lambda a, b: Call("min", (a, b)),
    "any": either,
    "all": both,
}
"""What combines two values of a reduction."""
