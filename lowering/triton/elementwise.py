"""Arithmetic, comparison, selection and casts.

f16 and bf16 add, subtract and multiply natively: rounding the exact result once is the same as
computing in float32 and rounding that. Everything else on them goes through float32.
"""

from __future__ import annotations

from dataclasses import replace

from ke_ir.expr import Bin, Num, Var
from ke_ir.ops.arith import Binary, Cast, Cmp, Select, Unary
from ke_ir.ops.base import Operand
from ke_ir.types import DType, TileType
from lowering.triton.bounds import UNKNOWN, Interval
from lowering.triton.context import Context
from lowering.triton.values import F8, SMALL_FLOATS, Value, rounded_literal
from lowering.triton.writer import atom, bare

_SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "shl": "<<",
            "shr": ">>", "div": "/", "min": "tl.minimum", "max": "tl.maximum"}  # fmt: skip
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_NATIVE_SMALL = ("add", "sub", "mul", "min", "max", "neg", "abs")
"""Functions that Triton computes on f16 and bf16 as KE-IR says."""
_TRITON_UNARY = {
    "exp": "tl.exp", "exp2": "tl.exp2", "log": "tl.log", "log2": "tl.log2", "rsqrt": "tl.rsqrt",
    "sin": "tl.sin", "cos": "tl.cos", "sigmoid": "tl.sigmoid", "erf": "tl.erf",
    "floor": "tl.floor", "ceil": "tl.ceil", "abs": "tl.abs",
}  # fmt: skip
_HELPER_UNARY = {"tan": "tan", "trunc": "truncate", "round": "round_half_even"}
_ACCURATE = {"exp": "exponential", "sigmoid": "logistic"}
"""Functions of f32 whose error in Triton's own form grows with the argument."""
_INDEX_OPS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}


def _result(ctx: Context, op: Unary | Binary | Select | Cmp) -> TileType:
    assert op.result is not None
    return ctx.scope.values[op.result]


def lower_unary(ctx: Context, op: Unary) -> None:
    t = _result(ctx, op)
    x = ctx.value(op.x)
    if op.fn == "not":
        # Triton's interpreter refuses `~` of uint8.
        text = ctx.text(op.x, t.dtype)
        text = f"{text} ^ 255" if t.dtype is DType.U8 else f"~{text}"
    else:
        computed = t.dtype if _native(ctx, op.fn, t.dtype) else DType.F32
        text = _function(ctx, op, as_computed(ctx, op.x, t.dtype, computed), computed)
        text = rounded(ctx, text, t.dtype, computed)
    ctx.define(op, t, text, pad=x.pad if op.fn in ("neg", "abs") and x.pad == 0 else None)


def _function(ctx: Context, op: Unary, x: str, d: DType) -> str:
    fn = op.fn
    if fn == "neg":
        return f"-{x}"
    if fn == "sqrt":
        return f"{'tl.sqrt_rn' if d is DType.F32 else 'tl.sqrt'}({bare(x)})"
    if fn == "tanh":
        return f"{ctx.helper('tanh_f64' if d is DType.F64 else 'tanh')}({bare(x)})"
    assert op.result is not None
    exact = ctx.scope.values[op.result].dtype is DType.F32 and op not in ctx.softmax_weights
    if fn in _ACCURATE and exact:
        return f"{ctx.helper(_ACCURATE[fn])}({bare(x)})"
    if fn in _HELPER_UNARY:
        return f"{ctx.helper(_HELPER_UNARY[fn])}({bare(x)})"
    return f"{_TRITON_UNARY[fn]}({bare(x)})"


def _native(ctx: Context, fn: str, d: DType) -> bool:
    """Whether the text may compute in the value's own dtype."""
    if d not in SMALL_FLOATS:
        return True
    return fn in _NATIVE_SMALL and d not in F8 and not ctx.carriers.widened(d)


def as_computed(ctx: Context, x: Operand, d: DType, computed: DType) -> str:
    """An operand in the dtype that the arithmetic happens in."""
    text = ctx.text(x, d)
    if computed is d or not isinstance(x, str) or ctx.carriers.widened(d):
        return text
    if ctx.values[x].constant is not None:
        v = ctx.values[x]
        return ctx.full(replace(v, type=v.type.with_dtype(computed)))
    return f"{text}.to({ctx.carriers.register(computed)})"


def rounded(ctx: Context, text: str, d: DType, computed: DType) -> str:
    """A computed value as one of dtype ``d``."""
    if computed is d:
        return text
    if ctx.carriers.widened(d):
        return f"{ctx.helper(f'round_{d}')}({bare(text)})"
    if d in F8:
        return f"{ctx.helper(f'to_{d}')}({bare(text)})"
    return f"{atom(text)}.to({ctx.carriers.register(d)})"


def lower_binary(ctx: Context, op: Binary) -> None:
    t = _result(ctx, op)
    native = _native(ctx, op.fn, t.dtype) and _literals_fit(ctx, (op.x, op.y), t.dtype)
    computed = t.dtype if native else DType.F32
    x, y = _short_constants(ctx, (op.x, op.y), t)
    a, b = (as_computed(ctx, v, t.dtype, computed) for v in (x, y))
    bounds = _bounds(ctx, op) if t.dtype.is_int else UNKNOWN
    text = rounded(ctx, _combined(ctx, op, a, b, t.dtype), t.dtype, computed)
    ctx.define(op, t, text, pad=_pad(ctx, op), bounds=bounds)


