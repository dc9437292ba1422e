"""Hypothesis strategies for whole files: ops of every expression kind, kernels, programs, tuned
blocks; and for the many ways to write the same text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from ke_ir.expr import (
    FUNCTIONS,
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
)
from ke_ir.ir import (
    DimDecl,
    Equation,
    Item,
    Kernel,
    KernelCall,
    Module,
    Once,
    OpDef,
    Param,
    Program,
    Repeat,
    Temp,
    Tuned,
    View,
)
from ke_ir.lexer import Cursor
from ke_ir.ops import REGISTRY
from ke_ir.parser import inherit_dims, parse
from ke_ir.types import DType, TensorType
from tests.ir.kernel_strategies import FLOATS, INTS, kernels

Draw = Callable[[Any], Any]

FLOAT_FUNCTIONS = [f for f in FUNCTIONS if f not in ("not", "select", "floor", "ceil", "round",
                                                     "trunc")]  # fmt: skip
ROUNDING = ("floor", "ceil", "round", "trunc")


@st.composite
def op_defs(draw: Draw, name: str = "f") -> OpDef:
    """An op that verifies: intermediates, outputs of every kind, all node kinds below them."""
    return _OpBuilder(draw).build(name)


class _OpBuilder:
    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.fresh = 0
        self.made: dict[str, str] = {}

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def build(self, name: str) -> OpDef:
        n, d = self.draw(st.integers(3, 40)), self.draw(st.integers(3, 40))
        low, high = (None, None) if self.draw(st.booleans()) else (1, 65536)
        dims = (DimDecl("N", Num(n), low, high), DimDecl("D", Num(d)),
                DimDecl("M", Bin("*", Num(2), Dim("D"))))  # fmt: skip
        ins = tuple(Param(p, TensorType(self.pick(of), shape)) for p, of, shape in (
            ("x", FLOATS, (Dim("N"), Dim("D"))), ("w", FLOATS, (Dim("D"),)),
            ("ids", INTS, (Dim("N"),)), ("offsets", INTS, (Bin("+", Dim("N"), Num(1)),)),
            ("keep", [DType.I1], (Dim("N"),)), ("s", FLOATS, ()),
        ))  # fmt: skip
        equations = []
        for i in range(self.draw(st.integers(0, 2))):
            kind = self.pick(("float", "int", "bool"))
            equations.append(self.equation(f"t{i}", kind))
            self.made[f"t{i}"] = kind
        outs = []
        for i, kind in enumerate(self.draw(st.permutations(("float", "int", "bool")))[:2]):
            of = {"float": FLOATS, "int": INTS, "bool": [DType.I1]}[kind]
            outs.append(Param(f"y{i}", TensorType(self.pick(of), (Dim("N"), Dim("D")))))
            equations.append(self.equation(f"y{i}", kind))
        return OpDef(name, ins, tuple(outs), dims, tuple(equations))

    def equation(self, target: str, kind: str) -> Equation:
        explicit = target[0] == "t" or self.draw(st.booleans())
        rows = Range("i", Num(0), Dim("N")) if explicit else Range("i")
        columns = Range("j", Num(0), Dim("D")) if explicit else Range("j")
        return Equation(target, (rows, columns), self.expr(kind, 3, ("i", "j")))

    def expr(self, kind: str, depth: int, bound: tuple[str, ...]) -> Expr:
        return getattr(self, f"_{kind}")(depth, bound)  # type: ignore[no-any-return]

    def leaf(self, options: list[Expr], kind: str) -> Expr:
        made = [Ref(t, (Var("i"), Var("j"))) for t, k in self.made.items() if k == kind]
        return self.pick([*options, *made])

    def _float(self, depth: int, bound: tuple[str, ...]) -> Expr:
        number = Num(self.draw(st.floats(allow_nan=False) | st.just(math.nan)))
        shifted = Ref("x", (Var("i"), Bin(self.pick("+-"), Var("j"), Num(self.pick((1, 2))))),
                      self.pick((Num(0), Num(-1.5), Dim("D"), Num(-math.inf))))  # fmt: skip
        gathered = Ref("w", (Ref("ids", (Var("i"),)),), Num(0))
        options: list[Expr] = [number, shifted, gathered, Ref("x", (Var("i"), Var("j"))),
                               Ref("w", (Var("j"),)), Ref("s", ())]  # fmt: skip
        form = self.pick(("leaf", "bin", "neg", "call", "select", "reduce")) if depth else "leaf"
        if form == "bin":
            kinds = self.pick((("float", "float"), ("int", "float"), ("float", "int")))
            lhs, rhs = (self.expr(k, depth - 1, bound) for k in kinds)
            return Bin(self.pick(("+", "-", "*", "/")), lhs, rhs)
        if form == "neg":
            return Neg(self._float(depth - 1, bound))
        if form == "call":
            fn = self.pick(FLOAT_FUNCTIONS)
            return Call(fn, tuple(self._float(depth - 1, bound) for _ in range(FUNCTIONS[fn])))
        if form == "select":
            c = self._bool(depth - 1, bound)
            return Call("select", (c, self._float(depth - 1, bound), self._float(0, bound)))
        if form == "reduce":
            return self.reduction(self.pick(("sum", "prod", "max", "min")), "float", depth, bound)
        return self.leaf(options, "float")

    def _int(self, depth: int, bound: tuple[str, ...]) -> Expr:
        options: list[Expr] = [Num(self.draw(st.integers(-(2**63), 2**63))), Dim("D"),
                               *map(Var, bound), Ref("ids", (Var("i"),))]  # fmt: skip
        form = self.pick(("leaf", "bin", "div", "neg", "call", "reduce")) if depth else "leaf"
        if form == "bin":
            return Bin(self.pick("+-*"), self._int(depth - 1, bound), self._int(depth - 1, bound))
        if form == "div":
            by = Num(self.draw(st.integers(-9, 9).filter(bool)))
            return Bin(self.pick(("//", "%")), self._int(depth - 1, bound), by)
        if form == "neg":
            return Neg(self._int(depth - 1, bound))
        if form == "call" and self.draw(st.booleans()):
            return Call(self.pick(ROUNDING), (self._float(depth - 1, bound),))
        if form == "call":
            return Call(self.pick(("min", "max")), (self._int(depth - 1, bound), Num(7)))
        if form == "reduce":
            if self.draw(st.booleans()):
                return self.reduction(self.pick(("argmax", "argmin")), "float", depth, bound)
            return self.reduction(self.pick(("sum", "max")), "int", depth, bound)
        return self.leaf(options, "int")

    def _bool(self, depth: int, bound: tuple[str, ...]) -> Expr:
        form = self.pick(("leaf", "cmp", "and", "not", "reduce", "equal")) if depth else "leaf"
        if form == "cmp":
            kind = self.pick(("int", "float"))
            op = self.pick(("<", "<=", ">", ">=", "==", "!="))
            return Bin(op, self.expr(kind, depth - 1, bound), self.expr(kind, 0, bound))
        if form in ("and", "equal"):
            op = self.pick(("and", "or") if form == "and" else ("==", "!="))
            return Bin(op, self._bool(depth - 1, bound), self._bool(depth - 1, bound))
        if form == "not":
            return Call("not", (self._bool(depth - 1, bound),))
        if form == "reduce":
            return self.reduction(self.pick(("any", "all")), "bool", depth, bound)
        return self.leaf([Ref("keep", (Var("i"),)), Bin("<", Var("i"), Var("j"))], "bool")

    def reduction(self, kind: str, of: str, depth: int, bound: tuple[str, ...]) -> Expr:
        """Over a range from where an index stands alone, explicit, or read from a tensor."""
        self.fresh += 1
        k, other = f"k{self.fresh}", f"l{self.fresh}"
        form = self.pick(("inferred", "explicit", "jagged", "two"))
        at = {"float": Ref("x", (Var("i"), Var(k))), "int": Var(k),
              "bool": Bin(">=", Ref("w", (Var(k),)), Num(0.5))}[of]  # fmt: skip
        if form == "inferred" and of != "int":
            ranges: tuple[Range, ...] = (Range(k),)
        elif form == "jagged":
            i = Var("i")
            hi = Ref("offsets", (Bin("+", i, Num(1)),))
            ranges = (Range(k, Ref("offsets", (i,)), hi),)
        else:
            hi = self.pick((Dim("D"), Num(3), Bin("-", Dim("D"), Num(2))))
            ranges = (Range(k, self.pick((Num(0), Num(1))), hi),)
            if form == "two" and not kind.startswith("arg"):
                ranges += (Range(other, Num(0), Dim("M")),)
        op = {"float": self.pick("+*-"), "int": "+", "bool": "and"}[of]
        body = Bin(op, at, self.expr(of, min(depth, 2) - 1, (*bound, *(r.name for r in ranges))))
        return Reduce(kind, ranges, body)


def step_kernel(dtype: DType) -> Kernel:
    """``y = a`` row by row: something for a ``repeat`` to call on parts of tensors."""
    return parse(
        f"kernel @step(%a: {dtype}[W]) -> (%y: {dtype}[W]) dims W = 5 {{\n"
        "  parallel %i = 0 to W tile 4 {\n"
        f"    store load %a[%i] : {dtype}[4], %y[%i]\n  }}\n}}"
    ).kernels["step"]


@st.composite
def program_pairs(draw: Draw) -> tuple[Item, ...]:
    """A kernel, the step kernel, and a program that calls both, in ``once`` and ``repeat`` too."""
    k = draw(kernels("part"))
    t, dtype = draw(st.integers(1, 5)), draw(st.sampled_from(list(DType)))
    shape = (Dim("T"), Num(draw(st.integers(1, 9))))
    dims = (*k.dims, DimDecl("T", Num(t)))
    ins = (*k.inputs, Param("steps", TensorType(dtype, shape)))
    outs = (*k.outputs, Param("seen", TensorType(dtype, shape)))
    call = KernelCall("part", tuple(View(p.name) for p in k.inputs),
                      tuple(View(f"tmp_{p.name}") for p in k.outputs))  # fmt: skip
    temps = tuple(Temp(f"tmp_{p.name}", p.type) for p in k.outputs)
    first: tuple[Any, ...] = (*temps, call)
    if draw(st.booleans()):
        first = (*temps, Once((call,)))
    again = KernelCall("part", call.args, tuple(View(p.name) for p in k.outputs))
    at = (Var("t"),)
    moved = KernelCall("step", (View("steps", at),), (View("seen", at),))
    loop = Repeat("t", Num(0), Dim("T"), (moved,))
    last = (again, loop) if draw(st.booleans()) else (loop, again)
    return (k, step_kernel(dtype), Program("whole", ins, outs, dims, (*first, *last)))


@st.composite
def tuned_blocks(draw: Draw, kernel: str) -> Tuned:
    names = st.sampled_from(("num_warps", "waves_per_eu", "for_", "x1", "in"))
    knobs = draw(
        st.dictionaries(
            names,
            st.one_of(
                st.integers(-(10**9), 10**9), st.booleans(), st.sampled_from(("fast", "row_major"))
            ),
        )
    )
    target, arch = draw(st.sampled_from((("nvidia", "sm_90"), ("amd", "gfx942"), ("kea", "kea1"))))
    return Tuned(kernel, target, arch, tuple(knobs.items()))


@st.composite
def modules(draw: Draw) -> Module:
    """A file of one or several items that verifies."""
    form = draw(st.sampled_from(("kernel", "op", "program", "all")))
    items: tuple[Item, ...] = ()
    if form in ("op", "all"):
        items += (draw(op_defs()),)
    if form == "kernel":
        items += (draw(kernels("part")),)
    if form in ("program", "all"):
        items += draw(program_pairs())
    if form != "op":
        items += tuple(draw(st.lists(tuned_blocks("part"), max_size=2)))
    return Module(inherit_dims(items))


# Other ways to write the same.

_SPACE = (" ", "  ", "\n", "\t", "\r\n", "\n\n  ", " # a note { ( [ %x\n", "#\n")
_CLOSED = frozenset("()[]{},")


@st.composite
def rewritten(draw: Draw, text: str) -> str:
    """The same tokens with other white space and with comments between them."""
    spaces = draw(st.lists(st.sampled_from(_SPACE), min_size=8, max_size=8))
    tokens = Cursor(text).texts[:-1]
    tight = draw(st.booleans())
    out = [draw(st.sampled_from(("", "\n", "# first\n\n", "\t")))]
    for i, token in enumerate(tokens):
        out.append(token)
        after = tokens[i + 1] if i + 1 < len(tokens) else ""
        if not (tight and (token in _CLOSED or after in _CLOSED)):
            out.append(spaces[(i * 7 + len(token)) % len(spaces)])
    return "".join(out)


def nested_operands(text: str) -> str:
    """The same kernels with values that only the next statement uses written in its operands."""
    lines = text.split("\n")
    i = 0
    first = len(text)  # where in the next line an operand has been written in place
    while i + 1 < len(lines):
        at = _place(text, lines[i], lines[i + 1])
        if at is None or at.start() >= first:  # in another place, the order would change
            i, first = i + 1, len(text)
            continue
        lines[i + 1] = lines[i + 1][: at.start()] + _op(lines[i]) + lines[i + 1][at.end() :]
        del lines[i]
        i, first = max(i - 1, 0), at.start() if i else first
        text = "\n".join(lines)
    return text


def _op(line: str) -> str:
    return line.split(" = ", 1)[1]


def _place(text: str, line: str, after: str) -> re.Match[str] | None:
    """Where in ``after`` the value that ``line`` defines is an operand, and used nowhere else."""
    found = re.fullmatch(r" *%(\w+) = (\w+)( .*)", line)
    # After `dot %a, %b` a comma would begin its accumulator.
    if not found or found[2] not in REGISTRY or found[2] == "dot":
        return None
    used = list(re.finditer(rf"%{found[1]}\b", text))
    word = re.sub(r"^ *(%\w+ = )?", "", after).split(" ")[0]
    takes = word == "yield" or (word in REGISTRY and word not in ("iota", "load", "full"))
    at = re.search(rf"%{found[1]}\b", after)
    if len(used) != 2 or not takes or at is None:
        return None
    if after[at.end() :].startswith(" ["):  # a type before it would take the brackets for its own
        return None
    inside = after[: at.start()].count("[") > after[: at.start()].count("]")
    return None if inside else at
