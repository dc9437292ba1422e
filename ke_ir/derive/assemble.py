"""Derivation as a whole: op -> nodes -> groups -> kernels -> program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ke_ir.derive.contraction import Contraction, recognise
from ke_ir.derive.emit import Context, Emitted, Emitter, parameters
from ke_ir.derive.footprint import peak_bytes
from ke_ir.derive.groups import Group, form_groups
from ke_ir.derive.moments import in_one_pass
from ke_ir.derive.node import Node, before, chunk_size, hi_of, lo_of, references, unclipped
from ke_ir.derive.normal import Normalizer
from ke_ir.derive.recurrent import Part, split
from ke_ir.derive.scans import as_scan
from ke_ir.derive.scatter import as_scatter
from ke_ir.derive.split import split_large
from ke_ir.derive.tiles import ELEMENTS, Tiler
from ke_ir.expr import Bin, Dim, Expr, Num, Range, Ref, evaluate_int, rewrite, walk
from ke_ir.intervals import Interval
from ke_ir.ir import (
    Item,
    Kernel,
    KernelCall,
    Module,
    OpDef,
    Param,
    Program,
    ProgramStmt,
    Repeat,
    Temp,
    View,
)
from ke_ir.ranges import infer_ranges
from ke_ir.recurrence import Recurrence, is_elementwise, recurrences
from ke_ir.types import DType, TensorType
from ke_ir.verify import check

LOCAL_BYTES = 100 << 10
"""Bytes of live tiles that any target's local memory holds beside its own buffers."""


def derive(
    op: OpDef, module: Module | None = None, precision: Mapping[str, str] | None = None
) -> tuple[Kernel | Program, ...]:
    """Kernels, and a program where there are several, that compute ``op``.

    The entry has the op's name, arguments and dims; names of the others begin with it. ``module``
    is the module to which they will be added: its names are avoided, and its source shows where
    an op is wrong. ``precision`` is that of products of f32 (as ``dot`` has it), by equation; it is
    ``ieee`` where none is said. Raises IRError if the op does not verify.
    """
    source = (module.source, module.file) if module is not None else ("", "")
    check(Module((op,), *source))
    taken = set() if module is None else {
        i.name for i in module.items if isinstance(i, Kernel | Program)
    }  # fmt: skip
    if any(not is_carried(op, r) for r in recurrences(op)):
        return _with_steps(op, taken, precision or {})
    return _Derivation(op, taken, precision or {}).run()


def with_derived(module: Module, precision: Mapping[str, str] | None = None) -> Module:
    """The module with a derivation for each op that has no kernel or program of its name.

    ``precision``: as for ``derive``.
    """
    have = {i.name for i in module.items if isinstance(i, Kernel | Program)}
    items: list[Item] = list(module.items)
    for op in module.ops.values():
        if op.name not in have:
            made = derive(op, replace(module, items=tuple(items)), precision)
            items += made
    return replace(module, items=tuple(items))


def _with_steps(
    op: OpDef, taken: set[str], precision: Mapping[str, str]
) -> tuple[Kernel | Program, ...]:
    """Kernels and a program that goes through the steps of the op's recurrences."""
    made = split(op, real_dtype(op), lambda r: not is_carried(op, r))
    taken = taken | {op.name}
    kernels: list[Kernel] = []
    temps = dict(made.temps)

    done: dict[int, tuple[Program, dict[str, View]]] = {}

    def derived(part: OpDef) -> tuple[Program, dict[str, View]]:
        """The program of a part, and its own temporaries among those of the whole."""
        if id(part) not in done:
            *own, program = _Derivation(part, taken, _of_slices(part, precision)).as_program()
            kernels.extend(k for k in own if isinstance(k, Kernel))
            assert isinstance(program, Program)
            views: dict[str, View] = {}
            for name, t in program.temps.items():
                unique = name
                while unique in temps or unique in op.tensors:
                    unique += "_"
                temps[unique] = t
                views[name] = View(unique)
            done[id(part)] = program, views
        return done[id(part)]

    def calls(part: Part) -> tuple[KernelCall, ...]:
        program, inner = derived(part.op)
        views = {p.name: part.view(p.name) for p in (*part.op.inputs, *part.op.outputs)} | inner
        return tuple(
            KernelCall(
                c.kernel,
                tuple(views[v.tensor] for v in c.args),
                tuple(views[v.tensor] for v in c.outs),
            )
            for c in program.calls
        )

    body: list[ProgramStmt] = []
    for part in made.parts:
        if isinstance(part, Part):
            body += calls(part)
            continue
        body += calls(part.first)
        if part.count != Num(1):
            body.append(Repeat(part.var, Num(1), part.count, calls(part.rest)))
    whole = (*(Temp(n, t) for n, t in temps.items()), *body)
    return (*kernels, Program(op.name, op.inputs, op.outputs, op.dims, whole))


def _of_slices(part: OpDef, precision: Mapping[str, str]) -> dict[str, str]:
    """The precision of each equation of a part; a slice of one has a number after its name."""
    out = dict(precision)
    for e in part.equations:
        name, _, number = e.target.rpartition("_")
        if e.target not in out and number.isdigit() and name in out:
            out[e.target] = out[name]
    return out


