"""The objects of a KE-IR file: ops, kernels, programs and tuned blocks.

All are immutable. Names are bare (``x``, not ``%x`` or ``@x``). Locations take no part in
equality, so ``parse(print(x)) == x``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ke_ir.diagnostics import Loc
from ke_ir.expr import Dim, Expr, Num, Range, dims_of, evaluate_int, replace_dims
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.types import TensorType


@dataclass(frozen=True)
class DimDecl:
    """A dim: static (``D = 4096``), a run-time argument (``B in 1..65536 = 8192``), or derived.

    ``size`` is the default; for a derived dim an expression over dims declared before it.
    ``low``/``high`` are both included, and None unless the dim is given as a range.
    """

    name: str
    size: Expr
    low: int | None = None
    high: int | None = None
    loc: Loc | None = field(default=None, compare=False, repr=False)

    @property
    def is_range(self) -> bool:
        return self.high is not None

    @property
    def is_derived(self) -> bool:
        return not isinstance(self.size, Num)


def bind_dims(dims: tuple[DimDecl, ...], given: Mapping[str, int] | None = None) -> dict[str, int]:
    """Sizes of all dims: ``given`` where it says, defaults elsewhere, derived dims computed."""
    out: dict[str, int] = {}
    for d in dims:
        if given and d.name in given and not d.is_derived:
            out[d.name] = given[d.name]
        else:
            out[d.name] = evaluate_int(d.size, out)
    return out


@dataclass(frozen=True)
class Param:
    """A tensor argument."""

    name: str
    type: TensorType
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Equation:
    """``target[indices] = rhs``: an output, or an intermediate that later equations may use."""

    target: str
    ranges: tuple[Range, ...]
    rhs: Expr
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Signature:
    """What ops, kernels and programs share: name, tensors in and out, dims."""

    name: str
    inputs: tuple[Param, ...]
    outputs: tuple[Param, ...]
    dims: tuple[DimDecl, ...]

    @cached_property
    def tensors(self) -> dict[str, TensorType]:
        """Types of all tensor arguments by name."""
        return {p.name: p.type for p in (*self.inputs, *self.outputs)}

    def sizes(self, given: Mapping[str, int] | None = None) -> dict[str, int]:
        return bind_dims(self.dims, given)


@dataclass(frozen=True)
class OpDef(Signature):
    """What is to be computed: the contract that a search may not alter."""

    equations: tuple[Equation, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class LoopVar:
    """``%d = lo to hi tile 128``: with a tile size the variable is an index tile, else a scalar."""

    name: str
    lo: Expr
    hi: Expr
    tile: int | None = None
    loc: Loc | None = field(default=None, compare=False, repr=False)

    @property
    def step(self) -> int:
        return self.tile or 1


@dataclass(frozen=True)
class Parallel(Stmt):
    """Iterations that are independent, in any order; one instance of the body for each tile.

    ``group`` > 0 is ``order grouped(g)``: tiles of the last two variables are traversed in
    columns of ``g`` rows. ``persistent``: as many workers as the target has units share the tiles.
    """

    vars: tuple[LoopVar, ...]
    body: tuple[Stmt, ...]
    group: int = 0
    persistent: bool = False


@dataclass(frozen=True)
class Yield(Stmt):
    """The values that a loop's body carries to the next iteration."""

    values: tuple[Operand, ...] = ()


@dataclass(frozen=True)
class For(Stmt):
    """A sequential loop. ``carries`` are (name in the body, initial value), ``results`` the last.

    ``stages`` is the pipelining depth: how many iterations may be in flight (1: none overlap).
    The body ends with a ``Yield`` exactly when something is carried.
    """

    var: LoopVar
    body: tuple[Stmt, ...]
    carries: tuple[tuple[str, Operand], ...] = ()
    results: tuple[str, ...] = ()
    stages: int = 1


