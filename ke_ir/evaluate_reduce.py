"""Reductions: products under a sum as tensor contractions, the rest in chunks of bounded size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.evaluate_scan import prefixes
from ke_ir.evaluate_scatter import scattered
from ke_ir.evaluate_values import (
    Array,
    Env,
    EvaluationError,
    Rows,
    Val,
    join,
    pieces,
    spread,
)
from ke_ir.expr import Bin, Expr, Neg, Num, Range, Reduce, show
from ke_ir.numerics import identity

if TYPE_CHECKING:
    from ke_ir.evaluate import Evaluator

CHUNK = 1 << 24
"""Elements that one step of a reduction may expand to (128 MiB of float64)."""
_COMBINE: dict[str, Any] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
    "any": np.logical_or, "all": np.logical_and,
}  # fmt: skip


def reduction(ev: Evaluator, e: Reduce, env: Env) -> Val:
    """Value of a reduction over the indices that it leaves free."""
    found = prefixes(ev, e, env)
    if found is not None:
        return found
    inside = _bind(ev, e, env)
    found = scattered(ev, e, inside)
    return _Reduction(ev, e, env, inside).value() if found is None else found


def _bind(ev: Evaluator, e: Reduce, env: Env) -> Env:
    for r in e.ranges:
        lo, hi = (ev.value(b, env) for b in ev.bounds(r.name))
        if not lo.axes and not hi.axes:
            env = replace(env, ranges={**env.ranges, r.name: (int(lo.data), int(hi.data))})
        else:
            env = _bind_rows(env, r, lo, hi)
    return env


def _bind_rows(env: Env, r: Range, lo: Val, hi: Val) -> Env:
    length = env.apply(lambda a, b: np.maximum(b - a, 0), lo, hi)
    longest = int(length.data.max(initial=0))
    return replace(
        env,
        ranges={**env.ranges, r.name: (0, longest)},
        rows={**env.rows, r.name: Rows(lo, length)},
    )


@dataclass(frozen=True)
class _Reduction:
    """``outer`` is the environment around the reduction, ``env`` the one inside it."""

    ev: Evaluator
    e: Reduce
    outer: Env
    env: Env

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.e.ranges)

    def value(self) -> Val:
        parts = factors(self.e.body) if self.e.kind == "sum" else [self.e.body]
        largest = max(parts, key=self.env.size)
        size = self.env.size(largest)
        if size > CHUNK and (axis := self.split_axis(largest)) is not None:
            return self.chunked(axis, -(-size // CHUNK))
        if self.e.kind == "sum" and len(parts) > 1:
            return _contract(self, [self.ev.value(p, self.env) for p in parts])
        return self.direct()

    def split_axis(self, largest: Expr) -> str | None:
        """The longest index of the largest operand, one that stays if there is any."""
        axes = [a for a in self.env.axes_of(largest) if self.env.extent(a) > 1]
        kept = [a for a in axes if a not in self.names]
        if self.e.kind.startswith("arg"):
            axes = kept
        return max(kept or axes, key=self.env.extent, default=None)

    def chunked(self, axis: str, count: int) -> Val:
        lo, _ = self.env.ranges[axis]
        spans = [(lo + a, lo + b) for a, b in pieces(self.env.extent(axis), count)]
        if axis not in self.names:
            # Ranges that depend on the index are bound again, for its part only.
            parts = [reduction(self.ev, self.e, self.outer.narrow(axis, a, b)) for a, b in spans]
            return join(parts, axis)
        combine = _COMBINE[self.e.kind]
        total: Val | None = None
        for a, b in spans:
            part = replace(self, env=self.env.narrow(axis, a, b)).value()
            total = part if total is None else self.merged(total, part, combine)
        assert total is not None
        return total

    def merged(self, a: Val, b: Val, combine: Any) -> Val:
        data = combine(a.data, b.data)
        if a.err is None or b.err is None:
            return Val(a.axes, data, a.err if b.err is None else b.err)
        if self.e.kind == "sum":
            return Val(a.axes, data, a.err + b.err)
        if self.e.kind == "prod":
            return Val(a.axes, data, np.abs(a.data) * b.err + np.abs(b.data) * a.err)
        return Val(a.axes, data, np.maximum(a.err, b.err))

    def mask(self) -> Val | None:
        """Where every index with a data-dependent range is within its row."""
        out: Val | None = None
        for name in self.names:
            if name in self.env.rows:
                one = self.env.valid(name)
                out = one if out is None else self.env.apply(np.logical_and, out, one)
        return out

    def direct(self) -> Val:
        """Evaluate the body over all its indices, then combine."""
        env = self.env
        body, mask = self.ev.value(self.e.body, env), self.mask()
        axes = env.sort((*body.axes, *self.names, *(mask.axes if mask else ())))
        body = env.full(body, axes)
        data, err = body.data, body.err
        if mask is not None:
            live = spread(mask.data, mask.axes, axes)
            kind = self.e.kind.replace("arg", "")
            data = np.where(live, data, identity(kind, data.dtype))
            err = None if err is None else np.where(live, err, False)
        over = tuple(axes.index(n) for n in self.names)
        kept = tuple(a for a in axes if a not in self.names)
        if self.e.kind.startswith("arg"):
            return self.position(kept, data, err, over[0], mask)
        if self.e.kind == "sum" and data.dtype.kind == "b":
            data = data.astype(np.int64)
        combine = _COMBINE[self.e.kind]
        start = identity(self.e.kind, data.dtype)
        value = np.asarray(combine.reduce(data, axis=over, initial=start))
        return Val(kept, value, self.error(data, err, over, value))

    def error(self, data: Array, err: Array | None, over: tuple[int, ...], v: Array) -> Any:
        rounding = self.ev.rounding
        if rounding is None or (err is None and data.dtype.kind != "f"):
            return None
        given = np.zeros(1) if err is None else err
        terms = math.prod(data.shape[i] for i in over)
        if self.e.kind == "sum":
            size = np.abs(data).sum(over)
            return _total(given, data.shape, over) + rounding.summation(terms) * size
        if self.e.kind == "prod":
            # A bound without division, since factors may be 0.
            grown = np.prod(np.abs(data) + given, axis=over) - np.abs(v)
            return np.maximum(grown, 0) + terms * rounding.accumulation * np.abs(v)
        if err is None:
            return None
        if self.e.kind in ("any", "all"):
            decisive = data if self.e.kind == "any" else ~data
            return err.any(over) & ~(decisive & ~err).any(over)
        return np.max(err, axis=over, initial=0)

    def position(
        self, kept: tuple[str, ...], data: Array, err: Array | None, dim: int, mask: Val | None
    ) -> Val:
        name = self.names[0]
        rows = self.env.rows.get(name)
        empty = data.shape[dim] == 0 or (rows is not None and not rows.length.data.all())
        if empty and math.prod(data.shape[:dim] + data.shape[dim + 1 :]):
            raise EvaluationError(
                "empty", f"`{show(self.e)}` has no element to choose from", loc=self.e.loc
            )
        largest = self.e.kind == "argmax"
        found = np.asarray((np.argmax if largest else np.argmin)(data, axis=dim))
        at = Val(kept, found.astype(np.int64) + self.env.ranges[name][0])
        if rows is not None:
            at = self.env.apply(np.add, at, rows.lo)
        if err is None or not err.any():
            return at
        best = np.expand_dims(found, dim)
        value = np.take_along_axis(data, best, dim)
        slack = err + np.take_along_axis(err, best, dim)
        near = np.abs(data - value) <= slack
        np.put_along_axis(near, best, False, dim)
        return replace(at, err=np.where(near.any(dim), np.inf, 0.0))


def _total(err: Array, shape: tuple[int, ...], over: tuple[int, ...]) -> Array:
    return np.asarray(np.broadcast_to(err, shape).sum(over))


def factors(e: Expr) -> list[Expr]:
    """``e`` as a product, a division as a product with the reciprocal."""
    match e:
        case Bin("*", lhs, rhs):
            return factors(lhs) + factors(rhs)
        case Bin("/", lhs, rhs):
            return [*factors(lhs), Bin("/", Num(1.0), rhs)]
        case Neg(arg):
            return [Num(-1), *factors(arg)]
    return [e]


def _contract(r: _Reduction, vals: list[Val]) -> Val:
    """The sum over a product of factors, each on its own indices."""
    env = r.env
    mask = r.mask()
    used = {a for v in vals for a in v.axes}
    if mask is not None:
        if not all(np.isfinite(v.data).all() for v in vals):
            return r.direct()  # 0 times what lies past a row's end would not be 0
        used |= set(mask.axes)
    repeat = math.prod(env.extent(n) for n in r.names if n not in used)
    kept = env.sort(a for a in used if a not in r.names)
    terms = math.prod(env.extent(n) for n in r.names)
    vals = [
        replace(v, data=v.data.astype(np.int64)) if v.data.dtype.kind == "b" else v for v in vals
    ]
    masks = [] if mask is None else [Val(mask.axes, mask.data.astype(np.int64))]
    value = _product_sum(env, [*vals, *masks], kept, terms) * repeat
    rounding = r.ev.rounding
    if rounding is None or all(v.data.dtype.kind == "i" and v.err is None for v in vals):
        return Val(kept, value)
    sizes = [Val(v.axes, np.abs(v.data)) for v in vals]
    magnitude = _product_sum(env, [*sizes, *masks], kept, terms) * repeat
    err = magnitude * (
        rounding.summation(terms) + 2 * rounding.operand + (len(vals) - 1) * rounding.intermediate
    )
    for i, v in enumerate(vals):
        if v.err is not None:
            others = [*sizes[:i], Val(v.axes, v.err), *sizes[i + 1 :], *masks]
            err = err + _product_sum(env, others, kept, terms) * repeat
    return Val(kept, value, err)


def _product_sum(env: Env, vals: list[Val], kept: tuple[str, ...], terms: int) -> Array:
    if all(v.data.dtype.kind == "i" for v in vals):
        # Below 2^53 float64 is exact, and that is BLAS; the float is the bound, not the sum.
        bound = float(terms)
        for v in vals:
            bound *= float(np.abs(v.data).max(initial=0))
        if bound < 2.0**53:
            return np.rint(_einsum(env, vals, kept, np.float64)).astype(np.int64)
        return _einsum(env, vals, kept, np.int64)
    return _einsum(env, vals, kept, np.float64)


def _einsum(env: Env, vals: list[Val], kept: tuple[str, ...], dtype: Any) -> Array:
    scale = dtype(1)
    args: list[Any] = []
    for v in vals:
        if v.axes:
            args += [v.data.astype(dtype, copy=False), [env.order[a] for a in v.axes]]
        else:
            scale = scale * dtype(v.data)
    if not args:
        return np.asarray(scale)
    out = np.einsum(*args, [env.order[a] for a in kept], optimize=len(args) > 2)
    return np.asarray(out * scale if scale != 1 else out)
