"""Sizes for a check: smaller than the file's own where those would take too long, yet alike.

A reduced size keeps what a kernel can get wrong: whether a tile divides the dim, and whether a
loop runs more than once. Dims whose size is written into a kernel as a number keep it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import count
from typing import TYPE_CHECKING, Any

from ke_ir.expr import Bin, Dim, Expr, Num, evaluate_int, replace_dims, rewrite, walk
from ke_ir.ir import For, Parallel, call_dims, statements

if TYPE_CHECKING:
    from ke_ir.ir import Kernel, Module, Program

Sizes = dict[str, int]

_SMALL = 4
"""Dims up to this size are kept while anything else can be reduced."""
_UNTILED = 23


@dataclass(frozen=True)
class _Level:
    """How far to reduce: iterations of a tiled loop, and what other dims become at most.

    ``small`` is for dims that are up to ``_SMALL`` to begin with.
    """

    least_trips: int
    untiled: int
    small: int = _SMALL


_LEVELS = (_Level(2, _UNTILED), _Level(2, 3), _Level(1, 3), _Level(1, 3, 2), _Level(1, 2, 1))
"""Tried in turn. Dims that differ stay different, so that a kernel that swaps them is found out."""
_FACTOR = 8
"""The power of two that dims of a product keep, where a tile divides the product."""
_LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class _Extent:
    """What a tiled loop covers: ``length`` over the program's own dims, by ``tile``."""

    length: Expr
    tile: int
    dims: tuple[str, ...]

    def at(self, sizes: Mapping[str, int]) -> int:
        try:
            return evaluate_int(self.length, sizes)
        except (KeyError, ValueError):
            return 0


def reduce_sizes(
    module: Module, program: Program, full: Mapping[str, int], affords: Callable[[Sizes], bool]
) -> Sizes:
    """The full sizes if ``affords`` them, else smaller ones that keep the structure.

    ``full`` binds every dim. When even the smallest sizes that keep it are not afforded, they are
    returned all the same: what to do about it is the caller's.
    """
    if affords(dict(full)):
        return dict(full)
    extents = loop_extents(module, program)
    pinned = _written_sizes(module, program, full)
    sizes: Sizes = {}
    for level in _LEVELS:
        sizes = _reduced(program, full, extents, pinned, level)
        if affords(sizes):
            break
    return sizes


def edge_sizes(module: Module, program: Program, base: Mapping[str, int]) -> Iterator[Sizes]:
    """``base`` with its range dims at 1, at primes past their tile, and just below their tile."""
    ranged = [d for d in program.dims if d.high is not None]
    if not ranged:
        return
    tiles = _tiles(loop_extents(module, program), program)
    seen: list[Sizes] = []
    for choose in (lambda tile: 1, _prime_above, lambda tile: max(1, tile - 1)):
        given = dict(base)
        for d in ranged:
            low, high = d.low or 1, d.high or 1
            given[d.name] = min(max(choose(tiles.get(d.name, 1)), low), high)
        sizes = _complete(program, given)
        if sizes is not None and sizes not in [*seen, dict(base)]:
            seen.append(sizes)
            yield sizes


def loop_extents(module: Module, program: Program) -> list[_Extent]:
    """The tiled loops of all kernels called, over the program's dims that are not derived."""
    derived = {d.name: d.size for d in program.dims if d.is_derived}
    found = []
    for call in program.calls:
        kernel = module.kernels[call.kernel]
        sizes = call_dims(program, call, kernel)
        for s in statements(kernel.body):
            loops = (s.var,) if isinstance(s, For) else s.vars if isinstance(s, Parallel) else ()
            for v in loops:
                length = _over(replace_dims(Bin("-", v.hi, v.lo), sizes), derived)
                dims = tuple(sorted({n.name for n in walk(length) if isinstance(n, Dim)}))
                if v.tile is not None and dims:
                    found.append(_Extent(length, v.tile, dims))
    return found


