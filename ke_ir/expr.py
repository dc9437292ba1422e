"""Expressions: the mathematics of an ``op``, and the coordinates and bounds of a ``kernel``.

One tree serves both levels. A kernel's coordinates and loop bounds use the integer part of it
(``Num Dim Var Bin Call`` with ``min max begin end``); an op's equations use all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ke_ir.diagnostics import Loc


@dataclass(frozen=True)
class Expr:
    """Base of all expressions. ``loc`` takes no part in equality."""

    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Num(Expr):
    """A literal: an int, or a float (``inf`` and ``nan`` included)."""

    value: int | float


@dataclass(frozen=True)
class Dim(Expr):
    """A named size, such as ``D``."""

    name: str


@dataclass(frozen=True)
class Var(Expr):
    """An index of an op, or a loop variable or integer value of a kernel (printed with ``%``)."""

    name: str


@dataclass(frozen=True)
class Bin(Expr):
    """A binary operation; ``op`` is one of ``BINARY_OPERATORS``."""

    op: str
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True)
class Neg(Expr):
    """Arithmetic negation."""

    arg: Expr


@dataclass(frozen=True)
class Call(Expr):
    """A named function: one of ``FUNCTIONS``; ``begin``/``end`` of an index tile in a kernel."""

    fn: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Ref(Expr):
    """An element of a tensor, or of an earlier equation: ``x[n, i + p - 1 else 0]``."""

    tensor: str
    indices: tuple[Expr, ...]
    fill: Expr | None = None


@dataclass(frozen=True)
class Range:
    """An index with an optional explicit range: ``k``, or ``k in lo to hi`` (``hi`` excluded)."""

    name: str
    lo: Expr | None = None
    hi: Expr | None = None
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Reduce(Expr):
    """``sum[k, l](body)`` and the other reductions over one or more indices."""

    kind: str
    ranges: tuple[Range, ...]
    body: Expr


REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "argmin", "any", "all")
# Loosest to tightest binding; each tuple is one level, left associative.
PRECEDENCE: tuple[tuple[str, ...], ...] = (
    ("or",), ("and",), ("<", "<=", ">", ">=", "==", "!="), ("+", "-"), ("*", "/", "//", "%"),
)  # fmt: skip
BINARY_OPERATORS = tuple(op for level in PRECEDENCE for op in level)
COMPARISONS = PRECEDENCE[2]
LEVEL = {op: i for i, level in enumerate(PRECEDENCE) for op in level}
FUNCTIONS: dict[str, int] = {
    "abs": 1, "exp": 1, "exp2": 1, "log": 1, "log2": 1, "sqrt": 1, "rsqrt": 1, "sin": 1, "cos": 1,
    "tan": 1, "tanh": 1, "sigmoid": 1, "erf": 1, "floor": 1, "ceil": 1, "round": 1, "trunc": 1,
    "not": 1, "pow": 2, "min": 2, "max": 2, "select": 3,
}  # fmt: skip
"""Functions of an op's expressions, with their number of arguments."""
INDEX_FUNCTIONS: dict[str, int] = {"min": 2, "max": 2, "begin": 1, "end": 1}
"""Functions of a kernel's bounds: ``begin``/``end`` give the ends of an index tile's live range."""


