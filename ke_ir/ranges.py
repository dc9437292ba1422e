"""The range of every index of an op, and the shape of every intermediate.

An index that is not given a range explicitly takes it from where it stands alone as a subscript:
``x[b, d]`` makes ``d`` range over the second dimension of ``x``. On the left of an output's
equation the declared shape decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ke_ir.diagnostics import Loc
from ke_ir.expr import Expr, Num, Range, Reduce, Ref, Var, evaluate_int, show, walk
from ke_ir.ir import Equation, OpDef
from ke_ir.recurrence import Recurrence, elements, recurrences

Bounds = tuple[Expr, Expr]
"""From (included) and to (excluded)."""


class RangeError(ValueError):
    """An index has no range, or two."""

    def __init__(
        self,
        code: str,
        message: str,
        loc: Loc | None,
        expected: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.loc, self.expected, self.hint = code, loc, tuple(expected), hint


@dataclass(frozen=True)
class EquationRanges:
    """One equation: bounds of its indices (left side and reductions), and its elements read."""

    equation: Equation
    ranges: Mapping[str, Bounds]
    refs: tuple[Ref, ...]

    @property
    def outer(self) -> tuple[str, ...]:
        """Indices of the left side, in order."""
        return tuple(r.name for r in self.equation.ranges)


@dataclass(frozen=True)
class OpRanges:
    """All equations in order, and the shapes of inputs, outputs and intermediates by name."""

    equations: tuple[EquationRanges, ...]
    shapes: Mapping[str, tuple[Expr, ...]]
    recurrences: tuple[Recurrence, ...]

    @property
    def groups(self) -> list[tuple[Recurrence | None, tuple[EquationRanges, ...]]]:
        """Equations in an order in which each comes after what it reads, recurrences as a whole."""
        if not self.recurrences:
            return [(None, (er,)) for er in self.equations]
        whole = {n: r for r in self.recurrences for n in r.targets}
        by_name = {er.equation.target: er for er in self.equations}
        out: list[tuple[Recurrence | None, tuple[EquationRanges, ...]]] = []
        done: set[str] = set()

        def add(er: EquationRanges) -> None:
            rec = whole.get(er.equation.target)
            members = (er,) if rec is None else tuple(by_name[e.target] for e in rec.equations)
            if er.equation.target in done:
                return
            done.update(m.equation.target for m in members)
            for m in members:
                for ref in m.refs:
                    if ref.tensor in by_name:
                        add(by_name[ref.tensor])
            out.append((rec, members))

        for er in self.equations:
            add(er)
        return out


def infer_ranges(op: OpDef) -> OpRanges:
    """Ranges and shapes of an op whose names and ranks are right. Raises RangeError."""
    found = recurrences(op)
    shapes = {p.name: p.type.shape for p in op.inputs}
    declared = {p.name: p.type.shape for p in op.outputs}
    sizes = op.sizes()
    out = []
    for r in found:
        _shape_ahead(r, declared, shapes, sizes)
    for eq in op.equations:
        er = _equation(eq, declared.get(eq.target), shapes, sizes)
        out.append(er)
        shapes[eq.target] = declared.get(eq.target) or tuple(er.ranges[n][1] for n in er.outer)
    made = OpRanges(tuple(out), shapes, found)
    for r in found:
        _check_steps(r, made, sizes)
    return made


def _shape_ahead(
    r: Recurrence,
    declared: Mapping[str, tuple[Expr, ...]],
    shapes: dict[str, tuple[Expr, ...]],
    sizes: Mapping[str, int],
) -> None:
    """Shapes of what a recurrence makes, from what else its equations read.

    Where they follow from one another only, they are left for the complaint about ranges.
    """
    waiting = [e for e in r.equations if e.target not in declared]
    shapes.update({e.target: declared[e.target] for e in r.equations if e.target in declared})
    for _ in r.equations:
        for eq in waiting:
            refs = [ref for ref in elements(eq) if ref.tensor in shapes]
            try:
                found = [_range(x, refs, shapes, sizes)[1] for x in eq.ranges]
            except RangeError:
                continue
            shapes[eq.target] = tuple(found)
        waiting = [e for e in waiting if e.target not in shapes]


def _check_steps(r: Recurrence, found: OpRanges, sizes: Mapping[str, int]) -> None:
    first = r.equations[0]
    steps = found.shapes[first.target][r.place(first.target)]
    for eq in r.equations[1:]:
        own = found.shapes[eq.target][r.place(eq.target)]
        if _size(own, sizes) != _size(steps, sizes):
            raise RangeError(
                "range", f"`{r.index}` ranges to `{show(steps)}` in `{first.target}` but to "
                f"`{show(own)}` in `{eq.target}`", eq.loc, ["equal sizes in one recurrence"],
            )  # fmt: skip


def _equation(
    eq: Equation,
    declared: tuple[Expr, ...] | None,
    shapes: Mapping[str, tuple[Expr, ...]],
    sizes: Mapping[str, int],
) -> EquationRanges:
    nodes = [n for e in (*_bounds(eq.ranges), eq.rhs) for n in walk(e)]
    refs = tuple(n for n in nodes if isinstance(n, Ref))
    ranges: dict[str, Bounds] = {}
    for i, r in enumerate(eq.ranges):
        if declared is not None and r.hi is None:
            ranges[r.name] = (Num(0), declared[i])
        else:
            ranges[r.name] = _range(r, refs, shapes, sizes)
            _check_extent(
                eq, r, ranges[r.name][1], None if declared is None else declared[i], sizes
            )
        lo = ranges[r.name][0]
        if lo != Num(0):
            raise RangeError("range", f"`{r.name}` starts at `{show(lo)}`", r.loc, ["0"],
                             "indices on the left start at 0; shift them on the right")  # fmt: skip
    for n in nodes:
        if isinstance(n, Reduce):
            for r in n.ranges:
                found = _range(r, refs, shapes, sizes)
                if ranges.setdefault(r.name, found) != found:
                    raise RangeError(
                        "range", f"two reductions in one equation use `{r.name}` for different "
                        f"ranges, to `{show(ranges[r.name][1])}` and to `{show(found[1])}`", r.loc,
                        ["another name for one of them"],
                    )  # fmt: skip
    return EquationRanges(eq, ranges, refs)


def _check_extent(
    eq: Equation, r: Range, hi: Expr, declared: Expr | None, sizes: Mapping[str, int]
) -> None:
    """The extent of an index on the left is a size, and that of the output if it is one."""
    n = _size(hi, sizes)
    if not isinstance(n, int) or n < 1:
        raise RangeError(
            "range", f"`{r.name}` on the left ranges to `{show(hi)}`"
            + (f", which is {n}" if isinstance(n, int) else ""), r.loc,
            ["a size of 1 or more, made of dims and numbers"],
            "" if isinstance(n, int) else "lengths that differ from row to row are for reductions",
        )  # fmt: skip
    if declared is not None and n != _size(declared, sizes):
        raise RangeError(
            "range", f"`{r.name}` ranges to `{show(hi)}`, but the declared size of `{eq.target}` "
            f"is `{show(declared)}`", r.loc, [show(declared)], "every element must be defined",
        )  # fmt: skip


def _bounds(ranges: Iterable[Range]) -> list[Expr]:
    return [e for r in ranges for e in (r.lo, r.hi) if e is not None]


def _range(
    r: Range,
    refs: Iterable[Ref],
    shapes: Mapping[str, tuple[Expr, ...]],
    sizes: Mapping[str, int],
) -> Bounds:
    if r.hi is not None:
        return (Num(0) if r.lo is None else r.lo), r.hi
    sure: list[tuple[str, Expr]] = []
    guess: list[Expr] = []
    for ref in refs:
        if ref.tensor not in shapes:
            continue  # of a recurrence, and not known yet
        for subscript, size in zip(ref.indices, shapes[ref.tensor], strict=True):
            if isinstance(subscript, Var) and subscript.name == r.name:
                if ref.fill is None:
                    sure.append((ref.tensor, size))
                else:
                    guess.append(size)
    if not sure and not guess:
        raise RangeError(
            "unknown-range", f"nothing says what `{r.name}` ranges over", r.loc,
            ["a tensor subscripted by it alone", f"`{r.name} in 0 to SIZE`"],
        )  # fmt: skip
    if not sure:
        return Num(0), guess[0]
    name, first = sure[0]
    for other, size in sure[1:]:
        if size != first and _size(size, sizes) != _size(first, sizes):
            raise RangeError(
                "range", f"`{r.name}` ranges to `{show(first)}` in `{name}` but to `{show(size)}` "
                f"in `{other}`", r.loc, ["equal sizes", f"`{r.name} in 0 to SIZE`"],
            )  # fmt: skip
    return Num(0), first


def _size(e: Expr, sizes: Mapping[str, int]) -> int | str:
    try:
        return evaluate_int(e, sizes)
    except (KeyError, ValueError):
        return show(e)
