"""An op with recurrences as several ops without: what comes before, steps, and what comes after.

The steps are one op, called again and again with other parts of the tensors. The first step is that
op too, on a tensor of the values before it; where their ``else`` depends on more than the place of
an element, it is an op of its own. Values of all steps stay in memory, those of one step together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ke_ir.derive.kinds import kind
from ke_ir.derive.slices import sliced
from ke_ir.expr import Bin, Call, Expr, Neg, Num, Range, Reduce, Ref, Var, substitute, walk
from ke_ir.ir import Equation, OpDef, Param, View
from ke_ir.ranges import Bounds, EquationRanges, infer_ranges
from ke_ir.recurrence import Recurrence, elements
from ke_ir.types import DType, TensorType


@dataclass(frozen=True)
class Part:
    """An op without recurrences; ``views`` says which part of a tensor an argument is.

    Arguments that it does not name are whole tensors of their own name.
    """

    op: OpDef
    views: dict[str, View] = field(default_factory=dict)

    def view(self, name: str) -> View:
        return self.views.get(name, View(name))

    @property
    def reads(self) -> set[str]:
        return {self.view(p.name).tensor for p in self.op.inputs}

    @property
    def writes(self) -> set[str]:
        return {self.view(p.name).tensor for p in self.op.outputs}


@dataclass(frozen=True)
class Steps:
    """A part for the first step, and one for each value of ``var`` from 1 to ``count``.

    They are one op with other views where the values before the first step are a tensor too.
    """

    first: Part
    rest: Part
    var: str
    count: Expr

    @property
    def reads(self) -> set[str]:
        return self.first.reads | self.rest.reads

    @property
    def writes(self) -> set[str]:
        return self.first.writes


@dataclass(frozen=True)
class Split:
    """The parts in order, and the temporaries that hand values from one to another."""

    parts: tuple[Part | Steps, ...]
    temps: dict[str, TensorType]


@dataclass(frozen=True)
class _Kept:
    """Where the values of an equation are: in ``tensor``, the dimension ``place`` first."""

    tensor: str
    place: int = 0

    def indices(self, own: Sequence[Expr]) -> tuple[Expr, ...]:
        if not own:
            return ()
        rest = [i for k, i in enumerate(own) if k != self.place]
        return (own[self.place], *rest)


def split(
    op: OpDef, real: DType, stepped: Callable[[Recurrence], bool], peeled: bool = False
) -> Split:
    """The parts of a verified op; ``real`` is the dtype of its floats between kernels.

    Recurrences that are not to be ``stepped`` through stay in the parts' equations. ``peeled``:
    the first step is always an op of its own.
    """
    return _Splitter(op, real, stepped, peeled).run()


class _Splitter:
    def __init__(
        self, op: OpDef, real: DType, stepped: Callable[[Recurrence], bool], peeled: bool
    ) -> None:
        self.op, self.stepped, self.peeled = op, stepped, peeled
        self.found = infer_ranges(op)
        self.dtypes = {DType.F32: real, DType.I32: DType.I64, DType.I1: DType.I1}
        self.outputs = {p.name: p.type for p in op.outputs}
        self.tensors: dict[str, TensorType] = {p.name: p.type for p in op.inputs}
        self.taken = {p.name for p in (*op.inputs, *op.outputs)} | {d.name for d in op.dims}
        for er in self.found.equations:
            self.taken |= {er.equation.target, *er.ranges}
        self.step = self.fresh("step")
        self.kinds = self._kinds()
        self.kept: dict[str, _Kept] = {}
        self.counters: dict[Expr, str] = {}
        self.start_tensors: dict[tuple[Expr, tuple[Var, ...], TensorType], str] = {}
        self.pending: list[Equation] = []
        self.stages: list[list[Equation] | Steps] = []
        self.outside = {
            r.tensor
            for rec, ers in self.found.groups
            for er in ers for r in er.refs
            if rec is None or r.tensor not in rec.targets
        }  # fmt: skip

    def run(self) -> Split:
        for rec, ers in self.found.groups:
            if rec is None or not self.stepped(rec):
                self.plain(ers)
            else:
                self.recurrence(rec, ers)
        self.stages.append(self.pending)
        parts: list[Part | Steps] = []
        needed: set[str] = set()
        for stage in reversed(self.stages):
            part = stage if isinstance(stage, Steps) else self.part(stage, needed)
            if part is not None:
                parts.append(part)
                needed |= part.reads
        handed = needed.union(*(p.writes for p in parts)) - set(self.op.tensors)
        temps = {n: t for n, t in self.tensors.items() if n in handed}
        return Split(tuple(reversed(parts)), temps)

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _kinds(self) -> dict[str, DType]:
        """F32, I32 or I1 for every tensor. A recurrence's kinds only widen from its `else`."""
        known = {n: kind(Ref(n, ()), {n: t.dtype}) for n, t in self.tensors.items()}
        for rec, ers in self.found.groups:
            for _ in range(1 if rec is None else 2 * len(ers)):
                for er in ers:
                    known[er.equation.target] = kind(er.equation.rhs, known)
        return known

    def counter(self, count: Expr) -> str:
        """A tensor of the numbers of so many steps."""
        if count not in self.counters:
            self.counters[count] = name = self.fresh("steps")
            index = self.fresh("i")
            self.tensors[name] = TensorType(DType.I32, (count,))
            self.pending.append(Equation(name, (Range(index, Num(0), count),), Var(index)))
        return self.counters[count]

    # Equations without a recurrence

    def plain(self, ers: Sequence[EquationRanges]) -> None:
        """Equations; what others read of an output is kept as it is computed, not rounded."""
        copies: list[Equation] = []
        for er in ers:
            target, out = er.equation.target, self.outputs.get(er.equation.target)
            shape = self.found.shapes[target]
            if out is None:
                self.stored(target, shape, target)
            elif target not in self.outside or out.dtype is self.dtypes[self.kinds[target]]:
                self.tensors[target] = out
            else:
                value = self.fresh(f"{target}_value")
                self.stored(value, shape, target)
                self.kept[target] = _Kept(value)
                ranges = tuple(Range(n, Num(0), er.ranges[n][1]) for n in er.outer)
                copies.append(Equation(target, ranges, Ref(value, tuple(map(Var, er.outer)))))
        for er in ers:
            eq = self.spelled(er)
            at = self.kept.get(eq.target)
            self.pending.append(eq if at is None else replace(eq, target=at.tensor))
        self.pending += copies

    def spelled(self, er: EquationRanges) -> Equation:
        """An equation with all ranges written out, that reads values where they are kept."""
        eq = er.equation
        ranges = tuple(Range(n, Num(0), er.ranges[n][1]) for n in er.outer)
        return Equation(eq.target, ranges, self.moved(with_ranges(eq.rhs, er)), loc=eq.loc)

    def moved(self, e: Expr) -> Expr:
        e = mapped(e, self.moved)
        if isinstance(e, Ref) and e.tensor in self.kept:
            at = self.kept[e.tensor]
            return replace(e, tensor=at.tensor, indices=at.indices(e.indices))
        return e

    def stored(self, name: str, shape: tuple[Expr, ...], like: str) -> None:
        """A tensor for values of the kind of ``like``."""
        self.tensors[name] = TensorType(self.dtypes[self.kinds[like]], shape)

    def part(self, equations: list[Equation], needed: set[str]) -> Part | None:
        """The op of some equations, of which later parts need these tensors."""
        targets = [e.target for e in equations]
        outputs = {
            n: self.outputs.get(n) or self.tensors[n]
            for n in targets if n in self.outputs or n in needed
        }  # fmt: skip
        return Part(self.new_op(self.op.name, equations, outputs)) if outputs else None

    def new_op(
        self, name: str, equations: Sequence[Equation], outputs: dict[str, TensorType]
    ) -> OpDef:
        targets = {e.target for e in equations}
        read = dict.fromkeys(r.tensor for e in equations for r in elements(e))
        inputs = tuple(Param(n, self.tensors[n]) for n in read if n not in targets)
        made = tuple(Param(n, t) for n, t in outputs.items())
        return OpDef(name, inputs, made, self.op.dims, tuple(equations), loc=self.op.loc)

    # Recurrences

    def recurrence(self, rec: Recurrence, ers: Sequence[EquationRanges]) -> None:
        """The steps, after all that they read; then copies of what is wanted otherwise."""
        bodies = {er.equation.target: self.given(rec, er) for er in ers}
        copies = [c for er in ers if (c := self.keep(rec, er)) is not None]
        steps = _StepMaker(self, rec, ers, bodies).steps()
        self.stages += [self.pending, steps]
        self.pending = copies

    def given(self, rec: Recurrence, er: EquationRanges) -> Expr:
        """The right side, with reductions that need no earlier step made before all steps."""

        def go(e: Expr) -> Expr:
            nodes = list(walk(e))
            if any(isinstance(n, Ref) and n.tensor in rec.targets for n in nodes):
                return e if isinstance(e, Ref | Reduce) else mapped(e, go)
            return self.before(rec, er, e) if any(isinstance(n, Reduce) for n in nodes) else e

        return go(self.spelled(er).rhs)

    def before(self, rec: Recurrence, er: EquationRanges, e: Expr) -> Expr:
        used = {n.name for n in walk(e) if isinstance(n, Var)}
        names = sorted((n for n in er.outer if n in used), key=lambda n: n != rec.index)
        name = self.fresh(f"{er.equation.target}_given")
        ranges = tuple(Range(n, Num(0), er.ranges[n][1]) for n in names)
        self.kinds[name] = kind(e, self.kinds)
        self.stored(name, tuple(er.ranges[n][1] for n in names), name)
        self.pending.append(Equation(name, ranges, e))
        return Ref(name, tuple(Var(n) for n in names))

    def keep(self, rec: Recurrence, er: EquationRanges) -> Equation | None:
        """Decide where an equation's values are kept; the copy to make of them, if any."""
        target = er.equation.target
        asked = any(
            r.tensor == target and rec.is_earlier(r) for e in rec.equations for r in elements(e)
        )
        if not asked and target not in self.outside and target not in self.outputs:
            return None
        at = _Kept(target, rec.place(target))
        shape = at.indices(self.found.shapes[target])
        out = self.outputs.get(target)
        if out is not None and (at.place or out.dtype is not self.dtypes[self.kinds[target]]):
            at = replace(at, tensor=self.fresh(f"{target}_steps"))
        self.kept[target] = at
        self.stored(at.tensor, shape, target)
        if out is None or at.tensor == target:
            return None
        ranges = tuple(Range(n, Num(0), er.ranges[n][1]) for n in er.outer)
        left = tuple(Var(n) for n in er.outer)
        return Equation(target, ranges, Ref(at.tensor, at.indices(left)))


