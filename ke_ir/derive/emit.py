"""From a group of nodes to a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ke_ir.derive.builder import Builder, Val
from ke_ir.derive.contraction import Contraction, DotProduct
from ke_ir.derive.groups import Group
from ke_ir.derive.node import Node, Scatter, hi_of
from ke_ir.derive.reductions import Accumulator, Nest, accumulator, runs_once, sum_span
from ke_ir.derive.scalar import int_dtype
from ke_ir.derive.scans import Prefixes
from ke_ir.derive.states import States
from ke_ir.derive.tiles import Plan
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, Ref, Var, substitute, variables, walk
from ke_ir.intervals import Interval
from ke_ir.ir import For, LoopVar, Parallel, Param, Yield, defined_names, statements
from ke_ir.ops import Accumulate, Store
from ke_ir.ops.base import Op, Stmt
from ke_ir.types import DType, TensorType


@dataclass(frozen=True)
class Context:
    """What all kernels of one op share: the dtype of its floats, its outputs, sizes of its dims.

    ``precision`` is that of products of f32, by equation; where none is said, ``ieee``.
    """

    real: DType
    outputs: Mapping[str, TensorType]
    spans: dict[str, Interval]
    precision: Mapping[str, str]


@dataclass
class Emitted:
    """The body of a kernel, the tensors it reads, and the dtypes of the values it can store."""

    parallel: Parallel
    reads: set[str]
    writes: dict[str, TensorType] = field(default_factory=dict)


class Emitter:
    """Emits one group with one plan: ``Emitter(...).run()``.

    ``tensors`` are the types of inputs and of the values that earlier kernels stored; ``stored``
    names the members whose values later kernels read, with the tensor each goes to.
    """

    def __init__(
        self,
        group: Group,
        plan: Plan,
        context: Context,
        tensors: Mapping[str, TensorType],
        stored: Mapping[str, str],
        contractions: Mapping[str, Contraction],
    ) -> None:
        self.group, self.plan, self.context = group, plan, context
        self.stored, self.contractions = stored, contractions
        reserved = {*tensors, *context.outputs, *stored.values()}
        self.b = Builder(reserved)
        self.nest = Nest(self.b, context.real, context.spans, tensors)
        self.nest.inner_loops = plan.inside
        self.names: dict[str, str] = {}
        self.writes: dict[str, TensorType] = {}

    def run(self) -> Emitted:
        vars_ = []
        for loop in self.plan.parallel:
            var, span = self.nest.declare(loop)
            self.b.enter(var, span)
            self.names[loop.name] = var.name
            vars_.append(var)
        if not vars_:
            vars_ = [LoopVar(self.b.fresh("one"), *_single())]
        if self.group.along is not None:
            self.scans()
            return self.emitted(vars_)
        for batch in batches(self.group, self.plan):
            if batch[0].is_reduction:
                self.reductions(batch)
            elif batch[0].scatter is not None:
                self.scatter(batch[0], batch[0].scatter)
            else:
                self.pointwise(batch)
        return self.emitted(vars_)

    def emitted(self, vars_: Sequence[LoopVar]) -> Emitted:
        body = without_dead(tuple(self.b.blocks[0]))
        return Emitted(Parallel(tuple(vars_), body, self.plan.grouped), self.nest.read, self.writes)

    def scans(self) -> None:
        """Scans or states in one loop, with what follows from them at each place; then the rest."""
        along = self.group.along
        assert along is not None
        nodes = [n for n in self.group.members if n.scan is not None or n.state is not None]
        inner = [n for n in self.group.members if along.name in n.index_names]
        others = [n for n in inner if n not in nodes]

        def inside(values: list[Val]) -> None:
            for n, v in zip(nodes, values, strict=True):
                self.nest.values[n.name] = v
                self.finish(n, v)
            for n in others:
                self.nest.values[n.name] = self.nest.value(n.expr)
                self.finish(n, self.nest.values[n.name])

        loops = self.plan.nests[nodes[0].name]
        carrier: type[States | Prefixes] = States if nodes[0].state is not None else Prefixes
        carried = carrier(self.nest, nodes, inside)
        self.nest.nest(loops, [carried], [nodes[0].name])
        for n in self.group.members:
            if isinstance(carried, States) and n.after:
                self.finish(n, carried.last(n.after))
            elif n not in inner:
                self.finish(n, self.nest.value(n.expr))

    def reductions(self, nodes: Sequence[Node]) -> None:
        """Reductions over equal ranges, in one nest of loops."""
        first = nodes[0]
        loops = self.plan.nests.get(first.name, [])
        accumulators: list[Accumulator] = []
        for n in nodes:
            assert isinstance(n.expr, Reduce)
            same = dict(zip(n.inner, first.inner, strict=True))
            e = with_ranges(n.expr, same)
            accumulators.append(self.accumulator(n, e, first))
        hints = [n.name if n.name not in self.context.outputs else "r" for n in nodes]
        for n, v in zip(nodes, self.nest.nest(loops, accumulators, hints), strict=True):
            self.finish(n, v)

    def accumulator(self, node: Node, e: Reduce, first: Node) -> Accumulator:
        if node.name in self.plan.dots:
            row, column = self.plan.dots[node.name]
            c = self.contractions[node.name]
            values = _values(node.inner, first.inner)
            c = Contraction(
                c.node, substitute(c.a, values), substitute(c.b, values), c.outer, c.rows,
                c.columns, c.terms,
            )  # fmt: skip
            precision = self.context.precision.get(c.node.origin, "ieee")
            return DotProduct(self.nest, c, self.names[row], self.names[column], precision)
        read = any(n.beside == node.name for n in self.group.members)
        return accumulator(self.nest, e, node.name if read else "")

    def pointwise(self, nodes: Sequence[Node]) -> None:
        first = nodes[0]
        extra = self.group.extra(first)
        if not extra:
            for n in nodes:
                self.finish(n, self.nest.value(n.expr))
            return
        loops = self.plan.nests[first.name]

        def level(i: int) -> list[Val]:
            if i == len(loops):
                for n in nodes:
                    renamed = n.renamed(_renaming(self.group.extra(n), extra))
                    self.finish(renamed, self.nest.value(renamed.expr))
                return []
            var, span = self.nest.declare(loops[i])
            return self.b.for_loop(var, span, [], lambda _: level(i + 1), (), loops[i].stages)

        level(0)

    def scatter(self, node: Node, s: Scatter) -> None:
        """Accumulate a member's values where they belong."""
        v = self.nest.value(node.expr)
        dtype = self.accumulated(node, s, v)
        out = self.context.outputs.get(node.name)
        direct = out is not None and out.dtype is dtype
        tensor = node.name if direct else self.stored[node.name]
        if not direct:
            self.writes[tensor] = TensorType(dtype, s.shape)
        coords, axes = self.nest.coordinates(self.live_places(node, s))
        v = self.b.cast(v, dtype)
        v = self.b.permuted(self.b.spread(v, self.b.ordered(axes)), axes)
        self.b.effect(Accumulate(s.kind, str(v.x), tensor, coords))

    def live_places(self, node: Node, s: Scatter) -> list[Expr]:
        """The places, -1 where a tile reaches past the terms: what is read there is made up."""
        loops = {n: p for p in self.plan.parallel for n in p.members}
        past: Expr | None = None
        for r in node.indices:
            tile, hi = loops[r.name].tile, hi_of(r)
            whole = tile is None or (isinstance(hi, Num) and int(hi.value) % tile == 0)
            if r.name in s.terms and not whole:
                c = Bin("<", Var(r.name), hi)
                past = c if past is None else Bin("and", past, c)
        if past is None:
            return list(s.places)
        at = next(k for k, p in enumerate(s.places) if not isinstance(p, Var))
        live = Call("select", (past, s.places[at], Num(-1)))
        return [live if k == at else p for k, p in enumerate(s.places)]

    def accumulated(self, node: Node, s: Scatter, v: Val) -> DType:
        """The dtype of a scatter: integers in i32 if no sum of them can leave it."""
        if v.dtype.is_float:
            return self.context.real
        if s.kind != "add":
            return int_dtype(v.span)
        count: int | None = 1
        for r in node.indices:
            if r.name in s.terms:
                n = self.nest.dim_span(hi_of(r)).hi
                count = None if n is None or count is None else count * n
        return int_dtype(sum_span(v.span, count))

    def finish(self, node: Node, v: Val) -> None:
        """Keep a member's value for those after it, and write it where it is wanted."""
        if not self.group.extra(node):
            self.nest.values[node.name] = v
        out = self.context.outputs.get(node.name)
        if out is not None:
            self.store(node, v, node.name, out.dtype)
        temp = self.stored.get(node.name)
        if temp is not None and (out is None or out.dtype is not v.dtype):
            shape = tuple(r.hi for r in node.indices if r.hi is not None)
            self.writes[temp] = TensorType(v.dtype, shape)
            self.store(node, v, temp, v.dtype)

    def store(self, node: Node, v: Val, tensor: str, dtype: DType) -> None:
        coords = tuple(self.nest.where[r.name] for r in node.indices)
        names = dict.fromkeys(n for c in coords for n in variables(c))
        axes = tuple(n for n in names if n in self.b.tiles)
        v = self.b.cast(v, dtype)
        if v.is_constant:
            v = self.b.spread(v, ())
        elif v.axes:
            v = self.b.permuted(self.b.spread(v, self.b.ordered(axes)), axes)
        self.b.effect(Store(str(v.x), tensor, coords))


