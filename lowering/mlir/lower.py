"""From a KE-IR program to an MLIR module of the ``kea`` dialect, as text. Imports no MLIR.

Each kernel becomes a function ``@kernel.NAME`` of its tensors and dims; ``@main`` takes the
program's tensors, its temporaries and its dims, and calls them in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ke_ir.ir import (
    Kernel,
    KernelCall,
    Module,
    Once,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    View,
    call_dims,
    fixed_dims,
    statements,
)
from ke_ir.ops import Accumulate
from lowering.mlir.allocate import Plan, plan
from lowering.mlir.body import Body
from lowering.mlir.dialect import MAX_RANK
from lowering.mlir.kernel import KernelLowering, Knobs, Unsupported
from lowering.mlir.tree import Tile, memref


@dataclass(frozen=True)
class Lowered:
    """An MLIR module and what its caller needs to know.

    ``tensors`` are the arguments of ``@main`` in order (inputs, outputs, temporaries), before its
    dims in ``dims``; ``roles`` says of each which of the three it is. ``local_bytes`` is by kernel.
    ``read_by_scalar`` names the tensors whose values decide addresses or loop bounds, so that
    timing needs them.
    """

    text: str
    tensors: tuple[Param, ...]
    roles: Mapping[str, str]
    dims: tuple[str, ...]
    local_bytes: Mapping[str, int]
    read_by_scalar: frozenset[str]


@dataclass
class _Built:
    kernel: Kernel
    body: Body
    plan: Plan


def lower_program(
    module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int], capacity: int
) -> Lowered:
    """Lower ``program`` at ``dims`` (which bind its dims) for ``capacity`` bytes of local memory.

    Raises DoesNotFit, Unsupported.
    """
    built = _build(module, program, knobs, dims, capacity)
    needed = _mark_control(program, built)
    temps = tuple(Param(n, t) for n, t in program.temps.items())
    text = [_Main(program, built, temps).text()]
    text += ["\n".join(_function(b, knobs)) + "\n" for b in built.values()]
    parts = {"input": program.inputs, "output": program.outputs, "temporary": temps}
    return Lowered(
        "\n".join(text),
        tuple(p for params in parts.values() for p in params),
        {p.name: role for role, params in parts.items() for p in params},
        tuple(d.name for d in program.dims),
        {n: b.plan.total for n, b in built.items()},
        frozenset(needed),
    )


def check_lowers(
    module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int], capacity: int
) -> None:
    """Raises what ``lower_program`` would, in less time: no text is made."""
    _build(module, program, knobs, dims, capacity)


def _build(
    module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int], capacity: int
) -> dict[str, _Built]:
    """The kernels that are called, as commands with their places in local memory."""
    built = {}
    for name in dict.fromkeys(c.kernel for c in program.calls):
        kernel = module.kernels[name]
        _check_ranks(kernel)
        body = KernelLowering(kernel, knobs, fixed_dims(program, kernel, dims)).run()
        built[name] = _Built(kernel, body, plan(name, body.top, capacity))
    return built


def _check_ranks(kernel: Kernel) -> None:
    for p in (*kernel.inputs, *kernel.outputs):
        rank = len(p.type.shape)
        if rank > MAX_RANK:
            raise Unsupported(
                f"%{p.name} of @{kernel.name} has {rank} dimensions; at most {MAX_RANK}"
            )


# ---- values that decide addresses or bounds ----


def _mark_control(program: Program, built: Mapping[str, _Built]) -> set[str]:
    """Mark tiles that decide addresses or bounds; gives the program's tensors that feed them."""
    needed: set[str] = set()
    while True:
        before = len(needed)
        for call in program.calls:
            b = built[call.kernel]
            params = (*b.kernel.inputs, *b.kernel.outputs)
            names = {
                p.name: v.tensor for p, v in zip(params, (*call.args, *call.outs), strict=True)
            }
            _propagate(b.body, {p for p, t in names.items() if t in needed})
            needed |= {names[t] for t in _control_loads(b.body)}
        if len(needed) == before:
            return needed


def _propagate(body: Body, needed_params: set[str]) -> None:
    lines = list(body.top.lines())
    work: list[Tile] = []
    for line in lines:
        if line.scalar:
            work += line.srcs
        elif line.tensor and line.dst is None:
            data, *indices = line.srcs
            work += [data, *indices] if line.tensor in needed_params else indices
        elif line.tensor:
            work += line.srcs
    while work:
        tile = work.pop().base
        if tile.control:
            continue
        tile.control = True
        for line in lines:
            if line.dst is not None and line.dst.base is tile:
                work += line.srcs


def _control_loads(body: Body) -> Iterator[str]:
    for line in body.top.lines():
        if line.dst is not None and line.dst.base.control and line.tensor:
            yield line.tensor


# ---- text ----


def _tensor_type(p: Param) -> str:
    return memref(p.type.dtype, ["?"] * len(p.type.shape), local=False)


