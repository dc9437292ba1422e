"""Rules for the body of a kernel."""

from __future__ import annotations

from collections.abc import Iterable

from ke_ir.diagnostics import Loc, Reporter
from ke_ir.expr import Bin, Expr, Num, Var, evaluate_int, show, variables, walk
from ke_ir.intervals import ANY, Interval, interval
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield, defined_names
from ke_ir.ops import Accumulate, Full, Load, Store
from ke_ir.ops.base import Invalid, Op, Operand, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import TileType

Write = Store | Accumulate


class KernelVerifier:
    """Walks one kernel and reports what is wrong. Use once: ``KernelVerifier(k, r).run()``."""

    def __init__(self, kernel: Kernel, report: Reporter) -> None:
        self.kernel, self.report = kernel, report
        self.scope = TypeScope(kernel)
        self.sizes = kernel.sizes()
        self.ranges = {d.name for d in kernel.dims if d.is_range or d.is_derived}
        self.inputs = {p.name for p in kernel.inputs}
        self.outputs = {p.name for p in kernel.outputs}
        self.enclosing: list[LoopVar] = []
        self.live: dict[str, Interval] = {}
        self.writes: dict[str, list[Write]] = {}
        self.failed = False
        self.is_loop: dict[str, bool] = {}  # of each name defined so far
        self.stores: set[tuple[str, tuple[Expr, ...], tuple[int, ...]]] = set()

    def run(self) -> None:
        body = self.kernel.body
        if len(body) != 1 or not isinstance(body[0], Parallel):
            extra = next((s for s in body if not isinstance(s, Parallel)), None)
            second = body[1] if len(body) > 1 else None
            where = extra or second
            self.error(Invalid(
                "kernel-body", f"the body of @{self.kernel.name} is not one `parallel`",
                ["one `parallel %i = 0 to N tile T { ... }` around everything"],
                "a kernel without parallelism is `parallel %i = 0 to 1 { ... }`; "
                "two of them are two kernels of a `program`",
            ), where.loc if where else self.kernel.loc)  # fmt: skip
            return
        before = len(self.report.found)
        self.block(body)
        for p in self.kernel.outputs:
            # After another complaint, a missing write would often be only its echo.
            if p.name not in self.writes and len(self.report.found) == before:
                self.error(
                    Invalid("never-written", f"no statement writes the output %{p.name}",
                            [f"`store VALUE, %{p.name}[...]`"]), self.kernel.loc)  # fmt: skip

    def error(self, bad: Invalid, loc: Loc | None) -> None:
        self.report.error(bad.code, str(bad), loc, bad.expected, bad.hint)

    def block(self, body: Iterable[Stmt]) -> None:
        for s in body:
            try:
                self.statement(s)
            except Invalid as bad:
                self.error(bad, s.loc)
                # Later uses of the name would only repeat this complaint.
                self.failed = True
                for name in defined_names(s):
                    self.scope.values.setdefault(name, _UNKNOWN)

    def statement(self, s: Stmt) -> None:
        if self.failed and any(self.scope.values.get(x) is _UNKNOWN for x in _uses(s)):
            for name in defined_names(s):
                self.scope.values[name] = _UNKNOWN
            return
        for e in _index_expressions(s):
            self.divisors(e)
        if isinstance(s, Op):
            self.fresh(defined_names(s))
            self.scope.define(s)
            if isinstance(s, Load | Store | Accumulate):
                self.memory(s)
        elif isinstance(s, For | Parallel):
            self.loop(s)
        elif isinstance(s, Yield):
            raise Invalid("yield", "`yield` is not at the end of a `for` that carries a value",
                          ["`yield` as the last statement of such a loop"])  # fmt: skip

    def divisors(self, e: Expr) -> None:
        """Divisors are made of dims and numbers; they must be positive."""
        for n in () if isinstance(e, Var | Num) else walk(e):
            if isinstance(n, Bin) and n.op in ("//", "%"):
                by = self.known(n.rhs)
                if by is not None and by <= 0:
                    raise Invalid("division", f"`{show(n, '%')}` divides by {by}",
                                  ["a positive number"])  # fmt: skip

    def fresh(self, names: Iterable[str], loop: bool = False) -> None:
        """Names may be taken again once their block has ended, but never by the other sort: whoever
        walks a body along with types may then look a name up without knowing where it stands."""
        for n in names:
            if n in self.scope.values or n in self.scope.loops:
                raise Invalid("redefined", f"%{n} is already defined here", ["another name"])
            if n in self.scope.tensors:
                raise Invalid("redefined", f"%{n} is a tensor of the kernel", ["another name"])
            if self.is_loop.setdefault(n, loop) is not loop:
                was = "a value" if loop else "a loop variable"
                raise Invalid("redefined", f"%{n} is {was} elsewhere in the kernel",
                              ["another name"])  # fmt: skip

    def loop(self, s: For | Parallel) -> None:
        is_for = isinstance(s, For)
        if not is_for and self.enclosing:
            raise Invalid("nested-parallel", "`parallel` inside a loop", ["`for`"],
                          "give the outer `parallel` several variables")  # fmt: skip
        vars_ = (s.var,) if isinstance(s, For) else s.vars
        values, loops, live = dict(self.scope.values), dict(self.scope.loops), dict(self.live)
        for v in vars_:
            self.fresh([v.name], loop=True)
            for bound in (v.lo, v.hi):
                self.scope.check_bound(bound)
            if not is_for and (variables(v.lo) or variables(v.hi)):
                raise Invalid("bound", f"the bounds of %{v.name} depend on values",
                              ["dims and numbers in the bounds of `parallel`"])  # fmt: skip
        if isinstance(s, Parallel) and s.group and len(s.vars) < 2:
            raise Invalid("order", "`order grouped` of one variable", ["two variables or more"])
        if isinstance(s, For):
            self.carries(s)
        self.scope.enter(s)
        for v in vars_:
            self.live[v.name] = self.span(v)
        self.enclosing += vars_
        body, end = _split_yield(s.body)
        self.block(body)
        if isinstance(s, For):
            self.yields(s, end)
        elif end is not None:
            self.error(Invalid("yield", "`yield` in a `parallel`", ["`store`"]), end.loc)
        del self.enclosing[len(self.enclosing) - len(vars_) :]
        self.scope.leave(s)
        results = {r: self.scope.values[r] for r in defined_names(s)}
        self.scope.values, self.scope.loops, self.live = {**values, **results}, loops, live

    def carries(self, s: For) -> None:
        self.fresh([n for n, _ in s.carries])
        self.fresh(s.results)
        names = [n for n, _ in s.carries]
        if len(set(names)) != len(names) or len(set(s.results)) != len(s.results):
            raise Invalid("redefined", "a name stands twice among the carried values")
        if len(s.carries) != len(s.results):
            raise Invalid(
                "carry", f"the loop carries {len(s.carries)} values and gives {len(s.results)}",
                [f"{len(s.carries)} results"],
                "write `%a, %b = for ... carry (%x = ..., %y = ...)`",
            )  # fmt: skip

    def yields(self, s: For, end: Yield | None) -> None:
        got = () if end is None else end.values
        if len(got) != len(s.carries):
            self.error(Invalid("yield", f"the loop carries {len(s.carries)} values, but yields "
                               f"{len(got)}", [f"{len(s.carries)} values"]),
                       end.loc if end else s.loc)  # fmt: skip
            return
        for x, (name, _) in zip(got, s.carries, strict=True):
            want = self.scope.values[name]
            try:
                t = self.scope.type_of(x)
            except Invalid as bad:
                self.error(bad, end.loc if end else s.loc)
                continue
            if t != want and _UNKNOWN not in (t, want):
                self.error(Invalid("yield", f"%{name} is carried as {want}, but "
                                   f"{x if t is None else f'%{x}'} is {t or 'a literal'}",
                                   [str(want)]), end.loc if end else s.loc)  # fmt: skip

    def span(self, v: LoopVar) -> Interval:
        """Live values of a loop variable, as far as they are known without running."""
        fixed = self.fixed_sizes()
        lo, hi = interval(v.lo, fixed, self.live), interval(v.hi, fixed, self.live)
        return Interval(lo.lo, None if hi.hi is None else hi.hi - 1)

    def fixed_sizes(self) -> dict[str, int]:
        return {n: v for n, v in self.sizes.items() if n not in self.ranges}

    def memory(self, op: Load | Write) -> None:
        if isinstance(op, Load):
            if op.tensor in self.outputs:
                raise Invalid(
                    "reads-output", f"the kernel reads its output %{op.tensor}",
                    ["an input"], "carry the value, or split the kernel and use a `temp`",
                )  # fmt: skip
        elif op.tensor in self.inputs:
            raise Invalid("writes-input", f"the kernel writes its input %{op.tensor}",
                          ["an output"])  # fmt: skip
        self.in_range(op)
        if not isinstance(op, Load):
            self.written(op)

    def in_range(self, op: Load | Write) -> None:
        """An access that is outside the tensor for every value of its indices is a mistake."""
        fixed = self.fixed_sizes()
        for i, (c, size) in enumerate(
            zip(op.coords, self.scope.tensors[op.tensor].shape, strict=True)
        ):
            n = interval(size, fixed, {})
            where = interval(c, fixed, self.live)
            if n.hi is not None and where.outside(0, n.hi):
                raise Invalid(
                    "out-of-range",
                    f"coordinate {i} of %{op.tensor}, `{show(c, '%')}`, is always outside 0 to "
                    f"{n.hi - 1}", [f"0 to {n.hi - 1}"],
                )  # fmt: skip
            if not variables(c) and where != ANY and n.hi is not None and not where.inside(0, n.hi):
                raise Invalid("out-of-range", f"`{show(c, '%')}` is outside %{op.tensor}",
                              [f"0 to {n.hi - 1}"])  # fmt: skip

    def written(self, op: Write) -> None:
        before = self.writes.setdefault(op.tensor, [])
        if any(isinstance(b, Store) is not isinstance(op, Store) for b in before):
            raise Invalid("mixed-writes", f"%{op.tensor} is both stored and accumulated",
                          ["one of the two"])  # fmt: skip
        if isinstance(op, Accumulate) and any(
            isinstance(b, Accumulate) and b.kind != op.kind for b in before
        ):
            raise Invalid("mixed-writes", f"%{op.tensor} is accumulated in two ways")
        before.append(op)
        if isinstance(op, Store):
            self.stored_once(op)
            if len(before) == 1:
                self.covers(op)

    def stored_once(self, op: Store) -> None:
        """Every loop around a store must appear in its coordinates, or runs once."""
        named = {v for c in op.coords for v in variables(c)}
        if named - set(self.scope.loops):
            return  # through integer values: decided when it runs
        place = (op.tensor, op.coords, tuple(id(self.scope.loops[n]) for n in sorted(named)))
        if place in self.stores:
            raise Invalid(
                "stored-twice", f"an earlier statement stores the same elements of %{op.tensor}",
                ["each element stored once"],
            )  # fmt: skip
        self.stores.add(place)
        for v in self.enclosing:
            if v.name not in named and (trips := self.trips(v)) is not None and trips > 1:
                raise Invalid(
                    "stored-twice",
                    f"each element of %{op.tensor} would be stored {trips} times: %{v.name} is "
                    "not among the coordinates",
                    hint="store after the loop, or combine with `accumulate`",
                )  # fmt: skip

    def trips(self, v: LoopVar) -> int | None:
        """Number of iterations at the default sizes; None if it depends on values."""
        lo, hi = self.known(v.lo), self.known(v.hi)
        return None if lo is None or hi is None else max(0, -((lo - hi) // v.step))

    def covers(self, op: Store) -> None:
        """A store by plain loop variables that does not reach all of an output."""
        if self.more_writes(op):
            return
        for i, (c, size) in enumerate(
            zip(op.coords, self.scope.tensors[op.tensor].shape, strict=True)
        ):
            n = evaluate_int(size, self.sizes)
            if isinstance(c, Num):
                lo, hi = int(c.value), int(c.value) + 1
            elif isinstance(c, Var) and c.name in self.scope.loops:
                v = self.scope.loops[c.name]
                bounds = self.known(v.lo), self.known(v.hi)
                if bounds[0] is None or bounds[1] is None:
                    continue
                lo, hi = bounds[0], bounds[1]
            else:
                continue
            if lo > 0 or hi < n:
                raise Invalid(
                    "never-written",
                    f"dimension {i} of %{op.tensor} has {n} elements, but only {lo} to {hi - 1} "
                    "are stored", [f"0 to {n - 1}"],
                )  # fmt: skip

    def more_writes(self, op: Store) -> bool:
        """True if other statements write the same tensor, so that they may share the work."""
        from ke_ir.ir import statements

        return any(
            isinstance(s, Store) and s.tensor == op.tensor and s is not op
            for s in statements(self.kernel.body)
        )

    def known(self, e: Expr) -> int | None:
        """Value at the default sizes; None if it depends on values."""
        try:
            return evaluate_int(e, self.sizes)
        except (ValueError, KeyError):
            return None


_UNKNOWN = TileType(dtype=None)  # type: ignore[arg-type]
"""Type of a value whose definition was rejected."""


def _index_expressions(s: Stmt) -> tuple[Expr, ...]:
    """Coordinates, bounds and sizes in a statement, without those inside its body."""
    if isinstance(s, For):
        return (s.var.lo, s.var.hi)
    if isinstance(s, Parallel):
        return tuple(e for v in s.vars for e in (v.lo, v.hi))
    if isinstance(s, Full):
        return (s.value,) if isinstance(s.value, Expr) else ()
    return s.coordinates() if isinstance(s, Op) else ()


def _uses(s: Stmt) -> list[str]:
    """Values that a statement names, without those that only its body names."""
    operands: tuple[Operand, ...] = s.operands() if isinstance(s, Op) else ()
    if isinstance(s, For):
        operands = tuple(init for _, init in s.carries)
    named = [x for x in operands if isinstance(x, str)]
    return named + [v for e in _index_expressions(s) for v in variables(e)]


def _split_yield(body: tuple[Stmt, ...]) -> tuple[tuple[Stmt, ...], Yield | None]:
    if body and isinstance(body[-1], Yield):
        return body[:-1], body[-1]
    return body, None
