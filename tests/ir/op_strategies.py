"""Hypothesis strategies for random well-typed ops over the subset that derives.

``ops()`` gives an op with sizes to check it at. The ops are built so that two correct evaluations
agree to rounding: no condition, rounding or position depends on a sum of floats, divisors stay
away from zero, and growing functions are bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Range, Reduce, Ref, Var, walk
from ke_ir.ir import DimDecl, Equation, OpDef, Param
from ke_ir.types import DType, TensorType

Draw = Callable[[Any], Any]

FLOATS = (DType.F32, DType.F16, DType.BF16, DType.F8E4M3, DType.F8E5M2, DType.F64)
INTS = (DType.I32, DType.I64, DType.I8, DType.U8, DType.I16)
SIZES = (1, 2, 3, 5, 8, 13, 17, 33)
SMALL = 2000
"""Elements of a loop nest beyond which checking takes too long."""


@dataclass(frozen=True)
class Sample:
    """An op, the sizes to check it at, and the limits of the integers in its index tensors."""

    op: OpDef
    sizes: dict[str, int]
    index_dims: dict[str, str]

    @property
    def limits(self) -> dict[str, int]:
        return {n: self.sizes[d] for n, d in self.index_dims.items()}


@dataclass
class Tensor:
    """What an expression may refer to: ``exact`` unless it holds sums of floats."""

    name: str
    kind: str
    dims: tuple[str, ...]
    exact: bool = True


@dataclass
class Writer:
    """Draws expressions. ``context`` gives the dim of each index in scope."""

    draw: Draw
    tensors: list[Tensor]
    indexers: dict[str, tuple[str, str]]
    dims: list[str]
    count: int = 0
    context: dict[str, str] = field(default_factory=dict)

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def chance(self, n: int) -> bool:
        return bool(self.draw(st.integers(1, n)) == 1)

    def fresh(self) -> str:
        self.count += 1
        return f"i{self.count}"

    # Leaves

    def subscript(self, dim: str) -> tuple[Expr, bool]:
        """A subscript for a dimension of size ``dim``; whether it may lie outside."""
        own = [i for i, d in self.context.items() if d == dim]
        form = self.pick("own", "own", "own", "shift", "gather", "other", "computed")
        if form == "own" and own:
            return Var(self.pick(*own)), False
        if form == "shift" and own:
            return Bin(self.pick("+", "-"), Var(self.pick(*own)), Num(self.pick(1, 2))), True
        source = [n for n, (inside, over) in self.indexers.items()
                  if inside == dim and over in self.context.values()]  # fmt: skip
        if form == "gather" and source:
            name = self.pick(*source)
            at = [i for i, d in self.context.items() if d == self.indexers[name][1]]
            return Ref(name, (Var(self.pick(*at)),)), False
        if self.context and form in ("other", "computed"):
            v: Expr = Var(self.pick(*self.context))
            if form == "computed":
                return Bin("%", v, Dim(dim)), False
            how = self.pick("//", "*", "+")
            if how == "+" and len(self.context) > 1:
                return Bin("+", v, Var(self.pick(*self.context))), True
            return Bin("//" if how == "//" else "*", v, Num(2)), True
        if own:
            return Var(self.pick(*own)), False
        return Num(0), False

    def element(self, kind: str, exact: bool) -> Expr | None:
        known = [t for t in self.tensors if t.kind == kind and (t.exact or not exact)]
        if not known:
            return None
        t = self.pick(*known)
        subs = [self.subscript(d) for d in t.dims]
        fill: Expr | None = None
        if any(outside for _, outside in subs):
            fill = {"float": Num(self.pick(0.0, 1.0, -2.5)), "int": Num(self.pick(0, 1, -1)),
                    "bool": Bin("<", Num(1), Num(2))}[kind]  # fmt: skip
        return Ref(t.name, tuple(s for s, _ in subs), fill)

    def leaf(self, kind: str, exact: bool) -> Expr:
        e = self.element(kind, exact) if not self.chance(5) else None
        if e is not None:
            return e
        if kind == "bool":
            return Bin(self.pick("<", "==", ">="), self.leaf("int", True), Num(1))
        if kind == "float":
            return Num(self.pick(0.5, -1.25, 2.0))
        if self.context and self.chance(2):
            return Var(self.pick(*self.context))
        return Dim(self.pick(*self.dims)) if self.chance(3) else Num(self.pick(0, 1, 3, -2))

    # Expressions

    def expression(self, kind: str, depth: int, exact: bool = False) -> Expr:
        if depth == 0 or self.chance(4):
            return self.leaf(kind, exact)
        return {"float": self.real, "int": self.integer, "bool": self.condition}[kind](depth, exact)

    def real(self, depth: int, exact: bool) -> Expr:
        def sub(kind: str = "float") -> Expr:
            return self.expression(kind, depth - 1, exact)

        form = self.pick(
            "binary", "binary", "unary", "select", "divide", "mixed", "reduce", "reduce"
        )
        if form == "binary":
            return Bin(self.pick("+", "-", "*"), sub(), sub())
        if form == "unary":
            fn = self.pick("tanh", "sigmoid", "abs", "sin", "erf", "exp", "sqrt", "neg", "rsqrt")
            if fn == "neg":
                return Neg(sub())
            if fn == "exp":
                return Call("exp", (Call("min", (sub(), Num(2.0))),))
            if fn in ("sqrt", "rsqrt"):
                return Call(fn, (Bin("+", Call("abs", (sub(),)), Num(1.0)),))
            return Call(fn, (sub(),))
        if form == "select":
            if self.chance(2):
                return Call(self.pick("min", "max"), (sub(), sub()))
            return Call("select", (self.expression("bool", depth - 1, True), sub(), sub()))
        if form == "divide":
            return Bin("/", sub(), Bin("+", Call("abs", (sub(),)), Num(1)))
        if form == "mixed":
            return Bin(self.pick("+", "*"), sub(), sub("int"))
        if exact:
            return self.reduction(self.pick("max", "min"), "float", depth, True)
        return self.reduction(self.pick("sum", "sum", "sum", "max", "min"), "float", depth, False)

    def integer(self, depth: int, exact: bool) -> Expr:
        def sub() -> Expr:
            return self.expression("int", depth - 1, exact)

        form = self.pick("binary", "binary", "divide", "select", "reduce", "position", "floor")
        if form == "binary":
            return Bin(self.pick("+", "-", "*"), sub(), sub())
        if form == "divide":
            return Bin(self.pick("//", "%"), sub(), Num(self.pick(2, 3, -5)))
        if form == "select":
            if self.chance(2):
                return Call(self.pick("min", "max"), (sub(), sub()))
            return Call("select", (self.expression("bool", depth - 1, True), sub(), sub()))
        if form == "floor":
            leaf = self.leaf("float", True)
            return Call(self.pick("floor", "round"), (Bin("*", leaf, Num(3.0)),))
        if form == "reduce":
            return self.reduction(self.pick("sum", "max", "min", "prod"), "int", depth, True)
        kind = self.pick("int", "float")
        return self.reduction(self.pick("argmax", "argmin"), kind, depth, True)

    def condition(self, depth: int, exact: bool) -> Expr:
        form = self.pick("compare", "compare", "logic", "not", "reduce")
        if form == "compare":
            kind = self.pick("int", "float")
            a, b = (self.expression(kind, depth - 1, True) for _ in range(2))
            return Bin(self.pick("<", "<=", ">", ">=", "==", "!="), a, b)
        if form == "logic":
            a, b = (self.expression("bool", depth - 1, True) for _ in range(2))
            return Bin(self.pick("and", "or", "==", "!="), a, b)
        if form == "not":
            return Call("not", (self.expression("bool", depth - 1, True),))
        return self.reduction(self.pick("any", "all"), "bool", depth, True)

    def reduction(self, kind: str, body: str, depth: int, exact: bool) -> Expr:
        n = 1 if kind.startswith("arg") or self.chance(2) else 2
        outer = dict(self.context)
        ranges = []
        for _ in range(n):
            name, dim = self.fresh(), self.pick(*self.dims)
            hi: Expr = Dim(dim)
            lo: Expr = Num(0)
            own = [i for i, d in self.context.items() if d == dim]
            if own and self.chance(4):
                at = Var(self.pick(*own))
                form = self.pick("to", "to", "before", "from", "after")
                if form == "to" or kind.startswith("arg"):
                    hi = Bin("+", at, Num(1))
                elif form == "before":
                    hi = at
                else:
                    lo = at if form == "from" else Bin("+", at, Num(1))
            elif self.chance(8) and not kind.startswith("arg"):
                lo = Num(1)
            ranges.append(Range(name, lo, hi))
            self.context[name] = dim
        if kind == "sum" and body == "float" and self.chance(2):
            inside = self.product(exact)
        else:
            inside = self.expression(body, depth - 1, exact)
        if kind == "prod":  # stays far from overflow
            inside = Call("max", (Call("min", (inside, Num(1))), Num(-1)))
        self.context = outer
        spans = [(r.lo, r.hi) for r in ranges]
        bare = any(lo != Num(0) or isinstance(hi, Var) for lo, hi in spans)
        empty = bare and kind in ("max", "min")
        made = Reduce(kind, tuple(ranges), inside)
        if empty:  # a range may be empty, and the extreme of nothing is infinite
            return Reduce("sum", tuple(ranges), inside)
        return made

    def product(self, exact: bool) -> Expr:
        """What contractions are made of: a product of elements."""
        out = self.leaf("float", exact)
        for _ in range(self.pick(1, 1, 2)):
            out = Bin(self.pick("*", "*", "*", "/") if self.is_safe(out) else "*", out,
                      self.leaf("float", exact))  # fmt: skip
            if isinstance(out, Bin) and out.op == "/":
                out = Bin("/", out.lhs, Bin("+", Call("abs", (out.rhs,)), Num(1)))
        return out

    def is_safe(self, e: Expr) -> bool:
        return self.chance(4)


def _cost(e: Expr, sizes: dict[str, int]) -> int:
    """Iterations of the deepest reduction nest, roughly."""
    inner = max((_cost(c, sizes) for c in _below(e)), default=1)
    if isinstance(e, Reduce):
        for r in e.ranges:
            names = [n.name for n in walk(r.hi or Num(1)) if isinstance(n, Dim)]
            inner *= max([sizes[n] for n in names], default=max(sizes.values()))
    return inner


def _below(e: Expr) -> tuple[Expr, ...]:
    from ke_ir.expr import children

    return children(e)


@st.composite
def ops(draw: Draw) -> Sample:
    """A random op of one to three equations with one or two outputs."""
    names = ["A", "B", "C", "D"][: draw(st.integers(1, 4))]
    sizes = {n: draw(st.sampled_from(SIZES)) for n in names}
    dims = []
    for n in names:
        default = draw(st.sampled_from((sizes[n], 64, 1024, 4000)))
        if draw(st.booleans()):
            dims.append(DimDecl(n, Num(default), 1, 1 << 16))
        else:
            dims.append(DimDecl(n, Num(default)))

    inputs: list[Param] = []
    tensors: list[Tensor] = []
    wide = draw(st.integers(1, 6)) == 1
    for i in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("float", "float", "float", "int", "bool")))
        floats = FLOATS if wide else FLOATS[:-1]
        dtype = {"float": draw(st.sampled_from(floats)), "int": draw(st.sampled_from(INTS)),
                 "bool": DType.I1}[kind]  # fmt: skip
        shape = tuple(draw(st.lists(st.sampled_from(names), min_size=0, max_size=3)))
        inputs.append(Param(f"x{i}", TensorType(dtype, tuple(Dim(s) for s in shape))))
        tensors.append(Tensor(f"x{i}", kind, shape))
    indexers: dict[str, tuple[str, str]] = {}
    if draw(st.booleans()):
        inside, over = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        indexers["ix"] = inside, over
        dtype = draw(st.sampled_from((DType.I32, DType.I64)))
        inputs.append(Param("ix", TensorType(dtype, (Dim(over),))))

    w = Writer(draw, tensors, indexers, names)
    equations: list[Equation] = []
    outputs: list[Param] = []
    count = draw(st.integers(1, 3))
    for i in range(count):
        over = draw(st.lists(st.sampled_from(names), min_size=0, max_size=3))
        ranges = [Range(w.fresh(), Num(0), Dim(d)) for d in over]
        w.context = {r.name: d for r, d in zip(ranges, over, strict=True)}
        kind = draw(st.sampled_from(("float", "float", "float", "int", "bool")))
        rhs = w.expression(kind, 3)
        total = _cost(rhs, sizes)
        if total > SMALL:
            rhs = w.expression(kind, 1)
        target = f"y{i}"
        exact = kind != "float" or not any(
            (isinstance(n, Reduce) and n.kind in ("sum", "prod"))
            or (isinstance(n, Ref) and any(t.name == n.tensor and not t.exact for t in w.tensors))
            for n in walk(rhs)
        )  # fmt: skip
        equations.append(Equation(target, tuple(ranges), rhs))
        w.tensors.append(Tensor(target, kind, tuple(over), exact))
        if i == count - 1 or draw(st.integers(1, 3)) == 1:
            dtype = {"float": draw(st.sampled_from((DType.F32, DType.F16, DType.F64)
                                                   if wide else (DType.F32, DType.F16))),
                     "int": draw(st.sampled_from((DType.I64, DType.I32, DType.I8))),
                     "bool": DType.I1}[kind]  # fmt: skip
            outputs.append(Param(target, TensorType(dtype, tuple(Dim(d) for d in over))))
    op = OpDef("f", tuple(inputs), tuple(outputs), tuple(dims), tuple(equations))
    return Sample(op, sizes, {n: inside for n, (inside, _) in indexers.items()})


@st.composite
def contractions(draw: Draw) -> Sample:
    """Sums of products: batched, flattened, transposed, with taps, factors and an epilogue."""
    sets = {
        "batch": draw(st.integers(0, 2)), "row": draw(st.integers(1, 3)),
        "column": draw(st.integers(1, 2)), "term": draw(st.integers(1, 2)),
    }  # fmt: skip
    groups = {k: [f"{k[0].upper()}{i}" for i in range(n)] for k, n in sets.items()}
    names = [n for g in groups.values() for n in g]
    sizes = {n: draw(st.sampled_from((1, 2, 3, 5, 8) if len(names) > 4 else SIZES)) for n in names}
    dims = []
    for n in names:
        default = draw(st.sampled_from((4, 9, 16, 40, 200, 1024)))
        ranged = draw(st.booleans())
        dims.append(DimDecl(n, Num(default), *((1, 1 << 16) if ranged else ())))
    index = {n: n.lower() for n in names}
    kind = draw(st.sampled_from(("float", "float", "float", "int")))
    dtypes = FLOATS[:-1] if kind == "float" else (DType.I8, DType.U8, DType.I32)
    first = draw(st.sampled_from(dtypes))
    second = first if draw(st.integers(1, 3)) > 1 else draw(st.sampled_from(dtypes))

    tap = draw(st.integers(1, 3)) == 1
    left = draw(st.permutations(groups["batch"] + groups["row"] + groups["term"]))
    right = draw(st.permutations(groups["batch"] + groups["column"] + groups["term"]))
    moved = draw(st.sampled_from(groups["row"]))
    taps = (Range("p", Num(0), Num(3)),) if tap else ()
    subs = tuple(
        Bin("-", Bin("+", Var(index[n]), Var("p")), Num(1)) if tap and n == moved else Var(index[n])
        for n in left
    )
    inputs = [
        Param("x", TensorType(first, tuple(Dim(n) for n in left))),
        Param("w", TensorType(second, tuple(Dim(n) for n in right) + ((Num(3),) if tap else ()))),
    ]
    body: Expr = Bin(
        "*",
        Ref("x", subs, Num(0) if tap else None),
        Ref("w", tuple(Var(index[n]) for n in right) + ((Var("p"),) if tap else ())),
    )
    if draw(st.booleans()):
        body = Bin("*", body.rhs, body.lhs)
    if kind == "float" and draw(st.integers(1, 3)) == 1:
        name = draw(st.sampled_from(names))
        inputs.append(Param("s", TensorType(DType.F32, (Dim(name),))))
        scale = Ref("s", (Var(index[name]),))
        if draw(st.booleans()):
            body = Bin("*", body, Call("exp", (Call("min", (scale, Num(1.0))),)))
        else:
            body = Bin("/", body, Bin("+", Call("abs", (scale,)), Num(1)))
    terms = [Range(index[n], Num(0), Dim(n)) for n in draw(st.permutations(groups["term"]))]
    rhs: Expr = Reduce("sum", (*terms, *taps), body)
    over = draw(st.permutations(groups["batch"] + groups["row"] + groups["column"]))
    ranges = tuple(Range(index[n], Num(0), Dim(n)) for n in over)
    if draw(st.booleans()):
        rhs = Bin("+", rhs, Var(index[over[0]]))
    out = DType.I64 if kind == "int" else draw(st.sampled_from((DType.F32, DType.F16)))
    equations = [Equation("h", ranges, rhs)]
    if draw(st.booleans()):
        again = Ref("h", tuple(Var(index[n]) for n in over))
        equations.append(Equation("y", ranges, Call("max", (again, Num(0)))))
    outputs = (Param(equations[-1].target, TensorType(out, tuple(Dim(n) for n in over))),)
    op = OpDef("f", tuple(inputs), outputs, tuple(dims), tuple(equations))
    return Sample(op, sizes, {})