def _combined(ctx: Context, op: Binary, a: str, b: str, d: DType) -> str:
    if op.fn in ("floordiv", "mod") and not _both_natural(ctx, op, d):
        fn = "floor_divide" if op.fn == "floordiv" else "floor_modulo"
        return f"{ctx.helper(fn)}({bare(a)}, {bare(b)})"
    if op.fn == "pow":
        return f"{ctx.helper(_power(d))}({bare(a)}, {bare(b)})"
    symbol = _SYMBOLS.get(op.fn) or _INDEX_OPS[op.fn]
    return f"{symbol}({bare(a)}, {bare(b)})" if symbol.startswith("tl.") else f"{a} {symbol} {b}"


def _power(d: DType) -> str:
    return {DType.F64: "power_f64", DType.F32: "power_f32"}.get(d, "power")


def _both_natural(ctx: Context, op: Binary, d: DType) -> bool:
    if d is DType.U8:
        return True
    return all(ctx.never_negative(_as_expr(v)) for v in (op.x, op.y))


def _as_expr(x: Operand) -> Var | Num:
    return Var(x) if isinstance(x, str) else Num(int(x))


def _bounds(ctx: Context, op: Binary) -> Interval:
    """Bounds of an integer result, assuming that it does not overflow (as for coordinates)."""
    if op.fn not in _INDEX_OPS:
        return UNKNOWN
    return ctx.bounds.interval(Bin(_INDEX_OPS[op.fn], _as_expr(op.x), _as_expr(op.y)), ctx.env)


def _pad(ctx: Context, op: Binary) -> int | None:
    """Zero lanes stay zero under a product with zero or a sum of zeros."""
    pads = [ctx.values[v].pad if isinstance(v, str) else None for v in (op.x, op.y)]
    return 0 if op.fn in ("add", "sub", "mul") and pads == [0, 0] else None


def _short_constants(
    ctx: Context, operands: tuple[Operand, ...], t: TileType
) -> tuple[Operand, ...]:
    """Tiles of one number become that number, where another operand gives the shape."""
    shaped = [isinstance(x, str) and ctx.values[x].constant is None
              and ctx.values[x].type.shape == t.shape for x in operands]  # fmt: skip
    if not any(shaped):
        return operands
    return tuple(x if (c := ctx.constant(x)) is None else c for x in operands)


def _literals_fit(ctx: Context, operands: tuple[Operand, ...], d: DType) -> bool:
    """Literals of f16 and bf16 arithmetic are float32: Triton would round them first."""
    if d not in SMALL_FLOATS:
        return True
    return all(isinstance(x, str) or rounded_literal(float(x), d) == float(x) for x in operands)


def lower_cmp(ctx: Context, op: Cmp) -> None:
    t = _result(ctx, op)
    d = next(ctx.value(x).type.dtype for x in (op.x, op.y) if isinstance(x, str))
    plain = d not in F8 and _literals_fit(ctx, (op.x, op.y), d)
    computed = d if plain else DType.F32
    x, y = _short_constants(ctx, (op.x, op.y), t)
    a, b = (as_computed(ctx, v, d, computed) for v in (x, y))
    ctx.define(op, t, f"{a} {_COMPARE[op.pred]} {b}")


def lower_select(ctx: Context, op: Select) -> None:
    t = _result(ctx, op)
    c, x, y = _short_constants(ctx, (op.c, op.x, op.y), t)
    if all(ctx.constant(v) is not None for v in (x, y)):
        x, y = op.x, op.y  # one of them has to bring the dtype
    args = [bare(ctx.text(v, d)) for v, d in ((c, DType.I1), (x, t.dtype), (y, t.dtype))]
    ctx.define(op, t, f"tl.where({', '.join(args)})")


def lower_cast(ctx: Context, op: Cast) -> None:
    x = ctx.value(op.x)
    t = x.type.with_dtype(op.dtype)
    if x.constant is not None:
        number = bool(x.constant) if op.dtype.is_bool else x.constant
        number = int(number) if op.dtype.is_int else number
        assert op.result is not None
        ctx.enter(op.result, Value("", t, number, number, x.bounds))
        return
    keeps = x.pad is not None and x.pad == 0
    bounds = x.bounds if op.dtype in (DType.I32, DType.I64) and x.type.dtype.is_int else UNKNOWN
    long = "\n" in x.text or x.text.startswith("tl.load(")
    in_place = ctx.uses.in_place(op) and not long
    ctx.define(op, t, converted(ctx, x, op.dtype), pad=0 if keeps else None, bounds=bounds,
               in_place=in_place)  # fmt: skip


def converted(ctx: Context, x: Value, d: DType) -> str:
    """A value in another dtype, as an atom."""
    source, text = x.type.dtype, ctx.materialised(x)
    if source is d:
        return text
    if d.is_bool:
        native_f8 = source in F8 and not ctx.carriers.widened(source)
        return f"({_to(x, text, 'tl.float32') if native_f8 else text} != 0)"
    register = ctx.carriers.register(d)
    if d in F8 or ctx.carriers.widened(d):
        wide = text if ctx.carriers.register(source) == "tl.float32" else _to(x, text, "tl.float32")
        fn = f"round_{d}" if ctx.carriers.widened(d) else f"to_{d}"
        return f"{ctx.helper(fn)}({bare(wide)})"
    if ctx.carriers.register(source) == register:
        return text
    through = source in F8 and not ctx.carriers.widened(source) and d not in (DType.F32, DType.F16)
    if through or (d is DType.BF16 and not source.is_float):
        text = _to(x, text, "tl.float32")
    return _to(x, text, register)


def _to(x: Value, text: str, register: str) -> str:
    # Triton's interpreter holds loop scalars as Python numbers, which have no `.to`.
    return f"{text}.to({register})" if x.type.shape else f"tl.cast({bare(text)}, {register})"
