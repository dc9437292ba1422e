"""Coordinates and bounds of a kernel, compiled to closures over the interpreter's state.

A kernel runs the same few expressions thousands of times, so trees are walked once per kernel and
not once per iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ke_ir.expr import (
    INT_OPS,
    Bin,
    Call,
    Dim,
    Expr,
    Neg,
    Num,
    Var,
    evaluate_int,
    rewrite,
    show,
    variables,
)

Array = np.ndarray[Any, Any]
Int = Callable[[], Any]
"""Gives an int, or an integer array when a variable stands for a tile."""


@dataclass
class Frame:
    """What names stand for at one moment of a kernel's run.

    ``tiles`` maps an index tile to its (start, stop, size): its live range ends at stop. Loop
    variables are here only while their loop runs, so that another one may have the same name.
    """

    values: dict[str, Array] = field(default_factory=dict)
    scalars: dict[str, int] = field(default_factory=dict)
    tiles: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def compile_index(e: Expr, dims: Mapping[str, int], leaf: Callable[[str], Int]) -> Int | int:
    """A closure for ``e``, or its value when it depends on dims only.

    ``leaf`` gives the closure of a variable. Raises ValueError for division by zero.
    """
    if isinstance(e, Num | Dim) or not variables(e):
        return evaluate_int(e, dims)
    if isinstance(e, Var):
        return leaf(e.name)
    if isinstance(e, Neg):
        arg = _closure(compile_index(e.arg, dims, leaf))
        return lambda: -arg()
    if isinstance(e, Bin):
        return _binary(e, dims, leaf)
    if isinstance(e, Call) and e.fn in ("min", "max"):
        pick = np.minimum if e.fn == "min" else np.maximum
        a, b = (_closure(compile_index(x, dims, leaf)) for x in e.args)
        return lambda: pick(a(), b())
    raise ValueError(f"`{show(e, '%')}` is not an integer expression")


def constant(x: int) -> Int:
    return lambda: x


def _closure(x: Int | int) -> Int:
    return constant(x) if isinstance(x, int) else x


def _binary(e: Bin, dims: Mapping[str, int], leaf: Callable[[str], Int]) -> Int:
    fn = INT_OPS[e.op]
    lhs, rhs = compile_index(e.lhs, dims, leaf), compile_index(e.rhs, dims, leaf)
    if isinstance(rhs, int):
        if rhs == 0 and e.op in ("//", "%"):
            raise ValueError(f"division by zero in `{show(e, '%')}`")
        a, c = _closure(lhs), rhs
        return lambda: fn(a(), c)
    left, right = _closure(lhs), rhs
    return lambda: fn(left(), right())


def compile_scalar(e: Expr, dims: Mapping[str, int], frame: Frame) -> Callable[[], int]:
    """A closure for a loop bound or a scalar coordinate: dims, untiled loop variables, rank-0
    values, and ``begin``/``end`` of index tiles."""
    ends: dict[str, Int] = {}

    def leaf(name: str) -> Int:
        if name in ends:
            return ends[name]

        def read() -> int:
            at = frame.scalars.get(name)
            return int(frame.values[name]) if at is None else at

        return read

    plain = _replace_ends(e, frame, ends)
    got = compile_index(plain, dims, leaf)
    if isinstance(got, int):
        return lambda: got
    return lambda: int(got())


def _replace_ends(e: Expr, frame: Frame, ends: dict[str, Int]) -> Expr:
    """``begin``/``end`` calls become variables, whose closures are entered in ``ends``."""

    def swap(n: Expr) -> Expr | None:
        if isinstance(n, Call) and n.fn in ("begin", "end"):
            arg = n.args[0]
            assert isinstance(arg, Var)
            key, name, which = f"{n.fn}({arg.name})", arg.name, int(n.fn == "end")
            ends[key] = lambda: frame.tiles[name][which]
            return Var(key)
        return None

    return rewrite(e, swap)


def affine(e: Expr, tiles: frozenset[str], dims: Mapping[str, int]) -> tuple[str, int, Expr] | None:
    """``e`` as (index tile, coefficient, rest) with the rest free of ``tiles``; None if it has
    another form or names several. The coefficient is 0, and the name empty, without any tile."""
    if not any(v in tiles for v in variables(e)):
        return "", 0, e
    if isinstance(e, Var):
        return e.name, 1, Num(0)
    if isinstance(e, Bin) and e.op in ("+", "-"):
        a, b = affine(e.lhs, tiles, dims), affine(e.rhs, tiles, dims)
        if a is None or b is None or (a[0] and b[0]):
            return None
        sign = -1 if e.op == "-" else 1
        return a[0] or b[0], a[1] + sign * b[1], Bin(e.op, a[2], b[2])
    if isinstance(e, Bin) and e.op == "*":
        for x, by in ((e.lhs, e.rhs), (e.rhs, e.lhs)):
            got = affine(x, tiles, dims)
            if got is not None and not variables(by):
                return got[0], got[1] * evaluate_int(by, dims), Bin("*", got[2], by)
    return None