class _StepMaker:
    """The ops of one recurrence's steps. ``bodies`` are the right sides of its equations."""

    def __init__(
        self, s: _Splitter, rec: Recurrence, ers: Sequence[EquationRanges], bodies: dict[str, Expr]
    ) -> None:
        self.s, self.rec, self.ers, self.bodies = s, rec, ers, bodies
        target = ers[0].equation.target
        self.count = s.found.shapes[target][rec.place(target)]
        self.names: dict[tuple[str, Expr], str] = {}
        self.views: dict[str, View] = {}
        self.ranges: Mapping[str, Bounds] = {}  # of the equation at hand
        self.now: Expr = Num(0)
        self.before: Expr | None = None

    def steps(self) -> Steps:
        last = minus(self.count, 1)
        back = self.rec.step < 0
        begin: Expr = last if back else Num(0)
        at: Expr = Var(self.s.step)
        now = Bin("-", last, at) if back else at
        before = Bin("-", self.count, at) if back else Bin("-", at, Num(1))
        starts = None if self.s.peeled else self.starts(begin)
        if starts is None:
            first = self.one("first", begin, None)
            return Steps(first, self.one("step", now, before), self.s.step, self.count)
        rest = self.one("step", now, before)
        views = {
            name: starts[v.tensor] if v.indices == (before,) else View(v.tensor, (begin,))
            for name, v in rest.views.items()
        }
        return Steps(Part(rest.op, views), rest, self.s.step, self.count)

    def starts(self, begin: Expr) -> dict[str, View] | None:
        """The values before the first step, by the tensor of those of the steps.

        None if an element before the first step is no matter of its place alone.
        """
        found: dict[str, Expr] = {}
        for er in self.ers:
            self.ranges = er.ranges
            for ref in walk(self.bodies[er.equation.target]):
                if isinstance(ref, Ref) and ref.tensor in self.rec.targets:
                    if not self.rec.is_earlier(ref):
                        continue
                    value = self.start(ref, begin)
                    if value is None or found.setdefault(ref.tensor, value) != value:
                        return None
        return {self.s.kept[n].tensor: self.start_view(n, e) for n, e in found.items()}

    def start(self, ref: Ref, begin: Expr) -> Expr | None:
        """What ``else`` says of an element, by the indices with which its equation defines it."""
        place = self.rec.place(ref.tensor)
        rest = [i for k, i in enumerate(ref.indices) if k != place]
        names = [i.name for i in rest if isinstance(i, Var)]
        own = self.own_indices(ref.tensor)
        shape = self.s.tensors[self.s.kept[ref.tensor].tensor].shape[1:]
        if len(set(names)) != len(own) or not self.inside(rest, shape) or ref.fill is None:
            return None
        inside = list(walk(ref.fill))
        used = {n.name for n in inside if isinstance(n, Var)}
        bound = {r.name for n in inside if isinstance(n, Reduce) for r in n.ranges}
        known = {*names, self.rec.index} | bound
        again = any(isinstance(n, Ref) and n.tensor in self.rec.targets for n in inside)
        if again or bound & {*names, *own} or not used <= known:
            return None
        values: dict[str, Expr] = {a: Var(b) for a, b in zip(names, own, strict=True)}
        return substitute(ref.fill, {**values, self.rec.index: begin})

    def start_view(self, target: str, value: Expr) -> View:
        """A tensor of the values before the first step: one that is there, or a new one."""
        own = tuple(Var(n) for n in self.own_indices(target))
        t = self.s.tensors[self.s.kept[target].tensor]
        t = TensorType(t.dtype, t.shape[1:])
        whole = isinstance(value, Ref) and value.indices == own and value.fill is None
        if isinstance(value, Ref) and whole and self.s.tensors[value.tensor] == t:
            return View(value.tensor)
        key = value, own, t
        if key not in self.s.start_tensors:
            self.s.start_tensors[key] = name = self.s.fresh(f"{target}_start")
            self.s.tensors[name] = t
            ranges = tuple(Range(v.name, Num(0), n) for v, n in zip(own, t.shape, strict=True))
            self.s.pending.append(Equation(name, ranges, value))
        return View(self.s.start_tensors[key])

    def own_indices(self, target: str) -> list[str]:
        """The indices on the left of a target's equation, without the steps'."""
        (er,) = (er for er in self.ers if er.equation.target == target)
        return [n for n in er.outer if n != self.rec.index]

    def one(self, what: str, now: Expr, before: Expr | None) -> Part:
        """The op of one step: the place of it, and that of the step before, if there is one."""
        self.now, self.before = now, before
        self.names, self.views = {}, {}
        equations = []
        outputs: dict[str, TensorType] = {}
        for er in self.ers:
            target, self.ranges = er.equation.target, er.ranges
            ranges = tuple(
                Range(n, Num(0), er.ranges[n][1]) for n in er.outer if n != self.rec.index
            )
            equations.append(Equation(target, ranges, self.expr(self.bodies[target])))
            if target in self.s.kept:
                kept = self.s.kept[target].tensor
                t = self.s.tensors[kept]
                outputs[target] = TensorType(t.dtype, t.shape[1:])
                self.views[target] = View(kept, (now,))
        equations = sliced(equations, outputs, self.s.op.sizes(), self.s.fresh)
        op = self.s.new_op(f"{self.s.op.name}_{what}", equations, outputs)
        return Part(op, dict(self.views))

    def expr(self, e: Expr) -> Expr:
        """An expression at the step at hand."""
        if isinstance(e, Var) and e.name == self.rec.index:
            return self.number()
        if not isinstance(e, Ref):
            return mapped(e, self.expr)
        if e.tensor in self.rec.targets:
            place = self.rec.place(e.tensor)
            rest = tuple(i for k, i in enumerate(e.indices) if k != place)
            if not self.rec.is_earlier(e):
                return mapped(replace(e, indices=rest), self.expr)
            if self.before is None:
                assert e.fill is not None
                return self.expr(e.fill)
            return self.part(self.s.kept[e.tensor].tensor, self.before, rest, e.fill)
        now = Var(self.rec.index)
        once = e.indices[:1] == (now,) and not any(v == now for i in e.indices[1:] for v in walk(i))
        if once and (e.fill is None or self.s.tensors[e.tensor].shape[0] == self.count):
            return self.part(e.tensor, self.now, e.indices[1:], e.fill)
        return mapped(e, self.expr)

    def number(self) -> Expr:
        """The number of the step, which kernels of later steps read from a tensor."""
        if self.before is None:
            return self.now
        return self.part(self.s.counter(self.count), self.now, (), None)

    def part(self, tensor: str, at: Expr, rest: tuple[Expr, ...], fill: Expr | None) -> Ref:
        """An element of the part of a tensor that belongs to one step."""
        key = tensor, at
        if key not in self.names:
            name = self.s.fresh(f"{tensor}_{'now' if at == self.now else 'before'}")
            t = self.s.tensors[tensor]
            self.s.tensors[name] = TensorType(t.dtype, t.shape[1:])
            self.names[key], self.views[name] = name, View(tensor, (at,))
        shape = self.s.tensors[tensor].shape[1:]
        indices = tuple(self.expr(i) for i in rest)
        if fill is None or self.inside(rest, shape):
            return Ref(self.names[key], indices)
        return Ref(self.names[key], indices, self.expr(fill))

    def inside(self, indices: Sequence[Expr], shape: Sequence[Expr]) -> bool:
        """True if each subscript is an index that runs over just that dimension."""
        return all(
            isinstance(i, Var) and self.ranges.get(i.name) == (Num(0), n)
            for i, n in zip(indices, shape, strict=True)
        )


