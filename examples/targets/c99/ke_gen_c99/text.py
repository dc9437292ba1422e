"""C text of types, numbers, places in a tile and integer expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Var
from ke_ir.ir import LoopVar
from ke_ir.types import DType, TensorType

_REGISTER = {
    DType.F64: "double", DType.I64: "int64_t", DType.I32: "int32_t", DType.I16: "int16_t",
    DType.I8: "int8_t", DType.U8: "uint8_t", DType.I1: "bool",
}  # fmt: skip


def register(d: DType) -> str:
    """The C type that holds one value of a tile."""
    return _REGISTER.get(d, "float")


def is_narrow(d: DType) -> bool:
    """Whether C99 has no type for it: held in ``float``, in memory a code of 16 or 8 bits."""
    return d.is_float and d.bits < 32


def pointer(name: str, t: TensorType, const: bool) -> str:
    element = f"uint{t.dtype.bits}_t" if is_narrow(t.dtype) else register(t.dtype)
    return f"{'const ' if const else ''}{element} *restrict t_{name}"


def literal(value: int | float | bool, d: DType) -> str:
    """A number as a C constant of the type that holds ``d``."""
    if not d.is_float:
        value = int(value)
        text = f"{max(value, 1 - (1 << 63))}{'LL' if abs(value) >> 31 else ''}"
        text += " - 1" * (value == -(1 << 63))  # C has no literal for the smallest number
        return f"({text})" if value < 0 else text
    value = float(value)
    if not math.isfinite(value):
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "(-INFINITY)"
    text = f"{value!r}{'' if d is DType.F64 else 'f'}"
    return f"({text})" if text[0] == "-" else text


def rounded(text: str, d: DType, exact: bool = True) -> str:
    """``text`` rounded to ``d``; ``exact`` says that a ``float`` holds it as it is."""
    if not is_narrow(d):
        return text
    return f"round_{d}({text})" if exact else f"round_{d}(odd({text}))"


def flat(at: Sequence[str], shape: Sequence[int]) -> str:
    """The subscript of an element of a tile; of a dimension of size 1 there is one place only."""
    if not shape:
        return ""
    terms = []
    for i, (place, size) in enumerate(zip(at, shape, strict=True)):
        stride = math.prod(shape[i + 1 :])
        if size != 1:
            terms.append(place if stride == 1 else f"{place} * {stride}")
    return f"[{' + '.join(terms) or 0}]"


def integer(e: Expr, leaf: Callable[[str], str], tiles: Mapping[str, LoopVar]) -> str:
    """An integer expression as a C atom; ``leaf`` gives the text of a variable."""
    match e:
        case Num(value):
            return literal(value, DType.I64)
        case Dim(name):
            return f"d_{name}"
        case Var(name):
            return leaf(name)
        case Neg(arg):
            return f"(-{integer(arg, leaf, tiles)})"
        case Call("begin", (Var(name),)):
            return f"i_{name}"
        case Call("end", (Var(name),)):
            return f"MIN(i_{name} + {tiles[name].step}, end_{name})"
        case Call(fn, (x, y)):
            return f"{fn.upper()}({integer(x, leaf, tiles)}, {integer(y, leaf, tiles)})"
        case Bin(op, x, y):
            a, b = integer(x, leaf, tiles), integer(y, leaf, tiles)
            if op in ("//", "%"):
                return f"{'floordiv' if op == '//' else 'floormod'}({a}, {b})"
            return f"({a} {op} {b})"
    raise TypeError(f"not an integer expression: {e!r}")
