"""The analytic model: what one kernel's commands cost, without compiling or running anything.

Per instance each engine's cycles are summed; where loops are pipelined, the longer of moving data
and computing counts, else their sum. That, times the waves of instances over the PEs, against
what LPDDR and SRAM can deliver, and the launches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ke_ir.expr import Call, Expr, Num, Var, evaluate_int, rewrite
from ke_ir.ir import For, Kernel, KernelCall, LoopVar, Module, Parallel, Program, Repeat, bind_call
from ke_ir.ir import ProgramStmt as Step
from ke_ir.ops import (
    Accumulate,
    Cast,
    Dot,
    Expand,
    Full,
    Load,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Store,
    Unary,
)
from ke_ir.ops.base import Op, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TileType
from lowering.count import DOT_PARTS
from targets.kea.archs import Arch
from targets.made_up import reach

_VECTOR_UNARY = ("abs", "neg", "not")
_ITERATIVE = {"div": 8, "floordiv": 8, "mod": 8, "pow": 8}


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of the program, and the parts in the units that their names say."""

    seconds: float
    detail: Mapping[str, float | str]


@dataclass
class _Work:
    """Cycles by engine, commands and DMA bytes of one instance; ``pipelined``: engines overlap."""

    cycles: dict[str, float] = field(default_factory=dict)
    commands: float = 0
    dma_bytes: float = 0
    pipelined: bool = False

    def add(self, engine: str, cycles: float, times: float) -> None:
        self.cycles[engine] = self.cycles.get(engine, 0.0) + cycles * times
        self.commands += times


def estimate_program(
    module: Module, program: Program, dims: Mapping[str, int], arch: Arch
) -> Estimate:
    """Estimate ``program`` at ``dims`` on ``arch``, without its ``once`` part."""
    c = arch.config
    lpddr = sum(_bytes(p.type.dtype, p.type.sizes(dict(dims))) for p in
                (*program.inputs, *program.outputs)) / c["lpddr_rate"]  # fmt: skip
    compute = sram = 0.0
    launches = 0
    for call, times in _calls(program.body, dims, 1):
        kernel = module.kernels[call.kernel]
        work = _KernelCost(kernel, bind_call(program, call, kernel, dims), arch)
        compute += times * work.cycles()
        sram += times * work.work.dma_bytes * work.instances / c["sram_rate"]
        launches += times
    start = c["launch_cycles"] + max(0, launches - 1) * c["relaunch_cycles"]
    cycles = max(compute, lpddr, sram) + start
    detail: dict[str, float | str] = {
        "compute_cycles": compute, "lpddr_cycles": lpddr, "sram_cycles": sram,
        "launch_cycles": start,
    }  # fmt: skip
    return Estimate(cycles / arch.spec.clock_hz, detail)


def _bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.bytes


def _calls(
    body: tuple[Step, ...], dims: Mapping[str, int], times: int
) -> Iterator[tuple[KernelCall, int]]:
    for s in body:
        if isinstance(s, KernelCall):
            yield s, times
        elif isinstance(s, Repeat):
            steps = max(0, evaluate_int(s.hi, dims) - evaluate_int(s.lo, dims))
            yield from _calls(s.body, dims, times * steps)


