"""Reductions that are prefixes of one another, ``sum[j in 0 to i + 1](x[b, j])``, as one scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.evaluate_values import Array, Env, Val, join, pieces
from ke_ir.expr import Reduce
from ke_ir.numerics import identity, scan

if TYPE_CHECKING:
    from ke_ir.evaluate import Evaluator

CHUNK = 1 << 24
"""Elements that one step of a scan may expand to (128 MiB of float64)."""
_KINDS = ("sum", "prod", "max", "min")


def prefixes(ev: Evaluator, e: Reduce, env: Env) -> Val | None:
    """The value of a reduction whose one end moves with indices that its body does not use.

    Then every value is that of a prefix (or, where the lower end moves, of a suffix) of the same
    elements, which one pass gives. None for any other reduction.
    """
    if e.kind not in _KINDS or len(e.ranges) != 1:
        return None
    name = e.ranges[0].name
    lo, hi = (ev.value(b, env) for b in ev.bounds(name))
    if bool(lo.axes) == bool(hi.axes) or lo.err is not None or hi.err is not None:
        return None
    reverse = bool(lo.axes)
    moving = lo if reverse else hi
    if set(moving.axes) & set(env.axes_of(e.body)):
        return None
    return _Prefixes(ev, e, env, name, lo, hi, reverse).value()


class _Prefixes:
    def __init__(
        self, ev: Evaluator, e: Reduce, env: Env, name: str, lo: Val, hi: Val, reverse: bool
    ) -> None:
        self.ev, self.e, self.env, self.name, self.reverse = ev, e, env, name, reverse
        first, last = int(lo.data.min(initial=1 << 62)), int(hi.data.max(initial=-(1 << 62)))
        self.length = max(0, last - first)
        self.moving = lo if reverse else hi
        count = last - lo.data if reverse else hi.data - first
        self.count = np.clip(count, 0, self.length)
        self.first = first

    def value(self) -> Val:
        others = [a for a in self.env.axes_of(self.e.body) if self.env.extent(a) > 1]
        size = self.env.size(self.e.body) * self.length
        if size <= CHUNK or not others:
            return self.part(self.env)
        axis = max(others, key=self.env.extent)
        spans = pieces(self.env.extent(axis), -(-size // CHUNK))
        start, _ = self.env.ranges[axis]
        return join([self.part(self.env.narrow(axis, start + a, start + b)) for a, b in spans],
                    axis)  # fmt: skip

    def part(self, env: Env) -> Val:
        inside = env.narrow(self.name, self.first, self.first + self.length)
        body = self.ev.value(self.e.body, inside)
        others = tuple(a for a in body.axes if a != self.name)
        body = inside.full(body, (*others, self.name)) if self.name not in body.axes else body
        at = body.axes.index(self.name)
        data, err = np.moveaxis(body.data, at, -1), body.err
        err = None if err is None else np.moveaxis(err, at, -1)
        if data.dtype.kind == "b":
            data = data.astype(np.int64)
        value, bound = self.scanned(self.e.kind, data), self.error(data, err)
        axes = (*others, *self.moving.axes)
        final = env.sort(axes)
        order = [axes.index(a) for a in final]
        return Val(final, self.chosen(value).transpose(order),
                   None if bound is None else self.chosen(bound).transpose(order))  # fmt: skip

    def scanned(self, kind: str, data: Array) -> Array:
        """Values of all prefixes along the last dimension, the empty one first."""
        empty = np.full((*data.shape[:-1], 1), identity(kind, data.dtype), data.dtype)
        ordered = np.flip(data, -1) if self.reverse else data
        return np.concatenate([empty, scan(kind, ordered, -1)], -1)

    def chosen(self, found: Array) -> Array:
        """The prefixes that are asked for, one for each place of the moving end."""
        return found[..., self.count]

    def error(self, data: Array, err: Array | None) -> Array | None:
        """Bounds on the errors of ``scanned``, as a reduction of each prefix has them."""
        rounding = self.ev.rounding
        if rounding is None or (err is None and data.dtype.kind != "f"):
            return None
        given: Any = np.zeros(data.shape) if err is None else np.broadcast_to(err, data.shape)
        if self.e.kind == "sum":
            size = self.scanned("sum", np.abs(data))
            return self.scanned("sum", given) + rounding.summation(self.length) * size
        if self.e.kind == "prod":
            size = np.abs(self.scanned("prod", data))
            grown = self.scanned("prod", np.abs(data) + given) - size
            return np.asarray(np.maximum(grown, 0) + self.length * rounding.accumulation * size)
        if err is None:
            return None
        return np.maximum(self.scanned("max", given), 0)
