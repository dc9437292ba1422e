"""Recurrences: equations of an op that read themselves, or one another, one step earlier.

``h[t, b] = tanh(a[t, b] + h[t - 1, b else 0])`` goes along ``t`` from 0 upwards; with ``t + 1`` it
goes from the last place downwards. What ``else`` says holds before the first step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ke_ir.diagnostics import Loc
from ke_ir.expr import Bin, Expr, Num, Reduce, Ref, Var, show, walk
from ke_ir.ir import Equation, OpDef


@dataclass(frozen=True)
class Recurrence:
    """Equations, in order, that go along ``index`` together: upwards (``step`` 1) or down (-1)."""

    equations: tuple[Equation, ...]
    index: str
    step: int

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(e.target for e in self.equations)

    def place(self, target: str) -> int:
        """Which subscript of ``target`` counts the steps."""
        eq = next(e for e in self.equations if e.target == target)
        return [r.name for r in eq.ranges].index(self.index)

    def is_earlier(self, e: Ref) -> bool:
        """True for an element of the step before; False for one of the same step."""
        return e.indices[self.place(e.tensor)] != Var(self.index)


def is_elementwise(r: Recurrence, shapes: Mapping[str, tuple[Expr, ...]]) -> bool:
    """True if each place of the other indices goes its own way: no step reads another place.

    All equations have the same other indices, and what holds before the first step is one
    expression for each of them. ``shapes`` are those of the targets.
    """
    left = {e.target: tuple(Var(x.name) for x in e.ranges) for e in r.equations}
    spans = [dict(zip(left[n], shapes[n], strict=True)) for n in left]
    if any({**s, Var(r.index): Num(0)} != {**spans[0], Var(r.index): Num(0)} for s in spans):
        return False
    before: dict[str, Expr] = {}
    for eq in r.equations:
        if any(n.tensor in left for red in walk(eq.rhs) if isinstance(red, Reduce)
               for n in walk(red) if isinstance(n, Ref)):  # fmt: skip
            return False
        for ref in elements(eq):
            if ref.tensor not in left:
                continue
            place = r.place(ref.tensor)
            own = left[ref.tensor]
            if any(i != own[k] for k, i in enumerate(ref.indices) if k != place):
                return False
            if not r.is_earlier(ref):
                continue
            assert ref.fill is not None  # as of any element of the step before
            inside = list(walk(ref.fill))
            if any(isinstance(n, Ref) and n.tensor in left for n in inside):
                return False
            if before.setdefault(ref.tensor, ref.fill) != ref.fill:
                return False
    return True


class RecurrenceError(ValueError):
    """Equations that depend on themselves in a way that no order of steps computes."""

    def __init__(
        self, message: str, loc: Loc | None, expected: Iterable[str] = (), hint: str = ""
    ) -> None:
        super().__init__(message)
        self.loc, self.expected, self.hint = loc, tuple(expected), hint


def elements(eq: Equation) -> Iterator[Ref]:
    """The elements that an equation reads, those in the bounds of its indices too."""
    bounds = (b for r in eq.ranges for b in (r.lo, r.hi) if b is not None)
    return (n for e in (*bounds, eq.rhs) for n in walk(e) if isinstance(n, Ref))


def cycles(op: OpDef) -> list[tuple[Equation, ...]]:
    """Sets of equations that depend on one another or on themselves, each in order."""
    place: dict[str, int] = {}
    for i, eq in enumerate(op.equations):
        place.setdefault(eq.target, i)
    reads = [{place[r.tensor] for r in elements(eq) if r.tensor in place} for eq in op.equations]
    ahead = [(i, j) for i, js in enumerate(reads) for j in sorted(js) if j >= i]
    if not ahead:
        return []
    users: list[set[int]] = [set() for _ in reads]
    for i, js in enumerate(reads):
        for j in js:
            users[j].add(i)
    found: list[set[int]] = []
    for i, j in ahead:
        members = _reachable(j, reads) & _reachable(i, users)
        for other in [f for f in found if f & members]:
            found.remove(other)
            members |= other
        if members:
            found.append(members)
    return [tuple(op.equations[i] for i in sorted(f)) for f in sorted(found, key=min)]


def _reachable(start: int, edges: Sequence[set[int]]) -> set[int]:
    seen = {start}
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def recurrence(equations: tuple[Equation, ...]) -> Recurrence:
    """The recurrence that a cycle is. Raises RecurrenceError if it is none."""
    first = equations[0]
    shared = [
        r.name for r in first.ranges if all(r.name in {s.name for s in e.ranges} for e in equations)
    ]
    if not shared:
        names = " and ".join(f"`{e.target}`" for e in equations)
        what = f"{names} depend on each other" if len(equations) > 1 else f"{names} reads itself"
        raise RecurrenceError(f"{what}, and no index counts the steps", first.loc,
                              ["an index on the left of each, one step earlier on the right"],
                              )  # fmt: skip
    complaints = {name: _Steps(equations, name).complaints() for name in shared}
    best = min(shared, key=lambda n: (len(complaints[n]), not _moves(equations, n)))
    if complaints[best]:
        raise complaints[best][0]
    return Recurrence(equations, best, _Steps(equations, best).direction())


def _moves(equations: Sequence[Equation], index: str) -> bool:
    """True if some element is read at another place along an index."""
    steps = _Steps(equations, index)
    return any(steps.shift(ref) not in (0, None) for _, ref in steps.inner())


def recurrences(op: OpDef) -> tuple[Recurrence, ...]:
    """All recurrences of an op. Raises RecurrenceError."""
    return tuple(recurrence(c) for c in cycles(op))


class _Steps:
    """Checks that equations go along one index, a step at a time."""

    def __init__(self, equations: Sequence[Equation], index: str) -> None:
        self.equations, self.index = equations, index
        self.order: Mapping[str, int] = {e.target: i for i, e in enumerate(equations)}

    def inner(self) -> Iterator[tuple[int, Ref]]:
        """Elements of the recurrence itself, with the equation that reads them."""
        for i, eq in enumerate(self.equations):
            for ref in elements(eq):
                if ref.tensor in self.order:
                    yield i, ref

    def shift(self, ref: Ref) -> int | None:
        """How many places away an element is along the index; None if that is not fixed."""
        target = self.equations[self.order[ref.tensor]]
        place = [r.name for r in target.ranges].index(self.index)
        if len(ref.indices) != len(target.ranges):
            return 0  # the number of subscripts is complained of elsewhere
        return _shift(ref.indices[place], self.index)

    def direction(self) -> int:
        return next((-s for _, ref in self.inner() if (s := self.shift(ref))), 1)

    def complaints(self) -> list[RecurrenceError]:
        out = []
        step = self.direction()
        before = f"{self.index} {'-' if step > 0 else '+'} 1"
        for i, ref in self.inner():
            shift = self.shift(ref)
            found = None
            if shift is None:
                found = f"is no fixed step along `{self.index}`", ""
            elif shift == 0 and self.order[ref.tensor] >= i:
                hint = "" if self.order[ref.tensor] == i else f"define `{ref.tensor}` before it"
                if _is_moved(ref, self.equations):
                    hint = "a recurrence goes along one index"
                found = "is not known yet at this step", hint
            elif abs(shift) > 1:
                found = (
                    f"is {abs(shift)} steps away",
                    (f"keep it for a step: an equation of its own may read `{before}`"),
                )
            elif shift == step:
                found = (
                    "is of the step after, and another element of the step before",
                    ("a recurrence goes in one direction"),
                )
            if found is not None:
                out.append(
                    RecurrenceError(
                        f"`{show(ref)}` {found[0]}", ref.loc,
                        [f"`{before}` for `{self.index}`"], found[1],
                    )
                )  # fmt: skip
            elif shift and ref.fill is None:
                out.append(RecurrenceError(
                    f"nothing says what `{show(ref)}` is at the first step", ref.loc,
                    ["`else` and the value before the first step"],
                ))  # fmt: skip
        return out


def _is_moved(ref: Ref, equations: Sequence[Equation]) -> bool:
    names = {r.name for e in equations for r in e.ranges}
    return any(_shift(i, n) not in (0, None) for i in ref.indices for n in names)


def _shift(e: Expr, index: str) -> int | None:
    match e:
        case Var(name) if name == index:
            return 0
        case Bin("+", Var(name), Num(int() as by)) | Bin("+", Num(int() as by), Var(name)):
            return by if name == index else None
        case Bin("-", Var(name), Num(int() as by)):
            return -by if name == index else None
    return None