def mapped(e: Expr, fn: Callable[[Expr], Expr]) -> Expr:
    """``e`` with ``fn`` of each direct subexpression in its place."""
    match e:
        case Bin(_, lhs, rhs):
            return replace(e, lhs=fn(lhs), rhs=fn(rhs))
        case Neg(arg):
            return replace(e, arg=fn(arg))
        case Call(_, args):
            return replace(e, args=tuple(map(fn, args)))
        case Ref(_, indices, fill):
            return replace(
                e, indices=tuple(map(fn, indices)), fill=None if fill is None else fn(fill)
            )
        case Reduce(_, ranges, body):
            return replace(e, ranges=tuple(_mapped_ranges(ranges, fn)), body=fn(body))
    return e


def _mapped_ranges(ranges: Iterable[Range], fn: Callable[[Expr], Expr]) -> Iterable[Range]:
    for r in ranges:
        yield replace(
            r, lo=None if r.lo is None else fn(r.lo), hi=None if r.hi is None else fn(r.hi)
        )


def with_ranges(e: Expr, er: EquationRanges) -> Expr:
    """An expression of an equation with the ranges of its reductions written out."""
    if isinstance(e, Reduce):
        ranges = []
        for r in e.ranges:
            lo, hi = er.ranges[r.name]
            ranges.append(replace(r, lo=lo, hi=hi))
        e = replace(e, ranges=tuple(ranges))
    return mapped(e, lambda x: with_ranges(x, er))


def minus(e: Expr, n: int) -> Expr:
    return Num(e.value - n) if isinstance(e, Num) else Bin("-", e, Num(n))
