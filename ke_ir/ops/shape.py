"""Combining along dimensions (``reduce scan dot``) and moving them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ke_ir.ops.base import (
    Invalid,
    Machine,
    Op,
    Operand,
    Scope,
    flag,
    integer,
    integers,
    operand,
    register,
    tile_type,
    word,
)
from ke_ir.types import DType, TileType

if TYPE_CHECKING:
    from ke_ir.ops.base import Array

TILE_REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "argmin", "any", "all")
SCANS = ("sum", "prod", "max", "min")
PRECISIONS = ("ieee", "tf32", "tf32_even", "tf32x3", "bf16x3", "bf16x6")


def _tile(scope: Scope, name: str, x: Operand) -> TileType:
    t = scope.type_of(x)
    if t is None:
        raise Invalid("literal-operands", f"`{name}` of a literal", ["a value"])
    return t


def _check_dim(name: str, t: TileType, dim: int) -> None:
    if not 0 <= dim < t.rank:
        raise Invalid(
            "dim", f"`{name}` along dim {dim} of {t}",
            [f"0 to {t.rank - 1}"] if t.rank else ["a tile with at least one dimension"],
        )  # fmt: skip


def _check_combinable(name: str, kind: str, t: TileType) -> None:
    wants_bool = kind in ("any", "all")
    if wants_bool != t.dtype.is_bool:
        want = "i1" if wants_bool else "a number dtype"
        raise Invalid("dtype", f"`{name} {kind}` of {t}", [want], "convert with `cast` or `cmp`")


@register
@dataclass(frozen=True)
class Reduce(Op):
    """Combine the elements along one dimension, which goes away: ``reduce sum %p dim 1``.

    With ``sum prod max min argmax argmin any all``. The dtype stays (cast first to accumulate
    wider); ``argmax`` and ``argmin`` give the i32 position within the tile, the first one on a
    tie; ``any`` and ``all`` take i1.
    """

    mnemonics = ("reduce",)
    format = "$kind $x dim $dim"
    family = "combine"
    kind: str = word(TILE_REDUCTIONS)
    x: Operand = operand()
    dim: int = integer()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "reduce", self.x)
        _check_dim("reduce", t, self.dim)
        _check_combinable("reduce", self.kind, t)
        shape = t.shape[: self.dim] + t.shape[self.dim + 1 :]
        return TileType(DType.I32 if self.kind.startswith("arg") else t.dtype, shape)

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import REDUCE_FUNCTIONS

        return REDUCE_FUNCTIONS[self.kind](machine.pair(self.x, self.x)[0], self.dim)


@register
@dataclass(frozen=True)
class Scan(Op):
    """Combine along one dimension, keeping every prefix: ``scan sum %x dim 1 reverse``.

    Inclusive; with ``sum prod max min``. ``reverse`` goes from the last element to the first.
    """

    mnemonics = ("scan",)
    format = "$kind $x dim $dim ($reverse)?"
    family = "combine"
    kind: str = word(SCANS)
    x: Operand = operand()
    dim: int = integer()
    reverse: bool = flag()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "scan", self.x)
        _check_dim("scan", t, self.dim)
        _check_combinable("scan", self.kind, t)
        return t

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import scan

        return scan(self.kind, machine.pair(self.x, self.x)[0], self.dim, self.reverse)


@register
@dataclass(frozen=True)
class Dot(Op):
    """Matrix product over the last dimension of ``a`` and the last but one of ``b``.

    ``%c = dot %a, %b, %acc precision tf32``: [.., M, K] x [.., K, N] (+ [.., M, N]) -> [.., M, N]
    with equal leading dimensions. Floats accumulate in f32 (f64 for f64), integers of 8 bits in
    i32. ``precision`` is for f32 operands: ``ieee`` (the default), ``tf32`` (operands rounded to
    10-bit significands, ties away from zero), ``tf32_even`` (the same, ties to even), ``tf32x3``,
    ``bf16x3``, ``bf16x6`` (sums of products of parts).
    """

    mnemonics = ("dot",)
    format = "$a , $b (, $acc)? (precision $precision)?"
    family = "combine"
    a: Operand = operand()
    b: Operand = operand()
    acc: Operand | None = operand(None)
    precision: str = word(PRECISIONS, "ieee")

    def infer(self, scope: Scope) -> TileType:
        ta, tb = _tile(scope, "dot", self.a), _tile(scope, "dot", self.b)
        if ta.dtype is not tb.dtype:
            raise Invalid(
                "dtype-mismatch",
                f"`dot` needs operands of one dtype; %{self.a} is {ta} and %{self.b} is {tb}",
                [str(ta.dtype)], f"convert one with `cast %{self.b} : {ta.dtype}`",
            )  # fmt: skip
        if ta.rank < 2 or ta.rank != tb.rank or ta.shape[:-2] != tb.shape[:-2]:
            raise Invalid(
                "shape-mismatch", f"`dot` of {ta} and {tb}", ["[.., M, K] and [.., K, N]"]
            )
        if ta.shape[-1] != tb.shape[-2]:
            raise Invalid(
                "shape-mismatch",
                f"`dot` sums over {ta.shape[-1]} elements of %{self.a} but {tb.shape[-2]} of "
                f"%{self.b}",
                [f"[.., {ta.shape[-1]}, N] on the right"], "permute an operand that lies across",
            )  # fmt: skip
        if self.precision != "ieee" and ta.dtype is not DType.F32:
            raise Invalid(
                "precision", f"`precision {self.precision}` of {ta.dtype}", ["f32 operands"]
            )
        result = TileType(dot_dtype(ta.dtype), (*ta.shape[:-1], tb.shape[-1]))
        if self.acc is not None:
            tc = _tile(scope, "dot", self.acc)
            if tc != result:
                raise Invalid("dot-acc", f"the accumulator of `dot` is {tc}", [str(result)])
        return result

    def evaluate(self, machine: Machine) -> Array:
        from ke_ir.numerics import dot

        a, b = machine.pair(self.a, self.b)
        acc = None if self.acc is None else machine.value(self.acc)
        return dot(a, b, acc, "ieee" if machine.exact else self.precision)


def dot_dtype(operand: DType) -> DType:
    """The dtype in which a ``dot`` of this operand dtype accumulates; raises Invalid."""
    if operand in (DType.I8, DType.U8):
        return DType.I32
    if operand is DType.F64:
        return DType.F64
    if operand.is_float:
        return DType.F32
    raise Invalid("dtype", f"`dot` of {operand}", ["a floating dtype", "i8", "u8"])


@register
@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in row-major order in another shape: ``reshape %x : f32[4, 32]``."""

    mnemonics = ("reshape",)
    format = "$x : $type"
    family = "shape"
    x: Operand = operand()
    type: TileType = tile_type()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "reshape", self.x)
        if t.dtype is not self.type.dtype or math.prod(t.shape) != math.prod(self.type.shape):
            raise Invalid(
                "reshape",
                f"`reshape` of {t} to {self.type}",
                [f"{t.elements} elements of {t.dtype}"],
            )
        return self.type

    def evaluate(self, machine: Machine) -> Array:
        return machine.value(self.x).reshape(self.type.shape)


