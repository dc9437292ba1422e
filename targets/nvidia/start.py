"""What is known to be good on a GPU of NVIDIA's before any search.

A derived program computes float32 products one by one on the vector units, in tiles that suit any
hardware. The matrix units compute them from parts at float32's accuracy (``bf16x6``; ``tf32x3``,
which is 2^-22 instead of 2^-24, where both operands lie along the sum in memory, since only so
does it pay), and want larger tiles. Both are rewrites, and a search may go on from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ke_ir.expr import Var
from ke_ir.ir import For, Parallel
from ke_ir.ops import Dot, Load, Permute
from ke_ir.ops.base import Operand
from ke_ir.rewrites.base import KernelRewrite, NoMatch
from ke_ir.rewrites.body import Facts, facts
from ke_ir.rewrites.precision import SetPrecision
from ke_ir.rewrites.retile import Retile
from ke_ir.types import DType

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from lowering.triton.traits import Traits
    from targets.gpu.spec import GpuSpec

_ROWS, _COLUMNS, _TERMS = 128, 128, 64
_WAVES = 1.5
"""Programs for each unit that must remain for larger tiles to pay."""


def started(module: Module, program: Program, traits: Traits, spec: GpuSpec) -> Module:
    """The module with the kernels that ``program`` calls made ready; others as they are."""
    for name in dict.fromkeys(call.kernel for call in program.calls):
        f = facts(module.kernels[name])
        for value, op in f.definitions.items():
            if isinstance(op, Dot) and f.types[str(op.a)].dtype is DType.F32:
                module = _changed(module, _precision(f, value, op, traits))
                module = _changed(module, _tiles(f, value, op, spec))
    return module


def _changed(module: Module, rewrites: Iterator[KernelRewrite]) -> Module:
    """Those of the rewrites that apply, one after the other."""
    for rewrite in rewrites:
        made = rewrite.apply(module)
        if not isinstance(made, NoMatch):
            module = made
    return module


def _precision(f: Facts, value: str, op: Dot, traits: Traits) -> Iterator[KernelRewrite]:
    wanted = "tf32x3" if _along_terms(f, op) else "bf16x6"
    if op.precision == "ieee" and wanted in traits.dot_precisions:
        yield SetPrecision(f.kernel.name, value, wanted)


def _tiles(f: Facts, value: str, op: Dot, spec: GpuSpec) -> Iterator[KernelRewrite]:
    """Larger tiles, as long as every unit has programs enough."""
    rows, columns = f.axes.of(value)
    terms = f.axes.of(str(op.a))[1]
    programs = _programs(f)
    row, column = _loop(f, rows, Parallel), _loop(f, columns, Parallel)
    plain = all(_plain(f, x) for x in (op.a, op.b))
    for name, tile in ((row, _ROWS), (column, _COLUMNS if plain else 0)):
        site = f.loops.get(name or "")
        if site is None or site.var.tile is None or tile <= site.var.step:
            continue
        extent = f.extent(site.var)
        if extent is None or extent < tile:
            continue
        left = programs * site.var.step / tile
        if left < _WAVES * spec.hardware.units:
            return
        programs = left
        yield Retile(f.kernel.name, site.var.name, tile)
    stages = max((s.stages for _, s in f.statements if isinstance(s, For)), default=1)
    moved = (_ROWS + _COLUMNS) * _TERMS * 4 * stages
    term, extents = _loop(f, terms, For), [f.extent(f.loops[n].var) for n in (row, column) if n]
    wide = all(n is not None and n >= _ROWS for n in extents)
    if plain and term is not None and wide and moved <= spec.shared_per_group:
        size = f.extent(f.loops[term].var)
        if size is not None and size >= 4 * _TERMS:
            yield Retile(f.kernel.name, term, _TERMS)


def _programs(f: Facts) -> float:
    """Programs at the kernel's default sizes."""
    n = 1.0
    for v in f.parallel.vars:
        n *= -(-(f.extent(v) or 1) // v.step)
    return n


def _loop(f: Facts, axis: int, kind: type[For] | type[Parallel]) -> str | None:
    """The one loop of a kind whose tiles lie along an axis."""
    found = [n for n in f.axes.loops(axis) if isinstance(f.loops[n].loop, kind)]
    return found[0] if len(found) == 1 else None


def _load(f: Facts, value: Operand) -> tuple[Load, bool] | None:
    """The load that gives an operand, and whether its two dimensions were exchanged since."""
    op, exchanged = f.definitions.get(str(value)), False
    if isinstance(op, Permute):
        op, exchanged = f.definitions.get(str(op.x)), True
    return (op, exchanged) if isinstance(op, Load) else None


def _plain(f: Facts, value: Operand) -> bool:
    """Whether an operand is loaded as a matrix: each index a loop variable."""
    found = _load(f, value)
    return found is not None and all(isinstance(i, Var) for i in found[0].coords)


def _along_terms(f: Facts, op: Dot) -> bool:
    """Whether both operands lie in memory along the index that is summed over."""
    left, right = _load(f, op.a), _load(f, op.b)
    if left is None or right is None or not (_plain(f, op.a) and _plain(f, op.b)):
        return False
    return not left[1] and right[1]
