"""Rules for the equations of an op: names, ranks, ranges, and kinds of value."""

from __future__ import annotations

from ke_ir.diagnostics import Loc, Reporter, near
from ke_ir.expr import (
    COMPARISONS,
    Bin,
    Call,
    Dim,
    Expr,
    Neg,
    Num,
    Range,
    Reduce,
    Ref,
    Var,
    evaluate_int,
    show,
)
from ke_ir.intervals import Interval, interval
from ke_ir.ir import Equation, OpDef
from ke_ir.ops.base import Invalid
from ke_ir.ranges import RangeError, infer_ranges
from ke_ir.recurrence import RecurrenceError, cycles, recurrence
from ke_ir.types import DType

_INT_FUNCTIONS = frozenset({"abs", "min", "max", "select"})
_ROUNDING = frozenset({"floor", "ceil", "round", "trunc"})


def kind_of(dtype: DType) -> str:
    """``bool``, ``int`` or ``float``: the three kinds of value an equation knows."""
    return "bool" if dtype.is_bool else "int" if dtype.is_int else "float"


def verify_op(op: OpDef, report: Reporter) -> None:
    """Report what is wrong with the equations of an op whose signature is right."""
    v = _OpVerifier(op, report)
    v.recurrences()
    for eq in op.equations:
        v.equation(eq)
    if not v.failed:
        v.outputs()
    if not v.failed:
        v.ranges()


