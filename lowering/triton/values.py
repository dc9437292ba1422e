"""How KE-IR values stand in Triton text: dtypes, literals, padded shapes."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from ke_ir.types import DType, TileType
from lowering.triton.bounds import UNKNOWN, Interval
from lowering.triton.options import TritonOptions

Literal = int | float | bool

_TL = {
    DType.F64: "float64", DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16",
    DType.F8E4M3: "float8e4nv", DType.F8E5M2: "float8e5", DType.I64: "int64", DType.I32: "int32",
    DType.I16: "int16", DType.I8: "int8", DType.U8: "uint8", DType.I1: "int1",
}  # fmt: skip
_POINTER = {
    DType.F64: "fp64", DType.F32: "fp32", DType.F16: "fp16", DType.BF16: "bf16",
    DType.F8E4M3: "fp8e4nv", DType.F8E5M2: "fp8e5", DType.I64: "i64", DType.I32: "i32",
    DType.I16: "i16", DType.I8: "i8", DType.U8: "u8", DType.I1: "i1",
}  # fmt: skip
_TORCH = {
    DType.F64: "float64", DType.F32: "float32", DType.F16: "float16", DType.BF16: "bfloat16",
    DType.F8E4M3: "float8_e4m3fn", DType.F8E5M2: "float8_e5m2", DType.I64: "int64",
    DType.I32: "int32", DType.I16: "int16", DType.I8: "int8", DType.U8: "uint8", DType.I1: "bool",
}  # fmt: skip
F8 = (DType.F8E4M3, DType.F8E5M2)
SMALL_FLOATS = (DType.F16, DType.BF16, *F8)


@dataclass(frozen=True)
class Carriers:
    """Which Python-side and Triton-side dtypes hold each KE-IR dtype in this text."""

    options: TritonOptions

    def widened(self, d: DType) -> bool:
        """Whether registers hold this dtype's values in float32, rounded by the text."""
        if self.options.interpret:
            return d in (DType.BF16, *F8)
        return d in F8 and d.value not in self.options.traits.fp8_types

    def as_bytes(self, d: DType) -> bool:
        """Whether memory holds this fp8 dtype as uint8, decoded and encoded by the text."""
        return self.widened(d) and not self.options.interpret

    def register(self, d: DType) -> str:
        """The Triton dtype of a value, such as ``tl.float32``."""
        return "tl.float32" if self.widened(d) else f"tl.{_TL[d]}"

    def pointer(self, d: DType) -> str:
        """The signature entry of a tensor, such as ``*fp16``."""
        if self.as_bytes(d):
            return "*u8"
        return "*fp32" if self.widened(d) else f"*{_POINTER[d]}"

    def torch(self, d: DType) -> str:
        """The PyTorch dtype of a tensor, such as ``torch.float16``."""
        if self.options.interpret and self.widened(d):
            return "torch.float32"
        return f"torch.{_TORCH[d]}"

    def bytes(self, d: DType) -> int:
        """What an element of a tensor takes."""
        return 4 if self.options.interpret and self.widened(d) else d.bytes


def torch_of(pointer: str) -> str:
    """The PyTorch dtype that Triton takes for a tensor of this signature entry."""
    (d,) = (d for d, name in _POINTER.items() if pointer == f"*{name}")
    return declared_torch(d)


def declared_torch(d: DType) -> str:
    """The PyTorch dtype that KE-IR's dtype is."""
    return f"torch.{_TORCH[d]}"


def power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in registers: every size rounded up to a power of two."""
    return tuple(power_of_two(n) for n in shape)


def literal(value: Literal, dtype: DType) -> str:
    """A literal as Python text."""
    if dtype.is_bool:
        return str(bool(value))
    if not dtype.is_float:
        return str(int(value))
    value = float(value)
    if math.isnan(value):
        return 'float("nan")'
    if math.isinf(value):
        return 'float("inf")' if value > 0 else 'float("-inf")'
    return repr(value)


_SMALLEST_NORMAL = 2.0**-126
"""Of float32."""


def operand_literal(value: Literal, dtype: DType) -> str:
    """A literal as an operand, with its type where Triton would give it another.

    Triton takes a number for a float32, which loses digits of a float64, unless it is too small or
    too large for a normal one: then for a float64, and a float32 beside it becomes one as well.
    """
    text = literal(value, dtype)
    if dtype not in (DType.F32, DType.F64) or not math.isfinite(value) or value == 0:
        return text
    single = rounded_literal(value, DType.F32)
    plain = dtype is DType.F32 or single == value
    if plain and abs(value) >= _SMALLEST_NORMAL and math.isfinite(single):
        return text
    return f"tl.full([], {text}, tl.float{dtype.bits})"


def rounded_literal(value: float, dtype: DType) -> float:
    """A number as a value of a floating dtype."""
    if dtype is DType.F64 or value == 0.0 or not math.isfinite(value):
        return value
    try:
        single = float(struct.unpack("f", struct.pack("f", value))[0])
        if dtype is DType.F32 or (single == int(single) and abs(single) <= 16):
            return single  # small whole numbers are values of every format
        if dtype is DType.F16:
            return float(struct.unpack("e", struct.pack("e", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
    import numpy as np

    return float(np.asarray(value).astype(dtype.numpy()))


def identity(kind: str, dtype: DType) -> Literal:
    """What a reduction starts from: ``sum prod max min argmax argmin any all`` (and ``add``)."""
    if kind in ("sum", "add"):
        return 0
    if kind == "prod":
        return 1
    if kind in ("any", "all"):
        return kind == "all"
    lowest = kind in ("max", "argmax")
    if dtype.is_float:
        return -math.inf if lowest else math.inf
    if dtype is DType.U8:
        return 0 if lowest else 255
    top: int = 1 << (dtype.bits - 1)
    return -top if lowest else top - 1


@dataclass(frozen=True)
class Value:
    """A KE-IR value in the text.

    ``text`` is a Python atom (a name, a call, a subscript). ``pad`` is what lanes beyond the
    logical shape hold, if known; ``constant`` the value of every element, if known; ``bounds``
    those of an integer. ``owned`` says that no other value shares the Python variable. ``dims``
    are the sizes in registers as text, such as ``BLOCK_M``.
    """

    text: str
    type: TileType
    pad: Literal | None = None
    constant: Literal | None = None
    bounds: Interval = UNKNOWN
    owned: bool = False
    dims: tuple[str, ...] = ()


def index_suffix(places: list[int], rank: int) -> str:
    """The subscript that puts dimensions at ``places`` of a tile of ``rank``: ``[:, None]``."""
    if len(places) == rank:
        return ""
    return "[" + ", ".join(":" if i in places else "None" for i in range(rank)) + "]"
