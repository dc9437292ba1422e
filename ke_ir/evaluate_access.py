"""Elements of tensors by subscripts: views where subscripts are affine, gathers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ke_ir.evaluate_values import Array, Env, EvaluationError, Val, spread, wide_kind
from ke_ir.expr import Bin, Dim, Expr, Neg, Num, Ref, Var, show

Evaluate = Callable[[Expr, Env], Val]


@dataclass(frozen=True)
class Affine:
    """``const`` plus each index times its coefficient."""

    terms: Mapping[str, int]
    const: int

    def ends(self, env: Env) -> tuple[int, int]:
        """Smallest and largest value; the ranges must not be empty."""
        lo = hi = self.const
        for name, c in self.terms.items():
            a, b = env.ranges[name]
            lo += min(c * a, c * (b - 1))
            hi += max(c * a, c * (b - 1))
        return lo, hi


def affine(e: Expr, env: Env, dims: Mapping[str, int]) -> Affine | None:
    """The affine form of a subscript over plain ranges, or None."""
    match e:
        case Num(int() as value):
            return Affine({}, value)
        case Dim(name):
            return Affine({}, dims[name])
        case Var(name):
            return None if name in env.rows else Affine({name: 1}, 0)
        case Neg(arg):
            return _scaled(affine(arg, env, dims), -1)
        case Bin("+" | "-" as op, lhs, rhs):
            a = affine(lhs, env, dims)
            b = _scaled(affine(rhs, env, dims), -1 if op == "-" else 1)
            if a is None or b is None:
                return None
            terms = {n: a.terms.get(n, 0) + b.terms.get(n, 0) for n in {*a.terms, *b.terms}}
            return Affine({n: c for n, c in terms.items() if c}, a.const + b.const)
        case Bin("*", lhs, rhs):
            a, b = affine(lhs, env, dims), affine(rhs, env, dims)
            if a is None or b is None or (a.terms and b.terms):
                return None
            return _scaled(a, b.const) if a.terms else _scaled(b, a.const)
    return None


def _scaled(a: Affine | None, by: int) -> Affine | None:
    if a is None:
        return None
    return Affine({n: c * by for n, c in a.terms.items() if c * by}, a.const * by)


def element(e: Ref, source: Val, env: Env, dims: Mapping[str, int], evaluate: Evaluate) -> Val:
    """``e`` over the indices of its subscripts. ``source`` is the tensor with any axes.

    Raises EvaluationError for an element outside the tensor when ``e`` has no ``else``.
    """
    forms: list[Affine | None] = [affine(i, env, dims) for i in e.indices]
    fill = None if e.fill is None else evaluate(e.fill, env)
    kind = wide_kind(source.data.dtype)
    if fill is not None and fill.axes and _inside(forms, source.data.shape, env):
        kind, fill = np.result_type(kind, fill.data), None
    if fill is not None and fill.axes:
        forms = [None] * len(forms)  # each element outside has its own value: locate all of them
    found = _Gather(e, env, evaluate, forms)
    outside = _Outside(fill.data.item()) if fill is not None and not fill.axes else None
    data = found.take(_strided(e, source.data, kind, found, env, outside), kind)
    err = source.err
    if err is not None:
        margin = _strided(e, err, err.dtype, found, env, outside and _Outside(0))
        err = found.take(margin, err.dtype)
    return found.outside(data, err, fill)


def _inside(forms: list[Affine | None], shape: tuple[int, ...], env: Env) -> bool:
    """True if no subscript leaves the tensor, so that what lies outside does not matter."""
    for f, n in zip(forms, shape, strict=True):
        if f is None or not all(env.extent(name) for name in f.terms):
            return False
        lo, hi = f.ends(env)
        if lo < 0 or hi >= n:
            return False
    return True


@dataclass(frozen=True)
class _Outside:
    value: Any


class _Gather:
    """Which dimensions of a reference are located by index arrays, and where those point."""

    def __init__(self, e: Ref, env: Env, evaluate: Evaluate, forms: list[Affine | None]) -> None:
        self.e, self.env, self.evaluate = e, env, evaluate
        self.located: dict[int, Val] = {}
        for d, f in enumerate(forms):
            if f is None:
                self.located[d] = _integers(e, d, evaluate(e.indices[d], env))
        # An index must not be both a dimension of a view and within an index array.
        changed = bool(self.located)
        while changed:
            shared = {a for v in self.located.values() for a in v.axes}
            moved = [
                d for d, f in enumerate(forms)
                if d not in self.located and f is not None and shared & set(f.terms)
            ]  # fmt: skip
            for d in moved:
                self.located[d] = evaluate(e.indices[d], env)
            changed = bool(moved)
        self.views = {d: f for d, f in enumerate(forms) if d not in self.located and f is not None}
        self.joint = env.sort(a for v in self.located.values() for a in v.axes)
        self.along = env.sort(a for f in self.views.values() for a in f.terms)
        self.inside: Array | None = None

    def take(self, view: Array, kind: np.dtype[Any]) -> Array:
        """Gather from a view with the located dimensions first; axes ``joint`` then ``along``.

        What is gathered is of ``kind``, or of the view's where ``else`` has made that wider.
        """
        if not self.located:
            return view
        kind = np.result_type(kind, view) if view.dtype.kind in "biuf" else kind
        where = []
        inside: Array | None = None
        for (d, v), size in zip(sorted(self.located.items()), view.shape, strict=False):
            ok = (v.data >= 0) & (v.data < size)
            if not ok.all():
                self._check(d, v, ok, size)
                ok = spread(ok, v.axes, self.joint)
                inside = ok if inside is None else inside & ok
            where.append(spread(v.data.clip(0, max(size - 1, 0)), v.axes, self.joint))
        self.inside = inside
        shape = self.env.shape(self.joint)
        if 0 in view.shape[: len(where)]:
            return np.zeros(shape + view.shape[len(where) :], kind)
        got: Array = view[tuple(where)].astype(kind, copy=False)
        return np.broadcast_to(got, shape + view.shape[len(where) :])

    def _check(self, d: int, v: Val, ok: Array, size: int) -> None:
        """Without ``else``, an element outside is an error unless its row has ended before it."""
        if self.e.fill is not None:
            return
        bad = Val(v.axes, ~ok)
        for name in self.env.rows:
            if name in v.axes:
                bad = self.env.apply(np.logical_and, bad, self.env.valid(name))
        if bad.data.any():
            at = np.unravel_index(int(np.argmax(bad.data)), bad.data.shape)
            position = {}
            for axis, i in zip(bad.axes, at, strict=True):
                position[axis] = int(i) + self.env.ranges[axis][0]
            value = self.env.full(v, bad.axes).data[at]
            raise _outside_error(self.e, d, int(value), size, position)

    def outside(self, data: Array, err: Array | None, fill: Val | None) -> Val:
        """Put ``else`` where the located dimensions left the tensor, and order the axes."""
        env, axes = self.env, self.joint + self.along
        final = env.sort(axes)
        order = [axes.index(a) for a in final]
        data = data.transpose(order)
        err = None if err is None else err.transpose(order)
        doubt = [v for v in self.located.values() if v.err is not None and v.err.any()]
        if doubt:
            err = np.zeros(data.shape) if err is None else err
            for v in doubt:
                assert v.err is not None
                err = np.where(spread(v.err, v.axes, final) != 0, np.inf, err)
        if self.inside is None:
            return Val(final, data, err)
        inside = spread(self.inside, self.joint, final)
        if fill is None:
            return Val(final, np.where(inside, data, 0).astype(data.dtype), err)
        both = env.sort((*final, *fill.axes))
        inside = spread(inside, final, both)
        data = np.where(inside, spread(data, final, both), spread(fill.data, fill.axes, both))
        if err is not None or fill.err is not None:
            mine = np.zeros(1) if err is None else spread(err, final, both)
            other = np.zeros(1) if fill.err is None else spread(fill.err, fill.axes, both)
            err = np.where(inside, mine, other)
        return Val(both, data, err)


def _integers(e: Ref, d: int, v: Val) -> Val:
    if v.data.dtype.kind == "i":
        return v
    whole = np.rint(v.data)
    if not np.array_equal(whole, v.data):
        raise EvaluationError(
            "index", f"index {d} of `{e.tensor}`, `{show(e.indices[d])}`, is not an integer",
            tensor=e.tensor, loc=e.loc,
        )  # fmt: skip
    return Val(v.axes, whole.astype(np.int64), v.err)


def _outside_error(
    e: Ref, d: int, value: int, size: int, position: Mapping[str, int]
) -> EvaluationError:
    at = ", ".join(f"{n} = {i}" for n, i in position.items())
    return EvaluationError(
        "out-of-range",
        f"index {d} of `{e.tensor}`, `{show(e.indices[d])}`, is {value}"
        + (f" at {at}" if at else "")
        + f", outside 0 to {size - 1}",
        tensor=e.tensor,
        position=position,
        loc=e.loc,
    )


def _strided(
    e: Ref, data: Array, kind: np.dtype[Any], found: _Gather, env: Env, outside: _Outside | None
) -> Array:
    """A view of ``data``: its located dimensions whole and first, then one for each of ``along``.

    Where subscripts leave the tensor, a padded copy of what they cover is viewed instead. The view
    is of ``kind``, except that what is gathered from is not copied for that.
    """
    located, views = sorted(found.located), found.views
    along = found.along
    if not all(env.shape(along)):
        kind = np.result_type(kind, np.asarray(outside.value)) if outside else kind
        return np.zeros([*(data.shape[d] for d in located), *env.shape(along)], kind)
    data = data.transpose([*located, *views])
    whole = len(located)
    block, begins = _cover(e, data, kind, found, env, outside)
    offset = [slice(None)] * whole
    strides = dict.fromkeys(along, 0)
    for i, form in enumerate(views.values()):
        first = form.const + sum(c * env.ranges[n][0] for n, c in form.terms.items())
        offset.append(slice(first - begins[i], None))
        for n, c in form.terms.items():
            strides[n] += c * block.strides[whole + i]
    origin = block[tuple(offset)]
    return np.lib.stride_tricks.as_strided(
        origin,
        (*block.shape[:whole], *env.shape(along)),
        (*block.strides[:whole], *(strides[a] for a in along)),
        writeable=False,
    )


def _cover(
    e: Ref, data: Array, kind: np.dtype[Any], found: _Gather, env: Env, outside: _Outside | None
) -> tuple[Array, list[int]]:
    """The block of ``data`` that affine subscripts reach, and where it begins in each dimension."""
    whole = len(found.located)
    reach = {d: f.ends(env) for d, f in found.views.items()}
    begins = [lo for lo, _ in reach.values()]
    inner = data.shape[whole:]
    if all(lo >= 0 and hi < n for (lo, hi), n in zip(reach.values(), inner, strict=True)):
        cut = [slice(lo, hi + 1) for lo, hi in reach.values()]
        block = data[(slice(None),) * whole + tuple(cut)]
        return block if whole else block.astype(kind, copy=False), begins
    if outside is None:
        raise _affine_outside(e, found, env, inner)
    kind = np.result_type(kind, np.asarray(outside.value))
    shape = [*data.shape[:whole], *(hi - lo + 1 for lo, hi in reach.values())]
    block = np.full(shape, outside.value, kind)
    into: list[slice] = [slice(None)] * whole
    source: list[slice] = [slice(None)] * whole
    for (lo, hi), n in zip(reach.values(), inner, strict=True):
        a, b = max(lo, 0), min(hi + 1, n)
        into.append(slice(a - lo, max(a, b) - lo))
        source.append(slice(a, max(a, b)))
    block[tuple(into)] = data[tuple(source)]
    return block, begins


def _affine_outside(e: Ref, found: _Gather, env: Env, sizes: tuple[int, ...]) -> EvaluationError:
    for (d, form), size in zip(found.views.items(), sizes, strict=True):
        lo, hi = form.ends(env)
        if lo >= 0 and hi < size:
            continue
        low = lo < 0
        position = {
            n: env.ranges[n][0] if (c > 0) == low else env.ranges[n][1] - 1
            for n, c in form.terms.items()
        }
        return _outside_error(e, d, lo if low else hi, size, position)
    raise AssertionError("called when every subscript is inside")
