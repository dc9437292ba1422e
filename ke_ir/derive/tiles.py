"""Tile sizes of one group: which loops there are, which of them are tiled, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ke_ir.derive.contraction import Contraction
from ke_ir.derive.groups import Group
from ke_ir.derive.node import Node, free_indices, hi_of, lo_of, references
from ke_ir.derive.padding import is_affine
from ke_ir.derive.reductions import Loop, plain_loop
from ke_ir.derive.scans import scan_loop
from ke_ir.derive.windows import NEAR, read_again
from ke_ir.expr import Bin, Expr, Num, Range, Reduce, Ref, Var, variables, walk
from ke_ir.types import TensorType

Extent = Callable[[Range], int | None]

DOT_TILES = (
    (128, 128, 64), (128, 128, 32), (128, 64, 64), (128, 64, 32), (64, 64, 32), (64, 32, 32),
    (32, 32, 32), (16, 16, 32), (16, 16, 16),
)  # fmt: skip
"""Rows, columns and terms of a contraction's tiles, largest first."""
ELEMENTS = 4096
"""Elements of the largest tile of a kernel without contraction."""
PROGRAMS = 256
"""Parallel iterations to keep before rows are put together in one program."""
UNKNOWN = 32
"""Size that is assumed of a range that depends on data."""
WINDOW = 16
"""Reduced ranges up to this size run one by one, unless memory lies along them."""
FEW = 32
"""Programs below which nothing runs one by one: what is parallel is within a program."""


@dataclass
class Plan:
    """The loops of one kernel; ``nests`` are those of each member, outermost first.

    ``inside`` gives the loops of a reduction that stands inside an expression.
    """

    parallel: list[Loop]
    nests: dict[str, list[Loop]]
    inside: Callable[[Reduce], list[Loop]]
    dots: dict[str, tuple[str, str]] = field(default_factory=dict)
    grouped: int = 0


def power(n: int) -> int:
    """The next power of two."""
    return 1 << max(0, n - 1).bit_length()


def below(n: int) -> int:
    """The last power of two that is not above ``n``."""
    return 1 << (max(1, n).bit_length() - 1)


LEAST = 64
"""Elements below which tiles are not made smaller for the sake of what windows read again."""
STEPPED = 1024
"""Elements of the tiles that are carried from step to step."""
ACROSS = 32
"""Tile across a scan, of the axis along which memory is contiguous."""
INSIDE = 32
"""Tile of a reduction inside an expression, beside the tiles around it."""