def _function(b: _Built, knobs: Knobs) -> Iterator[str]:
    kernel, body = b.kernel, b.body
    params = (*kernel.inputs, *kernel.outputs)
    args = [f"%{p.name}: {_tensor_type(p)}" for p in params]
    args += [f"{body.ssa(d.name)}: index" for d in kernel.dims]
    yield f"func.func @kernel.{kernel.name}({', '.join(args)}) {{"
    for line in _declarations(b, knobs):
        yield "  " + line
    for line in body.prologue:
        yield "  " + line
    yield from body.top.text()
    yield '  "kea.end"() : () -> ()'
    yield "  return"
    yield "}"


def _declarations(b: _Built, knobs: Knobs) -> Iterator[str]:
    yield f'"kea.kernel"() {{mapping = "{knobs.mapping}"}} : () -> ()'
    for p in (*b.kernel.inputs, *b.kernel.outputs):
        yield f'"kea.bind"(%{p.name}) : ({_tensor_type(p)}) -> ()'
    updates = {s.tensor: s.kind for s in statements(b.kernel.body) if isinstance(s, Accumulate)}
    for p in b.kernel.outputs:
        if p.name in updates:
            kind = f'fn = "{updates[p.name]}"'
            yield f'"kea.initialise"(%{p.name}) {{{kind}}} : ({_tensor_type(p)}) -> ()'
    for i, x in enumerate(b.plan.buffers):
        yield (
            f'"kea.buffer"() {{id = {i} : i32, offset = {x.offset} : i64, bytes = {x.bytes} : i64, '
            f"copies = {x.copies} : i32}} : () -> ()"
        )
    for t in b.body.tiles:
        if t.base not in b.plan.of:
            continue
        if t.root is not None:
            yield f'%{t.name} = "kea.reshape"(%{t.root.name}) : ({t.root.mlir}) -> {t.mlir}'
            continue
        control = "true" if t.control else "false"
        attrs = f"buffer = {b.plan.of[t]} : i32, control = {control}"
        yield f'%{t.name} = "kea.tile"() {{{attrs}}} : () -> {t.mlir}'


class _Main:
    """The text of ``@main``."""

    def __init__(
        self, program: Program, built: Mapping[str, _Built], temps: tuple[Param, ...]
    ) -> None:
        self.program, self.built = program, built
        self.body = Body()
        self.params = (*program.inputs, *program.outputs, *temps)
        self.types = {p.name: p.type for p in self.params}
        for p in self.params:
            self.body.fresh(p.name)
        for d in program.dims:
            self.body.define(d.name, f"%{self.body.fresh(d.name)}")

    def text(self) -> str:
        self._statements(self.program.body)
        args = [f"%{p.name}: {_tensor_type(p)}" for p in self.params]
        args += [f"{self.body.ssa(d.name)}: index" for d in self.program.dims]
        head = f"func.func @main({', '.join(args)}) attributes {{llvm.emit_c_interface}} {{"
        prologue = ["  " + line for line in self.body.prologue]
        return "\n".join([head, *prologue, *self.body.top.text(), "  return", "}", ""])

    def _statements(self, stmts: tuple[ProgramStmt, ...]) -> None:
        for s in stmts:
            if isinstance(s, KernelCall):
                self._call(s)
            elif isinstance(s, Repeat):
                self._repeat(s)
            elif isinstance(s, Once):
                self._statements(s.body)
            else:
                assert isinstance(s, Temp)  # an argument of @main

    def _repeat(self, s: Repeat) -> None:
        body = self.body
        lo, hi = body.integer(s.lo), body.integer(s.hi)
        name = body.fresh(s.var)
        outer = body.open(f"scf.for %{name} = {lo} to {hi} step {body.constant(1)}")
        body.define(s.var, f"%{name}")
        self._statements(s.body)
        body.close(outer)

    def _call(self, s: KernelCall) -> None:
        kernel = self.built[s.kernel].kernel
        tensors = [self._view(v) for v in (*s.args, *s.outs)]
        dims = [self.body.integer(e) for e in call_dims(self.program, s, kernel).values()]
        types = [_tensor_type(p) for p in (*kernel.inputs, *kernel.outputs)]
        self.body.line(
            f"func.call @kernel.{kernel.name}({', '.join([*tensors, *dims])}) : "
            f"({', '.join([*types, *['index'] * len(dims)])}) -> ()"
        )

    def _view(self, v: View) -> str:
        if not v.indices:
            return f"%{v.tensor}"
        t = self.types[v.tensor]
        at = [self.body.integer(e) for e in v.indices]
        name = self.body.fresh(f"{v.tensor}_part")
        whole = memref(t.dtype, ["?"] * len(t.shape), local=False)
        part = memref(t.dtype, ["?"] * (len(t.shape) - len(at)), local=False)
        operands = ", ".join([f"%{v.tensor}", *at])
        types = ", ".join([whole, *["index"] * len(at)])
        self.body.line(f'%{name} = "kea.view"({operands}) : ({types}) -> {part}')
        return f"%{name}"
