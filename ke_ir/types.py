"""Element types, tensor types (sizes are expressions over dims) and tile types (sizes are ints)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.expr import Expr


class DType(Enum):
    """An element type. The value is its spelling in KE-IR."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    F8E4M3 = "f8e4m3"  # OCP E4M3FN: no infinities, largest 448
    F8E5M2 = "f8e5m2"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    I1 = "i1"

    # Members are singletons, so identity hashing is right, and far faster than Enum's own.
    __hash__ = object.__hash__

    def __str__(self) -> str:
        return self.value

    @property
    def is_float(self) -> bool:
        return self.value[0] in "fb"

    @property
    def is_bool(self) -> bool:
        return self is DType.I1

    @property
    def is_int(self) -> bool:
        """True for the integers proper, not for ``i1``."""
        return not self.is_float and not self.is_bool

    @property
    def bits(self) -> int:
        return _BITS[self]

    @property
    def bytes(self) -> int:
        """Bytes one element takes in memory (``i1`` takes one)."""
        return max(1, self.bits // 8)

    @property
    def mantissa_bits(self) -> int:
        """Explicit significand bits of a floating type; raises KeyError for integers."""
        return _MANTISSA[self]

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of one rounding to nearest; 0 for integers."""
        return 2.0 ** -(_MANTISSA[self] + 1) if self.is_float else 0.0

    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype (from ml_dtypes for bf16 and fp8)."""
        import numpy as np

        name = _NUMPY[self]
        if name.startswith(("bfloat", "float8")):
            import ml_dtypes

            scalar: Any = getattr(ml_dtypes, name)
            found: np.dtype[Any] = np.dtype(scalar)
            return found
        return np.dtype(name)


_BITS = {
    DType.F64: 64, DType.F32: 32, DType.F16: 16, DType.BF16: 16, DType.F8E4M3: 8, DType.F8E5M2: 8,
    DType.I64: 64, DType.I32: 32, DType.I16: 16, DType.I8: 8, DType.U8: 8, DType.I1: 1,
}  # fmt: skip
_MANTISSA = {
    DType.F64: 52, DType.F32: 23, DType.F16: 10, DType.BF16: 7, DType.F8E4M3: 3, DType.F8E5M2: 2,
}  # fmt: skip
_NUMPY = {
    DType.F64: "float64", DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16",
    DType.F8E4M3: "float8_e4m3fn", DType.F8E5M2: "float8_e5m2", DType.I64: "int64",
    DType.I32: "int32", DType.I16: "int16", DType.I8: "int8", DType.U8: "uint8", DType.I1: "bool",
}  # fmt: skip

DTYPES: dict[str, DType] = {d.value: d for d in DType}


@dataclass(frozen=True)
class TensorType:
    """A tensor in memory, row-major and contiguous: ``f16[B, 2*D]``. Rank 0 prints as ``f16[]``."""

    dtype: DType
    shape: tuple[Expr, ...]

    def sizes(self, dims: dict[str, int]) -> tuple[int, ...]:
        """The concrete shape when every dim is bound."""
        from ke_ir.expr import evaluate_int

        return tuple(evaluate_int(e, dims) for e in self.shape)

    def __str__(self) -> str:
        from ke_ir.expr import show

        return f"{self.dtype}[{', '.join(show(e) for e in self.shape)}]"


@dataclass(frozen=True)
class TileType:
    """A value in a kernel: ``f32[4, 1024]``. A scalar has no dimensions and prints as ``f32``."""

    dtype: DType
    shape: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    def with_dtype(self, dtype: DType) -> TileType:
        return TileType(dtype, self.shape)

    def with_shape(self, shape: tuple[int, ...]) -> TileType:
        return TileType(self.dtype, shape)

    def __str__(self) -> str:
        if not self.shape:
            return self.dtype.value
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"
