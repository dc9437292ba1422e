"""Equations that others read slice by slice, as one equation for each slice.

The gates of a cell are often one product, ``g[b, j in 0 to 4 * H]``, of which ``g[b, k]``,
``g[b, k + H]`` and so on are read. With an equation for each, what reads them needs no kernel of
its own: all have the same indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ke_ir.expr import (
    Bin,
    Expr,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    evaluate_int,
    rewrite,
    substitute,
    variables,
    walk,
)
from ke_ir.ir import Equation

Slice = tuple[tuple[Expr, Expr], ...]
"""For each dimension, where it begins and how long it is."""
MOST = 8
"""Slices of one equation."""


def sliced(
    equations: Sequence[Equation], kept: Collection[str], sizes: Mapping[str, int],
    fresh: Callable[[str], str],
) -> list[Equation]:  # fmt: skip
    """The equations, with all ranges given, but for those in ``kept`` by slices where they can be.

    An equation is cut up if it reduces, and if its slices are no more than the whole.
    """
    out = list(equations)
    for eq in equations:
        if eq.target in kept or not any(isinstance(n, Reduce) for n in walk(eq.rhs)):
            continue
        found = _slices(eq, out)
        if found and _worth(eq, found, sizes):
            out = _cut(eq, out, {s: fresh(f"{eq.target}_{i}") for i, s in enumerate(found)})
    return out


def _slices(eq: Equation, equations: Sequence[Equation]) -> list[Slice]:
    """The slices that equations read of one of them; none if something else is read."""
    found: dict[Slice, None] = {}
    for reader in equations:
        spans = {r.name: r.hi for r in reader.ranges}
        for ref in walk(reader.rhs):
            if isinstance(ref, Ref) and ref.tensor == eq.target:
                made = _slice(ref, spans)
                if made is None:
                    return []
                found[made] = None
    return list(found)


def _slice(ref: Ref, spans: Mapping[str, Expr | None]) -> Slice | None:
    out = []
    for i in ref.indices:
        match i:
            case Var(name):
                begin: Expr = Num(0)
            case Bin("+", Var(name), begin) if not variables(begin):
                pass
            case _:
                return None
        length = spans.get(name)
        if length is None:
            return None
        out.append((begin, length))
    return tuple(out) if ref.fill is None else None


def _worth(eq: Equation, found: Sequence[Slice], sizes: Mapping[str, int]) -> bool:
    whole = tuple((Num(0), r.hi) for r in eq.ranges)
    if len(found) > MOST or all(s == whole for s in found):
        return False
    try:
        read = sum(math.prod(evaluate_int(n, sizes) for _, n in s) for s in found)
        made = math.prod(evaluate_int(r.hi, sizes) for r in eq.ranges if r.hi is not None)
    except (KeyError, ValueError):
        return False
    return read <= made


def _cut(eq: Equation, equations: Sequence[Equation], names: Mapping[Slice, str]) -> list[Equation]:
    out: list[Equation] = []
    for e in equations:
        if e is eq:
            out += [_part(eq, s, name) for s, name in names.items()]
            continue
        spans = {r.name: r.hi for r in e.ranges}

        def change(n: Expr, spans: Mapping[str, Expr | None] = spans) -> Expr | None:
            if not isinstance(n, Ref) or n.tensor != eq.target:
                return None
            made = _slice(n, spans)
            assert made is not None
            return Ref(names[made], tuple(Var(variables(i)[0]) for i in n.indices), loc=n.loc)

        out.append(replace(e, rhs=rewrite(e.rhs, change)))
    return out


def _part(eq: Equation, s: Slice, name: str) -> Equation:
    at: dict[str, Expr] = {
        r.name: Bin("+", Var(r.name), begin)
        for r, (begin, _) in zip(eq.ranges, s, strict=True)
        if begin != Num(0)
    }
    ranges = tuple(Range(r.name, Num(0), n) for r, (_, n) in zip(eq.ranges, s, strict=True))
    return Equation(name, ranges, substitute(eq.rhs, at), loc=eq.loc)