def _single() -> tuple[Expr, Expr]:
    from ke_ir.expr import Num

    return Num(0), Num(1)


def _values(own: Sequence[Range], other: Sequence[Range]) -> dict[str, Expr]:
    from ke_ir.expr import Var

    return {a.name: Var(b.name) for a, b in zip(own, other, strict=True)}


def _renaming(own: Sequence[Range], other: Sequence[Range]) -> dict[str, str]:
    return {a.name: b.name for a, b in zip(own, other, strict=True)}


def with_ranges(e: Reduce, same: Mapping[Range, Range]) -> Reduce:
    """The reduction over other ranges of equal bounds."""
    values = _values(tuple(same), tuple(same.values()))
    return Reduce(e.kind, tuple(same.values()), substitute(e.body, values), loc=e.loc)


def batches(group: Group, plan: Plan) -> list[list[Node]]:
    """Members in order, those that can share loops together."""
    out: list[list[Node]] = []
    for n in group.members:
        reads = {r.tensor for r in walk(n.expr) if isinstance(r, Ref)}
        for batch in reversed(out):
            if n.beside in {m.name for m in batch} and _once(group, plan, batch[0], n):
                batch.append(n)
                break
            if _alike(group, plan, batch[0], n) and not any(m.name in reads for m in batch):
                batch.append(n)
                break
            if any(m.name in reads for m in batch):
                out.append([n])
                break
        else:
            out.append([n])
    return out