class _KernelCost:
    """Costs of one kernel at its sizes."""

    def __init__(self, kernel: Kernel, sizes: Mapping[str, int], arch: Arch) -> None:
        self.kernel, self.sizes, self.c = kernel, sizes, arch.config
        self.scope = TypeScope(kernel)
        self.work = _Work()
        self.values: dict[str, float] = dict(sizes)
        (grid,) = kernel.body
        assert isinstance(grid, Parallel)
        self.instances = math.prod(self._enter(v) for v in grid.vars)
        self.scope.enter(grid)
        self._block(grid.body, 1)

    def cycles(self) -> float:
        w = self.work
        issue = w.commands * self.c["issue_cycles"]
        latency = self.c["lpddr_latency"] + self.c["sram_latency"]
        # Pipelining overlaps DMA with the rest; the commands of one iteration wait for each other.
        moves = [w.cycles.get(e, 0.0) for e in ("dma_in", "dma_out")]
        rest = sum(w.cycles.values()) - sum(moves)
        one = max(*moves, rest, issue) if w.pipelined else max(sum(moves) + rest, issue)
        one += latency
        return math.ceil(self.instances / self.c["pes"]) * one

    def _enter(self, v: LoopVar) -> float:
        """Iterations of a loop; its variable then stands at the middle of its range."""
        lo, hi = self._mean(v.lo), self._mean(v.hi)
        if hi is None or lo is None:
            lo, hi = 0.0, reach(self.kernel, v.name, self.sizes) / max(1.0, self.instances)
        trips = max(0.0, math.ceil((hi - lo) / v.step))
        self.values[v.name] = lo + v.step * max(0.0, trips - 1) / 2
        return trips

    def _mean(self, e: Expr) -> float | None:
        """The value of a bound with every variable at its middle; None if data decides it."""
        tiles = {v.name: v.step for v in self.scope.loops.values()}

        def ends(n: Expr) -> Expr | None:
            if isinstance(n, Call) and n.fn in ("begin", "end") and isinstance(n.args[0], Var):
                name = n.args[0].name
                past = tiles.get(name, 1) if n.fn == "end" else 0
                return Num(round(self.values[name]) + past)
            return None

        try:
            return evaluate_int(rewrite(e, ends), {n: round(v) for n, v in self.values.items()})
        except KeyError:
            return None

    def _block(self, body: tuple[Stmt, ...], times: float) -> None:
        for s in body:
            if isinstance(s, For):
                trips = self._enter(s.var)
                self.scope.enter(s)
                self.work.pipelined |= s.stages > 1
                self._block(s.body, times * trips)
                self.scope.leave(s)
            elif isinstance(s, Op):
                result = self.scope.define(s)
                self._op(s, result, times)

    def _op(self, s: Op, result: TileType | None, times: float) -> None:
        c, add = self.c, self.work.add
        if isinstance(s, Load | Store | Accumulate):
            shape = self.scope.access_shape(s.coords)
            size = _bytes(self.scope.tensors[s.tensor].dtype, shape)
            moved = size * (2 if isinstance(s, Accumulate) else 1)
            self.work.dma_bytes += moved * times
            add("dma_in" if isinstance(s, Load) else "dma_out", moved / c["port_rate"], times)
        elif isinstance(s, Reshape | Expand) or result is None:
            return
        elif isinstance(s, Dot):
            engine, cycles = self._dot(s, result)
            add(engine, cycles + c["dpe_fill_cycles"], times)
        elif isinstance(s, Reduce):
            x = self.scope.values[str(s.x)]
            add("re", c["re_start"] + x.elements / c["re_lanes"], times)
        elif isinstance(s, Permute):
            add("mlu", c["mlu_start"] + _tile_bytes(result) / c["mlu_bytes"], times)
        elif isinstance(s, Full):
            add("re", c["re_start"] + _tile_bytes(result) / c["local_rate"], times)
        elif isinstance(s, Cast) or (isinstance(s, Unary) and s.fn not in _VECTOR_UNARY):
            add("se", c["se_start"] + result.elements / c["se_lanes"], times)
        else:
            factor = _ITERATIVE.get(getattr(s, "fn", ""), 1)
            size = result.dtype.bytes
            if isinstance(s, Scan):
                # What an f32 sum carries is twice as wide.
                size = 8 if result.dtype is DType.F32 and s.kind in ("sum", "prod") else size
                if s.dim == result.rank - 1:
                    factor = math.ceil(math.log2(c["vector_bytes"] / size))
            beats = result.elements * size / c["vector_bytes"]
            add("vector", c["vector_start"] + beats * factor, times)

    def _dot(self, s: Dot, result: TileType) -> tuple[str, float]:
        a = self.scope.values[str(s.a)]
        m, k, n = a.shape[-2], a.shape[-1], result.shape[-1]
        batch = math.prod(a.shape[:-2])
        size: int = a.dtype.bytes
        if a.dtype is DType.F64 or (a.dtype is DType.F32 and s.precision == "ieee"):
            return "vector", 2 * batch * m * n * k * size / self.c["vector_bytes"]
        if s.precision.startswith("bf16") or a.dtype in (DType.F8E4M3, DType.F8E5M2):
            size = 2
        rows = self.c["dpe_rows"]
        streamed = min(math.ceil(m / rows) * n, math.ceil(n / rows) * m)
        depth = math.ceil(k / (self.c["dpe_depth_bytes"] / size))
        _, passes = DOT_PARTS.get(s.precision, ("", 1))
        return "dpe", float(batch * passes * depth * streamed)


def _tile_bytes(t: TileType) -> int:
    return t.elements * t.dtype.bytes
