"""Integer expressions of views: index maps that compose, and stay short.

A view of a view of a tensor would soon subscript it by towers of ``//`` and ``%``. The
constructors here fold what the ranges of the variables allow: merging two dims and splitting them
again gives back the two variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ke_ir.expr import Bin, Expr, Neg, Num, Ref, dims_of, evaluate_int
from ke_ir.intervals import Interval, interval

Spans = Mapping[str, Interval]
"""What values each index takes."""


def number(e: Expr) -> int | None:
    """The value of an expression without dims and variables; None for any other."""
    try:
        return evaluate_int(e, {})
    except (KeyError, ValueError):
        return None


def earlier(state: str, i: Sequence[Expr], start: Expr) -> Expr:
    """A state of a recurrence over [step, ...] in the step before; ``start`` in the first."""
    return Ref(state, (add(i[0], Num(-1)), *i[1:]), start)


def add(a: Expr, b: Expr) -> Expr:
    x, y = number(a), number(b)
    if x is not None and y is not None:
        return Num(x + y)
    if x == 0:
        return b
    if y == 0:
        return a
    if y is not None and y < 0:
        return Bin("-", a, Num(-y))
    return Bin("+", a, b)


def sub(a: Expr, b: Expr) -> Expr:
    if a == b:
        return Num(0)
    y = number(b)
    return add(a, Num(-y)) if y is not None else Bin("-", a, b)


def mul(a: Expr, b: Expr) -> Expr:
    x, y = number(a), number(b)
    if x is not None and y is not None:
        return Num(x * y)
    if x == 0 or y == 0:
        return Num(0)
    if x == 1:
        return b
    if y == 1:
        return a
    return Bin("*", b, a) if x is not None else Bin("*", a, b)


def product(es: Iterable[Expr]) -> Expr:
    out: Expr = Num(1)
    for e in es:
        out = mul(out, e)
    return out


def equal(a: Expr, b: Expr) -> bool:
    """True if two sizes are equal: ``B * (L + 1)`` and ``B * L + B`` are.

    Those of dims are compared at sizes at which different expressions of a model's sizes differ.
    """
    if a == b:
        return True
    dims = dims_of(a) | dims_of(b)
    if not dims:
        return number(a) is not None and number(a) == number(b)
    if dims_of(a) != dims_of(b):
        return False
    return all(_at(a, dims, k) == _at(b, dims, k) for k in range(4))


def _at(e: Expr, dims: set[str], trial: int) -> int | None:
    sizes = {d: 104729 + 7919 * i * (trial + 1) + 31 * trial for i, d in enumerate(sorted(dims))}
    try:
        return evaluate_int(e, sizes)
    except (KeyError, ValueError):
        return None


def floordiv(e: Expr, n: Expr, spans: Spans) -> Expr:
    """``e // n``, folded where the ranges of the variables allow."""
    size = number(n)
    if size == 1:
        return e
    if size is None or size < 1:
        return Bin("//", e, n)
    if (value := number(e)) is not None:
        return Num(value // size)
    whole, rest = split(e, size)
    if whole is not None and _within(rest, size, spans):
        return whole
    if _within(e, size, spans):
        return Num(0)
    match e:
        case Bin("//", inner, by) if (k := number(by)) is not None and k > 0:
            return floordiv(inner, Num(k * size), spans)
    return Bin("//", e, n)


def mod(e: Expr, n: Expr, spans: Spans) -> Expr:
    """``e % n``, folded where the ranges of the variables allow."""
    size = number(n)
    if size == 1:
        return Num(0)
    if size is None or size < 1:
        return Bin("%", e, n)
    if (value := number(e)) is not None:
        return Num(value % size)
    if _within(e, size, spans):
        return e
    whole, rest = split(e, size)
    if whole is not None:
        return mod(rest, n, spans)
    match e:
        case Bin("%", inner, by) if (k := number(by)) is not None and k % size == 0:
            return mod(inner, n, spans)
    return Bin("%", e, n)


def _within(e: Expr, n: int, spans: Spans) -> bool:
    return interval(e, {}, spans).inside(0, n)


def split(e: Expr, n: int) -> tuple[Expr | None, Expr]:
    """``e`` as ``n * whole + rest``; whole is None if no term is a multiple of ``n``."""
    whole: Expr | None = None
    rest: Expr = Num(0)
    for term, factor in terms(e):
        if factor % n == 0 and factor:
            part = mul(term, Num(factor // n))
            whole = part if whole is None else add(whole, part)
        else:
            rest = add(rest, mul(term, Num(factor)))
    return whole, rest


def terms(e: Expr, factor: int = 1) -> list[tuple[Expr, int]]:
    """A sum as (term, factor); a constant has the term 1."""
    match e:
        case Num(int() as v):
            return [(Num(1), v * factor)]
        case Neg(arg):
            return terms(arg, -factor)
        case Bin("+", a, b):
            return terms(a, factor) + terms(b, factor)
        case Bin("-", a, b):
            return terms(a, factor) + terms(b, -factor)
        case Bin("*", a, b) if (n := number(b)) is not None:
            return terms(a, factor * n)
        case Bin("*", a, b) if (n := number(a)) is not None:
            return terms(b, factor * n)
    return [(e, factor)]


def reshaped(
    index: Sequence[Expr], shape: Sequence[Expr], source: Sequence[Expr], spans: Spans
) -> list[Expr]:
    """Where element ``index`` of a tensor reshaped to ``shape`` lies in the tensor ``source``.

    Dims are matched in groups of equal size, so that only what is merged or split is computed.
    Raises ValueError for symbolic sizes that cannot be matched.
    """
    out: list[Expr] = []
    for ours, theirs in groups(shape, source):
        out += _regroup([index[i] for i in ours], [shape[i] for i in ours],
                        [source[i] for i in theirs], spans)  # fmt: skip
    return out


def groups(a: Sequence[Expr], b: Sequence[Expr]) -> list[tuple[list[int], list[int]]]:
    """The dims of two shapes of one size, in the smallest groups of equal sizes, in order."""
    out = []
    i = j = 0
    while i < len(a) or j < len(b):
        if i < len(a) and j < len(b) and equal(a[i], b[j]):
            out.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        ours, theirs = [], []
        if i < len(a):
            ours, i = [i], i + 1
        if j < len(b):
            theirs, j = [j], j + 1
        while not equal(x := product(a[k] for k in ours), y := product(b[k] for k in theirs)):
            m, n = number(x), number(y)
            behind = m < n if m is not None and n is not None else len(ours) <= len(theirs)
            if behind and i < len(a):
                ours, i = [*ours, i], i + 1
            elif j < len(b):
                theirs, j = [*theirs, j], j + 1
            elif i < len(a):
                ours, i = [*ours, i], i + 1
            else:
                raise ValueError("sizes that cannot be matched")
        out.append((ours, theirs))
    return out


def _regroup(
    index: Sequence[Expr], shape: Sequence[Expr], source: Sequence[Expr], spans: Spans
) -> list[Expr]:
    """One group: the flat index, taken apart again."""
    if len(index) == len(source) == 1:
        return [index[0]]
    flat: Expr = Num(0)
    for i, n in zip(index, shape, strict=True):
        flat = add(mul(flat, n), i)
    flat = expanded(flat)
    out: list[Expr] = []
    for k, n in enumerate(source):
        below = product(source[k + 1 :])
        if number(n) == 1:
            out.append(Num(0))
            continue
        part = floordiv(flat, below, spans)
        outermost = all(number(m) == 1 for m in source[:k])
        out.append(part if outermost else mod(part, n, spans))
    return out


def expanded(e: Expr) -> Expr:
    """A sum with its products multiplied out, as far as factors are numbers."""
    out: Expr = Num(0)
    for term, factor in terms(e):
        if factor:
            out = add(out, mul(term, Num(factor)))
    return out
