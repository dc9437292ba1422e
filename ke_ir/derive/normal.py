"""An op as a list of nodes: each a single reduction or a pointwise expression.

Every index gets a name of its own in the op (``d'1``, ``d'2``: what stands before the quote is
shown). Pointwise intermediates are written into their uses; every reduction becomes a node, except
those inside a reduction whose range depends on data, which stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ke_ir.derive.inlining import is_costly, is_large, read_repeatedly, read_through_windows
from ke_ir.derive.node import Node, State, before, free_indices, hi_of, is_dense, lo_of, references
from ke_ir.expr import (
    Bin,
    Call,
    Expr,
    Neg,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    rewrite,
    show,
    substitute,
    walk,
)
from ke_ir.ir import OpDef
from ke_ir.ranges import EquationRanges, infer_ranges
from ke_ir.recurrence import Recurrence, elements


class Normalizer:
    """Makes the nodes of one op; use once: ``Normalizer(op).nodes()``."""

    def __init__(self, op: OpDef) -> None:
        self.op = op
        self.outputs = {p.name for p in op.outputs}
        self.taken = {p.name for p in (*op.inputs, *op.outputs)} | {e.target for e in op.equations}
        self.count = 0
        self.done: list[Node] = []
        self.by_name: dict[str, Node] = {}
        self.inlined: dict[str, Node] = {}
        self.same: dict[str, Node] = {}
        self.last: dict[str, tuple[str, int]] = {}
        self.behind: dict[str, set[str]] = {}
        self.repeated = read_repeatedly(op)
        self.windowed = read_through_windows(op)

    def nodes(self) -> list[Node]:
        """In an order in which each comes after what it uses; those nobody uses are left out."""
        for recurrence, equations in infer_ranges(self.op).groups:
            if recurrence is None:
                self.equation(equations[0])
            else:
                self.carried(recurrence, equations)
        used = set(self.outputs)
        kept: list[Node] = []
        for n in reversed(self.done):
            if n.name in used or (n.state is not None and used & n.state.together):
                kept.append(n)
                used |= {r.tensor for r in references(n)}
        return kept[::-1]

    def unique(self, name: str) -> str:
        self.count += 1
        return f"{name.split(chr(39))[0]}'{self.count}"

    def equation(self, eq: EquationRanges) -> None:
        target = eq.equation.target
        names = {n: self.unique(n) for n in eq.outer}
        values: dict[str, Expr] = {a: Var(b) for a, b in names.items()}
        indices = tuple(
            Range(names[n], Num(0), substitute(eq.ranges[n][1], values)) for n in eq.outer
        )
        rhs = self.alpha(eq.equation.rhs, values, eq)
        rhs = self.inline(rhs)
        context = {r.name: r for r in indices}
        rhs = self.extract(rhs, context, target)
        node = Node(target, indices, rhs, origin=target)
        if isinstance(rhs, Reduce) and set(free_indices(rhs)) != set(node.index_names):
            node = replace(node, expr=self.as_node(rhs, context, target))
        again = target in self.repeated
        costly = target in self.windowed and is_costly(node.expr)
        if node.is_reduction or self.is_epilogue(node) or costly or is_large(node.expr, again):
            self.add(node)
            return
        self.inlined[target] = node
        if target in self.outputs:
            self.add(node)

    def carried(self, r: Recurrence, equations: Sequence[EquationRanges]) -> None:
        """An elementwise recurrence: nodes with a state, one after the other."""
        made: list[Node] = []
        for eq in equations:
            target = eq.equation.target
            names = {n: self.unique(n) for n in eq.outer}
            values: dict[str, Expr] = {a: Var(b) for a, b in names.items()}
            indices = tuple(Range(names[n], Num(0), eq.ranges[n][1]) for n in eq.outer)
            context = {i.name: i for i in indices}
            first: Expr = Num(0) if r.step > 0 else Bin("-", eq.ranges[r.index][1], Num(1))
            start = None
            for e in elements_before(r, target):
                start = self.alpha(e, {**values, r.index: first}, eq)
                start = self.extract(self.inline(start), context, target, False)
            rhs = self.inline(self.alpha(_with_states(eq.equation.rhs, r), values, eq))
            rhs = self.extract(rhs, context, target, False)
            state = State(names[r.index], r.step < 0, start, r.targets)
            made.append(Node(target, indices, rhs, state=state, origin=target))
        for node in made:
            self.add(node)
        for node in made:
            if node.state is not None and node.state.start is not None:
                self.ended(node, r)

    def ended(self, node: Node, r: Recurrence) -> None:
        """A node for what a recurrence comes to, if nobody asks for an earlier step of it."""
        place = r.place(node.name)
        steps = hi_of(node.indices[place])
        if not isinstance(steps, Num):
            return
        end = Num(steps.value - 1 if r.step > 0 else 0)
        asked = [e.indices[place] for eq in self.op.equations if eq.target not in r.targets
                 for e in elements(eq) if e.tensor == node.name]  # fmt: skip
        if node.name in self.outputs or not asked or any(e != end for e in asked):
            return
        rest = tuple(i for k, i in enumerate(node.indices) if k != place)
        names = {i.name: self.unique(i.name) for i in rest}
        at = [Var(i.name) for i in rest]
        value = Ref(node.name, (*at[:place], end, *at[place:]))
        name = self.fresh(f"{node.name}_last")
        self.last[node.name] = name, place
        self.add(Node(name, rest, value, origin=node.origin, after=node.name).renamed(names))

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def add(self, node: Node) -> None:
        self.done.append(node)
        self.by_name[node.name] = node
        reads = {r.tensor for r in walk(node.expr) if isinstance(r, Ref)} & set(self.by_name)
        self.behind[node.name] = reads.union(*(self.behind[r] for r in reads))

    def is_epilogue(self, node: Node) -> bool:
        """True if it reworks reductions of the same indices element by element.

        Not if it also needs what comes of these reductions: then it belongs to a later kernel.
        """
        mine = set(node.index_names)
        reads = [r for r in walk(node.expr) if isinstance(r, Ref) and r.tensor in self.by_name]
        base = {
            r.tensor for r in reads
            if {i.name for i in r.indices if isinstance(i, Var)} == mine
            and len(r.indices) == len(mine)
        }  # fmt: skip
        others = {r.tensor for r in reads} - base
        return bool(base) and not any(self.behind[o] & base for o in others)

    def alpha(self, e: Expr, values: Mapping[str, Expr], eq: EquationRanges) -> Expr:
        """Rename every index to a name of its own and write out the ranges."""
        match e:
            case Var(name):
                return values[name]
            case Bin(_, lhs, rhs):
                return replace(e, lhs=self.alpha(lhs, values, eq), rhs=self.alpha(rhs, values, eq))
            case Neg(arg):
                return replace(e, arg=self.alpha(arg, values, eq))
            case Call(_, args):
                return replace(e, args=tuple(self.alpha(a, values, eq) for a in args))
            case Ref(_, indices, fill):
                return replace(
                    e,
                    indices=tuple(self.alpha(i, values, eq) for i in indices),
                    fill=None if fill is None else self.alpha(fill, values, eq),
                )
            case Reduce(kind, ranges, body):
                inner = dict(values)
                out = []
                for r in ranges:
                    lo, hi = (self.alpha(b, inner, eq) for b in eq.ranges[r.name])
                    name = self.unique(r.name)
                    inner[r.name] = Var(name)
                    out.append(Range(name, lo, hi))
                return Reduce(kind, tuple(out), self.alpha(body, inner, eq), loc=e.loc)
        return e

    def inline(self, e: Expr) -> Expr:
        """Write pointwise intermediates into their uses."""

        def expand(n: Expr) -> Expr | None:
            if isinstance(n, Ref) and n.tensor in self.last:
                name, place = self.last[n.tensor]
                return Ref(name, (*n.indices[:place], *n.indices[place + 1 :]), n.fill)
            if not isinstance(n, Ref) or n.tensor not in self.inlined:
                return None
            node = self.inlined[n.tensor]
            body = self.rebound(node.expr)
            values = dict(zip(node.index_names, n.indices, strict=True))
            body = substitute(body, values)
            if n.fill is None:
                return body
            return guarded(body, n.indices, [hi_of(r) for r in node.indices], n.fill)

        return rewrite(e, expand)

    def rebound(self, e: Expr) -> Expr:
        """A copy whose reductions bind new names."""
        if not any(isinstance(n, Reduce) for n in walk(e)):
            return e
        names: dict[str, Expr] = {
            r.name: Var(self.unique(r.name))
            for n in walk(e) if isinstance(n, Reduce) for r in n.ranges
        }  # fmt: skip

        def fix(n: Expr) -> Expr | None:
            if isinstance(n, Var):
                return names.get(n.name)
            if isinstance(n, Reduce):
                return replace(n, ranges=tuple(
                    replace(r, name=show(names[r.name])) for r in n.ranges))  # fmt: skip
            return None

        return rewrite(e, fix)

    def extract(
        self, e: Expr, context: Mapping[str, Range], target: str, root: bool = True
    ) -> Expr:
        """Replace the reductions below the root by references to nodes of their own."""
        if not any(isinstance(n, Reduce) for n in walk(e)):
            return e
        match e:
            case Bin(_, lhs, rhs):
                return replace(
                    e,
                    lhs=self.extract(lhs, context, target, False),
                    rhs=self.extract(rhs, context, target, False),
                )
            case Neg(arg):
                return replace(e, arg=self.extract(arg, context, target, False))
            case Call(_, args):
                return replace(e, args=tuple(self.extract(a, context, target, False) for a in args))
            case Ref(_, indices, fill):
                return replace(
                    e,
                    indices=tuple(self.extract(i, context, target, False) for i in indices),
                    fill=None if fill is None else self.extract(fill, context, target, False),
                )
            case Reduce(kind, ranges, body):
                inner = {**context, **{r.name: r for r in ranges}}
                bounds = [
                    replace(
                        r,
                        lo=self.extract(lo_of(r), inner, target, False),
                        hi=self.extract(hi_of(r), inner, target, False),
                    )
                    for r in ranges
                ]
                body = self.extract(body, inner, target, False)
                made = Reduce(kind, tuple(bounds), body, loc=e.loc)
                return made if root else self.as_node(made, context, target)
        return e

    def as_node(self, e: Reduce, context: Mapping[str, Range], target: str) -> Expr:
        """A node for a reduction inside an equation; an equal earlier one serves again."""
        free = [n for n in context if n in set(free_indices(e))]
        if not all(is_dense(context[n]) for n in free):
            return e
        key = self.key(e, free, context)
        if key not in self.same:
            names = {n: self.unique(n) for n in free}
            indices = tuple(context[n] for n in free)
            name = self.fresh(f"{target}_{e.kind}")
            self.same[key] = Node(name, indices, e, origin=target).renamed(names)
            self.add(self.same[key])
        return Ref(self.same[key].name, tuple(Var(n) for n in free))

    def key(self, e: Reduce, free: list[str], context: Mapping[str, Range]) -> str:
        """Equal for reductions that differ only in the names of their indices."""
        names = {n: f"'{i}" for i, n in enumerate(free)}
        bound = [r.name for n in walk(e) if isinstance(n, Reduce) for r in n.ranges]
        names |= {n: f"''{i}" for i, n in enumerate(bound)}
        plain = rewrite(
            e,
            lambda n: Var(names[n.name]) if isinstance(n, Var) else
            replace(n, ranges=tuple(replace(r, name=names[r.name]) for r in n.ranges))
            if isinstance(n, Reduce) else None,
        )  # fmt: skip
        return f"{show(plain)} over {[show(hi_of(context[n])) for n in free]}"


def elements_before(r: Recurrence, target: str) -> list[Expr]:
    """What ``else`` says of a target's value before the first step, at most once."""
    found = [
        ref.fill
        for eq in r.equations for ref in elements(eq)
        if ref.tensor == target and r.is_earlier(ref) and ref.fill is not None
    ]  # fmt: skip
    return found[:1]


def _with_states(e: Expr, r: Recurrence) -> Expr:
    """The expression with the elements of the step before as states."""

    def change(n: Expr) -> Expr | None:
        if isinstance(n, Ref) and n.tensor in r.targets and r.is_earlier(n):
            place = r.place(n.tensor)
            rest = tuple(i for k, i in enumerate(n.indices) if k != place)
            return Ref(before(n.tensor), rest)
        return None

    return rewrite(e, change)


def guarded(body: Expr, indices: tuple[Expr, ...], sizes: list[Expr], fill: Expr) -> Expr:
    """``body`` where the indices are inside the sizes, else ``fill``."""
    condition: Expr | None = None
    for i, n in zip(indices, sizes, strict=True):
        for c in (Bin(">=", i, Num(0)), Bin("<", i, n)):
            condition = c if condition is None else Bin("and", condition, c)
    return body if condition is None else Call("select", (condition, body, fill))
