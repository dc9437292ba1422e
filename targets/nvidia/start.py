"""What is known to be good on a GPU of NVIDIA's before any search.

A derived program computes float32 products one by one on the vector units, in tiles that suit any
hardware. The matrix units compute them from parts at float32's accuracy (``bf16x6``; ``tf32x3``,
which is 2^-22 instead of 2^-24, where both operands lie along the sum in memory, since only so
does it pay), want larger tiles, and operands that lie so: they are packed before where that takes
less time than it saves. What is copied element by element, as windows and rows of odd lengths are,
is not pipelined, and windows are gone through in blocks of their taps. Of few rows, as a step of a
recurrence has, narrow tiles on the vector units keep more units busy. All are rewrites, and a
search may go on from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ke_ir.derive.tiles import below, power
from ke_ir.expr import Bin, Expr, Num, Var
from ke_ir.index_maps import terms
from ke_ir.ir import For, LoopVar, Parallel
from ke_ir.ops import Dot, Load, Permute
from ke_ir.ops.base import Operand
from ke_ir.rewrites.algebra import Simplify
from ke_ir.rewrites.align import Align
from ke_ir.rewrites.base import KernelRewrite, NoMatch
from ke_ir.rewrites.block import Block
from ke_ir.rewrites.body import Facts, LoopSite, facts
from ke_ir.rewrites.multiply import FEW, Multiply
from ke_ir.rewrites.pack import Pack
from ke_ir.rewrites.precision import SetPrecision
from ke_ir.rewrites.retile import Retile
from ke_ir.rewrites.schedule import SetStages
from ke_ir.rewrites.unroll import Unroll
from ke_ir.types import DType

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from lowering.triton.traits import Traits
    from targets.gpu.spec import GpuSpec

_ROWS, _COLUMNS, _TERMS = 128, 128, 64
_WINDOW_TERMS, _WINDOW_STAGES = 32, 3
"""Terms and pipelining depth where rows or columns are places of a window."""
_WAVES = 1.5
"""Programs for each unit that must remain for larger tiles to pay."""
_LEAST_COLUMNS = 16
"""Columns of a tile where there are fewer programs than units: what a matrix unit takes."""
_PRODUCTS = 1 << 12
"""Products that a program computes at a time on the vector units."""
_SHORT = 4
"""Places of a window, in one dimension, that are written out."""
_SHORT_SUM, _MANY = 256, 1 << 18
"""Terms of a product up to which, and results for each unit from which, nothing is in flight: 1/87
took 9.2 ms on an H100 with bf16x6 in flight, 7.4 ms with tf32x3 without."""
_PIECE_BYTES = 16
"""What one asynchronous copy moves at most."""
_FILLED, _LEAST_TAPS, _MOST_TAPS = 0.75, 16, 128
"""Share of a tile that a window must fill to be one, and what such a tile may be."""
_AS_THEY_ARE = {
    "window": (0.075, 0.35), "plain": (0.15, 0.2), "tf32": (0.18, 0.2), "odd": (0.055, 0.3),
}  # fmt: skip
"""Fraction of the TF32 peak that products of operands as they are reach, and the fraction of their
time that packing one saves. Measured on an H100: 37, 75, 90 and 27 TFLOP/s, the last of rows of odd
lengths."""
_TF32 = ("tf32", "tf32_even")
"""Precisions at which operands are used as they are."""
_COPIED = 0.87
"""Fraction of the memory's bandwidth that packing reaches; likewise."""


def started(module: Module, program: Program, traits: Traits, spec: GpuSpec) -> Module:
    """The module with the kernels that ``program`` calls made ready; others as they are."""
    for name in dict.fromkeys(call.kernel for call in program.calls):
        products = facts(module.kernels[name])
        if not any(isinstance(op, Dot) for op in products.definitions.values()):
            module = _changed(module, _written_out(products))
        for value, op in products.definitions.items():
            if isinstance(op, Dot) and products.types[str(op.a)].dtype is DType.F32:
                if _few(*_product(module, name, value), spec):
                    module = _changed(module, _multiplied(module, name, value, spec))
                    continue
                module, name = _packed(module, name, value, spec)
                module, name = _aligned(module, name, value, spec)
                module = _changed(module, _precision(module, name, value, traits, spec))
                module = _changed(module, _tiles(module, name, value, spec))
                module = _changed(module, _unpipelined(module, name, value, spec))
    return module