def is_carried(op: OpDef, r: Recurrence) -> bool:
    """True if one kernel goes through all steps of a recurrence, with the values at hand."""
    return is_elementwise(r, infer_ranges(op).shapes)


def real_dtype(op: OpDef) -> DType:
    """The dtype in which an op's floats are computed."""
    return DType.F64 if any(t.dtype is DType.F64 for t in op.tensors.values()) else DType.F32


class _Derivation:
    def __init__(self, op: OpDef, taken: set[str], precision: Mapping[str, str]) -> None:
        self.op, self.taken = op, taken
        self.sizes = op.sizes()
        outputs = {p.name: p.type for p in op.outputs}
        self.context = Context(real_dtype(op), outputs, dim_spans(op), precision)
        self.tensors: dict[str, TensorType] = {p.name: p.type for p in op.inputs}
        self.temps: list[str] = []
        self.moved: dict[str, str] = {}

    def run(self) -> tuple[Kernel | Program, ...]:
        """One kernel if that is enough, else kernels and a program."""
        emitted = self.emitted()
        if len(emitted) == 1:
            body = (emitted[0][1].parallel,)
            op = self.op
            return (Kernel(op.name, op.inputs, op.outputs, op.dims, body),)
        return self.program(emitted)

    def as_program(self) -> tuple[Kernel | Program, ...]:
        """Kernels and a program, also of one kernel only."""
        return self.program(self.emitted())

    def emitted(self) -> list[tuple[Group, Emitted]]:
        nodes = [as_scan(n) for n in Normalizer(self.op).nodes()]
        kinds = node_kinds(nodes, self.tensors)
        if scattered := self.scattered(nodes, kinds):
            nodes = [made for n in nodes for made in scattered.get(n.name, [n])]
            kinds = node_kinds(nodes, self.tensors)
        once = in_one_pass(nodes, self.extent, ELEMENTS * 4 // self.context.real.bytes)
        rest = [n for n in nodes if n.name not in once]
        once |= split_large(rest, self.extent, self.contractions(rest, kinds))
        nodes = [made for n in nodes for made in once.get(n.name, [n])]
        kinds = node_kinds(nodes, self.tensors)
        nodes = with_state_types(nodes, kinds, self.context.real)
        groups = form_groups(nodes, self.extent, self.contractions(nodes, kinds))
        emitted: list[tuple[Group, Emitted]] = []
        last = {r.tensor: i for i, g in enumerate(groups) for n in g.members for r in references(n)}
        for i, g in enumerate(groups):
            later = {name for name in g.names if last.get(name, i) > i}
            g = self.with_temporaries(g)
            stored = {n: self.temp_name(n) for n in sorted(later)}
            emitted.append((g, self.emit(g, stored, self.contractions(g.members, kinds))))
            self.record(emitted[-1][1], stored)
        return emitted

    def scattered(self, nodes: Sequence[Node], kinds: Mapping[str, DType]) -> dict[str, list[Node]]:
        """What to put in place of reductions whose terms data assign to elements, by name."""
        made: dict[str, list[Node]] = {}
        for n in nodes:
            out, is_float = self.context.outputs.get(n.name), kinds[n.name].is_float
            # Integers are accumulated in a width of their own.
            direct = out is None or (is_float and out.dtype is self.context.real)
            found = as_scatter(n, self.extent, is_float, direct)
            if found is not None:
                made[n.name] = found
        return made

    def extent(self, r: Range) -> int | None:
        """Size of a range at the default sizes; None if it depends on data or other indices."""
        lo, hi = lo_of(r), hi_of(r)
        hi = unclipped(hi) if isinstance(lo, Bin) else hi
        size = chunk_size(lo, hi)
        if size is not None:
            return size
        try:
            return evaluate_int(hi, self.sizes) - evaluate_int(lo, self.sizes)
        except (KeyError, ValueError):
            return None

    def contractions(
        self, nodes: Sequence[Node], kinds: Mapping[str, DType]
    ) -> dict[str, Contraction]:
        """Nodes for a matrix unit, by name."""
        found = {n.name: recognise(n, self.extent) for n in nodes}
        return {
            n: c for n, c in found.items()
            if c is not None and (kinds[n].is_float or self.fits_int_dot(c))
        }  # fmt: skip

    def fits_int_dot(self, c: Contraction) -> bool:
        """True for plain 8-bit operands of one dtype whose sum stays within i32."""
        types = [self.tensors.get(e.tensor) if isinstance(e, Ref) else None for e in (c.a, c.b)]
        kinds = [None if t is None else t.dtype for t in types]
        bound = {DType.I8: 1 << 14, DType.U8: 1 << 16}.get(kinds[0] or DType.F32)
        if bound is None or kinds[0] is not kinds[1]:
            return False
        for r in c.node.inner:
            n = self.largest(r)
            if n is None:
                return False
            bound *= n
        return bound < 1 << 31

    def largest(self, r: Range) -> int | None:
        """The most indices that a range may have at any size of the dims."""
        sizes = {n: s.hi for n, s in self.context.spans.items() if s.hi is not None}
        try:
            return evaluate_int(hi_of(r), sizes)
        except (KeyError, ValueError):
            return None

    def with_temporaries(self, g: Group) -> Group:
        """The group reading nodes of earlier kernels from where they were stored."""

        def move(e: Expr) -> Expr | None:
            if isinstance(e, Ref) and e.tensor in self.moved:
                return replace(e, tensor=self.moved[e.tensor])
            return None

        return replace(g, members=[n.rewritten(move) for n in g.members])

    def temp_name(self, node: str) -> str:
        """The name of the temporary for a node's value; outputs keep theirs for themselves."""
        name = f"{node}_value" if node in self.context.outputs else node
        while name in self.tensors or name in self.op.tensors:
            name += "_"
        return name

    def record(self, e: Emitted, stored: Mapping[str, str]) -> None:
        """Make what a kernel wrote known to those after it."""
        for node, temp in stored.items():
            if temp in e.writes:
                self.tensors[temp] = e.writes[temp]
                self.temps.append(temp)
            else:
                temp = node
                self.tensors[node] = self.context.outputs[node]
            if temp != node:
                self.moved[node] = temp

    def emit(
        self, g: Group, stored: Mapping[str, str], contractions: Mapping[str, Contraction]
    ) -> Emitted:
        """The group with the largest tiles that fit; with the smallest if none do."""
        written = {*stored, *self.context.outputs}
        tiler = Tiler(g, self.tensors, self.extent, self.sizes, contractions, written)
        best: Emitted | None = None
        level = 0
        while (plan := tiler.plan(level)) is not None:
            best = Emitter(g, plan, self.context, self.tensors, stored, contractions).run()
            if peak_bytes(self.kernel("", best)) <= LOCAL_BYTES:
                break
            level += 1
        assert best is not None
        return best

    def kernel(self, name: str, e: Emitted) -> Kernel:
        ins, outs = parameters(e, self.tensors, self.context)
        return Kernel(name, ins, outs, self.op.dims, (e.parallel,))

    def program(self, emitted: Sequence[tuple[Group, Emitted]]) -> tuple[Kernel | Program, ...]:
        kernels: list[Kernel] = []
        body: list[ProgramStmt] = [Temp(t, self.tensors[t]) for t in self.temps]
        for g, e in emitted:
            k = self.kernel(self.kernel_name(g), e)
            kernels.append(k)
            body.append(KernelCall(k.name, _views(k.inputs), _views(k.outputs)))
        op = self.op
        entry = Program(op.name, op.inputs, op.outputs, op.dims, tuple(body))
        return (*kernels, entry)

    def kernel_name(self, g: Group) -> str:
        name = f"{self.op.name}_{g.members[-1].name}"
        while name in self.taken or name == self.op.name:
            name += "_"
        self.taken.add(name)
        return name


def _views(ps: Sequence[Param]) -> tuple[View, ...]:
    return tuple(View(p.name) for p in ps)


def dim_spans(op: OpDef) -> dict[str, Interval]:
    """Sizes that each dim may have."""
    from ke_ir.intervals import interval

    out: dict[str, Interval] = {}
    for d in op.dims:
        if d.is_range:
            out[d.name] = Interval(d.low, d.high)
            continue
        names = {n.name for n in walk(d.size) if isinstance(n, Dim)}
        variable = rewrite(d.size, _dim_as_var)
        out[d.name] = interval(variable, {}, {n: out[n] for n in names})
    return out


def _dim_as_var(e: Expr) -> Expr | None:
    from ke_ir.expr import Var

    return Var(e.name) if isinstance(e, Dim) else None


def node_kinds(nodes: Sequence[Node], tensors: Mapping[str, TensorType]) -> dict[str, DType]:
    """F32, I32 or I1 for each node: whether it is a float, an integer or a condition."""
    from ke_ir.derive.kinds import kind

    known = {n: kind(Ref(n, ()), {n: t.dtype}) for n, t in tensors.items()}
    states = {before(n.name): n.state.start for n in nodes if n.state and n.state.start}
    for _ in range(len(states) + 1):  # from what it starts with, a state's kind only widens
        for n in nodes:
            for name, start in states.items():
                if name not in known and {r.tensor for r in references(n)} & {name}:
                    known[name] = kind(start, known)
            known[n.name] = kind(n.expr, known)
        for n in nodes:
            if before(n.name) in known:
                known[before(n.name)] = known[n.name]
    return {n.name: known[n.name] for n in nodes}


def with_state_types(nodes: Sequence[Node], kinds: Mapping[str, DType], real: DType) -> list[Node]:
    """The nodes, with the dtypes in which states are carried."""
    dtypes = {DType.F32: real, DType.I32: DType.I64, DType.I1: DType.I1}
    return [
        n if n.state is None else replace(n, state=replace(n.state, dtype=dtypes[kinds[n.name]]))
        for n in nodes
    ]
