"""Which reductions must be kept from Triton's pass TritonGPUOptimizeThreadLocality.

For a loop that adds the reduction of a loaded tile to a carried value, the pass gives each thread
an accumulator of its own and reduces once, after the loop. Up to Triton 3.7 it does not check that
it may: it fails an assertion, or silently gives wrong numbers, where the loop's result is used
more than once, where the carried value is read elsewhere in the loop (triton issue 11836), where
the update is no binary operation on it (11631) or another than the reduction's (11305), and where
the tile's last dimension is not the one contiguous in memory (11186).
"""

from __future__ import annotations

import math

from ke_ir.expr import Var
from ke_ir.ir import For, Yield
from ke_ir.ops.arith import Binary, Cast, Select, Unary
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.ops.memory import Accumulate, Load, Store
from ke_ir.ops.shape import Broadcast, Expand, Permute, Reduce, Reshape
from ke_ir.types import DType
from lowering.triton.context import Context
from lowering.triton.values import F8

_COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
_NEUTRAL = (0, 1, math.inf, -math.inf)
"""Operands with which some binary function gives back the other one."""
_ONE_USE = ("neg", "abs", "sqrt", "rsqrt", "exp", "exp2", "log", "log2")
"""Functions whose text uses their operand once."""


def mistaken(ctx: Context, op: Reduce) -> bool:
    """Whether the pass may take up a reduction that it would get wrong."""
    t = ctx.value(op.x).type
    if not ctx.loops or op.kind not in _COMBINE or op.dim != t.rank - 1 or t.rank < 2:
        return False
    if t.dtype not in (DType.F32, DType.F64):
        return False  # the cast to float32 stands between
    return _may_be_load(ctx, op.x) and not _handled(ctx, op)


def _may_be_load(ctx: Context, x: Operand) -> bool:
    """Whether a value may turn out to be a loaded tile once what computes nothing is gone."""
    match ctx.defined_by(x):
        case Load():
            return True
        case Cast(x=source, dtype=d):
            return ctx.value(source).type.dtype is d and _may_be_load(ctx, source)
        case Reshape(x=source) | Permute(x=source) | Expand(x=source):
            return _may_be_load(ctx, source)
        case Broadcast(x=source):
            return _may_be_load(ctx, source)
        case For(var=var):
            return ctx.trips(var) == 1  # written without a loop
        case Binary(fn=fn, x=a, y=b) if a == b:
            return fn in ("min", "max") and _may_be_load(ctx, a)
        case Binary(x=a, y=b):
            return any(
                ctx.constant(one) in _NEUTRAL and _may_be_load(ctx, other)
                for one, other in ((a, b), (b, a))
            )
        case Select(c=c, x=a, y=b):
            chosen = ctx.constant(c)
            if chosen is None and a != b:
                return False
            return _may_be_load(ctx, b if chosen is not None and not chosen else a)
    return False


def _handled(ctx: Context, op: Reduce) -> bool:
    """Whether the reduction is of the one form that the pass rewrites rightly."""
    loop = ctx.loops[-1]
    update = _user(ctx, op)
    last = loop.body[-1]
    if not (isinstance(update, Binary) and update.fn == _COMBINE[op.kind]):
        return False
    if not (isinstance(last, Yield) and _user(ctx, update) is last):
        return False
    place = last.values.index(update.result or "")
    carried = loop.carries[place][0]
    return (
        {update.x, update.y} == {op.result, carried}
        and ctx.uses.users(loop, -1 - place) == [update]
        and _ends_in_a_store(ctx, loop, place)
        and _contiguous(ctx, op.x)
    )


def _user(ctx: Context, s: Stmt, place: int = 0) -> Stmt | None:
    """The only use of a value."""
    users = ctx.uses.users(s, place)
    return users[0] if len(users) == 1 else None


def _ends_in_a_store(ctx: Context, loop: For, place: int) -> bool:
    """Whether a loop's result is used once, and so is what is computed of it: else Triton might
    make a second use of it by computing that twice.
    """
    at: Stmt | None = _user(ctx, loop, place)
    while isinstance(at, Op) and not isinstance(at, Store | Accumulate):
        once = (
            (isinstance(at, Unary) and at.fn in _ONE_USE)
            or (isinstance(at, Binary) and at.fn in ("add", "sub", "mul", "div", "min", "max"))
            or (isinstance(at, Cast) and at.dtype not in F8)
        )
        at = _user(ctx, at) if once else None
    return at is not None


def _contiguous(ctx: Context, x: Operand) -> bool:
    """Whether a tile is loaded with its last dimension along the memory's last, for any size."""
    load = ctx.defined_by(x)
    if not isinstance(load, Load) or not isinstance(load.coords[-1], Var):
        return False
    axes = ctx.scope.access(load.coords)
    size = ctx.bounds.exact(ctx.scope.tensor(load.tensor).shape[-1])
    # With a last dimension of 1, Triton may find the one before it contiguous as well.
    return axes[-1].index == load.coords[-1].name and size is not None and (
        ctx.bounds.smallest(size) > 1
    )  # fmt: skip
