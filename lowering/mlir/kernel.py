"""From one KE-IR kernel to a function of the ``kea`` dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ke_ir.expr import Expr, evaluate_int
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Dot,
    Expand,
    Full,
    Iota,
    Load,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Unary,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TileType
from lowering.mlir.body import Body
from lowering.mlir.coords import Access, Coordinates
from lowering.mlir.dialect import MAX_RANK
from lowering.mlir.reuse import in_place_chain, last_uses, names_used
from lowering.mlir.tree import Block, Tile, memref, number


class Unsupported(Exception):
    """The program uses something that the accelerator cannot do; the message says what."""


@dataclass(frozen=True)
class Knobs:
    """Choices that only this target has.

    ``mapping``: how instances are dealt to PEs (``dynamic round_robin blocked``). ``prefetch``:
    how many instances a PE holds loads for, so that the next one's overlap this one's work.
    """

    mapping: str = "dynamic"
    prefetch: int = 1


class KernelLowering:
    """Builds the body of one kernel's function. Use once: ``KernelLowering(k, ...).run()``."""

    def __init__(self, kernel: Kernel, knobs: Knobs, fixed: Mapping[str, int]) -> None:
        self.kernel, self.knobs, self.fixed = kernel, knobs, fixed
        self.scope = TypeScope(kernel)
        self.body = Body()
        self.values: dict[str, Tile] = {}
        self.homes: dict[str, Block] = {}
        self.coords = Coordinates(self.body, self.scope, fixed, self.values, self.homes)
        self.instance = self.body.top
        self.copies = knobs.prefetch
        self.target: Tile | None = None
        self.dead_after: dict[int, frozenset[str]] = {}
        for p in (*kernel.inputs, *kernel.outputs):
            self.body.fresh(p.name)
        for d in kernel.dims:
            self.body.define(d.name, f"%{self.body.fresh(d.name)}")

    def run(self) -> Body:
        (grid,) = self.kernel.body
        assert isinstance(grid, Parallel)  # the verifier has seen to it
        self._grid(grid)
        return self.body

    # ---- loops --------------------------------------------------------------------------------

    def _grid(self, grid: Parallel) -> None:
        body = self.body
        los = [body.integer(v.lo) for v in grid.vars]
        his = [body.integer(v.hi) for v in grid.vars]
        counts = [self._tiles_in(lo, hi, v) for lo, hi, v in zip(los, his, grid.vars, strict=True)]
        total = counts[0]
        for c in counts[1:]:
            total = body.arith("muli", total, c)
        pid = body.fresh("pid")
        zero, one = body.constant(0), body.constant(1)
        outer = body.open(f"scf.for %{pid} = {zero} to {total} step {one}")
        self.instance = body.block
        body.line(f'"kea.instance"(%{pid}, {total}) : (index, index) -> ()')
        places = self._places(f"%{pid}", counts, grid.group)
        self.scope.enter(grid)
        for v, place, lo, hi in zip(grid.vars, places, los, his, strict=True):
            offset = body.arith("muli", place, body.constant(v.step))
            body.define(v.name, body.arith("addi", lo, offset), hi)
            self.homes[v.name] = body.block
        self._statements(grid.body)
        self.scope.leave(grid)
        body.close(outer)

    def _tiles_in(self, lo: str, hi: str, v: LoopVar) -> str:
        body = self.body
        extent = body.arith("subi", hi, lo)
        up = body.arith("addi", extent, body.constant(v.step - 1))
        tiles = body.arith("floordivsi", up, body.constant(v.step))
        return body.arith("maxsi", tiles, body.constant(0))

    def _places(self, pid: str, counts: Sequence[str], group: int) -> list[str]:
        """Which tile of each variable an instance is; the last variable runs fastest."""
        body = self.body
        places: list[str] = []
        rest = pid
        plain = list(counts)
        if group:
            *plain, rows, columns = counts
            plane = body.arith("muli", rows, columns)
            inside, rest = self._remainder(pid, plane)
            places = self._grouped(inside, rows, columns, group)
        for n, count in enumerate(reversed(plain)):
            if n == len(plain) - 1:
                places.insert(0, rest)
            else:
                place, rest = self._remainder(rest, count)
                places.insert(0, place)
        return places

    def _remainder(self, a: str, b: str) -> tuple[str, str]:
        """a mod b and a div b, of non-negative numbers."""
        body = self.body
        return body.arith("remui", a, b), body.arith("divui", a, b)

    def _grouped(self, pid: str, rows: str, columns: str, group: int) -> list[str]:
        """Tiles of the last two variables in columns of ``group`` rows."""
        body = self.body
        size = body.constant(group)
        inside, which = self._remainder(pid, body.arith("muli", columns, size))
        first = body.arith("muli", which, size)
        height = body.arith("minsi", body.arith("subi", rows, first), size)
        row, column = self._remainder(inside, height)
        return [body.arith("addi", first, row), column]

    def _for(self, s: For) -> None:
        body, v = self.body, s.var
        sizes = [(n, x.tile) for n, x in self.scope.loops.items() if x.tile is not None]
        for e in (v.lo, v.hi):
            self.coords.read_scalars(e)
        lo, hi = body.integer(v.lo, sizes), body.integer(v.hi, sizes)
        carried = [self._carry(name, init, s) for name, init in s.carries]
        self.scope.enter(s)
        name = body.fresh(v.name)
        outer = body.open(f"scf.for %{name} = {lo} to {hi} step {body.constant(v.step)}")
        body.line('"kea.loop_step"() : () -> ()')
        body.define(v.name, f"%{name}", hi)
        self.homes[v.name] = body.block
        for (carry, _), tile in zip(s.carries, carried, strict=True):
            self._bind(carry, tile)
        copies, self.copies = self.copies, s.stages
        targets = dict(self._targets(s, carried))
        self._statements(s.body, targets)
        self._yield(s, carried)
        self.copies = copies
        body.close(outer)
        self.scope.leave(s)
        for result, tile in zip(s.results, carried, strict=True):
            self._bind(result, tile)

    def _bind(self, name: str, tile: Tile) -> None:
        self.values[name] = tile
        self.homes[name] = self.body.block

    def _carry(self, name: str, init: Operand, s: For) -> Tile:
        """The tile of a carried value: the initial value's own where nothing else needs it."""
        assert isinstance(init, str)
        source = self.values[init]
        inside = set().union(*(names_used(x) for x in s.body))
        alone = sum(x == init for _, x in s.carries) == 1 and init not in inside
        here = self.homes[init] is self.body.block and source.root is None
        if here and alone and init in self.dead_after.get(id(s), ()):
            return source
        tile = self.body.tile(name, source.type)
        self._copy(tile, source)
        return tile

    def _targets(self, s: For, carried: Sequence[Tile]) -> list[tuple[str, Tile]]:
        """Values of a loop's body that may be computed straight into a carried value's tile."""
        names = [n for n, _ in s.carries]
        end = s.body[-1] if s.body else None
        if not isinstance(end, Yield):
            return []
        return [
            (name, carried[i])
            for i, value in enumerate(end.values)
            if isinstance(value, str) and end.values.count(value) == 1
            for name in in_place_chain(s.body, value, names[i])
        ]

    def _yield(self, s: For, carried: Sequence[Tile]) -> None:
        end = s.body[-1] if s.body else None
        if not isinstance(end, Yield):
            return
        moves: list[tuple[Tile, Tile]] = []
        for tile, value in zip(carried, end.values, strict=True):
            source = self._operand(value, tile.type.dtype)
            if source.base is not tile.base:
                moves.append((tile, source))
        # A carried value that is itself yielded as another must be saved before it is overwritten.
        overwritten = {t.base for t, _ in moves}
        for i, (tile, source) in enumerate(moves):
            if source.base in overwritten:
                saved = self.body.tile("saved", source.type)
                self._copy(saved, source)
                moves[i] = (tile, saved)
        for tile, source in moves:
            self._copy(tile, source)

    # ---- statements ---------------------------------------------------------------------------

    def _statements(self, stmts: Sequence[Stmt], targets: Mapping[str, Tile] | None = None) -> None:
        outer = self.dead_after
        uses = last_uses(stmts)
        self.dead_after = {
            id(s): frozenset(n for n, at in uses.items() if at == i)
            for i, s in enumerate(stmts) if isinstance(s, For)
        }  # fmt: skip
        for s in stmts:
            if isinstance(s, For):
                self._for(s)
            elif isinstance(s, Op):
                self.scope.define(s)
                self.target = (targets or {}).get(s.result or "")
                self._emit(s)
        self.dead_after = outer

    def _emit(self, s: Op) -> None:
        result = self.scope.values.get(s.result or "")
        if result is not None and result.rank > MAX_RANK:
            raise Unsupported(f"%{s.result} has {result.rank} dimensions; at most {MAX_RANK}")
        kind = type(s).__name__.lower()
        emit: Callable[[Op], None] | None = getattr(self, f"_{kind}", None)
        if emit is None:
            raise Unsupported(f"`{s.mnemonic}` has no lowering to the kea dialect")
        emit(s)

    def _operand(self, x: Operand, dtype: DType) -> Tile:
        if isinstance(x, str):
            return self.values[x]
        return self.body.constant_tile(x, dtype, self.instance)

    def _dtype_of(self, *xs: Operand) -> DType:
        """The dtype that the values among some operands have; literals follow it."""
        return next(self.values[x].type.dtype for x in xs if isinstance(x, str))

    def _result(self, s: Op, copies: int = 1) -> Tile:
        """The tile for an op's result."""
        assert s.result is not None
        tile = self.target
        if tile is None:
            tile = self.body.tile(s.result, self.scope.values[s.result], copies=copies)
        self._bind(s.result, tile)
        return tile

    def _copy(self, dst: Tile, src: Tile) -> None:
        self.body.op("broadcast", [dst, src])

    def _elementwise(self, s: Op, name: str, xs: Sequence[Operand], attrs: str) -> None:
        dtype = self._dtype_of(*xs)
        sources = [self._operand(x, dtype) for x in xs]
        self.body.op(name, [self._result(s), *sources], attrs=attrs)

    def _unary(self, s: Unary) -> None:
        self._elementwise(s, "unary", [s.x], f'fn = "{s.fn}"')

    def _binary(self, s: Binary) -> None:
        self._elementwise(s, "binary", [s.x, s.y], f'fn = "{s.fn}"')

    def _cmp(self, s: Cmp) -> None:
        self._elementwise(s, "cmp", [s.x, s.y], f'pred = "{s.pred}"')

    def _select(self, s: Select) -> None:
        dtype = self._dtype_of(s.x, s.y)
        sources = [self._operand(s.c, DType.I1), *(self._operand(x, dtype) for x in (s.x, s.y))]
        self.body.op("select", [self._result(s), *sources])

    def _cast(self, s: Cast) -> None:
        self._elementwise(s, "cast", [s.x], "")

    def _broadcast(self, s: Broadcast) -> None:
        self._elementwise(s, "broadcast", [s.x], "")

    def _full(self, s: Full) -> None:
        value = s.value
        if isinstance(value, Expr):
            try:
                value = evaluate_int(value, self.fixed)
            except KeyError:  # a dim that is an argument of the run
                start = [self.body.integer(s.value)]  # type: ignore[arg-type]
                self.body.op("iota", [self._result(s)], start, "step = 0 : i64")
                return
        self.body.op("fill", [self._result(s)], attrs=f"value = {number(value, s.type.dtype)}")

    def _iota(self, s: Iota) -> None:
        start = [self.body.ssa(s.index)]
        self.body.op("iota", [self._result(s)], start, "step = 1 : i64")

    def _reduce(self, s: Reduce) -> None:
        self._elementwise(s, "reduce", [s.x], f'fn = "{s.kind}", dim = {s.dim} : i32')

    def _scan(self, s: Scan) -> None:
        reverse = "true" if s.reverse else "false"
        attrs = f'fn = "{s.kind}", dim = {s.dim} : i32, reverse = {reverse}'
        self._elementwise(s, "scan", [s.x], attrs)

    def _permute(self, s: Permute) -> None:
        order = ": " + ", ".join(map(str, s.order)) if s.order else ""
        self._elementwise(s, "permute", [s.x], f"order = array<i64{order}>")

    def _reshape(self, s: Reshape | Expand) -> None:
        assert isinstance(s.x, str) and s.result is not None
        alias = self.body.alias(self.values[s.x], self.scope.values[s.result].shape, s.result)
        self.values[s.result] = alias
        self.homes[s.result] = self.homes[s.x]

    _expand = _reshape

    def _dot(self, s: Dot) -> None:
        a, b = (self.values[str(x)] for x in (s.a, s.b))
        acc = None if s.acc is None else self.values[str(s.acc)]
        dst = self._result(s)
        if acc is not None and acc.base is not dst.base:
            self._copy(dst, acc)
        accumulate = "false" if acc is None else "true"
        attrs = f'precision = "{s.precision}", accumulate = {accumulate}'
        self.body.op("dot", [dst, a, b], attrs=attrs)

    # ---- memory -------------------------------------------------------------------------------

    def _tensor(self, name: str) -> str:
        t = self.scope.tensors[name]
        return memref(t.dtype, ["?"] * len(t.shape), local=False)

    def _access(
        self, op: str, tensor: str, tile: Tile, access: Access, attrs: str, loads: bool
    ) -> None:  # fmt: skip
        indices = [*access.bases, *access.limits]
        operands = [f"%{tile.name}", f"%{tensor}", *indices]
        types = [tile.mlir, self._tensor(tensor), *["index"] * len(indices)]
        operands += [f"%{t.name}" for t in access.indices]
        types += [t.mlir for t in access.indices]
        text = (
            f'"kea.{op}"({", ".join(operands)}) {{{access.attributes()}{attrs}}}'
            f" : ({', '.join(types)}) -> ()"
        )
        srcs = access.indices if loads else (tile, *access.indices)
        self.body.line(text, tile if loads else None, srcs, tensor=tensor)

    def _load(self, s: Load) -> None:
        access = self.coords.access(s.coords)
        pad = f", pad = {number(s.fill, s.type.dtype)}"
        self._access("load", s.tensor, self._result(s, self.copies), access, pad, loads=True)

    def _stored(self, x: Operand, tensor: str, shape: tuple[int, ...]) -> Tile:
        """The tile to write: stretched over the access if it is one number."""
        dtype = self.scope.tensors[tensor].dtype
        source = self._operand(x, dtype)
        if source.type.shape == shape:
            return source
        tile = self.body.tile("spread", TileType(dtype, shape))
        self._copy(tile, source)
        return tile

    def _store(self, s: Store) -> None:
        access = self.coords.access(s.coords)
        tile = self._stored(s.x, s.tensor, access.shape)
        self._access("store", s.tensor, tile, access, "", loads=False)

    def _accumulate(self, s: Accumulate) -> None:
        access = self.coords.access(s.coords)
        tile = self._stored(s.x, s.tensor, access.shape)
        self._access("accumulate", s.tensor, tile, access, f', fn = "{s.kind}"', loads=False)
