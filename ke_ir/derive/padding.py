"""What an expression is where an index lies beyond its range, when that is a known constant.

A tile may reach past the end of its loop. Loads give their ``else`` value there; if the body of a
reduction then equals the reduction's neutral element, no mask is needed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ke_ir.expr import COMPARISONS, Bin, Call, Expr, Neg, Num, Ref, variables, walk
from ke_ir.expr import Dim as DimExpr
from ke_ir.expr import Var as VarExpr

Constant = int | float | bool


def is_affine(e: Expr) -> bool:
    """True for coordinates that a load takes as they are: + - * // % with constant divisors."""
    for n in walk(e):
        match n:
            case Num(int()) | VarExpr() | DimExpr() | Neg():
                continue
            case Bin("+" | "-", _, _):
                continue
            case Bin("*", lhs, rhs) if not (variables(lhs) and variables(rhs)):
                continue
            case Bin("//" | "%", _, rhs) if _positive(rhs):
                continue
        return False
    return True


def _positive(e: Expr) -> bool:
    if isinstance(e, Num):
        return e.value > 0
    return isinstance(e, DimExpr) or (
        isinstance(e, Bin) and e.op in "+*" and _positive(e.lhs) and _positive(e.rhs)
    )


def literal(e: Expr) -> Constant | None:
    """The number that an expression is, or None."""
    if isinstance(e, Num):
        return e.value
    if isinstance(e, Neg):
        v = literal(e.arg)
        return None if v is None else -v
    if isinstance(e, Bin) and e.op in ("<", ">", "=="):
        a, b = literal(e.lhs), literal(e.rhs)
        return None if a is None or b is None else bool(_evaluate(e.op, a, b))
    return None


class Padding:
    """Constants at padding for given loop variables ``out`` beyond their range.

    ``where`` maps indices to coordinates; ``fill`` is what loads without an ``else`` of their own
    give, by tensor; inside coordinates they give -1, which is outside every tensor.
    """

    def __init__(
        self, out: frozenset[str], where: Mapping[str, Expr], fill: Callable[[str], Constant]
    ) -> None:
        self.out, self.where, self.fill = out, where, fill

    def value(self, e: Expr, inside_coordinate: bool = False) -> Constant | None:
        """The constant that ``e`` is, or None when it is not known to be one."""
        match e:
            case Num(x):
                return x
            case Neg(arg):
                v = self.value(arg, inside_coordinate)
                return None if v is None else -v
            case Bin(op, lhs, rhs):
                a = self.value(lhs, inside_coordinate)
                b = self.value(rhs, inside_coordinate)
                if op == "and" and (a is False or b is False):
                    return False
                if op == "or" and (a is True or b is True):
                    return True
                return None if a is None or b is None else _evaluate(op, a, b)
            case Call("select", (c, x, y)):
                got = self.value(c, inside_coordinate)
                if got is None:
                    return None
                return self.value(x if got else y, inside_coordinate)
            case Call(fn, args):
                vals = [self.value(a, inside_coordinate) for a in args]
                known = [v for v in vals if v is not None]
                return _evaluate(fn, *known) if len(known) == len(vals) else None
            case Ref(tensor, indices, fill):
                if not self.is_outside(indices):
                    return None
                if fill is not None:
                    return literal(fill)
                return -1 if inside_coordinate else self.fill(tensor)
        return None

    def is_outside(self, indices: tuple[Expr, ...]) -> bool:
        """True if a load at these indices is certain to give its ``else`` value."""
        if all(is_affine(i) for i in indices):
            names = {v for i in indices for v in variables(i)}
            return any(v in self.out for n in names for v in variables(self.where[n]))
        for i in indices:
            if not is_affine(i):
                v = self.value(i, inside_coordinate=True)
                if v is not None and v < 0:
                    return True
        return False


_PYTHON = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _evaluate(op: str, *args: Constant) -> Constant | None:
    """One operation on constants in float64; None where it has no finite or infinite value."""
    if op in _PYTHON and len(args) == 2:  # the common ones, without loading numpy
        plain = _PYTHON[op](float(args[0]), float(args[1]))
        return None if math.isnan(plain) else plain
    import numpy as np

    from ke_ir.numerics import BINARY_FUNCTIONS, COMPARE_FUNCTIONS, UNARY_FUNCTIONS

    names = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
    compare = dict(zip(COMPARISONS, ("lt", "le", "gt", "ge", "eq", "ne"), strict=True))
    with np.errstate(all="ignore"):
        if op == "not":
            return not args[0]
        xs: list[Any] = [np.asarray(float(a)) for a in args]
        if op in compare:
            return bool(COMPARE_FUNCTIONS[compare[op]](*xs))
        if len(xs) == 1 and op in UNARY_FUNCTIONS:
            got = float(UNARY_FUNCTIONS[op](*xs))
        elif names.get(op, op) in BINARY_FUNCTIONS and op not in ("//", "%", "and", "or"):
            got = float(BINARY_FUNCTIONS[names.get(op, op)](*xs))
        else:
            return None
    return None if np.isnan(got) else got