@register
@dataclass(frozen=True)
class Permute(Op):
    """Reorder dimensions: ``permute %x [1, 0]`` has at place i what was at place order[i]."""

    mnemonics = ("permute",)
    format = "$x $order"
    family = "shape"
    x: Operand = operand()
    order: tuple[int, ...] = integers()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "permute", self.x)
        if sorted(self.order) != list(range(t.rank)):
            raise Invalid(
                "permute", f"`permute` of {t} by {list(self.order)}",
                [f"each of 0 to {t.rank - 1} once"],
            )  # fmt: skip
        return t.with_shape(tuple(t.shape[i] for i in self.order))

    def evaluate(self, machine: Machine) -> Array:
        return machine.value(self.x).transpose(self.order)


@register
@dataclass(frozen=True)
class Expand(Op):
    """Insert a dimension of size 1 at place ``dim``: ``expand %r dim 1`` of f32[4] is f32[4, 1]."""

    mnemonics = ("expand",)
    format = "$x dim $dim"
    family = "shape"
    x: Operand = operand()
    dim: int = integer()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "expand", self.x)
        if not 0 <= self.dim <= t.rank:
            raise Invalid("dim", f"`expand` at dim {self.dim} of {t}", [f"0 to {t.rank}"])
        return t.with_shape((*t.shape[: self.dim], 1, *t.shape[self.dim :]))

    def evaluate(self, machine: Machine) -> Array:
        x: Any = machine.value(self.x)
        return x.reshape((*x.shape[: self.dim], 1, *x.shape[self.dim :]))  # type: ignore[no-any-return]


@register
@dataclass(frozen=True)
class Broadcast(Op):
    """Stretch dimensions of size 1 (or a scalar): ``broadcast %r : f32[4, 1024]``."""

    mnemonics = ("broadcast",)
    format = "$x : $type"
    family = "shape"
    x: Operand = operand()
    type: TileType = tile_type()

    def infer(self, scope: Scope) -> TileType:
        t = _tile(scope, "broadcast", self.x)
        fits = not t.shape or (
            t.rank == self.type.rank
            and all(m in (1, n) for m, n in zip(t.shape, self.type.shape, strict=True))
        )
        if t.dtype is not self.type.dtype or not fits:
            raise Invalid(
                "broadcast", f"`broadcast` of {t} to {self.type}",
                ["the same rank and dtype, sizes equal or 1"], "insert dimensions with `expand`",
            )  # fmt: skip
        return self.type

    def evaluate(self, machine: Machine) -> Array:
        import numpy as np

        return np.broadcast_to(machine.value(self.x), self.type.shape)