@dataclass(frozen=True)
class Kernel(Signature):
    """How: a tile program, launched as one grid per outermost ``parallel``."""

    body: tuple[Stmt, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class View:
    """A tensor, or with leading ``indices`` a contiguous part of it: ``%h[%t]``."""

    tensor: str
    indices: tuple[Expr, ...] = ()
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Temp:
    """A temporary tensor of a program: ``temp %m : f32[B]``."""

    name: str
    type: TensorType
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class KernelCall:
    """``call @k(%x, %w) -> (%y)``. Dims of the kernel are bound by the tensors' shapes."""

    kernel: str
    args: tuple[View, ...]
    outs: tuple[View, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Repeat:
    """``repeat %t = 0 to T { ... }``: steps one after the other, for recurrences."""

    var: str
    lo: Expr
    hi: Expr
    body: tuple[ProgramStmt, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Once:
    """``once { ... }``: computed once per set of weights; its cost is reported apart."""

    body: tuple[ProgramStmt, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


ProgramStmt = Temp | KernelCall | Repeat | Once


@dataclass(frozen=True)
class Program(Signature):
    """Several kernels with temporaries between them."""

    body: tuple[ProgramStmt, ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)

    @cached_property
    def temps(self) -> dict[str, TensorType]:
        return {s.name: s.type for s in program_statements(self.body) if isinstance(s, Temp)}

    @cached_property
    def calls(self) -> tuple[KernelCall, ...]:
        return tuple(s for s in program_statements(self.body) if isinstance(s, KernelCall))


@dataclass(frozen=True)
class Tuned:
    """``tuned @k for nvidia.sm_90 { num_warps = 8 }``: a target's own choices for a kernel.

    Without an architecture (an empty ``arch``) it holds for all of the target's.
    """

    kernel: str
    target: str
    arch: str
    knobs: tuple[tuple[str, int | str | bool], ...]
    loc: Loc | None = field(default=None, compare=False, repr=False)


Item = OpDef | Kernel | Program | Tuned


@dataclass(frozen=True)
class Module:
    """One file: its items in order. ``source`` is the text it was read from, if any."""

    items: tuple[Item, ...]
    source: str = field(default="", compare=False, repr=False)
    file: str = field(default="", compare=False, repr=False)

    @cached_property
    def ops(self) -> dict[str, OpDef]:
        return {i.name: i for i in self.items if isinstance(i, OpDef)}

    @cached_property
    def kernels(self) -> dict[str, Kernel]:
        return {i.name: i for i in self.items if isinstance(i, Kernel)}

    @cached_property
    def programs(self) -> dict[str, Program]:
        """Programs by name; a kernel that no program calls is a program of one call."""
        named = {i.name: i for i in self.items if isinstance(i, Program)}
        called = {c.kernel for p in named.values() for c in p.calls}
        for name, k in self.kernels.items():
            if name not in called and name not in named:
                named[name] = single_kernel_program(k)
        return named

    @cached_property
    def tuned(self) -> tuple[Tuned, ...]:
        return tuple(i for i in self.items if isinstance(i, Tuned))


def single_kernel_program(k: Kernel) -> Program:
    """The program that calls one kernel on its own arguments."""
    call = KernelCall(
        k.name, tuple(View(p.name) for p in k.inputs), tuple(View(p.name) for p in k.outputs)
    )
    return Program(k.name, k.inputs, k.outputs, k.dims, (call,), loc=k.loc)


def program_statements(body: tuple[ProgramStmt, ...]) -> Iterator[ProgramStmt]:
    """All statements of a program, outermost first, in order."""
    for s in body:
        yield s
        if isinstance(s, Repeat | Once):
            yield from program_statements(s.body)


def tensors_of_calls(s: ProgramStmt) -> Iterator[str]:
    """The tensors that the calls of a program's statement read and write, in order."""
    for x in program_statements((s,)):
        if isinstance(x, KernelCall):
            yield from (v.tensor for v in (*x.args, *x.outs))


def statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """All statements of a kernel's body, outermost first, in order."""
    for s in body:
        yield s
        if isinstance(s, Parallel | For):
            yield from statements(s.body)


def defined_names(s: Stmt) -> tuple[str, ...]:
    """SSA names that a statement defines for those after it (not those inside its body)."""
    if isinstance(s, Op):
        return () if s.result is None else (s.result,)
    return s.results if isinstance(s, For) else ()


class BindError(ValueError):
    """The arguments of a call do not fit the kernel."""


def bind_call(
    program: Program, call: KernelCall, kernel: Kernel, dims: Mapping[str, int]
) -> dict[str, int]:
    """Sizes of the kernel's dims in this call, from the shapes of its arguments.

    ``dims`` binds the program's dims. A plain dim in the kernel's signature takes the size that
    stands there; the rest must agree. Raises BindError.
    """
    tensors = {**program.tensors, **program.temps}
    pairs = zip((*kernel.inputs, *kernel.outputs), (*call.args, *call.outs), strict=True)
    shapes: list[tuple[Param, View, tuple[int, ...]]] = []
    found: dict[str, int] = {}
    for p, v in pairs:
        t = tensors[v.tensor]
        shape = t.sizes(dict(dims))[len(v.indices) :]
        if len(shape) != len(p.type.shape) or t.dtype is not p.type.dtype:
            raise BindError(
                f"%{v.tensor} gives {t.dtype} of shape {list(shape)}, but @{kernel.name} takes "
                f"%{p.name}: {p.type}"
            )
        shapes.append((p, v, shape))
        for e, n in zip(p.type.shape, shape, strict=True):
            if isinstance(e, Dim):
                found.setdefault(e.name, n)
    sizes = bind_dims(kernel.dims, {**{d: dims[d] for d in dims}, **found})
    for p, v, shape in shapes:
        want = p.type.sizes(sizes)
        if want != shape:
            raise BindError(f"%{v.tensor} has shape {list(shape)}, but @{kernel.name} takes "
                            f"%{p.name} of shape {list(want)}")  # fmt: skip
    return sizes


def call_dims(program: Program, call: KernelCall, kernel: Kernel) -> dict[str, Expr]:
    """The kernel's dims in this call, as expressions over the program's dims.

    What ``bind_call`` computes for one set of sizes, for all of them.
    """
    tensors = {**program.tensors, **program.temps}
    found: dict[str, Expr] = {}
    for p, v in zip((*kernel.inputs, *kernel.outputs), (*call.args, *call.outs), strict=True):
        shape = tensors[v.tensor].shape[len(v.indices) :]
        for e, size in zip(p.type.shape, shape, strict=True):
            if isinstance(e, Dim):
                found.setdefault(e.name, size)
    same = {d.name: Dim(d.name) for d in program.dims}
    out: dict[str, Expr] = {}
    for d in kernel.dims:
        given = None if d.is_derived else found.get(d.name, same.get(d.name))
        out[d.name] = replace_dims(d.size, out) if given is None else given
    return out


def fixed_dims(program: Program, kernel: Kernel, dims: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the kernel's dims that are no argument of a run and the same in every call.

    A lowering may write these into its code; ``dims`` binds the program's dims.
    """
    varying = {d.name for d in program.dims if d.is_range}
    for d in program.dims:
        if d.is_derived and dims_of(d.size) & varying:
            varying.add(d.name)
    calls = [call_dims(program, c, kernel) for c in program.calls if c.kernel == kernel.name]
    out: dict[str, int] = {}
    for d in kernel.dims:
        if not any(dims_of(sizes[d.name]) & varying for sizes in calls):
            found = {evaluate_int(sizes[d.name], dims) for sizes in calls}
            if len(found) == 1:
                out[d.name] = found.pop()
    return out
