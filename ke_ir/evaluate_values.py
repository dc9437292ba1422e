"""Values of an op's expressions: arrays whose dimensions are named by indices.

A subexpression is evaluated only over the indices it uses, in one fixed order of indices, so that
two values line up by inserting dimensions of size 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ke_ir.diagnostics import Loc
from ke_ir.expr import Expr, variables

Array = np.ndarray[Any, Any]


class EvaluationError(Exception):
    """An op that has no value for these inputs, such as a subscript outside its tensor.

    ``tensor`` and ``position`` (index name to value) say where; ``loc`` is the expression.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        tensor: str = "",
        position: Mapping[str, int] | None = None,
        loc: Loc | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.tensor = code, message, tensor
        self.position, self.loc = dict(position or {}), loc


@dataclass(frozen=True)
class Val:
    """``data`` has one dimension for each name in ``axes``; float64, int64 or bool, but a large
    input has its own dtype until it is read.

    ``err`` bounds the absolute error of a computed value, element by element; None is exact. For a
    bool it is itself bool: true where rounding may turn the condition.
    """

    axes: tuple[str, ...]
    data: Array
    err: Array | None = None


@dataclass(frozen=True)
class Rows:
    """A reduction's range that differs from row to row: ``length`` elements from ``lo``."""

    lo: Val
    length: Val


@dataclass(frozen=True)
class Env:
    """What indices stand for: their ranges, or parts of them while work is done in chunks.

    ``order`` ranks all indices of the equation. An index in ``rows`` has in ``ranges`` the
    positions counted from its row's start. ``partial`` are the indices that have only a part.
    """

    order: Mapping[str, int]
    ranges: Mapping[str, tuple[int, int]]
    rows: Mapping[str, Rows]
    partial: frozenset[str] = frozenset()

    def extent(self, name: str) -> int:
        lo, hi = self.ranges[name]
        return max(0, hi - lo)

    def shape(self, axes: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.extent(a) for a in axes)

    def sort(self, axes: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(set(axes), key=self.order.__getitem__))

    def narrow(self, name: str, lo: int, hi: int) -> Env:
        """The same with a part of one index's range."""
        return replace(self, ranges={**self.ranges, name: (lo, hi)}, partial=self.partial | {name})

    def axes_of(self, *exprs: Expr) -> tuple[str, ...]:
        """Indices over which expressions vary, those behind data-dependent ranges included."""
        used: set[str] = set()
        for e in exprs:
            for v in variables(e):
                if v in self.ranges:
                    used.add(v)
                if v in self.rows:
                    used.update(self.rows[v].length.axes, self.rows[v].lo.axes)
        return self.sort(used)

    def size(self, *exprs: Expr) -> int:
        n = 1
        for a in self.axes_of(*exprs):
            n *= self.extent(a)
        return n

    def index(self, name: str) -> Val:
        """Values of an index over its range."""
        steps = Val((name,), np.arange(*self.ranges[name], dtype=np.int64))
        rows = self.rows.get(name)
        return steps if rows is None else self.apply(np.add, rows.lo, steps)

    def valid(self, name: str) -> Val:
        """Where an index with data-dependent range is within its row."""
        steps = Val((name,), np.arange(*self.ranges[name], dtype=np.int64))
        return self.apply(np.less, steps, self.rows[name].length)

    def apply(self, fn: Any, *vals: Val) -> Val:
        """An exact elementwise function."""
        axes = self.sort(a for v in vals for a in v.axes)
        return Val(axes, np.asarray(fn(*(spread(v.data, v.axes, axes) for v in vals))))

    def full(self, v: Val, axes: tuple[str, ...]) -> Val:
        """``v`` stretched over more indices."""
        shape = self.shape(axes)
        data = np.broadcast_to(spread(v.data, v.axes, axes), shape)
        err = None if v.err is None else np.broadcast_to(spread(v.err, v.axes, axes), shape)
        return Val(axes, data, err)


def wide_kind(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that values of one are computed in: float64, int64 or bool."""
    if dtype.kind == "b":
        return dtype
    return np.dtype(np.int64 if dtype.kind in "iu" else np.float64)


def spread(x: Array, axes: tuple[str, ...], to: tuple[str, ...]) -> Array:
    """``x`` with dimensions of size 1 for the names of ``to`` that it lacks (orders agree)."""
    if axes == to:
        return x
    sizes = iter(x.shape)
    return x.reshape([next(sizes) if a in axes else 1 for a in to])


def pieces(extent: int, count: int) -> list[tuple[int, int]]:
    """0 to ``extent`` in at most ``count`` parts of nearly equal size."""
    step = max(1, -(-extent // max(1, count)))
    return [(i, min(i + step, extent)) for i in range(0, extent, step)]


def join(parts: list[Val], axis: str) -> Val:
    """Parts along one index as one value."""
    first = parts[0]
    at = first.axes.index(axis)
    data = np.concatenate([p.data for p in parts], at)
    if all(p.err is None for p in parts):
        return Val(first.axes, data)
    errs = [np.zeros(p.data.shape) if p.err is None else p.err for p in parts]
    return Val(first.axes, data, np.concatenate(errs, at))
