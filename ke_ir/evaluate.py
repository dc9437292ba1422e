"""The value of an ``op``: its equations in float64, integers exactly; and how far off a kernel may
be that computes it in narrower floats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ke_ir.evaluate_access import element
from ke_ir.evaluate_functions import BINARY, CHOOSES, binary_error, select_error, unary, unary_error
from ke_ir.evaluate_recurrence import recur
from ke_ir.evaluate_reduce import reduction
from ke_ir.evaluate_values import Array, Env, EvaluationError, Val, pieces, spread, wide_kind
from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Reduce, Ref, Var, evaluate_int, variables
from ke_ir.ir import OpDef, Param
from ke_ir.numerics import AT_ONCE, round_to
from ke_ir.ranges import Bounds, EquationRanges, infer_ranges
from ke_ir.rounding import SAFETY, Rounding
from ke_ir.types import DType

__all__ = ["EvaluationError", "Rounding", "evaluate_op", "evaluate_with_error"]

CHUNK = 1 << 22
"""Elements of an equation's left side that are computed at a time."""


def evaluate_op(
    op: OpDef, dims: Mapping[str, int] | None, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Outputs of a verified op: float64 (not rounded to the declared type), int64 or bool.

    ``dims`` overrides sizes; ``inputs`` are arrays of the declared shapes, never modified.
    Integer outputs wrap to their declared width. Raises EvaluationError for a subscript outside
    its tensor without ``else``, ValueError for inputs that do not fit the signature.
    """
    found = Evaluator(op, dims, inputs, None).run()
    return {p.name: _declared(found[p.name], p) for p in op.outputs}


def evaluate_with_error(
    op: OpDef,
    dims: Mapping[str, int] | None,
    inputs: Mapping[str, Array],
    rounding: Rounding,
) -> dict[str, tuple[Array, Array]]:
    """``evaluate_op``, and with each output a bound on the absolute error of a kernel.

    The bound is a running error analysis, first order, of the equations as they stand: each
    operation passes on the errors of its arguments and adds ``rounding.intermediate``; a sum of K
    terms adds ``rounding.summation(K)`` times the sum of magnitudes; the output adds the rounding
    to its declared dtype. ``SAFETY`` = 2 covers second-order terms and what a kernel computes by
    an equal but differently rounded formula (an online softmax, a variance in one pass over
    shifted data). Where rounding may turn a condition, the bound covers both branches; where it
    may move an index, the bound is infinite. Bool outputs have bound 1 where they may turn.
    """
    found = Evaluator(op, dims, inputs, rounding).run()
    out = {}
    for p in op.outputs:
        v = found[p.name]
        value = _declared(v, p)
        err = np.zeros(value.shape) if v.err is None else np.asarray(v.err, np.float64) * SAFETY
        err = np.where(np.isnan(err), np.inf, err)  # nothing is known, as of inf - inf
        out[p.name] = value, err + _final_rounding(value, err, p.type.dtype)
    return out


def _final_rounding(value: Array, err: Array, dtype: DType) -> Array:
    """Rounding to the declared dtype, of small values to a subnormal or to zero."""
    if not dtype.is_float:
        return np.zeros(value.shape)
    import ml_dtypes

    info = ml_dtypes.finfo(dtype.numpy())
    # Hardware may flush float32 subnormals, so below the smallest normal number all may be lost.
    flushed = dtype in (DType.F32, DType.BF16)
    floor = float(info.smallest_normal if flushed else info.smallest_subnormal)
    size = np.abs(value) + np.where(np.isfinite(err), err, 0.0)
    return np.asarray(dtype.unit_roundoff * np.where(np.isfinite(size), size, 0.0) + floor)


def _declared(v: Val, p: Param) -> Array:
    """A value in the kind of its declared dtype."""
    dtype = p.type.dtype
    if dtype.is_bool:
        return v.data.astype(bool)
    if dtype.is_int:
        return round_to(np.asarray(v.data, np.int64), dtype).astype(np.int64)
    return v.data.astype(np.float64, copy=False)


def _checked(op: OpDef, sizes: dict[str, int], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs by name, of the shapes that the op says."""
    out = {}
    for p in op.inputs:
        if p.name not in inputs:
            raise ValueError(f"input `{p.name}: {p.type}` is missing")
        x, want = np.asarray(inputs[p.name]), p.type.sizes(sizes)
        if x.shape != want:
            raise ValueError(
                f"input `{p.name}` has shape {list(x.shape)}, but {p.type} means {list(want)}"
            )
        out[p.name] = x
    return out


class Evaluator:
    """Evaluates the equations of one op in order. Without ``rounding`` no errors are followed."""

    def __init__(
        self,
        op: OpDef,
        dims: Mapping[str, int] | None,
        inputs: Mapping[str, Array],
        rounding: Rounding | None,
    ) -> None:
        self.dims = op.sizes(dims)
        self.ranges = infer_ranges(op)
        self.outputs = {p.name for p in op.outputs}
        self.rounding = rounding
        self.given = _checked(op, self.dims, inputs)
        self.kinds = {p.name: p.type.dtype for p in op.inputs}
        self.tensors: dict[str, Val] = {}
        self.current: Mapping[str, Bounds] = {}
        self.kept: dict[int, Val] = {}

    def run(self) -> dict[str, Val]:
        """The outputs by name. What is wide is there from its first use to its last, and large
        inputs are never so as a whole: they may be weights of gigabytes."""
        groups = self.ranges.groups
        last = {r.tensor: i for i, (_, eqs) in enumerate(groups) for eq in eqs for r in eq.refs}
        with np.errstate(all="ignore"):
            for i, (recurrence, eqs) in enumerate(groups):
                for name in {r.tensor for eq in eqs for r in eq.refs} & set(self.given):
                    if name not in self.tensors:
                        self.tensors[name] = self.held(name)
                if recurrence is not None:
                    recur(self, recurrence, eqs)
                else:
                    self.tensors[eqs[0].equation.target] = self.equation(eqs[0])
                for name in {r.tensor for eq in eqs for r in eq.refs} - self.outputs:
                    if last[name] == i:
                        del self.tensors[name]
        return self.tensors

    def held(self, name: str) -> Val:
        """An input as floats of 64 bits, integers of 64 bits, or conditions, unless it is large."""
        x, dtype = self.given[name], self.kinds[name]
        if x.size <= AT_ONCE or x.dtype != dtype.numpy():
            x = x.astype(wide_kind(dtype.numpy()), copy=False)
        return Val(("",) * x.ndim, x)

    def bounds(self, name: str) -> Bounds:
        """Bounds of an index in the equation at hand."""
        return self.current[name]

    def equation(self, eq: EquationRanges) -> Val:
        self.current, self.kept = eq.ranges, {}
        return self.part(eq, self.around(eq))

    def around(self, eq: EquationRanges) -> Env:
        """The indices on the left of an equation."""
        order = {n: i for i, n in enumerate(dict.fromkeys((*eq.outer, *eq.ranges)))}
        ranges = {
            n: (evaluate_int(eq.ranges[n][0], self.dims), evaluate_int(eq.ranges[n][1], self.dims))
            for n in eq.outer
        }
        return Env(order, ranges, {})

    def part(self, eq: EquationRanges, env: Env) -> Val:
        """The right side of the equation at hand, for these ranges of the indices on its left."""
        rhs, shape = eq.equation.rhs, env.shape(eq.outer)
        total = int(np.prod(shape, dtype=np.int64))
        if total <= CHUNK:
            return env.full(self.value(rhs, env), eq.outer)
        count = -(-total // CHUNK)
        axis = next((i for i, n in enumerate(shape) if n >= count), int(np.argmax(shape)))
        return self.in_chunks(rhs, env, eq.outer, axis, count)

    def in_chunks(self, rhs: Expr, env: Env, outer: tuple[str, ...], axis: int, count: int) -> Val:
        shape = env.shape(outer)
        data: Array | None = None
        err: Array | None = None
        for a, b in pieces(shape[axis], count):
            part = env.narrow(outer[axis], a, b)
            v = part.full(self.value(rhs, part), outer)
            at = (slice(None),) * axis + (slice(a, b),)
            if data is None:
                data = np.empty(shape, v.data.dtype)
            data[at] = v.data
            if v.err is not None:
                if err is None:
                    err = np.zeros(shape, v.err.dtype)
                err[at] = v.err
        assert data is not None
        return Val(outer, data, err)

    def value(self, e: Expr, env: Env) -> Val:
        """Value of an expression over the indices it uses."""
        match e:
            case Num(number):
                return self.literal(number)
            case Dim(name):
                return Val((), np.asarray(self.dims[name]))
            case Var(name):
                return env.index(name)
            case Neg(arg):
                v = self.value(arg, env)
                return Val(v.axes, np.negative(v.data), v.err)
            case Bin(op, lhs, rhs):
                return self.binary(op, self.value(lhs, env), self.value(rhs, env), env)
            case Call("select", (c, x, y)):
                return self.select(self.value(c, env), self.value(x, env), self.value(y, env), env)
            case Call(fn, (x,)):
                return self.unary(fn, self.value(x, env))
            case Call(fn, (x, y)):
                return self.binary(fn, self.value(x, env), self.value(y, env), env)
            case Ref(tensor):
                return element(e, self.tensors[tensor], env, self.dims, self.value)
            case Reduce():
                return self.reduce(e, env)
        raise TypeError(f"not an expression: {e!r}")

    def literal(self, number: int | float) -> Val:
        """A kernel holds a float literal in its own precision."""
        u = 0.0 if self.rounding is None or isinstance(number, int) else self.rounding.intermediate
        if not u or not math.isfinite(number) or (math.frexp(number)[0] / u).is_integer():
            return Val((), np.asarray(number))
        return Val((), np.asarray(number), np.asarray(u * abs(number)))

    def reduce(self, e: Reduce, env: Env) -> Val:
        """A reduction that no chunked index touches is computed once for all chunks."""
        if id(e) in self.kept:
            return self.kept[id(e)]
        v = reduction(self, e, env)
        touched = {a for n in variables(e) for a in (n, *_row_axes(env, n))}
        if env.partial and not touched & env.partial:
            self.kept[id(e)] = v
        return v

    def unary(self, fn: str, x: Val) -> Val:
        data = unary(fn, x.data)
        if self.rounding is None or data.dtype.kind != "f" or (fn == "abs" and x.err is None):
            return Val(x.axes, data, x.err)
        given: Any = 0.0 if x.err is None else x.err
        wide = np.asarray(x.data, np.float64)
        return Val(x.axes, data, unary_error(fn, wide, given, data, self.rounding.intermediate))

    def binary(self, op: str, a: Val, b: Val, env: Env) -> Val:
        axes = env.sort((*a.axes, *b.axes))
        x, y = spread(a.data, a.axes, axes), spread(b.data, b.axes, axes)
        data = np.asarray(BINARY[op](x, y))
        if self.rounding is None or (op in CHOOSES and a.err is None and b.err is None):
            return Val(axes, data)
        ex, ey = _errors((a, b), axes)
        err = binary_error(op, x, ex, y, ey, data, self.rounding.intermediate)
        return Val(axes, data, None if err is None else np.broadcast_to(err, data.shape))

    def select(self, c: Val, x: Val, y: Val, env: Env) -> Val:
        axes = env.sort((*c.axes, *x.axes, *y.axes))
        where, a, b = (spread(v.data, v.axes, axes) for v in (c, x, y))
        data = np.where(where, a, b)
        if c.err is None and x.err is None and y.err is None:
            return Val(axes, data)
        doubt = None if c.err is None else spread(c.err, c.axes, axes)
        ex, ey = _errors((x, y), axes)
        err = select_error(where, doubt, a, ex, b, ey)
        return Val(axes, data, np.broadcast_to(err, data.shape))


def _row_axes(env: Env, name: str) -> tuple[str, ...]:
    rows = env.rows.get(name)
    return () if rows is None else (*rows.lo.axes, *rows.length.axes)


def _errors(vals: tuple[Val, ...], axes: tuple[str, ...]) -> list[Any]:
    return [0.0 if v.err is None else spread(v.err, v.axes, axes) for v in vals]
