"""Reductions of what data assign to an element, ``sum[l](select(id[l] == j, x[l], 0))``.

Every term belongs to at most one element, so that each is combined with that one, rather than all
elements being compared with all terms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.evaluate_values import Array, Env, Val, join, pieces
from ke_ir.expr import Bin, Call, Expr, Reduce, conjuncts
from ke_ir.numerics import identity

if TYPE_CHECKING:
    from ke_ir.evaluate import Evaluator

PAIRS = 1 << 16
"""Comparisons below which they are simply made."""
CHUNK = 1 << 22
"""Terms that are combined at a time."""
_COMBINE: dict[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class _Key:
    """``index == data``: the elements of ``index`` are all different, over axes of its own.

    ``line`` has them in ascending order, ``order`` their flat places.
    """

    index: Val
    line: Array
    order: Array
    data: Expr


def scattered(ev: Evaluator, e: Reduce, env: Env) -> Val | None:
    """The value of a reduction whose terms belong to one element each; None for any other.

    ``env`` binds the reduced indices too.
    """
    body, names = e.body, {r.name for r in e.ranges}
    if e.kind not in _COMBINE or not (isinstance(body, Call) and body.fn == "select"):
        return None
    if names & set(env.rows) or env.size(body) < PAIRS:
        return None
    condition, value, other = body.args
    keys: list[_Key] = []
    tests: list[Expr] = []
    for c in conjuncts(condition):
        key = _key(ev, c, env, names)
        if key is None:
            tests.append(c)
        else:
            keys.append(key)
    keyed = {a for k in keys for a in k.index.axes}
    rest = (value, *tests, *(k.data for k in keys))
    if not keys or keyed & set(env.axes_of(*rest)) or env.axes_of(other):
        return None
    if len(keyed) < sum(len(k.index.axes) for k in keys):
        return None
    missed = ev.value(other, env)
    if missed.err is not None or (e.kind == "sum" and missed.data != 0):
        return None
    return _Scatter(ev, e, keys, tests, value, missed.data).over(env)


def _key(ev: Evaluator, c: Expr, env: Env, names: set[str]) -> _Key | None:
    """An equality with what differs from element to element of indices that are not reduced."""
    if not (isinstance(c, Bin) and c.op == "=="):
        return None
    for index, data in ((c.lhs, c.rhs), (c.rhs, c.lhs)):
        axes = env.axes_of(index)
        if not axes or names & set(axes) or set(axes) & set(env.axes_of(data)):
            continue
        if not names & set(env.axes_of(data)):
            continue
        found = env.full(ev.value(index, env), axes)
        order = np.argsort(found.data, axis=None)
        line = found.data.ravel()[order]
        if line.dtype.kind == "i" and (line[1:] != line[:-1]).all():
            return _Key(found, line, order, data)
    return None


@dataclass
class _Sums:
    """What has been combined so far, by element, flat: values, bounds, magnitudes, and how many."""

    out: Array
    err: Array | None
    size: Array
    hits: Array


@dataclass(frozen=True)
class _Scatter:
    ev: Evaluator
    e: Reduce
    keys: list[_Key]
    tests: list[Expr]
    value: Expr
    missed: Array

    @property
    def names(self) -> set[str]:
        return {r.name for r in self.e.ranges}

    def over(self, env: Env) -> Val | None:
        """The result for these ranges of the indices around, in parts of bounded size.

        None where rounding may change what a term belongs to.
        """
        terms = env.axes_of(self.value, *self.tests, *(k.data for k in self.keys))
        terms = env.sort((*terms, *self.names))
        kept = tuple(a for a in terms if a not in self.names)
        size = math.prod(env.shape(terms))
        axis = max(kept, key=env.extent, default="")
        if size > CHUNK and axis and env.extent(axis) > 1:
            parts = [self.over(part) for part in _parts(env, axis, size)]
            found = [p for p in parts if p is not None]
            return join(found, axis) if len(found) == len(parts) else None
        axes = (*kept, *(a for k in self.keys for a in k.index.axes))
        sums: _Sums | None = None
        for part in _parts(env, max(self.names, key=env.extent), size):
            sums = self.added(part, terms, kept, env.shape(axes), sums)
            if sums is None:
                return None
        return None if sums is None else self.finished(sums, env, axes)

    def added(
        self, env: Env, terms: tuple[str, ...], kept: tuple[str, ...], shape: tuple[int, ...],
        sums: _Sums | None,
    ) -> _Sums | None:  # fmt: skip
        """With the terms of one part; None if they cannot be told apart."""
        value = env.full(self.ev.value(self.value, env), terms)
        hit = np.ones(env.shape(terms), bool)
        for t in self.tests:
            test = env.full(self.ev.value(t, env), terms)
            if test.err is not None:
                return None
            hit &= test.data
        places: list[Array] = []
        for k in self.keys:
            data = env.full(self.ev.value(k.data, env), terms)
            if data.err is not None:
                return None
            at = np.minimum(np.searchsorted(k.line, data.data), k.line.size - 1)
            hit &= k.line[at] == data.data
            places.append(k.order[at])
        own = [np.broadcast_to(_line(env, a, terms), hit.shape) for a in kept]
        sizes = (*env.shape(kept), *(k.line.size for k in self.keys))
        flat = np.ravel_multi_index([x[hit] for x in (*own, *places)], sizes)
        return self.combined(value, hit, flat, math.prod(shape), sums)

    def combined(
        self, value: Val, hit: Array, flat: Array, count: int, sums: _Sums | None
    ) -> _Sums:
        """``hit`` says which terms belong to an element, and ``flat`` to which."""
        given, kind = value.data[hit], self.e.kind
        if given.dtype.kind == "b":
            given = given.astype(np.int64)
        if sums is None:
            start = np.full(count, identity(kind, given.dtype), given.dtype)
            sums = _Sums(start, None, np.zeros(count), np.zeros(count, np.int64))
        _COMBINE[kind].at(sums.out, flat, given)
        sums.hits += np.bincount(flat, minlength=count)
        if self.ev.rounding is not None and given.dtype.kind == "f" and kind == "sum":
            np.add.at(sums.size, flat, np.abs(given))
        if value.err is not None:
            sums.err = np.zeros(count) if sums.err is None else sums.err
            (np.add if kind == "sum" else np.maximum).at(sums.err, flat, value.err[hit])
        return sums

    def finished(self, s: _Sums, env: Env, axes: tuple[str, ...]) -> Val:
        out, err = s.out, s.err
        if self.e.kind != "sum":
            missed = s.hits < math.prod(env.extent(n) for n in self.names)
            out = np.where(missed, _COMBINE[self.e.kind](out, self.missed), out)
        elif self.ev.rounding is not None and out.dtype.kind == "f":
            own = self.ev.rounding.summation(int(s.hits.max(initial=0))) * s.size
            err = own if err is None else err + own
        final = env.sort(axes)
        turn, shape = [axes.index(a) for a in final], env.shape(axes)
        data = out.reshape(shape).transpose(turn)
        return Val(final, data, None if err is None else err.reshape(shape).transpose(turn))


def _parts(env: Env, axis: str, size: int) -> list[Env]:
    """Parts along one axis, of which none has more than ``CHUNK`` of ``size`` terms."""
    start, _ = env.ranges[axis]
    spans = pieces(env.extent(axis), -(-size // CHUNK))
    return [env.narrow(axis, start + a, start + b) for a, b in spans]


def _line(env: Env, axis: str, axes: tuple[str, ...]) -> Array:
    """The positions along one axis, counted from 0, as a dimension among those of all axes."""
    return np.arange(env.extent(axis)).reshape([-1 if a == axis else 1 for a in axes])
