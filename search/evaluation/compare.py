"""Compares a kernel's outputs with the float64 reference, element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.types import DType

if TYPE_CHECKING:
    from ke_ir.ir import Signature

    Array = np.ndarray[Any, Any]

BENCHMARK_TOLERANCE = {
    DType.F64: 1e-4, DType.F32: 1e-4, DType.F16: 1e-2, DType.BF16: 1e-2,
    DType.F8E4M3: 0.125, DType.F8E5M2: 0.25,
}  # fmt: skip
"""atol = rtol by output dtype: KernelBench's. It has none for fp8: there it is two units in the
last place, 2^-3 for e4m3 and 2^-2 for e5m2. No bound is ever looser than this."""


@dataclass(frozen=True)
class Comparison:
    """The worst element over all outputs: |error| / allowed (passes up to 1), and where it is.

    ``error`` and ``allowed`` are that element's; ``worst_error`` the largest |error| of any.
    """

    worst_ratio: float
    worst_error: float
    allowed: float
    where: str = ""
    error: float = 0.0

    @property
    def passed(self) -> bool:
        return self.worst_ratio <= 1.0

    def describe(self) -> str:
        return f"{self.where}: |error| {self.error:.3g}, allowed {self.allowed:.3g}"


def worse(a: Comparison, b: Comparison) -> Comparison:
    """The one that is further from passing, with the larger error of the two."""
    first = a if a.worst_ratio >= b.worst_ratio else b
    error = max(a.worst_error, b.worst_error)
    return replace(first, worst_error=error)


def compare(
    signature: Signature,
    got: Mapping[str, Array],
    want: Mapping[str, Array],
    allowed: Mapping[str, Array],
) -> Comparison:
    """Outputs by name against the reference, with an elementwise bound on |error| for each.

    Integers and booleans must be equal. A NaN or infinity must be the same on both sides.
    """
    worst = Comparison(0.0, 0.0, 0.0)
    for p in signature.outputs:
        if p.name not in got:
            return Comparison(np.inf, np.inf, 0.0, f"output {p.name} is missing")
        if got[p.name].shape != want[p.name].shape:
            shapes = f"{list(got[p.name].shape)} instead of {list(want[p.name].shape)}"
            return Comparison(np.inf, np.inf, 0.0, f"output {p.name} has shape {shapes}")
        worst = worse(worst, _one(p.name, got[p.name], want[p.name], allowed[p.name]))
    return worst


def _one(name: str, got: Array, want: Array, allowed: Array) -> Comparison:
    if not got.size:
        return Comparison(0.0, 0.0, 0.0)
    exact = got.dtype.kind in "iub" and want.dtype.kind in "iub"
    if exact:
        error = np.where(got == want, 0.0, np.inf)
        magnitude = np.abs(got.astype(np.float64) - want.astype(np.float64))
    else:
        x, y = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            error = np.where(same, 0.0, np.abs(x - y))
        error[np.isnan(error)] = np.inf
        magnitude = error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0.0, 0.0, error / allowed)
    ratio[np.isnan(ratio)] = np.inf
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    index = ", ".join(str(int(i)) for i in at)
    where = f"{name}[{index}] is {got[at].item()!r} instead of {want[at].item()!r}"
    return Comparison(
        float(ratio[at]), float(np.max(magnitude)), float(np.broadcast_to(allowed, got.shape)[at]),
        where, float(magnitude[at]),
    )  # fmt: skip


def capped(bound: Array, want: Array, dtype: DType) -> Array:
    """The bound, never looser than the benchmark's tolerance; zero for integers and booleans."""
    if not dtype.is_float:
        return np.zeros(want.shape)
    size = np.abs(np.nan_to_num(want.astype(np.float64)))
    tolerance = BENCHMARK_TOLERANCE[dtype]
    cap: Array = tolerance + tolerance * size
    return np.asarray(np.minimum(np.nan_to_num(bound, nan=np.inf), cap))