def _changed(module: Module, rewrites: Iterator[KernelRewrite]) -> Module:
    """Those of the rewrites that apply, one after the other."""
    for rewrite in rewrites:
        made = rewrite.apply(module)
        if not isinstance(made, NoMatch):
            module = made
    return module


def _written_out(f: Facts) -> Iterator[KernelRewrite]:
    """Short windows place by place, so that only those at the edge ask where they are.

    An average over 3x3x3 places took 3.5 ms on an H100, and 7.0 ms with loops.
    """
    for site in f.loops.values():
        loop = site.loop
        if (
            isinstance(loop, For)
            and site.var.tile is None
            and not any(isinstance(s, For) for s in loop.body)
        ):
            trips = f.extent(site.var)
            if trips is not None and 1 < trips <= _SHORT:
                yield Unroll(f.kernel.name, site.var.name, trips)


def _few(f: Facts, op: Dot, spec: GpuSpec) -> bool:
    """Whether a product has so few rows and columns that most units would have no tile of it."""
    value = str(op.result)
    column = _loop(f, f.axes.of(value)[-1], Parallel)
    if op.precision != "ieee" or column is None or f.types[value].rank != 2:
        return False
    known = all(f.extent(v) is not None for v in f.parallel.vars)
    tiles = _programs(f) * f.loops[column].var.step / _LEAST_COLUMNS
    return known and f.types[value].shape[0] <= FEW and 2 * tiles <= spec.hardware.units


