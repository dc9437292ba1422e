"""Tensor memory: ``load``, ``store``, ``accumulate``; and the tiles that come from nowhere.

Coordinates are quasi-affine expressions of index tiles (tiled loop variables), scalars and
integer tiles. The tile has one dimension for each distinct index tile, in order of first
appearance; integer tiles stretch together as in numpy and bring their common dimensions at the
place of the first of them. An element outside the tensor, or outside the range of one of the
loops named, reads as ``else`` (0 unless said) and is not written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ke_ir.ops.arith import check_literal
from ke_ir.ops.base import (
    Invalid,
    Machine,
    Op,
    Operand,
    Scope,
    coords,
    index,
    operand,
    register,
    tensor,
    tile_type,
    value,
    word,
)
from ke_ir.types import DType, TileType

if TYPE_CHECKING:
    from ke_ir.expr import Expr
    from ke_ir.ops.base import Array

ACCUMULATIONS = ("add", "min", "max")


def _check_rank(scope: Scope, name: str, coords: tuple[Expr, ...]) -> None:
    rank = len(scope.tensor(name).shape)
    if rank != len(coords):
        raise Invalid(
            "rank", f"%{name} has {rank} dimensions but {len(coords)} coordinates are given",
            [f"{rank} coordinates"],
        )  # fmt: skip


@register
@dataclass(frozen=True)
class Load(Op):
    """Read a tile of a tensor: ``%v = load %x[%b, %d else 0.0] : f16[4, 1024]``.

    The type must be what the coordinates give. ``else`` is what elements outside read as.
    """

    mnemonics = ("load",)
    format = "$tensor $coords : $type"
    family = "memory"
    tensor: str = tensor()
    coords: tuple[Expr, ...] = coords()
    type: TileType = tile_type()
    fill: int | float | bool = 0

    def coordinates(self) -> tuple[Expr, ...]:
        return self.coords

    def infer(self, scope: Scope) -> TileType:
        _check_rank(scope, self.tensor, self.coords)
        want = TileType(scope.tensor(self.tensor).dtype, scope.access_shape(self.coords))
        if want != self.type:
            raise Invalid(
                "load-type", f"this load gives {want}, but {self.type} is written", [str(want)],
                "a tile has one dimension for each distinct index tile, in order of appearance",
            )  # fmt: skip
        if self.fill != 0:
            check_literal("load", self.fill, want.dtype)
        return want

    def evaluate(self, machine: Machine) -> Array:
        return machine.load(self.tensor, self.coords, self.fill)


def _check_stored(scope: Scope, op: Store | Accumulate) -> None:
    _check_rank(scope, op.tensor, op.coords)
    target = scope.tensor(op.tensor)
    want = TileType(target.dtype, scope.access_shape(op.coords))
    got = scope.type_of(op.x)
    if got is None:
        check_literal(op.mnemonic, op.x, want.dtype)
    elif got.dtype is not want.dtype:
        raise Invalid(
            "dtype-mismatch", f"%{op.x} is {got}, but %{op.tensor} holds {want.dtype}",
            [str(want)], f"convert with `cast %{op.x} : {want.dtype}`",
        )  # fmt: skip
    elif got.shape not in (want.shape, ()):
        raise Invalid(
            "shape-mismatch", f"%{op.x} is {got}, but these coordinates address {want}",
            [str(want)],
        )  # fmt: skip


@register
@dataclass(frozen=True)
class Store(Op):
    """Write a tile to an output: ``store %y, %out[%b, %d]``. Each element is written once."""

    mnemonics = ("store",)
    format = "$x , $tensor $coords"
    family = "memory"
    has_result = False
    x: Operand = operand()
    tensor: str = tensor()
    coords: tuple[Expr, ...] = coords()

    def coordinates(self) -> tuple[Expr, ...]:
        return self.coords

    def infer(self, scope: Scope) -> None:
        _check_stored(scope, self)

    def evaluate(self, machine: Machine) -> None:
        machine.store(self.tensor, self.coords, machine.value(self.x))


@register
@dataclass(frozen=True)
class Accumulate(Op):
    """Combine a tile into an output atomically: ``accumulate add %v, %out[%i, %d]``.

    With ``add``, ``min`` or ``max``. The output starts from that operation's identity, and no
    element of it may be stored. The order of additions is not fixed.
    """

    mnemonics = ("accumulate",)
    format = "$kind $x , $tensor $coords"
    family = "memory"
    has_result = False
    kind: str = word(ACCUMULATIONS)
    x: Operand = operand()
    tensor: str = tensor()
    coords: tuple[Expr, ...] = coords()

    def coordinates(self) -> tuple[Expr, ...]:
        return self.coords

    def infer(self, scope: Scope) -> None:
        if scope.tensor(self.tensor).dtype.is_bool:
            raise Invalid("dtype", "`accumulate` into i1", ["a number dtype"])
        _check_stored(scope, self)

    def evaluate(self, machine: Machine) -> None:
        machine.accumulate(self.kind, self.tensor, self.coords, machine.value(self.x))


@register
@dataclass(frozen=True)
class Full(Op):
    """A tile of one value: ``%z = full 0.0 : f32[4, 128]``; ``full 1 : i32`` is a scalar.

    The value is a literal, or an integer expression of dims: ``%n = full D : f32`` makes the
    size of a dim a value.
    """

    mnemonics = ("full",)
    format = "$value : $type"
    family = "create"
    value: int | float | bool | Expr = value()
    type: TileType = tile_type()

    def infer(self, scope: Scope) -> TileType:
        if isinstance(self.value, int | float):
            check_literal("full", self.value, self.type.dtype)
        else:
            scope.check_dims(self.value)
        return self.type

    def evaluate(self, machine: Machine) -> Array:
        import numpy as np

        v = self.value if isinstance(self.value, int | float) else machine.size(self.value)
        return machine.rounded(np.full(self.type.shape, v), self.type.dtype)


@register
@dataclass(frozen=True)
class Iota(Op):
    """The indices that a loop variable stands for: ``%i = iota %d : i32[1024]``.

    A tiled variable gives a one-dimensional tile (indices past the loop's end included), an
    untiled one a scalar.
    """

    mnemonics = ("iota",)
    format = "$index : $type"
    family = "create"
    index: str = index()
    type: TileType = tile_type()

    def infer(self, scope: Scope) -> TileType:
        length = scope.index_length(self.index)
        shape = () if length is None else (length,)
        if self.type.shape != shape or self.type.dtype not in (DType.I32, DType.I64):
            want = [str(TileType(d, shape)) for d in (DType.I32, DType.I64)]
            raise Invalid("iota-type", f"`iota %{self.index}` cannot be {self.type}", want)
        return self.type

    def evaluate(self, machine: Machine) -> Array:
        return machine.index_values(self.index).astype(self.type.dtype.numpy())