def _over(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """Dims replaced by expressions, until none is left to replace."""
    for _ in range(len(values) + 1):
        new = rewrite(
            e,
            lambda n: (
                values[n.name]
                if isinstance(n, Dim) and n.name in values and values[n.name] != n
                else None
            ),
        )
        if new == e:
            break
        e = new
    return e


def _tiles(extents: list[_Extent], program: Program) -> dict[str, int]:
    """For each dim, the least common multiple of the tiles of loops that run over it alone."""
    tiles: dict[str, int] = {d.name: 1 for d in program.dims}
    for x in extents:
        if len(x.dims) == 1:
            tiles[x.dims[0]] = math.lcm(tiles[x.dims[0]], x.tile)
    return tiles


def _reduced(
    program: Program,
    full: Mapping[str, int],
    extents: list[_Extent],
    pinned: set[str],
    level: _Level,
) -> Sizes:
    tiles = _tiles(extents, program)
    tiled = {name for x in extents if len(x.dims) == 1 for name in x.dims}
    given: Sizes = {}
    for d in program.dims:
        size = full[d.name]
        if d.is_derived:
            continue
        if d.name in pinned:
            given[d.name] = size
        elif size <= _SMALL:
            given[d.name] = min(size, level.small)
        elif d.name in tiled:
            rest = size % tiles[d.name]
            trips = level.least_trips if rest == 0 else level.least_trips - 1
            given[d.name] = min(size, tiles[d.name] * trips + rest)
        else:
            given[d.name] = min(size, level.untiled)
        if d.high is not None:
            given[d.name] = min(max(given[d.name], d.low or 1), d.high)
    for x in extents:
        if len(x.dims) > 1:
            _grow(x, given, full, pinned, level.least_trips)
    sizes = _complete(program, given)
    return dict(full) if sizes is None else sizes


def _grow(
    x: _Extent, given: Sizes, full: Mapping[str, int], pinned: set[str], least_trips: int
) -> None:
    """Enlarge dims until a loop over several of them runs often enough, and divides as before."""
    wanted = min(x.at(full), x.tile * (least_trips - 1) + 1)
    free = [d for d in x.dims if d not in pinned]
    while x.at(given) < wanted:
        grow = [d for d in free if given[d] < full[d]]
        if not grow:
            return
        name = min(grow, key=lambda d: given[d])
        given[name] = min(full[name], 2 * given[name])
    divides = x.at(full) % x.tile == 0
    if divides:
        for name in free:
            factor = min(_FACTOR, full[name] & -full[name])
            given[name] = min(full[name], -(-given[name] // factor) * factor)
    for name in free:
        for size in range(given[name], min(full[name], given[name] + x.tile) + 1):
            if (x.at({**given, name: size}) % x.tile == 0) == divides:
                given[name] = size
                return


def _complete(program: Program, given: Mapping[str, int]) -> Sizes | None:
    """All dims; None when a derived one would not be positive."""
    try:
        sizes = program.sizes(given)
    except (ValueError, KeyError):
        return None
    return sizes if all(n >= 1 for n in sizes.values()) else None


def _written_sizes(module: Module, program: Program, full: Mapping[str, int]) -> set[str]:
    """Static dims whose size, or a usual function of it, stands as a number in a kernel."""
    numbers = {abs(n) for call in program.calls for n in _numbers(module.kernels[call.kernel])}
    return {
        d.name
        for d in program.dims
        if not d.is_range
        and full[d.name] > _SMALL
        and any(_same(n, f) for n in numbers for f in _functions(full[d.name]))
    }


def _functions(size: int) -> tuple[float, ...]:
    root = math.sqrt(size)
    return (size, 1 / size, 1 / root, _LOG2E / root)


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-4)


def _numbers(kernel: Kernel) -> Iterator[float]:
    """Numbers in a kernel that are not tile sizes: literal operands, bounds and coordinates."""
    for s in statements(kernel.body):
        if isinstance(s, For | Parallel):
            loops = (s.var,) if isinstance(s, For) else s.vars
            for v in loops:
                yield from _literals(v.lo)
                yield from _literals(v.hi)
            continue
        for f in fields(s):
            if f.name in ("loc", "result", "type", "dim", "order"):
                continue
            yield from _literals(getattr(s, f.name))


def _literals(value: Any) -> Iterator[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)) and math.isfinite(value):
        yield float(value)
    elif isinstance(value, Expr):
        yield from (float(n.value) for n in walk(value) if isinstance(n, Num))
    elif isinstance(value, tuple):
        for item in value:
            yield from _literals(item)


def _prime_above(n: int) -> int:
    """The smallest prime greater than ``n``, and at least 5."""
    return next(p for p in count(max(5, n + 1)) if all(p % q for q in range(2, math.isqrt(p) + 1)))