class Tiler:
    """Plans one group. ``tensors`` are the types of all tensors and temporaries by name."""

    def __init__(
        self, group: Group, tensors: Mapping[str, TensorType], extent: Extent,
        sizes: Mapping[str, int], contractions: Mapping[str, Contraction], written: set[str],
    ) -> None:  # fmt: skip
        self.group, self.tensors, self.extent, self.sizes = group, tensors, extent, sizes
        self.written = written
        ranges = [
            r
            for n in group.members
            for e in walk(n.expr)
            for r in (e.ranges if isinstance(e, Reduce) else ())
        ]
        # An index in the bounds of a loop inside is one number there, so it cannot be a tile.
        self.pinned = {v for r in ranges for b in (lo_of(r), hi_of(r)) for v in free_indices(b)}
        self.contractions = {
            n: c
            for n, c in contractions.items()
            if not self.pinned & (_names(c.rows) | _names(c.columns))
        }

    def plan(self, level: int) -> Plan | None:
        """The ``level``-th choice, each smaller than the one before; None when there is none."""
        along = self.group.along
        if along is not None and self.group.members[0].state is not None:
            return self.steps(along, STEPPED >> level)
        if along is not None:
            return self.scan(along, ELEMENTS >> level)
        if self.contractions:
            return self.contraction(level)
        elements = ELEMENTS >> level
        if elements < 16:
            return None
        plan = self.elementwise(elements)
        while elements > LEAST and self.read_again(plan) > NEAR:
            elements //= 2
            plan = self.elementwise(elements)
        return plan

    def read_again(self, plan: Plan) -> int:
        """Elements that one program reads again and again, through windows."""
        tiles = {name: p.tile or 1 for p in plan.parallel for name in p.members}
        reductions = [n for n in self.group.members if n.is_reduction]
        return max((read_again(n, self.size, tiles) for n in reductions), default=0)

    def size(self, r: Range) -> int:
        n = self.extent(r)
        return UNKNOWN if n is None else n

    def inner(self, node: Node) -> tuple[Range, ...]:
        """Ranges that a member loops over: reduced ones, or the further ones of an output."""
        if self.group.along is not None:
            return (self.group.along,)
        return node.inner if node.is_reduction else self.group.extra(node)

    # Contractions

    def contraction(self, level: int) -> Plan | None:
        first = next(iter(self.contractions.values()))
        rows, columns = self.fused(first.rows), self.fused(first.columns)
        choices = self.dot_tiles(rows, columns)
        if level >= len(choices):
            return None
        tm, tn, tk = choices[level]
        row = self.tiled(rows, tm)
        column = self.tiled(columns, tn)
        taken = {*row.members, *column.members}
        batch = [plain_loop(r, None) for r in self.group.axes if r.name not in taken]
        plan = Plan([*batch, row, column], {}, self.one_by_one)
        if self.trips(row) >= 8 and self.trips(column) >= 4:
            plan.grouped = 8
        for n in self.group.members:
            c = self.contractions.get(n.name)
            if (
                c is not None
                and _names(c.rows) == _names(first.rows)
                and (_names(c.columns) == _names(first.columns))
            ):
                loops = self.term_loops(n, c, tk)
                plan.nests[n.name] = loops
                plan.dots[n.name] = (row.name, column.name)
            elif self.inner(n):
                plan.nests[n.name] = [plain_loop(r, None) for r in self.inner(n)]
        return plan

    def fused(self, ranges: tuple[Range, ...]) -> tuple[Range, ...]:
        """The ranges to flatten into one: the last alone when it fills tiles well."""
        n = self.size(ranges[-1])
        fills = n >= 64 and n / (-(-n // 64) * 64) >= 0.9
        return ranges[-1:] if len(ranges) == 1 or fills else ranges

    def dot_tiles(
        self, rows: tuple[Range, ...], columns: tuple[Range, ...]
    ) -> list[tuple[int, int, int]]:
        """Tiles no larger than needed, that leave enough programs, largest first."""
        m, n = self.total(rows), self.total(columns)
        others = 1
        for r in self.group.axes:
            if r.name not in _names(rows) and r.name not in _names(columns):
                others *= self.size(r)
        out: list[tuple[int, int, int]] = []
        for tm, tn, tk in DOT_TILES:
            t = (min(tm, max(16, power(m))), min(tn, max(16, power(n))), tk)
            programs = others * -(-m // t[0]) * -(-n // t[1])
            if t not in out and (programs >= PROGRAMS // 2 or t[0] * t[1] <= 64 * 64):
                out.append(t)
        return out

    def total(self, ranges: Sequence[Range]) -> int:
        n = 1
        for r in ranges:
            n *= self.size(r)
        return n

    def tiled(self, ranges: tuple[Range, ...], tile: int, stages: int = 1) -> Loop:
        """One tiled loop over some dense ranges, flattened row-major."""
        if len(ranges) == 1:
            return plain_loop(ranges[0], tile, stages)
        name = "".join(r.name.split("'")[0] for r in ranges) + "'"
        members: dict[str, Expr] = {}
        inner: Expr | None = None
        for i, r in reversed(list(enumerate(ranges))):
            e: Expr = Var(name)
            if inner is not None:
                e = Bin("//", e, inner)
            if i > 0:
                e = Bin("%", e, hi_of(r))
            members[r.name] = e
            inner = hi_of(r) if inner is None else _times(hi_of(r), inner)
        assert inner is not None
        return Loop(name, Num(0), inner, tile, dict(reversed(members.items())), stages)

    def trips(self, loop: Loop) -> int:
        """Iterations at the default sizes."""
        n = 1
        for r in (*self.group.axes, *(r for m in self.group.members for r in self.inner(m))):
            if r.name in loop.members:
                n *= self.size(r)
        return -(-n // (loop.tile or 1))

    def term_loops(self, node: Node, c: Contraction, tile: int) -> list[Loop]:
        """Loops over the reduced indices: one tiled, innermost; the others one by one."""
        terms = tuple(r for r in c.terms if r.name not in self.pinned)
        main = max(terms or c.terms, key=self.size)
        flat: tuple[Range, ...] = (main,)
        dense = [r for r in terms if lo_of(r) == Num(0) and self.extent(r) is not None]
        if self.size(main) < 16 and len(dense) > 1:
            flat = tuple(dense)
        t = min(tile, max(16, power(self.total(flat))))
        stages = min(3, max(1, -(-self.total(flat) // t)))
        names = _names(flat)
        return [
            *(plain_loop(r, None) for r in node.inner if r.name not in names),
            self.tiled(flat, t, stages),
        ]

    # Scans

    def scan(self, along: Range, elements: int) -> Plan | None:
        """Tiles along the scan, and across the axis along which memory is contiguous."""
        if elements < 16:
            return None
        axes = [r for r in self.group.axes if r.name not in self.pinned]
        weights = self.weights()
        fast = max(weights, key=lambda v: weights[v], default=along.name)
        chosen = {
            r.name: min(power(self.size(r)), ACROSS)
            for r in axes
            if r.name == fast and self.size(r) > 1
        }
        room = elements // self.product(chosen, axes)
        tile = min(power(self.size(along)), 1024, below(room))
        self.pack_rows(axes, chosen, elements // tile)
        parallel = [plain_loop(r, chosen.get(r.name)) for r in self.group.axes]
        first = self.group.members[0].scan
        assert first is not None
        stages = 2 if self.size(along) > tile else 1
        loop = scan_loop(along, first.reverse, tile if tile > 1 else None, stages)
        return Plan(parallel, {n.name: [loop] for n in self.group.members}, self.inside)

    def steps(self, along: Range, elements: int) -> Plan | None:
        """One step at a time, over as many places as keep programs enough."""
        if elements < 16:
            return None
        axes = [r for r in self.group.axes if r.name not in self.pinned]
        weights = {v: w for v, w in self.weights().items() if v != along.name}
        fast = max(weights, key=lambda v: weights[v], default="")
        chosen = {
            r.name: min(power(self.size(r)), 128, elements)
            for r in axes
            if r.name == fast and self.size(r) > 1
        }
        self.pack_rows(axes, chosen, elements)
        parallel = [plain_loop(r, chosen.get(r.name)) for r in self.group.axes]
        first = self.group.members[0].state
        assert first is not None
        loop = scan_loop(along, first.reverse, None, 2 if self.size(along) > 2 else 1)
        return Plan(parallel, {n.name: [loop] for n in self.group.members}, self.inside)

    # Everything else

    def elementwise(self, elements: int) -> Plan:
        nests = {n.name: self.inner(n) for n in self.group.members if self.inner(n)}
        chosen: dict[str, int] = {}
        axes = [r for r in self.group.axes if r.name not in self.pinned]
        if any(n.beside for n in self.group.members):
            self.whole_parts(nests, chosen, elements)
        weights = self.weights()
        heaviest = max(weights.values(), default=0.0)
        fast = {v: w for v, w in weights.items() if w >= heaviest / 10}
        for ranges in nests.values() or [()]:
            self.along_memory(ranges, axes, chosen, elements, fast)
        # Terms come before rows: the longer a chain of additions, the larger its error.
        for ranges in nests.values():
            self.fill_nest(ranges, axes, chosen, elements)
        largest = max((self.product(chosen, ranges) for ranges in nests.values()), default=1)
        self.pack_rows(axes, chosen, elements // largest)
        parallel = [plain_loop(r, chosen.get(r.name)) for r in self.group.axes]
        loops = {n: self.loops(rs, chosen) for n, rs in nests.items()}
        return Plan(parallel, loops, self.inside)

    def whole_parts(
        self, nests: Mapping[str, Sequence[Range]], chosen: dict[str, int], elements: int
    ) -> None:
        """Tiles that hold all that is reduced, so that it is loaded once, where they can."""
        for ranges in nests.values():
            whole = {r.name: power(self.size(r)) for r in ranges if self.size(r) > 1}
            if math.prod(whole.values()) <= elements:
                chosen |= whole

    def inside(self, e: Reduce) -> list[Loop]:
        """Loops of a reduction inside an expression: the last one tiled, if it is long."""
        last = e.ranges[-1]
        tile = INSIDE if last.name not in self.pinned and self.size(last) > WINDOW else None
        return [*(plain_loop(r, None) for r in e.ranges[:-1]), plain_loop(last, tile)]

    def one_by_one(self, e: Reduce) -> list[Loop]:
        return [plain_loop(r, None) for r in e.ranges]

    def product(self, chosen: Mapping[str, int], ranges: Sequence[Range]) -> int:
        n = 1
        for r in ranges:
            n *= chosen.get(r.name, 1)
        return n

    def along_memory(
        self, ranges: Sequence[Range], axes: list[Range], chosen: dict[str, int], elements: int,
        fast: Mapping[str, float],
    ) -> None:  # fmt: skip
        """Tile the indices of one nest and the axes along which tensors are contiguous."""
        inside = [r for r in ranges if r.name not in self.pinned]
        order = sorted((r for r in (*axes, *inside) if r.name in fast), key=lambda r: -fast[r.name])
        reduces = any(n.is_reduction for n in self.group.members)
        most = elements if self.programs({}) < FEW else 1024
        for i, r in enumerate(order):
            around = self.product(chosen, axes) * self.product(chosen, inside)
            cap = 32 if i else 128 if reduces and r in axes else 1024 if r in axes else most
            t = min(power(self.size(r)), cap, below(elements // around))
            if t > 1 and r.name not in chosen:
                chosen[r.name] = t

    def weights(self) -> dict[str, float]:
        """Indices along which memory is contiguous, by the elements of the tensors read there."""
        out: dict[str, float] = {}
        for n in self.group.members:
            by_name = {r.name: r for r in (*self.group.axes, *self.inner(n))}
            by_name = {k: r for k, r in by_name.items() if k not in self.pinned}
            for ref in references(n):
                if ref.indices and is_affine(ref.indices[-1]):
                    names = [v for v in variables(ref.indices[-1]) if v in by_name]
                    near = [v for v in names if pace(ref.indices[-1], v) == 1
                            and self.size(by_name[v]) >= ACROSS]  # fmt: skip
                    if names:
                        best = max(near or names, key=lambda v: self.size(by_name[v]))
                        out[best] = out.get(best, 0) + self.volume(ref)
            if n.name in self.written and n.indices and n.indices[-1].name in by_name:
                last = n.indices[-1].name
                out[last] = out.get(last, 0) + self.total(n.indices)
        return {v: w for v, w in out.items() if w > 0}

    def volume(self, ref: Ref) -> float:
        t = self.tensors.get(ref.tensor)
        n = 1
        for s in t.sizes(dict(self.sizes)) if t is not None else ():
            n *= s
        return float(n)

    def programs(self, chosen: Mapping[str, int]) -> int:
        """Parallel iterations with these tiles."""
        return math.prod(-(-self.size(r) // chosen.get(r.name, 1)) for r in self.group.axes)

    def pack_rows(self, axes: list[Range], chosen: dict[str, int], elements: int) -> None:
        """Give each program more rows while enough programs remain."""
        room = elements // self.product(chosen, axes)
        programs = self.programs(chosen)
        for r in reversed(axes):
            if r.name in chosen or room < 2 or self.size(r) < 2:
                continue
            rows = min(power(self.size(r)), below(room), below(programs // PROGRAMS))
            if rows < 2:
                return
            chosen[r.name] = rows
            room //= rows
            programs = -(-programs // rows)

    def fill_nest(
        self, ranges: Sequence[Range], axes: list[Range], chosen: dict[str, int], elements: int
    ) -> None:
        """Tile further loops with what is left of the elements."""
        along = any(r.name in chosen for r in ranges)
        few = self.programs(chosen) < FEW
        for r in reversed(ranges):
            room = elements // (self.product(chosen, axes) * self.product(chosen, ranges))
            n = self.size(r)
            if r.name in chosen or r.name in self.pinned or room < 2:
                continue
            if n > WINDOW or ((along or few) and n > 1):
                chosen[r.name] = min(power(n), below(room), 1024 if not along else 64)

    def loops(self, ranges: Sequence[Range], chosen: Mapping[str, int]) -> list[Loop]:
        """Untiled loops outside, tiled ones inside; the innermost is pipelined if it repeats."""
        order = sorted(ranges, key=lambda r: r.name in chosen)
        out = []
        for i, r in enumerate(order):
            tile = chosen.get(r.name)
            repeats = tile is not None and self.size(r) > tile
            out.append(plain_loop(r, tile, 2 if repeats and i == len(order) - 1 else 1))
        return out


def pace(e: Expr, name: str) -> int | None:
    """By how much an index rises with a variable; None where that is no fixed number."""
    match e:
        case Var(n):
            return int(n == name)
        case Bin("+" | "-" as op, a, b):
            x, y = pace(a, name), pace(b, name)
            if x is None or y is None:
                return None
            return x + y if op == "+" else x - y
        case Bin("*", Num(int() as by), a) | Bin("*", a, Num(int() as by)):
            x = pace(a, name)
            return None if x is None else x * by
    return None if name in variables(e) else 0


def _names(ranges: Sequence[Range]) -> set[str]:
    return {r.name for r in ranges}


def _times(a: Expr, b: Expr) -> Expr:
    if isinstance(a, Num) and isinstance(b, Num):
        return Num(a.value * b.value)
    return Bin("*", a, b)
