"""``reduce``, ``scan`` and ``dot``.

Lanes beyond a tile's logical size hold anything, so they are set to the operation's identity
before they are combined along their dimension.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ke_ir.ops.arith import Binary, Cast
from ke_ir.ops.base import Operand
from ke_ir.ops.shape import Dot, Reduce, Scan
from ke_ir.types import DType
from lowering.triton.context import Context, padded_of
from lowering.triton.elementwise import converted, rounded
from lowering.triton.locality import mistaken
from lowering.triton.options import Unsupported
from lowering.triton.values import (
    F8,
    SMALL_FLOATS,
    Literal,
    Value,
    identity,
    index_suffix,
    literal,
    power_of_two,
)
from lowering.triton.writer import bare, tuple_text

_REDUCE = {"sum": "tl.sum", "max": "tl.max", "min": "tl.min", "argmax": "tl.argmax",
           "argmin": "tl.argmin"}  # fmt: skip
_SCAN = {"sum": "tl.cumsum", "prod": "tl.cumprod"}
_PRODUCT_LIMIT = 1 << 17
"""Elements of a broadcast product that stands in for a `dot` too small for the matrix unit."""


def _wide(d: DType) -> DType:
    """The dtype in which values of ``d`` are combined."""
    if d in SMALL_FLOATS:
        return DType.F32
    return DType.I32 if d in (DType.I8, DType.I16, DType.U8) else d


def _prepared(ctx: Context, x: Operand, dim: int, kind: str) -> str:
    """A tile in the dtype it is combined in, with the identity in its extra lanes."""
    v = ctx.value(x)
    d = v.type.dtype
    neutral = identity(kind, d)
    if v.constant is not None:
        v = replace(v, text=ctx.full(v), pad=v.constant, constant=None)
    text = converted(ctx, v, _wide(d))
    return masked(text, v, dim, neutral, d)


def masked(text: str, v: Value, dim: int, neutral: Literal, d: DType) -> str:
    size = v.type.shape[dim]
    lanes = power_of_two(size)
    if lanes == size or (v.pad is not None and v.pad == neutral):
        return text
    live = f"(tl.arange(0, {lanes}) < {size}){index_suffix([dim], v.type.rank)}"
    return f"tl.where({live}, {bare(text)}, {literal(neutral, d)})"


def lower_reduce(ctx: Context, op: Reduce) -> None:
    t = ctx.scope.values[op.result or ""]
    x = _prepared(ctx, op.x, op.dim, op.kind)
    d = ctx.value(op.x).type.dtype
    if op.kind in ("any", "all"):
        fn = "tl.max" if op.kind == "any" else "tl.min"
        ctx.define(op, t, f"{fn}({x}.to(tl.int32), axis={op.dim}) != 0")
        return
    axis = op.dim
    if mistaken(ctx, op):
        # With its dimensions in another order, the pass leaves the tile alone; that costs nothing.
        ctx.out.line("# Permuted, or Triton may get this reduction wrong (its issue 11836).")
        order = tuple_text([str(d) for d in (op.dim, *range(op.dim))])
        x, axis = f"tl.permute({bare(x)}, {order})", 0
    if op.kind == "prod":
        text = f"tl.reduce({bare(x)}, {axis}, {ctx.helper('multiply')})"
    elif op.kind == "sum" and not _stays_a_sum(ctx, op):
        text = f"tl.sum(tl.permute({bare(x)}, (0, 2, 1)), axis=2)"
    else:
        text = f"{_REDUCE[op.kind]}({bare(x)}, axis={axis})"
    if not op.kind.startswith("arg"):
        text = narrowed(ctx, text, d)
    ctx.define(op, t, text)


def _stays_a_sum(ctx: Context, op: Reduce) -> bool:
    """False for what Triton would turn into a TF32 ``dot``, silently: a broadcast product [M, K, 1]
    x [1, K, N] summed over K. With the dimensions in another order it leaves the sum alone.
    """
    t = ctx.value(op.x).type
    if t.rank != 3 or op.dim != 1 or not t.dtype.is_float:
        return True
    by = ctx.defined_by(op.x)
    while isinstance(by, Cast):  # to its own dtype, perhaps
        by = ctx.defined_by(by.x)
    return not (isinstance(by, Binary) and by.fn == "mul")


def narrowed(ctx: Context, text: str, d: DType) -> str:
    """A combined value back in its own dtype."""
    if _wide(d) is d:
        return text
    if d.is_float:
        return rounded(ctx, text, d, DType.F32)
    return f"{text}.to({ctx.carriers.register(d)})"


def lower_scan(ctx: Context, op: Scan) -> None:
    t = ctx.scope.values[op.result or ""]
    x = _prepared(ctx, op.x, op.dim, op.kind)
    if op.kind in _SCAN:
        args = f"{bare(x)}, axis={op.dim}" + (", reverse=True" if op.reverse else "")
        text = f"{_SCAN[op.kind]}({args})"
    else:
        fn = ctx.helper("larger" if op.kind == "max" else "smaller")
        args = f"{bare(x)}, {op.dim}, {fn}" + (", reverse=True" if op.reverse else "")
        text = f"tl.associative_scan({args})"
    ctx.define(op, t, narrowed(ctx, text, t.dtype))


# -- dot ---------------------------------------------------------------------------------------
def lower_dot(ctx: Context, op: Dot) -> None:
    t = ctx.scope.values[op.result or ""]
    d = ctx.value(op.a).type.dtype
    a, b = _operand(ctx, op.a, -1), _operand(ctx, op.b, -2)
    acc = None if op.acc is None or ctx.constant(op.acc) == 0 else ctx.text(op.acc, t.dtype)
    shape_a, shape_b = (padded_of(ctx.value(v).type) for v in (op.a, op.b))
    rank = len(shape_a)
    if rank > 3:
        batch = math.prod(shape_a[:-2])
        a = f"tl.reshape({a}, {_sizes(batch, *shape_a[-2:])})"
        b = f"tl.reshape({b}, {_sizes(batch, *shape_b[-2:])})"
        if acc is not None:
            acc = f"tl.reshape({acc}, {_sizes(batch, shape_a[-2], shape_b[-1])})"
    fits = _fits(ctx, d, shape_a[-2], shape_b[-1], shape_a[-1])
    product = _matrix if fits else _broadcast_product
    text = product(ctx, op, d, a, b, acc, min(rank, 3))
    if rank > 3:
        text = f"tl.reshape({text}, {tuple_text(ctx.dims_of(op.result or '', t))})"
    ctx.define(op, t, text)


def _operand(ctx: Context, x: Operand, dim: int) -> str:
    v = ctx.value(x)
    d = v.type.dtype
    if v.constant is not None:
        v = replace(v, text=ctx.full(v), pad=v.constant, constant=None)
    return masked(v.text, v, v.type.rank + dim, 0, d)


def _fits(ctx: Context, d: DType, m: int, n: int, k: int) -> bool:
    low_m, low_n, low_k = ctx.options.traits.pad_dot
    least_k = max(low_k, 32) if d.bits == 8 else low_k
    if m >= low_m and n >= low_n and k >= least_k:
        return True
    if m * n * k > _PRODUCT_LIMIT:
        raise Unsupported(
            f"`dot` of [{m}, {k}] x [{k}, {n}] {d} tiles",
            f"the matrix unit wants at least {low_m} x {low_n} x {least_k}, "
            "and the tile is too large for the vector unit",
            "retile so that every dimension of the `dot` is at least that, or make it smaller",
        )
    return False


def _matrix(ctx: Context, op: Dot, d: DType, a: str, b: str, acc: str | None, rank: int) -> str:
    last = "" if acc is None else f", {acc}"
    if d is DType.U8:
        return f"{ctx.helper('dot_u8')}({a}, {b}{last or ', 0'})"
    if d in F8 and ctx.carriers.as_bytes(d):
        a, b = (f"{x}.to(tl.float16)" for x in (a, b))  # every fp8 value is an f16 value
    elif d in F8 and not ctx.options.interpret:
        # Hopper adds fp8 products with few bits unless told to move them to float32 at once.
        return f"tl.dot({a}, {b}{last}, max_num_imprecise_acc=0)"
    if d is DType.I8:
        return f"tl.dot({a}, {b}{last}, out_dtype=tl.int32)"
    if d is DType.F64:
        return f"tl.dot({a}, {b}{last}, out_dtype=tl.float64)"
    if d is DType.F32:
        if op.precision not in ctx.options.traits.dot_precisions or (
            ctx.options.interpret and op.precision != "ieee"
        ):
            return f"{ctx.helper(f'dot_{op.precision}')}({a}, {b}{last or ', 0.0'})"
        precision = op.precision
        if precision in ("tf32", "tf32_even") and ctx.options.traits.backend == "cuda":
            # NVIDIA's matrix unit cuts the operands off: three times the error.
            a, b = (f"{ctx.helper(f'round_{precision}')}({x})" for x in (a, b))
            precision = "tf32"
        return f'tl.dot({a}, {b}{last}, input_precision="{precision}")'
    if ctx.carriers.widened(d) and ctx.options.interpret:
        return f'tl.dot({a}, {b}{last}, input_precision="ieee")'
    return f"tl.dot({a}, {b}{last})"


def _broadcast_product(
    ctx: Context, op: Dot, d: DType, a: str, b: str, acc: str | None, rank: int
) -> str:
    """A `dot` too small for the matrix unit: multiply and add up, in full precision.

    K is the last dimension: see ``_stays_a_sum`` for what Triton does to a sum over the middle.
    """
    wide = ctx.scope.values[op.result or ""].dtype
    register = ctx.carriers.register(wide)
    if ctx.carriers.register(d) != register:
        a, b = (f"{x}.to({register})" for x in (a, b))
    lead, order = (":, ", "(0, 2, 1)") if rank == 3 else ("", "(1, 0)")
    columns = f"tl.permute({b}, {order})"
    text = f"tl.sum({a}[{lead}:, None, :] * {columns}[{lead}None, :, :], axis={rank})"
    return text if acc is None else f"{acc} + {text}"


def _sizes(*sizes: int) -> str:
    return tuple_text([str(n) for n in sizes])
