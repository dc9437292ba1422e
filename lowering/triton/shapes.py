"""Tiles that come from nowhere, and the ops that move dimensions."""

from __future__ import annotations

import math

from ke_ir.expr import Expr
from ke_ir.ops.base import Op
from ke_ir.ops.memory import Full, Iota
from ke_ir.ops.shape import Broadcast, Expand, Permute, Reshape
from ke_ir.types import DType, TileType
from lowering.triton.bounds import Interval, Poly
from lowering.triton.context import Context
from lowering.triton.options import Unsupported
from lowering.triton.values import Value, index_suffix, power_of_two, rounded_literal
from lowering.triton.writer import tuple_text


def _shape(ctx: Context, op: Op, t: TileType) -> str:
    """The shape of an op's result in registers."""
    return tuple_text(ctx.dims_of(op.result or "", t))


def lower_full(ctx: Context, op: Full) -> None:
    """A tile of one number is written where it is used."""
    assert op.result is not None
    t, number = op.type, op.value
    if isinstance(number, Expr):
        size = ctx.bounds.exact(number)
        if size is None or size.value is None:
            register = ctx.carriers.register(t.dtype)
            text = f"tl.full({_shape(ctx, op, t)}, {ctx.integer(number)}, {register})"
            ctx.define(op, t, text, bounds=ctx.bounds.interval(number, {}))
            return
        number = size.value
    if t.dtype.is_float:
        number = rounded_literal(float(number), t.dtype)
        ctx.enter(op.result, Value("", t, number, number))
    else:
        exact = Poly.const(int(number))
        ctx.enter(op.result, Value("", t, number, number, Interval(exact, exact)))


def lower_iota(ctx: Context, op: Iota) -> None:
    assert op.result is not None
    index = ctx.indices[op.index]
    text = index.ask("offsets")
    known = ctx.env[op.index]
    tile = op.type.shape[0] if op.type.shape else 1
    past = None if known.hi is None else known.hi.plus(power_of_two(tile) - 1)
    value = Value(text, op.type, bounds=Interval(known.lo, past))
    if op.type.dtype is DType.I64:
        text = f"{text}.to(tl.int64)" if op.type.shape else f"tl.cast({text}, tl.int64)"
        value = Value(text, op.type, bounds=value.bounds)
    ctx.enter(op.result, value)


def lower_expand(ctx: Context, op: Expand) -> None:
    t = ctx.scope.values[op.result or ""]
    x = ctx.value(op.x)
    if x.constant is not None:
        ctx.enter(op.result or "", Value("", t, x.pad, x.constant))
    elif not x.type.shape:
        ctx.define(op, t, f"tl.full((1,), {x.text}, {ctx.carriers.register(t.dtype)})")
    elif x.text.endswith("]"):
        ctx.define(op, t, f"tl.expand_dims({x.text}, {op.dim})", pad=x.pad, bounds=x.bounds)
    else:
        places = [i for i in range(t.rank) if i != op.dim]
        ctx.define(op, t, x.text + index_suffix(places, t.rank), pad=x.pad, bounds=x.bounds,
                   in_place=ctx.uses.in_place(op))  # fmt: skip


def lower_broadcast(ctx: Context, op: Broadcast) -> None:
    x = ctx.value(op.x)
    if x.constant is not None:
        ctx.enter(op.result or "", Value("", op.type, x.constant, x.constant, x.bounds))
        return
    shape = _shape(ctx, op, op.type)
    if x.type.shape:
        text = f"tl.broadcast_to({x.text}, {shape})"
    else:
        text = f"tl.full({shape}, {x.text}, {ctx.carriers.register(op.type.dtype)})"
    ctx.define(op, op.type, text, bounds=x.bounds)


def lower_permute(ctx: Context, op: Permute) -> None:
    t = ctx.scope.values[op.result or ""]
    x = ctx.value(op.x)
    if x.constant is not None:
        ctx.enter(op.result or "", Value("", t, x.pad, x.constant))
        return
    text = f"tl.permute({x.text}, {tuple_text([str(i) for i in op.order])})"
    if op.order == (1, 0):
        text = f"tl.trans({x.text})"
    ctx.define(op, t, text, pad=x.pad, bounds=x.bounds)


def lower_reshape(ctx: Context, op: Reshape) -> None:
    x = ctx.value(op.x)
    if x.constant is not None:
        ctx.enter(op.result or "", Value("", op.type, x.pad, x.constant))
        return
    if not _keeps_lanes(x.type.shape, op.type.shape):
        raise Unsupported(
            f"`reshape` of {x.type} to {op.type}",
            "sizes that are not powers of two are padded, and the padding would move",
            "use tile sizes that are powers of two for the dimensions that are reshaped",
        )
    shape, register = _shape(ctx, op, op.type), ctx.carriers.register(x.type.dtype)
    if not x.type.shape:
        text = f"tl.full({shape}, {x.text}, {register})" if op.type.shape else x.text
    elif not op.type.shape:
        text = f"tl.sum(tl.reshape({x.text}, (1,)), axis=0).to({register})"  # the only element
    else:
        text = f"tl.reshape({x.text}, {shape})"
    ctx.define(op, op.type, text, pad=x.pad, bounds=x.bounds)


def _keeps_lanes(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether element order is the same in padded tiles: padding may be outermost in a group only.

    The shapes are cut into the smallest groups of dimensions with equal products.
    """
    left, right = [n for n in old if n != 1], [n for n in new if n != 1]
    while left or right:
        a, b = [left.pop(0)], [right.pop(0)]
        while math.prod(a) != math.prod(b):
            if math.prod(a) < math.prod(b):
                a.append(left.pop(0))
            else:
                b.append(right.pop(0))
        inner = (*a[1:], *b[1:])
        if any(power_of_two(n) != n for n in inner):
            return False
        if math.prod(map(power_of_two, a)) != math.prod(map(power_of_two, b)):
            return False
    return True