class _OpVerifier:
    def __init__(self, op: OpDef, report: Reporter) -> None:
        self.op, self.report = op, report
        self.start = len(report.found)
        self.ranks = {p.name: len(p.type.shape) for p in op.inputs}
        self.kinds = {p.name: kind_of(p.type.dtype) for p in op.inputs}
        self.declared = {p.name: p for p in op.outputs}
        self.bound: list[str] = []
        self.dims = {d.name for d in op.dims}
        self.sizes = op.sizes()
        # Of recurrences: the equations that each may read, and the kinds of their values.
        self.partners: dict[str, tuple[Equation, ...]] = {}
        self.ahead: dict[str, int] = {}
        self.ahead_kinds: dict[str, str] = {}

    @property
    def failed(self) -> bool:
        return len(self.report.found) > self.start

    def recurrences(self) -> None:
        """Complain of cycles that are no recurrence; let the others read themselves."""
        for members in cycles(self.op):
            try:
                recurrence(members)
            except RecurrenceError as bad:
                self.report.error("recurrence", str(bad), bad.loc, bad.expected, bad.hint)
            self.partners.update({e.target: members for e in members})

    def look_ahead(self, eq: Equation) -> None:
        """Ranks and kinds of what an equation of a recurrence reads of it."""
        members = self.partners.get(eq.target, ())
        self.ahead = {e.target: len(e.ranges) for e in members}
        if eq.target in self.ahead_kinds:
            return
        # An `else` gives the first guess. Then kinds only widen, from integers to floats.
        self.ahead_kinds = dict.fromkeys(self.ahead, "unknown")
        for _ in range(2 * len(members)):
            for e in members:
                found = self.quiet_kind(e)
                if found != "unknown":
                    self.ahead_kinds[e.target] = found

    def quiet_kind(self, eq: Equation) -> str:
        """Kind of an equation's value; what is wrong with it is said later."""
        self.bound = [r.name for r in eq.ranges]
        try:
            return self.kind(eq.rhs)
        except Invalid:
            return "unknown"

    def equation(self, eq: Equation) -> None:
        before = len(self.report.found)
        self.look_ahead(eq)
        try:
            self.target(eq)
            self.bound = []
            for r in eq.ranges:
                self.bind(r)
            kind = self.kind(eq.rhs)
            if eq.target in self.declared:
                self.fits(eq, kind)
        except Invalid as bad:
            self.report.error(bad.code, str(bad), bad.loc or eq.loc, bad.expected, bad.hint)
            kind = "unknown"
        self.ranks[eq.target] = len(eq.ranges)
        self.kinds[eq.target] = kind if len(self.report.found) == before else "unknown"

    def target(self, eq: Equation) -> None:
        if eq.target in self.ranks:
            what = (
                "an input" if any(p.name == eq.target for p in self.op.inputs) else "defined above"
            )
            raise Invalid("redefined", f"`{eq.target}` is {what}", ["another name"])
        if eq.target in self.dims:
            raise Invalid("redefined", f"`{eq.target}` is a dim", ["another name"])
        out = self.declared.get(eq.target)
        if out is not None and len(out.type.shape) != len(eq.ranges):
            raise Invalid(
                "rank", f"`{eq.target}` is declared {out.type} but defined with "
                f"{len(eq.ranges)} indices", [f"{len(out.type.shape)} indices"],
            )  # fmt: skip

    def bind(self, r: Range) -> None:
        if r.name in self.bound:
            raise _at(Invalid("redefined", f"index `{r.name}` is bound twice", ["another name"],
                              "each element is defined once"), r.loc)  # fmt: skip
        if r.name in self.dims or r.name in self.ranks:
            what = "a dim" if r.name in self.dims else "a tensor"
            raise _at(Invalid("redefined", f"`{r.name}` is {what}, not an index",
                              ["another name"]), r.loc)  # fmt: skip
        for e in (r.lo, r.hi):
            if e is not None:
                self.want(e, "int", "a bound")
        self.bound.append(r.name)

    def fits(self, eq: Equation, kind: str) -> None:
        want = kind_of(self.declared[eq.target].type.dtype)
        if kind == want or "unknown" in (kind, want) or (want == "float" and kind == "int"):
            return
        hints = {
            ("int", "float"): "round it: `floor`, `ceil`, `round` or `trunc`",
            ("bool", "float"): "compare it: `x != 0`",
            ("bool", "int"): "compare it: `x != 0`",
        }
        hint = hints.get((want, kind), "use `select(c, 1, 0)`")
        raise Invalid("kind", f"`{eq.target}` is {self.declared[eq.target].type.dtype}, but the "
                      f"equation gives a {kind}", [f"a {want}"], hint)  # fmt: skip

    def want(self, e: Expr, kind: str, what: str) -> None:
        got = self.kind(e)
        if got not in (kind, "unknown"):
            hint = "use `//`" if kind == "int" and isinstance(e, Bin) and e.op == "/" else ""
            raise _at(Invalid("kind", f"`{show(e)}` is a {got}; {what} must be {_a(kind)}",
                              [_a(kind)], hint), e.loc)  # fmt: skip

    def kind(self, e: Expr) -> str:
        """Kind of an expression's value; raises Invalid where kinds or names are wrong."""
        match e:
            case Num(value):
                return "int" if isinstance(value, int) else "float"
            case Dim():
                return "int"
            case Var(name):
                return self.index(e, name)
            case Neg(arg):
                return self.number(arg, "the operand of `-`")
            case Bin(op, lhs, rhs):
                return self.binary(op, lhs, rhs)
            case Call(fn, args):
                return self.call(fn, args)
            case Ref():
                return self.element(e)
            case Reduce(kind, ranges, body):
                return self.reduction(kind, ranges, body)
        raise TypeError(f"not an expression: {e!r}")

    def index(self, e: Var, name: str) -> str:
        if name not in self.bound:
            hint = near(name, (*self.bound, *self.dims))
            if name in self.ranks:
                hint = f"give its indices: `{name}[{', '.join('ijkl'[: self.ranks[name]])}]`"
            raise _at(Invalid("undefined", f"`{name}` is neither a dim nor an index bound here",
                              [*self.bound, *sorted(self.dims)], hint), e.loc)  # fmt: skip
        return "int"

    def number(self, e: Expr, what: str) -> str:
        got = self.kind(e)
        self.check_number(e, got, what)
        return got

    def check_number(self, e: Expr, kind: str, what: str) -> None:
        if kind == "bool":
            raise _at(Invalid("kind", f"{what} is a condition", ["a number"],
                              "use `select(c, 1, 0)`"), e.loc)  # fmt: skip

    def is_zero(self, e: Expr) -> bool:
        """True if ``e`` is surely 0 at the default sizes."""
        try:
            return evaluate_int(e, self.sizes) == 0
        except (KeyError, ValueError):
            return False

    def binary(self, op: str, lhs: Expr, rhs: Expr) -> str:
        if op in ("and", "or"):
            self.want(lhs, "bool", f"an operand of `{op}`")
            self.want(rhs, "bool", f"an operand of `{op}`")
            return "bool"
        a, b = self.kind(lhs), self.kind(rhs)
        if op in ("==", "!=") and a == b == "bool":
            return "bool"
        for e, kind in ((lhs, a), (rhs, b)):
            self.check_number(e, kind, f"an operand of `{op}`")
        if op in COMPARISONS:
            return "bool"
        if op in ("//", "%") and self.is_zero(rhs):
            raise _at(Invalid("division", f"`{op}` by zero", ["another divisor"]), rhs.loc)
        return "float" if op == "/" else _join(a, b)

    def call(self, fn: str, args: tuple[Expr, ...]) -> str:
        if fn == "select":
            self.want(args[0], "bool", "the condition of `select`")
            a, b = self.kind(args[1]), self.kind(args[2])
            if (a == "bool") != (b == "bool") and "unknown" not in (a, b):
                raise _at(Invalid("kind", f"`select` between a {a} and a {b}", [f"two {a}s"]),
                          args[1].loc)  # fmt: skip
            return _join(a, b)
        if fn == "not":
            self.want(args[0], "bool", "the operand of `not`")
            return "bool"
        kinds = [self.number(a, f"an argument of `{fn}`") for a in args]
        if fn in _INT_FUNCTIONS:
            return _join(*kinds) if len(kinds) == 2 else kinds[0]
        return "int" if fn in _ROUNDING else "float"

    def element(self, e: Ref) -> str:
        rank = self.ranks.get(e.tensor, self.ahead.get(e.tensor))
        if rank is None:
            later = [q.target for q in self.op.equations if q.target == e.tensor]
            hint = (
                "it is defined below; move that equation up"
                if later
                else near(e.tensor, self.ranks)
            )
            if any(p.name == e.tensor for p in self.op.outputs) and not later:
                hint = "it is an output; define it by an equation"
            raise _at(Invalid("undefined", f"there is no tensor `{e.tensor}` here",
                              sorted(self.ranks), hint), e.loc)  # fmt: skip
        if rank != len(e.indices):
            raise _at(Invalid("rank", f"`{e.tensor}` has {rank} dimensions but {len(e.indices)} "
                              "indices are given", [f"{rank} indices"]), e.loc)  # fmt: skip
        for i in e.indices:
            self.want(i, "int", f"an index of `{e.tensor}`")
        kind = self.kinds.get(e.tensor) or self.ahead_kinds[e.tensor]
        if e.fill is not None:
            got = self.kind(e.fill)
            if e.tensor in self.ahead and kind == "unknown":
                return got
            if (got == "bool") != (kind == "bool") and "unknown" not in (got, kind):
                raise _at(Invalid("kind", f"`else` gives a {got}, but `{e.tensor}` holds "
                                  f"{_a(kind)}", [_a(kind)]), e.fill.loc)  # fmt: skip
            return _join(kind, got)
        return kind

    def reduction(self, kind: str, ranges: tuple[Range, ...], body: Expr) -> str:
        outer = list(self.bound)
        for r in ranges:
            self.bind(r)
        if kind.startswith("arg") and len(ranges) != 1:
            raise Invalid("arity", f"`{kind}` over {len(ranges)} indices", ["one index"])
        if kind in ("any", "all"):
            self.want(body, "bool", f"the body of `{kind}`")
            result = "bool"
        else:
            result = self.number(body, f"the body of `{kind}`")
            result = "int" if kind.startswith("arg") else result
        self.bound = outer
        return result

    def outputs(self) -> None:
        for p in self.op.outputs:
            if p.name not in self.ranks:
                self.report.error("undefined", f"no equation defines the output `{p.name}`", p.loc,
                                  [f"`{p.name}[...] = ...`"])  # fmt: skip

    def ranges(self) -> None:
        """Every index has a range, and no constant subscript is always outside."""
        try:
            inferred = infer_ranges(self.op)
        except RangeError as bad:
            self.report.error(bad.code, str(bad), bad.loc, bad.expected, bad.hint)
            return
        fixed = {d.name: evaluate_int(d.size, self.op.sizes()) for d in self.op.dims
                 if not d.is_range and not d.is_derived}  # fmt: skip
        for eq in inferred.equations:
            spans = {}
            for name, (lo, hi) in eq.ranges.items():
                a, b = interval(lo, fixed, {}), interval(hi, fixed, {})
                spans[name] = Interval(a.lo, None if b.hi is None else b.hi - 1)
            for e in eq.refs:
                steps = {r.place(e.tensor) for r in inferred.recurrences
                         if {e.tensor, eq.equation.target} <= r.targets}  # fmt: skip
                self.in_range(e, inferred.shapes[e.tensor], fixed, spans, steps)

    def in_range(
        self,
        e: Ref,
        shape: tuple[Expr, ...],
        fixed: dict[str, int],
        spans: dict[str, Interval],
        steps: set[int],
    ) -> None:
        """Complain of subscripts that leave the tensor; of a single step all come before."""
        for i, (c, size) in enumerate(zip(e.indices, shape, strict=True)):
            n = interval(size, fixed, {}).hi
            where = interval(c, fixed, spans)
            if n is None or where.lo is None or where.hi is None:
                continue
            leaves = where.outside(0, n) if e.fill is not None else not where.inside(0, n)
            if leaves and not _wide(c) and i not in steps:
                word = "is always" if where.outside(0, n) else "can be"
                self.report.error(
                    "out-of-range",
                    f"index {i} of `{e.tensor}`, `{show(c)}`, {word} outside 0 to {n - 1}",
                    c.loc or e.loc, [f"0 to {n - 1}"],
                    "" if e.fill is not None else "say what lies outside: `else 0`",
                )  # fmt: skip


def _wide(c: Expr) -> bool:
    """True for forms whose interval is not exact, so that no error may rest on it."""
    seen: list[str] = []

    def go(e: Expr) -> bool:
        if isinstance(e, Var):
            seen.append(e.name)
        if isinstance(e, Ref | Call | Reduce):
            return True
        if isinstance(e, Bin):
            return go(e.lhs) or go(e.rhs)
        return isinstance(e, Neg) and go(e.arg)

    return go(c) or len(seen) != len(set(seen))


def _join(*kinds: str) -> str:
    if "unknown" in kinds:
        return "unknown"
    return "float" if "float" in kinds else kinds[0] if len(set(kinds)) == 1 else "int"


def _a(kind: str) -> str:
    return {"int": "an integer", "float": "a number", "bool": "a condition"}.get(kind, kind)


def _at(bad: Invalid, loc: Loc | None) -> Invalid:
    bad.loc = loc
    return bad