def _multiplied(module: Module, name: str, value: str, spec: GpuSpec) -> Iterator[KernelRewrite]:
    """Term by term, in tiles of so few columns that every unit has one."""
    f, op = _product(module, name, value)
    column = _loop(f, f.axes.of(value)[-1], Parallel)
    term = _loop(f, f.axes.of(str(op.a))[-1], For)
    assert column is not None
    every = _programs(f) * f.loops[column].var.step
    tile = min(f.loops[column].var.step, below(int(every) // spec.hardware.units))
    yield Retile(name, column, tile)
    if term is not None:
        extent = f.extent(f.loops[term].var)
        most = _PRODUCTS // (f.types[value].shape[0] * tile)
        yield Retile(name, term, most if extent is None else min(most, power(extent)))
    yield Multiply(name, value)


def _packed(module: Module, name: str, value: str, spec: GpuSpec) -> tuple[Module, str]:
    """With the operands of a product packed where that pays; the kernel has a new name then."""
    for place in (0, 1):
        f, op = _product(module, name, value)
        load = _load(f, (op.a, op.b)[place])
        if load is None or _streamed(f, op, place) or not _worth_packing(f, value, load[0], spec):
            continue
        made = Pack(name, load[0].tensor, "each").apply(module)
        if isinstance(made, NoMatch):
            continue
        name = _new_name(module, made, value)
        simple = Simplify(name).apply(made)
        module = made if isinstance(simple, NoMatch) else simple
    return module, name


def _new_name(before: Module, after: Module, value: str) -> str:
    """The name that the kernel with a product has since the copies that it reads were made."""
    new = after.kernels.keys() - before.kernels.keys()
    return next(n for n in new if value in facts(after.kernels[n]).definitions)


def _aligned(module: Module, name: str, value: str, spec: GpuSpec) -> tuple[Module, str]:
    """With rows of an odd length copied to such as can be read in pieces, where that pays."""
    f, op = _product(module, name, value)
    loads, term = _loads(f, op), _loop(f, f.axes.of(str(op.a))[-1], For)
    streamed = len(loads) == 2 and all(_streamed(f, op, place) for place in (0, 1))
    if term is None or not streamed or all(_is_wide(f, load) for load in loads):
        return module, name
    if not all(_worth_packing(f, value, load, spec, "odd") for load in loads):
        return module, name
    piece = _PIECE_BYTES // f.types[str(op.a)].dtype.bytes
    made = Align(name, term, piece).apply(module)
    return (module, name) if isinstance(made, NoMatch) else (made, _new_name(module, made, value))


def _worth_packing(f: Facts, value: str, load: Load, spec: GpuSpec, kind: str = "") -> bool:
    """Whether packing takes less time than it saves."""
    op = f.definitions[value]
    assert isinstance(op, Dot)
    sizes = [f.span(n) for n in f.kernel.tensors[load.tensor].shape]
    trips = _trips(f, value)
    if trips is None or any(n.lo is None or n.lo != n.hi for n in sizes):
        return False
    plain = all(_plain(f, x) for x in (op.a, op.b))
    kind = kind or ("tf32" if op.precision in _TF32 else "plain" if plain else "window")
    reach, saved = _AS_THEY_ARE[kind]
    h = spec.hardware
    product = 2.0 * trips / (reach * h.matrix_flops["tf32"])
    moved = 2 * 4 * math.prod(n.lo or 0 for n in sizes) / (_COPIED * h.dram_bytes_per_s)
    return moved + h.launch_seconds < saved * product


def _trips(f: Facts, value: str) -> int | None:
    """Multiplications of a product, all iterations together; None if that depends on the run."""
    sizes = [f.extent(s.var) for s in _around(f, value)]
    return None if None in sizes else math.prod(n or 0 for n in sizes)


def _around(f: Facts, value: str) -> list[LoopSite]:
    """The loops in which a value is computed."""
    at = f.places[value]
    return [s for s in f.loops.values() if s.path == at[: len(s.path)]]


def _product(module: Module, name: str, value: str) -> tuple[Facts, Dot]:
    f = facts(module.kernels[name])
    op = f.definitions[value]
    assert isinstance(op, Dot)
    return f, op


def _precision(
    module: Module, name: str, value: str, traits: Traits, spec: GpuSpec
) -> Iterator[KernelRewrite]:
    f, op = _product(module, name, value)
    streamed = all(_streamed(f, op, place) for place in (0, 1))
    wanted = "tf32x3" if streamed or _waits(f, op, spec) else "bf16x6"
    if op.precision == "ieee" and wanted in traits.dot_precisions:
        yield SetPrecision(name, value, wanted)


def _tiles(module: Module, name: str, value: str, spec: GpuSpec) -> Iterator[KernelRewrite]:
    """Larger tiles, if every unit keeps programs enough; narrower ones where most have none."""
    f, op = _product(module, name, value)
    rows, columns = f.axes.of(value)
    terms = f.axes.of(str(op.a))[1]
    programs = _programs(f)
    row, column = _loop(f, rows, Parallel), _loop(f, columns, Parallel)
    known = all(f.extent(v) is not None for v in f.parallel.vars)
    if known and 2 * programs <= spec.hardware.units:
        if column is not None:
            yield from _narrower(f, column, spec.hardware.units // int(programs))
        return
    plain = all(_plain(f, x) for x in (op.a, op.b))
    wide = plain or op.precision in _TF32 or all(_streamed(f, op, place) for place in (0, 1))
    for loop, tile in ((row, _ROWS), (column, _COLUMNS if wide else 0)):
        site = f.loops.get(loop or "")
        if site is None or site.var.tile is None or tile <= site.var.step:
            continue
        extent = f.extent(site.var)
        if extent is None or extent < tile:
            continue
        left = programs * site.var.step / tile
        if left < _WAVES * spec.hardware.units:
            return
        programs = left
        yield Retile(name, site.var.name, tile)
    term = _loop(f, terms, For)
    if term is not None and plain:
        yield from _deeper(f, term, [n for n in (row, column) if n], spec)
    elif term is not None and wide:
        extent = f.extent(f.loops[term].var) or _WINDOW_TERMS
        yield Retile(name, term, math.gcd(extent, _WINDOW_TERMS) if extent % 16 == 0 else 32)
        yield SetStages(name, term, _WINDOW_STAGES)


def _unpipelined(module: Module, name: str, value: str, spec: GpuSpec) -> Iterator[KernelRewrite]:
    """Nothing in flight where copies are of one element each, and windows block by block.

    Asynchronous copies of 4 bytes cost more than they hide: 1/54 of KernelBench, a convolution of
    3 channels, took 4.3 ms on an H100 with them, 1.4 ms without. In blocks of its taps their
    places are the same for each channel: 2/48 went from 3.2 to 0.8 ms.
    """
    f, op = _product(module, name, value)
    if not _waits(f, op, spec):
        return
    for site in _around(f, value):
        if isinstance(site.loop, For):
            if site.loop.stages > 1:
                yield SetStages(name, site.var.name, 1)
            if size := _taps(f, op, site.var):
                yield Block(name, site.var.name, size)
                yield Retile(name, site.var.name, power(size))


def _waits(f: Facts, op: Dot, spec: GpuSpec) -> bool:
    """Whether a product is better off without copies in flight: an operand's would be of one
    element each, or the sum is short."""
    return not all(_is_wide(f, load) for load in _loads(f, op)) or _is_short(f, op, spec)


def _is_short(f: Facts, op: Dot, spec: GpuSpec) -> bool:
    """Whether a sum of operands as they are is over before much could be in flight, while other
    programs keep the unit busy."""
    loads, term = _loads(f, op), _loop(f, f.axes.of(str(op.a))[-1], For)
    if len(loads) < 2 or term is None:
        return False
    if all((Var(term), 1) in terms(_row(f, load)[0]) for load in loads):
        return False  # both lie along the sum
    results = _programs(f) * f.types[str(op.result)].elements
    extent = f.extent(f.loops[term].var)
    return extent is not None and extent <= _SHORT_SUM and results >= _MANY * spec.hardware.units


def _loads(f: Facts, op: Dot) -> list[Load]:
    """What gives the operands, where that is a load."""
    return [found[0] for x in (op.a, op.b) if (found := _load(f, x)) is not None]


def _is_wide(f: Facts, load: Load) -> bool:
    """Whether elements beside each other in a tile are so in memory, from multiples of 16 bytes."""
    tensor = f.kernel.tensors[load.tensor]
    piece = _PIECE_BYTES // tensor.dtype.bytes
    place, length = _row(f, load)
    if length % piece:
        return False
    along = [(term, factor) for term, factor in terms(place) if factor % piece]
    return len(along) == 1 and along[0][1] == 1 and _goes_along(f, along[0][0], piece)


def _row(f: Facts, load: Load) -> tuple[Expr, int]:
    """The place along a tensor's last dimension, and how long that is; dimensions that one index
    walks together are one. 1 if the length is not known."""
    spans = [f.span(n) for n in f.kernel.tensors[load.tensor].shape]
    sizes = [s.lo if s.lo is not None and s.lo == s.hi else 0 for s in spans]
    long = [(c, n) for c, n in zip(load.coords, sizes, strict=True) if n != 1]
    place, length = long[-1] if long else (Num(0), 1)
    match place:
        case Bin("%", x, Num(int() as n)) if n == length:
            for c, n in reversed(long[:-1]):
                above = Bin("//", x, Num(length))
                if c not in (above, Bin("%", above, Num(n))):
                    break
                length *= n
                place = x if c == above else Bin("%", x, Num(length))
    return place, length or 1


def _goes_along(f: Facts, e: Expr, piece: int) -> bool:
    """Whether an index has ``piece`` places one after the other, from a multiple of it on."""
    match e:
        case Var(name) if name in f.loops:
            var = f.loops[name].var
            return var.tile is not None and var.tile % piece == 0
        case Bin("%", x, Num(int() as n)):
            return n % piece == 0 and _goes_along(f, x, piece)
    return False


def _taps(f: Facts, op: Dot, var: LoopVar) -> int:
    """The size of a window that is walked with its channels as one, if it nearly fills a tile."""
    extent, sizes = f.extent(var) or 0, [0]
    for load in _loads(f, op):
        for c in load.coords:
            match c:
                case Bin("//", Var(var.name), Num(int() as n)) if n < extent and extent % n == 0:
                    sizes.append(n)
    size = max(sizes)
    tile = power(max(1, size))
    return size if _LEAST_TAPS <= tile <= _MOST_TAPS and size >= _FILLED * tile else 0


def _narrower(f: Facts, column: str, times: int) -> Iterator[KernelRewrite]:
    """Narrower tiles of columns, so that there are up to so many times as many programs."""
    var = f.loops[column].var
    if var.tile is not None:
        yield Retile(f.kernel.name, column, max(_LEAST_COLUMNS, below(var.tile // times)))


def _deeper(f: Facts, term: str, others: list[str], spec: GpuSpec) -> Iterator[KernelRewrite]:
    """More terms at a time, where shared memory has room for them."""
    stages = max((s.stages for _, s in f.statements if isinstance(s, For)), default=1)
    moved = (_ROWS + _COLUMNS) * _TERMS * 4 * stages
    extents = [f.extent(f.loops[n].var) for n in others]
    size = f.extent(f.loops[term].var)
    wide = all(n is not None and n >= _ROWS for n in extents)
    if wide and moved <= spec.shared_per_group and size is not None and size >= 4 * _TERMS:
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


def _streamed(f: Facts, op: Dot, place: int) -> bool:
    """Whether an operand lies in memory along the index that is summed over."""
    found = _load(f, (op.a, op.b)[place])
    if found is None:
        return False
    shape = f.kernel.tensors[found[0].tensor].shape
    long = [c for c, n in zip(found[0].coords, shape, strict=True) if n != Num(1)]
    term = f.axes.of(str(op.a))[-1]
    return bool(long) and isinstance(long[-1], Var) and f.axes.of_loop(long[-1].name) == term
