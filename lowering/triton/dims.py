"""Which dims are constants of the text and which are learnt at launch, for programs and kernels.

A kernel is lowered for the way a program calls it: a dim that a call binds to a run-time size is an
argument even where the kernel alone has it static, and the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ke_ir.expr import Expr, dims_of
from ke_ir.ir import DimDecl
from lowering.triton.bounds import Bounds

_ANY_SIZE = (0, 2**31 - 1)


@dataclass(frozen=True)
class KernelDims:
    """Sizes of the static dims, and (smallest, largest) of the run-time ones; in order."""

    static: tuple[tuple[str, int], ...]
    ranges: tuple[tuple[str, tuple[int, int]], ...]

    def bounds(self, dims: tuple[DimDecl, ...]) -> Bounds:
        ranges = dict(self.ranges)
        derived = {d.name: d.size for d in dims if d.is_derived and d.name in ranges}
        return Bounds(dict(self.static), ranges, derived)


def called_with(dims: tuple[DimDecl, ...], sizes: Mapping[str, Expr], caller: Bounds) -> KernelDims:
    """The dims of a kernel whose call gives them these sizes, over the caller's dims."""
    static, ranges = [], []
    for d in dims:
        exact = caller.exact(sizes[d.name])
        if exact is not None and exact.value is not None:
            static.append((d.name, exact.value))
        else:
            ranges.append((d.name, _range(sizes[d.name], caller)))
    return KernelDims(tuple(static), tuple(ranges))


def program_bounds(dims: tuple[DimDecl, ...], sizes: Mapping[str, int]) -> Bounds:
    """Bounds over the dims of a program or an op: ranges, and what derives from them, vary."""
    varying: set[str] = set()
    for d in dims:
        if d.is_range or (d.is_derived and dims_of(d.size) & varying):
            varying.add(d.name)
    ranges = {d.name: (d.low or 0, d.high) for d in dims if d.high is not None}
    derived = {d.name: d.size for d in dims if d.is_derived and d.name in varying}
    bounds = Bounds({n: s for n, s in sizes.items() if n not in varying}, ranges, derived)
    for name, size in derived.items():
        ranges[name] = _range(size, bounds)
    return bounds


def _range(size: Expr, bounds: Bounds) -> tuple[int, int]:
    """Smallest and largest value of a size."""
    got = bounds.interval(size, {})
    low = _ANY_SIZE[0] if got.lo is None else bounds.smallest(got.lo)
    return low, _ANY_SIZE[1] if got.hi is None else bounds.largest(got.hi)
