"""Whether an expression of an op is a float, an integer or a condition."""

from __future__ import annotations

from collections.abc import Mapping

from ke_ir.expr import COMPARISONS, Bin, Call, Expr, Neg, Num, Reduce, Ref
from ke_ir.types import DType


def kind(e: Expr, tensors: Mapping[str, DType]) -> DType:
    """F32, I32 or I1, standing for any float, integer or condition.

    An element of a tensor that is not known yet, of a recurrence, is what its ``else`` is.
    """
    match e:
        case Num(x):
            return DType.F32 if isinstance(x, float) else DType.I32
        case Neg(arg):
            return kind(arg, tensors)
        case Bin(op, lhs, rhs):
            if op in COMPARISONS or op in ("and", "or"):
                return DType.I1
            return DType.F32 if op == "/" else _join(kind(lhs, tensors), kind(rhs, tensors))
        case Call("select", (_, x, y)) | Call("min" | "max", (x, y)):
            return _join(kind(x, tensors), kind(y, tensors))
        case Call("abs", (x,)):
            return kind(x, tensors)
        case Call("not", _):
            return DType.I1
        case Call("floor" | "ceil" | "round" | "trunc", _):
            return DType.I32
        case Call():
            return DType.F32
        case Ref(tensor, _, fill):
            d = tensors.get(tensor)
            if d is None:
                assert fill is not None
                return kind(fill, tensors)
            own = DType.F32 if d.is_float else DType.I1 if d.is_bool else DType.I32
            return own if fill is None else _join(own, kind(fill, tensors))
        case Reduce(how, _, body):
            if how in ("any", "all"):
                return DType.I1
            return DType.I32 if how.startswith("arg") else kind(body, tensors)
    return DType.I32


def _join(a: DType, b: DType) -> DType:
    return DType.F32 if DType.F32 in (a, b) else a