_CHILDREN: dict[type[Expr], Callable[[Any], tuple[Expr, ...]]] = {
    Bin: lambda e: (e.lhs, e.rhs),
    Neg: lambda e: (e.arg,),
    Call: lambda e: e.args,
    Ref: lambda e: e.indices if e.fill is None else (*e.indices, e.fill),
    Reduce: lambda e: (*(b for r in e.ranges for b in (r.lo, r.hi) if b is not None), e.body),
}


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions, in source order (explicit range bounds included)."""
    found = _CHILDREN.get(type(e))
    return () if found is None else found(e)


def walk(e: Expr) -> Iterator[Expr]:
    """The expression and all below it, outermost first."""
    waiting = [e]
    while waiting:
        e = waiting.pop()
        yield e
        found = _CHILDREN.get(type(e))
        if found is not None:
            waiting += reversed(found(e))


def rewrite(e: Expr, fn: Callable[[Expr], Expr | None]) -> Expr:
    """Rebuild bottom-up; ``fn`` returns a replacement for a rebuilt node, or None to keep it.

    What holds nothing that was replaced stays the very same object.
    """
    below = children(e)
    new = e
    if below:
        changed = tuple([rewrite(c, fn) for c in below])
        if any(a is not b for a, b in zip(below, changed, strict=True)):
            new = with_children(e, changed)
    got = fn(new)
    return new if got is None else got


def with_children(e: Expr, below: tuple[Expr, ...]) -> Expr:
    """The expression with other direct subexpressions, as many as ``children`` gives."""
    match e:
        case Bin(op):
            return Bin(op, *below, loc=e.loc)
        case Neg():
            return Neg(*below, loc=e.loc)
        case Call(fn):
            return Call(fn, below, loc=e.loc)
        case Ref(tensor, _, None):
            return Ref(tensor, below, loc=e.loc)
        case Ref(tensor):
            return Ref(tensor, below[:-1], below[-1], loc=e.loc)
        case Reduce(kind, ranges):
            left = iter(below)
            bounds = tuple(
                Range(
                    r.name,
                    None if r.lo is None else next(left),
                    None if r.hi is None else next(left),
                    r.loc,
                )
                for r in ranges
            )
            return Reduce(kind, bounds, next(left), loc=e.loc)
    raise TypeError(f"nothing stands in {e!r}")


def substitute(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """Replace variables (not dims) by expressions. Bound indices must not clash with ``values``."""
    return rewrite(e, lambda n: values.get(n.name) if isinstance(n, Var) else None)


def replace_dims(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """Replace dims (not variables) by expressions, all at once."""
    return rewrite(e, lambda n: values.get(n.name) if isinstance(n, Dim) else None)


def variables(e: Expr) -> list[str]:
    """Names of the variables in ``e``, each once, in order of first appearance."""
    if isinstance(e, Var):  # most coordinates are one
        return [e.name]
    return list(dict.fromkeys(n.name for n in walk(e) if isinstance(n, Var)))


def conjuncts(c: Expr) -> list[Expr]:
    """The conditions of which ``c`` asks that all hold."""
    if isinstance(c, Bin) and c.op == "and":
        return [*conjuncts(c.lhs), *conjuncts(c.rhs)]
    return [c]


def dims_of(e: Expr) -> set[str]:
    return {n.name for n in walk(e) if isinstance(n, Dim)}


MAX_INT = (1 << 63) - 1
INT_OPS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b,
}  # fmt: skip


def evaluate_int(e: Expr, names: Mapping[str, int]) -> int:
    """Value of an integer expression; ``names`` binds dims and variables.

    Raises ValueError for division by zero, a value beyond 64 bits or a form that has no integer
    value, KeyError for an unbound name.
    """
    match e:
        case Num(int() as value):
            return value
        case Dim(name) | Var(name):
            return names[name]
        case Neg(arg):
            return -evaluate_int(arg, names)
        case Bin(op, lhs, rhs) if op in INT_OPS:
            b = evaluate_int(rhs, names)
            if b == 0 and op in ("//", "%"):
                raise ValueError(f"division by zero in `{show(e)}`")
            value = INT_OPS[op](evaluate_int(lhs, names), b)
            if abs(value) > MAX_INT:
                raise ValueError(f"`{show(e)}` is beyond 64 bits")
            return value
        case Call("min", args):
            return min(evaluate_int(a, names) for a in args)
        case Call("max", args):
            return max(evaluate_int(a, names) for a in args)
    raise ValueError(f"`{show(e)}` is not an integer expression")


def show_number(v: int | float) -> str:
    """Shortest text that reads back as the same number."""
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        return str(v)
    if math.isnan(v):
        return "nan"
    if math.isinf(v):
        return "inf" if v > 0 else "-inf"
    return repr(v)


def show(e: Expr, sigil: str = "", level: int = 0) -> str:
    """Canonical text. ``sigil`` is ``%`` in a kernel; ``level`` the binding level around ``e``."""
    if isinstance(e, Var):
        return sigil + e.name
    if isinstance(e, Dim):
        return e.name
    if isinstance(e, Num):
        text = show_number(e.value)
        return f"({text})" if text[0] == "-" and level > 0 else text
    if isinstance(e, Bin):
        mine = LEVEL[e.op]
        # Comparisons do not chain, so both sides bind tighter; others are left associative.
        left = show(e.lhs, sigil, mine + 1 if e.op in COMPARISONS else mine)
        text = f"{left} {e.op} {show(e.rhs, sigil, mine + 1)}"
        return f"({text})" if mine < level else text
    if isinstance(e, Neg):
        inner = show(e.arg, sigil, len(PRECEDENCE))
        # `-(1)` is a negation, `-1` a literal: keep them apart so that text reads back the same.
        text = f"-({inner})" if isinstance(e.arg, Num) and inner[0] != "(" else f"-{inner}"
        return f"({text})" if level > 0 else text
    if isinstance(e, Call):
        return f"{e.fn}({', '.join(show(a, sigil) for a in e.args)})"
    if isinstance(e, Ref):
        fill = "" if e.fill is None else show(e.fill, sigil)
        return f"{sigil}{e.tensor}{show_subscripts(e.indices, fill, sigil)}"
    if isinstance(e, Reduce):
        ranges = ", ".join(show_range(r, sigil) for r in e.ranges)
        return f"{e.kind}[{ranges}]({show(e.body, sigil)})"
    raise TypeError(f"not an expression: {e!r}")


def show_subscripts(indices: tuple[Expr, ...], fill: str, sigil: str) -> str:
    """``[i, j else FILL]``, without ``else`` if ``fill`` is empty."""
    inner = ", ".join(show(i, sigil) for i in indices)
    return f"[{inner}{' ' * bool(inner and fill)}{'else ' * bool(fill)}{fill}]"


def show_range(r: Range, sigil: str = "") -> str:
    if r.hi is None:
        return r.name
    lo = Num(0) if r.lo is None else r.lo
    return f"{r.name} in {show(lo, sigil)} to {show(r.hi, sigil)}"