def _once(group: Group, plan: Plan, a: Node, b: Node) -> bool:
    """Whether one tile has all of two reductions, so that one can use the other's result."""
    return _alike(group, plan, a, b) and all(map(runs_once, plan.nests[b.name]))


def _alike(group: Group, plan: Plan, a: Node, b: Node) -> bool:
    if a.is_reduction != b.is_reduction:
        return False
    if not a.is_reduction:
        one, two = group.extra(a), group.extra(b)
        return [r.hi for r in one] == [r.hi for r in two] and bool(one)
    if "arg" in (a.expr.kind[:3], b.expr.kind[:3]):  # type: ignore[attr-defined]
        return False
    tiles = [[x.tile for x in plan.nests[n.name]] for n in (a, b)]
    same = (a.name in plan.dots) == (b.name in plan.dots) and tiles[0] == tiles[1]
    return same and [(r.lo, r.hi) for r in a.inner] == [(r.lo, r.hi) for r in b.inner]


def without_dead(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The block without values that nobody uses."""
    from ke_ir.derive.footprint import uses

    used: set[str] = set()

    def clean(block: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in reversed(block):
            names = defined_names(s)
            if names and is_pure(s) and not used.intersection(names):
                continue
            if isinstance(s, For):
                inside = clean(s.body)
                s = For(s.var, inside, s.carries, s.results, s.stages)
            used.update(uses(s))
            out.append(s)
        return tuple(reversed(out))

    return clean(body)


def is_pure(s: Stmt) -> bool:
    """True for statements that only give values."""
    if isinstance(s, For):
        return all(map(is_pure, s.body))
    return isinstance(s, Yield) or (isinstance(s, Op) and s.result is not None)


def parameters(
    e: Emitted, tensors: Mapping[str, TensorType], context: Context
) -> tuple[tuple[Param, ...], tuple[Param, ...]]:
    """Inputs and outputs of the kernel, in the order in which they are known."""
    ins = tuple(Param(n, t) for n, t in tensors.items() if n in e.reads)
    stored = {s.tensor for s in statements(e.parallel.body) if isinstance(s, Store | Accumulate)}
    outs = [Param(n, t) for n, t in context.outputs.items() if n in stored]
    return ins, (*outs, *(Param(n, t) for n, t in e.writes.items()))
