"""Counts the operations and bytes of one kernel by walking its tile program."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ke_ir.expr import Bin, Call, Expr, Num, Var, evaluate_int, rewrite, variables, walk
from ke_ir.intervals import Interval, interval
from ke_ir.ir import For, Kernel, LoopVar, Parallel, statements
from ke_ir.ops.arith import Binary, Unary
from ke_ir.ops.base import Op, Stmt
from ke_ir.ops.memory import Accumulate, Load, Store
from ke_ir.ops.shape import Dot, Reduce, Scan
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TileType

_SAMPLES = 64
"""Places of the grid at which bounds that depend on the place are evaluated."""

_SPECIAL = {
    "exp": 1, "exp2": 1, "log": 1, "log2": 1, "sqrt": 1, "rsqrt": 1, "sin": 1, "cos": 1, "tan": 2,
    "tanh": 2, "sigmoid": 2, "erf": 1, "div": 1, "pow": 2,
}  # fmt: skip
_PLAIN = {
    "exp": 1, "log": 1, "sin": 8, "cos": 8, "tan": 16, "tanh": 4, "erf": 14, "sigmoid": 2, "div": 4,
    "pow": 6, "floordiv": 6, "mod": 6,
}  # fmt: skip
"""Instructions for one element, estimated: special-function ones, and plain ones (else 1)."""

DOT_FORMATS = {
    DType.F64: "f64", DType.F32: "f32", DType.F16: "f16", DType.BF16: "bf16", DType.F8E4M3: "f8",
    DType.F8E5M2: "f8", DType.I8: "i8", DType.U8: "i8",
}  # fmt: skip
"""The matrix format of operands of each dtype."""
DOT_PARTS = {"tf32": ("tf32", 1), "tf32_even": ("tf32", 1), "tf32x3": ("tf32", 3),
             "bf16x3": ("bf16", 3), "bf16x6": ("bf16", 6)}  # fmt: skip
"""The format of a product of f32 at each precision below ``ieee``, and how many make one."""


@dataclass(frozen=True)
class KernelWork:
    """The work of one launch (one outermost ``parallel``). Totals are over the whole grid.

    ``matrix_flops`` by matrix format and ``vector_ops`` by element type (``f32 f64 i32``;
    instructions, one an element); ``special_ops`` are transcendental instructions. ``reads`` and
    ``writes`` are bytes by tensor, each byte of memory counted once; ``least_reads`` what any data
    makes it read. ``traffic_bytes`` counts every load and store, ``operand_bytes`` what the matrix
    unit takes from local memory. ``steps`` is the mean number of dependent loop iterations with
    loads in one workgroup, ``stages`` how many of them overlap. ``staged_bytes`` and ``tile_bytes``
    are roughly the local memory and the registers of one workgroup.
    """

    name: str
    groups: int
    matrix_flops: Mapping[str, float]
    vector_ops: Mapping[str, float]
    special_ops: float
    reads: Mapping[str, float]
    least_reads: Mapping[str, float]
    writes: Mapping[str, float]
    traffic_bytes: float
    operand_bytes: float
    steps: float
    stages: int
    staged_bytes: float
    tile_bytes: float
    assumptions: tuple[str, ...] = ()


def analyse(kernel: Kernel, dims: Mapping[str, int], pad: bool = True) -> tuple[KernelWork, ...]:
    """Work of each launch of a verified kernel, in order; ``dims`` binds all its dims.

    ``pad``: tile dimensions are rounded up to powers of two.
    """
    walker = _Walker(kernel, dict(dims), pad)
    return tuple(work for statement in kernel.body if (work := walker.launch(statement)))


@dataclass
class _Access:
    """Everything that one load or store statement touches: the hull of each coordinate."""

    op: Load | Store | Accumulate
    hull: list[Interval | None]
    reach: float = 1.0
    exact: bool = True
    traffic: float = 0.0


@dataclass
class _Tally:
    matrix: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    vector: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    special: float = 0.0
    operand_bytes: float = 0.0
    steps: float = 0.0
    stages: int = 1
    staged: float = 0.0
    carried: float = 0.0
    largest: float = 0.0
    accesses: dict[int, _Access] = field(default_factory=dict)
    assumptions: dict[str, None] = field(default_factory=dict)


@dataclass
class _Loop:
    """A loop variable where the walk stands: its range here, and over the whole kernel."""

    var: LoopVar
    low: int
    high: int
    alive: float
    exact: bool = True


class _Walker:
    """Walks a kernel's body along with the types; ``_loops`` says where each loop variable is."""

    def __init__(self, kernel: Kernel, dims: dict[str, int], pad: bool) -> None:
        self._kernel, self._dims, self._pad = kernel, dims, pad
        self._scope = TypeScope(kernel)
        self._loops: dict[str, _Loop] = {}
        self._spans: dict[str, Interval] = {}
        self._tally = _Tally()
        self._samples = 1

    def launch(self, statement: Stmt) -> KernelWork | None:
        """The work of one outermost statement; None when it is no launch."""
        self._tally = _Tally()
        self._samples = 1
        if not isinstance(statement, Parallel):
            self._statement(statement, 1.0)
            if not self._tally.accesses:
                return None
            return self._result(1)
        bounds = [self._static_bounds(var) for var in statement.vars]
        counts = [_trips(var, *bound) for var, bound in zip(statement.vars, bounds, strict=True)]
        groups = math.prod(counts)
        self._scope.enter(statement)
        places = list(self._places(statement, counts)) if groups else []
        self._samples = max(1, len(places))
        for place in places:
            for var, (low, high), number in zip(statement.vars, bounds, place, strict=True):
                self._stand(var, low + number * var.step, low, high)
            self._body(statement.body, groups / len(places))
        self._scope.leave(statement)
        return self._result(groups)

    def _places(self, statement: Parallel, counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """One place if no bound inside depends on it; else evenly spaced ones, both ends in."""
        total = math.prod(counts)
        samples = min(_SAMPLES, total)
        names = {var.name for var in statement.vars}
        uneven = any(var in names for var in _bound_variables(statement.body))
        numbers = (
            [round(i * (total - 1) / max(1, samples - 1)) for i in range(samples)]
            if uneven
            else sorted({0, total - 1})
        )
        for number in dict.fromkeys(numbers):
            place = []
            for count in reversed(counts):
                number, index = divmod(number, count)
                place.append(index)
            yield tuple(reversed(place))

    def _static_bounds(self, var: LoopVar) -> tuple[int, int]:
        return self._value(var.lo), self._value(var.hi)

    def _stand(self, var: LoopVar, begin: int, low: int, high: int) -> None:
        """Place a variable on the tile that starts at ``begin``; ``alive`` is the grid's mean."""
        end = min(begin + var.step, high)
        alive = (high - low) / (_trips(var, low, high) * var.step)
        self._loops[var.name] = _Loop(var, begin, max(begin + 1, end), alive)
        self._note_span(var.name, begin, end - 1)

    def _note_span(self, name: str, low: int, high: int) -> None:
        old = self._spans.get(name)
        lows = [low] if old is None or old.lo is None else [low, old.lo]
        highs = [high] if old is None or old.hi is None else [high, old.hi]
        self._spans[name] = Interval(min(lows), max(highs))

    def _body(self, body: Sequence[Stmt], times: float) -> None:
        for statement in body:
            self._statement(statement, times)

    def _statement(self, statement: Stmt, times: float) -> None:
        if isinstance(statement, For):
            self._for(statement, times)
        elif isinstance(statement, Parallel):
            self._scope.enter(statement)
            for var in statement.vars:
                times *= self._enter(var, statement.body, times)
            self._body(statement.body, times)
            self._scope.leave(statement)
        elif isinstance(statement, Op):
            self._count(statement, self._scope.define(statement), times)

    def _for(self, loop: For, times: float) -> None:
        self._scope.enter(loop)
        inside = times * self._enter(loop.var, loop.body, times)
        carried = sum(self._tile_bytes(self._scope.values[name]) for name, _ in loop.carries)
        self._tally.carried = max(self._tally.carried, carried)
        self._body(loop.body, inside)
        loads = [s for s in loop.body if isinstance(s, Load)]
        if loads:
            self._tally.steps += inside
            self._tally.stages = max(self._tally.stages, loop.stages)
            staged = sum(self._tile_bytes(load.type) for load in loads if load.type.rank > 1)
            self._tally.staged = max(self._tally.staged, staged * loop.stages)
        self._scope.leave(loop)

    def _enter(self, var: LoopVar, body: Sequence[Stmt], times: float) -> float:
        """Stand a variable on its whole range; returns the (mean) number of iterations."""
        try:
            low, high, exact = self._value(var.lo), self._value(var.hi), True
        except (KeyError, ValueError):
            low, high, exact = 0, self._assumed_range(var, body, times), False
        trips = _trips(var, low, high)
        alive = (high - low) / (trips * var.step) if trips else 0.0
        self._loops[var.name] = _Loop(var, low, max(high, low + 1), alive, exact)
        self._note_span(var.name, low, max(high, low + 1) - 1)
        return float(trips)

    def _assumed_range(self, var: LoopVar, body: Sequence[Stmt], times: float) -> int:
        """Bounds that are data: the loop's instances share the dimension that it indexes."""
        for statement in statements(tuple(body)):
            for coordinate, size in self._coordinates(statement):
                if var.name in variables(coordinate):
                    share = max(1, round(size / max(1.0, times * self._samples)))
                    self._tally.assumptions[
                        f"@{self._kernel.name}: the bounds of %{var.name} are data; its loops are "
                        f"taken to share {size} elements evenly, {share} each"
                    ] = None
                    return share
        self._tally.assumptions[
            f"@{self._kernel.name}: the bounds of %{var.name} are data; one iteration is taken"
        ] = None
        return var.step

    def _coordinates(self, statement: Stmt) -> Iterator[tuple[Expr, int]]:
        if isinstance(statement, Load | Store | Accumulate):
            sizes = self._scope.tensor(statement.tensor).sizes(self._dims)
            yield from zip(statement.coords, sizes, strict=True)

    def _value(self, bound: Expr) -> int:
        """A bound where the walk stands; a loop variable is taken at the middle of its range.

        Raises KeyError when the bound is data.
        """

        def place(node: Expr) -> Expr | None:
            if isinstance(node, Call) and node.fn in ("begin", "end"):
                assert isinstance(node.args[0], Var)
                return Num(self._end_of(node.args[0].name, node.fn))
            return None

        names = dict(self._dims)
        for name, loop in self._loops.items():
            names[name] = (loop.low + loop.high - 1) // 2
        return evaluate_int(rewrite(bound, place), names)

    def _end_of(self, name: str, which: str) -> int:
        loop = self._loops[name]
        if loop.high - loop.low <= loop.var.step:
            return loop.low if which == "begin" else loop.high
        middle = (loop.low + loop.high) // 2 // loop.var.step * loop.var.step
        return middle if which == "begin" else min(loop.high, middle + loop.var.step)

    def _count(self, op: Op, result: TileType | None, times: float) -> None:
        tally = self._tally
        if isinstance(op, Load | Store | Accumulate):
            self._memory(op, times)
        elif isinstance(op, Dot):
            self._dot(op, times)
        elif isinstance(op, Reduce | Scan):
            tile = self._scope.type_of(op.x)
            assert tile is not None
            factor = 1 if isinstance(op, Reduce) else math.log2(max(2, tile.shape[op.dim]))
            self._vector(tile, times * factor)
        elif result is not None and result.rank and op.family == "elementwise":
            name = op.mnemonic if isinstance(op, Unary | Binary) else ""
            self._vector(result, times * _PLAIN.get(name, 1))
            tally.special += _SPECIAL.get(name, 0) * self._elements(result) * times
        if result is not None:
            tally.largest = max(tally.largest, self._tile_bytes(result))

    def _vector(self, tile: TileType, times: float) -> None:
        dtype = tile.dtype
        unit = "f64" if dtype is DType.F64 else "f32" if dtype.is_float else "i32"
        wide = 2 if dtype is DType.I64 else 1
        self._tally.vector[unit] += self._elements(tile) * times * wide

    def _dot(self, op: Dot, times: float) -> None:
        a, b = self._scope.type_of(op.a), self._scope.type_of(op.b)
        assert a is not None and b is not None
        unit, parts = DOT_PARTS.get(op.precision, (DOT_FORMATS[a.dtype], 1))
        columns = self._side(b.shape[-1])
        flops = 2.0 * self._elements(a) * columns * parts
        self._tally.matrix[unit] += flops * times
        self._tally.operand_bytes += (self._tile_bytes(a) + self._tile_bytes(b)) * parts * times

    def _memory(self, op: Load | Store | Accumulate, times: float) -> None:
        tensor = self._scope.tensor(op.tensor)
        access = self._tally.accesses.setdefault(
            id(op), _Access(op, [None] * len(tensor.shape), 0.0)
        )
        axes = self._scope.access(op.coords)
        alive = math.prod(self._loops[axis.index].alive for axis in axes if axis.index)
        elements = math.prod(axis.size for axis in axes) * alive
        access.traffic += elements * tensor.dtype.bytes * times
        spans = {
            name: Interval(loop.low, loop.high - 1)
            for name, loop in self._loops.items()
            if loop.exact
        }
        names: set[str] = set()
        for number, coordinate in enumerate(op.coords):
            reach = interval(coordinate, self._dims, spans)
            access.hull[number] = _union(access.hull[number], reach)
            names |= set(variables(coordinate))
        access.exact &= all(name in self._loops and self._loops[name].exact for name in names)
        access.reach = math.prod(self._span_length(name) for name in names if name in self._spans)
        divisions = sum(
            isinstance(node, Bin) and node.op in ("//", "%") for c in op.coords for node in walk(c)
        )
        self._tally.vector["i32"] += elements * times * (1 + 5 * divisions)

    def _span_length(self, name: str) -> int:
        span = self._spans[name]
        return 1 if span.lo is None or span.hi is None else span.hi - span.lo + 1

    def _side(self, size: int) -> int:
        return 1 << (size - 1).bit_length() if self._pad and size else size

    def _elements(self, tile: TileType) -> float:
        return float(math.prod(self._side(size) for size in tile.shape))

    def _tile_bytes(self, tile: TileType) -> float:
        return self._elements(tile) * tile.dtype.bytes

    def _result(self, groups: int) -> KernelWork:
        tally = self._tally
        reads: dict[str, float] = {}
        least: dict[str, float] = {}
        writes: dict[str, float] = {}
        traffic = 0.0
        for access in tally.accesses.values():
            name, tensor = access.op.tensor, self._scope.tensor(access.op.tensor)
            touched = _touched(access, tensor.sizes(self._dims)) * tensor.dtype.bytes
            found = min(touched, max(access.traffic, float(tensor.dtype.bytes)))
            traffic += access.traffic
            if isinstance(access.op, Load):
                reads[name] = max(reads.get(name, 0.0), found)
                if access.exact:
                    least[name] = max(least.get(name, 0.0), found)
            else:
                writes[name] = max(writes.get(name, 0.0), found)
            if isinstance(access.op, Accumulate):
                # The tensor is filled first; then each element is read and written back.
                whole = float(math.prod(tensor.sizes(self._dims)) * tensor.dtype.bytes)
                reads[name] = max(reads.get(name, 0.0), found)
                writes[name] = max(writes[name], found + whole)
                traffic += access.traffic
        return KernelWork(
            name=self._kernel.name,
            groups=groups,
            matrix_flops=dict(tally.matrix),
            vector_ops=dict(tally.vector),
            special_ops=tally.special,
            reads=reads,
            least_reads=least,
            writes=writes,
            traffic_bytes=traffic,
            operand_bytes=tally.operand_bytes,
            steps=tally.steps / max(1, groups),
            stages=tally.stages,
            staged_bytes=tally.staged,
            tile_bytes=tally.carried + tally.largest,
            assumptions=tuple(tally.assumptions),
        )


def _trips(var: LoopVar, low: int, high: int) -> int:
    return max(0, -(-(high - low) // var.step))


def _bound_variables(body: Sequence[Stmt]) -> set[str]:
    loops = [s for s in statements(tuple(body)) if isinstance(s, For | Parallel)]
    all_vars = itertools.chain.from_iterable(
        (s.var,) if isinstance(s, For) else s.vars for s in loops
    )
    return {name for var in all_vars for bound in (var.lo, var.hi) for name in variables(bound)}


def _union(old: Interval | None, new: Interval) -> Interval:
    if old is None:
        return new
    low = None if old.lo is None or new.lo is None else min(old.lo, new.lo)
    high = None if old.hi is None or new.hi is None else max(old.hi, new.hi)
    return Interval(low, high)


def _touched(access: _Access, sizes: Sequence[int]) -> float:
    """Elements that an access touches: the hull of its coordinates, within the tensor."""
    count = 1.0
    for reach, size in zip(access.hull, sizes, strict=True):
        low = 0 if reach is None or reach.lo is None else max(0, reach.lo)
        high = size if reach is None or reach.hi is None else min(size, reach.hi + 1)
        count *= max(0, high - low)
    return min(count, access.reach) if access.exact else count
