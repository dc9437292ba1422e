"""Elementwise arithmetic, comparison, selection and conversion.

Operands of one op have one dtype (``cast`` is explicit) and one rank; dimensions of size 1 stretch
as in numpy, and a scalar or a literal goes with any shape. Results are rounded to the result's
dtype; f16, bf16 and fp8 compute in f32 first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ke_ir.ops.base import (
    Invalid,
    Machine,
    Op,
    Operand,
    Scope,
    dtype,
    operand,
    register,
    word,
)
from ke_ir.types import DType, TileType

if TYPE_CHECKING:
    from ke_ir.ops.base import Array

FLOAT_UNARY = (
    "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid", "erf",
    "floor", "ceil", "round", "trunc",
)  # fmt: skip
UNARY = (*FLOAT_UNARY, "abs", "neg", "not")
ARITHMETIC = ("add", "sub", "mul", "min", "max")
BINARY = (*ARITHMETIC, "div", "floordiv", "mod", "pow", "and", "or", "xor", "shl", "shr")
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def broadcast_types(scope: Scope, name: str, xs: tuple[Operand, ...]) -> TileType:
    """The common type of elementwise operands; raises Invalid naming the two that disagree."""
    types = [(x, t) for x in xs if (t := scope.type_of(x)) is not None]
    if not types:
        raise Invalid(
            "literal-operands", f"`{name}` of literals only has no type",
            ["at least one value"], "make a tile with `full VALUE : TYPE`",
        )  # fmt: skip
    first, result = types[0]
    for x, t in types[1:]:
        if t.dtype is not result.dtype:
            raise Invalid(
                "dtype-mismatch",
                f"`{name}` needs operands of one dtype; %{first} is {result} and %{x} is {t}",
                [str(result.with_dtype(result.dtype))],
                f"convert one with `cast %{x} : {result.dtype}`",
            )
        result = result.with_shape(_stretch(name, first, result, str(x), t))
    for x in xs:
        if not isinstance(x, str):
            check_literal(name, x, result.dtype)
    return result


def check_literal(name: str, x: Operand, dt: DType) -> None:
    """A float literal cannot stand for an integer, nor a number for an i1."""
    if dt.is_bool and not isinstance(x, bool):
        raise Invalid("literal-type", f"literal {x} in `{name}` of i1", ["true", "false"])
    if dt.is_int and isinstance(x, (float, bool)):
        raise Invalid("literal-type", f"literal {x} in `{name}` of {dt}", ["an integer literal"])
    if dt.is_int and isinstance(x, int):
        low = 0 if dt is DType.U8 else -(1 << (dt.bits - 1))
        high = (1 << (dt.bits - (dt is not DType.U8))) - 1
        if not low <= x <= high:
            raise Invalid("literal-range", f"literal {x} does not fit {dt}", [f"{low} to {high}"])
    if dt.is_float and isinstance(x, bool):
        raise Invalid("literal-type", f"literal {x} in `{name}` of {dt}", ["a number"])


def _stretch(name: str, a: str | Operand, ta: TileType, b: str, tb: TileType) -> tuple[int, ...]:
    if not ta.shape or not tb.shape:
        return ta.shape or tb.shape
    ok = ta.rank == tb.rank and all(
        m == n or m == 1 or n == 1 for m, n in zip(ta.shape, tb.shape, strict=True)
    )
    if not ok:
        raise Invalid(
            "shape-mismatch",
            f"`{name}` needs operands of one shape; %{a} is {ta} and %{b} is {tb}",
            [str(tb.with_shape(ta.shape))],
            "insert a dimension of size 1 with `expand`, which then stretches"
            if ta.rank != tb.rank
            else "only dimensions of size 1 stretch",
        )
    return tuple(max(m, n) for m, n in zip(ta.shape, tb.shape, strict=True))


@register
@dataclass(frozen=True)
class Unary(Op):
    """A function of one tile, element by element.

    ``%y = exp %x``. Floating functions take floats; ``abs`` and ``neg`` take integers too; ``not``
    takes i1 or integers (bitwise). ``round`` rounds half to even.
    """

    mnemonics = UNARY
    format = "$x"
    family = "elementwise"
    fn: str
    x: Operand = operand()

    def infer(self, scope: Scope) -> TileType:
        t = broadcast_types(scope, self.fn, (self.x,))
        ok = (
            not t.dtype.is_float if self.fn == "not"
            else not t.dtype.is_bool if self.fn in ("abs", "neg")
            else t.dtype.is_float
        )  # fmt: skip
        if not ok:
            want = "an integer or i1" if self.fn == "not" else "a floating dtype"
            raise Invalid("dtype", f"`{self.fn}` of {t}", [want], "convert with `cast`")
        return t

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import UNARY_FUNCTIONS

        return UNARY_FUNCTIONS[self.fn](machine.pair(self.x, self.x)[0])


@register
@dataclass(frozen=True)
class Binary(Op):
    """A function of two tiles, element by element.

    ``%z = add %x, %y``. ``div`` is for floats; ``floordiv`` and ``mod`` round toward minus
    infinity, as Python does; ``and or xor`` take i1 or integers; ``shl shr`` integers. ``min`` and
    ``max`` of a NaN are NaN.
    """

    mnemonics = BINARY
    format = "$x , $y"
    family = "elementwise"
    fn: str
    x: Operand = operand()
    y: Operand = operand()

    def infer(self, scope: Scope) -> TileType:
        t = broadcast_types(scope, self.fn, (self.x, self.y))
        d = t.dtype
        if self.fn in ("div", "pow"):
            ok, want = d.is_float, "a floating dtype"
        elif self.fn in ("and", "or", "xor"):
            ok, want = not d.is_float, "i1 or an integer dtype"
        elif self.fn in ("floordiv", "mod", "shl", "shr"):
            ok, want = d.is_int, "an integer dtype"
        else:
            ok, want = not d.is_bool, "a number dtype"
        if not ok:
            hint = "use `div` then `floor`" if self.fn == "floordiv" else "convert with `cast`"
            raise Invalid("dtype", f"`{self.fn}` of {t}", [want], hint)
        return t

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import BINARY_FUNCTIONS

        return BINARY_FUNCTIONS[self.fn](*machine.pair(self.x, self.y))


@register
@dataclass(frozen=True)
class Cmp(Op):
    """Compare two tiles of one dtype, element by element; the result is i1.

    ``%m = cmp lt %i, 100`` with one of ``eq ne lt le gt ge``. Comparisons with NaN are false,
    but ``ne`` is true.
    """

    mnemonics = ("cmp",)
    format = "$pred $x , $y"
    family = "elementwise"
    pred: str = word(COMPARE)
    x: Operand = operand()
    y: Operand = operand()

    def infer(self, scope: Scope) -> TileType:
        return broadcast_types(scope, "cmp", (self.x, self.y)).with_dtype(DType.I1)

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import COMPARE_FUNCTIONS

        return COMPARE_FUNCTIONS[self.pred](*machine.pair(self.x, self.y))


@register
@dataclass(frozen=True)
class Select(Op):
    """Choose element by element: ``%y = select %c, %a, %b`` is ``%a`` where ``%c`` holds."""

    mnemonics = ("select",)
    format = "$c , $x , $y"
    family = "elementwise"
    c: Operand = operand()
    x: Operand = operand()
    y: Operand = operand()

    def infer(self, scope: Scope) -> TileType:
        c = scope.type_of(self.c)
        if c is None or not c.dtype.is_bool:
            raise Invalid("dtype", f"the condition of `select` is {c or 'a literal'}", ["i1"])
        t = broadcast_types(scope, "select", (self.x, self.y))
        return t.with_shape(_stretch("select", str(self.c), c, str(self.x), t))

    def evaluate(self, machine: Machine) -> Array:
        import numpy as np

        x, y = machine.pair(self.x, self.y)
        return np.where(machine.value(self.c), x, y)


@register
@dataclass(frozen=True)
class Cast(Op):
    """Convert to another dtype: ``%y = cast %x : bf16``.

    Float to float rounds to nearest even (fp8 e4m3 saturates to NaN beyond its range, as OCP
    says for E4M3FN without saturation); float to integer truncates toward zero and is undefined
    out of range; integer to integer wraps; anything to i1 tests for nonzero.
    """

    mnemonics = ("cast",)
    format = "$x : $dtype"
    family = "elementwise"
    x: Operand = operand()
    dtype: DType = dtype()

    def infer(self, scope: Scope) -> TileType:
        t = scope.type_of(self.x)
        if t is None:
            raise Invalid("literal-operands", "`cast` of a literal", ["a value"], "use `full`")
        return t.with_dtype(self.dtype)

    def evaluate(self, machine: Machine) -> Array:
        import numpy as np

        x = machine.value(self.x)
        if self.dtype.is_bool:
            nonzero: Array = x != 0
            return nonzero
        if self.dtype.is_int and x.dtype.kind not in "iub":
            with np.errstate(invalid="ignore"):
                truncated: Array = np.trunc(x.astype(np.float64)).astype(self.dtype.numpy())
                return truncated
        return machine.rounded(x, self.dtype)


def is_literal(x: Any) -> bool:
    """True for a literal operand, false for the name of a value."""
    return not isinstance(x, str)
