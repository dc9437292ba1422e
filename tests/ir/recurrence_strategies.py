"""Hypothesis strategies for random recurrences, and what they mean written out step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ke_ir.derive.recurrent import mapped
from ke_ir.expr import Bin, Call, Dim, Expr, Num, Range, Reduce, Ref, Var
from ke_ir.ir import DimDecl, Equation, OpDef, Param
from ke_ir.types import DType, TensorType

Draw = Callable[[Any], Any]
STEPS = 4


@st.composite
def recurrences(draw: Draw) -> OpDef:
    """One or two equations along ``t``, up or down, over one more index of 3 or 5 places.

    ``tanh`` keeps values small. The steps' dimension is anywhere, outputs of any float dtype.
    """
    up = draw(st.booleans())
    before = Bin("-" if up else "+", Var("t"), Num(1))
    names = ["h", "c"][: draw(st.integers(1, 2))]
    first = {n: draw(st.booleans()) for n in names}

    def pick(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    def element(name: str, at: Expr, index: Expr, fill: Expr | None) -> Ref:
        return Ref(name, (at, index) if first[name] else (index, at), fill)

    def fill(index: str) -> Expr:
        return pick(
            Num(0.0), Num(0.5), Ref("s", (Var(index),)), Bin("*", Var("t"), Num(0.25)),
            Reduce("sum", (Range("m"),), Bin("*", Ref("s", (Var("m"),)), Num(0.1))),
        )  # fmt: skip

    def term(known: list[str]) -> Expr:
        form = pick("own", "sum", "sum", "given", "position", "neighbour", "now", "product")
        name = pick(*names)
        if form == "own":
            return element(name, before, Var("b"), fill("b"))
        if form == "sum":
            k = Var("k")
            body = Bin("*", element(name, before, k, fill("k")), Ref("w", (Var("b"), k)))
            return Reduce("sum", (Range("k", Num(0), Dim("B")),), body)
        if form == "position":
            return Bin("*", Var("t"), Num(0.125))
        if form == "neighbour":
            return element(name, before, Bin("+", Var("b"), Num(pick(-1, 1, 0))), fill("b"))
        if form == "now" and known:
            return element(pick(*known), Var("t"), Var("b"), None)
        if form == "product":
            body = Bin("*", Ref("x", (Var("i"), Var("t"))), Ref("w", (Var("b"), Var("i"))))
            return Reduce("sum", (Range("i", Num(0), Dim("B")),), body)
        return Ref("x", (Var("b"), Var("t")))

    equations = []
    for i, name in enumerate(names):
        parts = [term(names[:i]) for _ in range(draw(st.integers(1, 3)))]
        rhs: Expr = element(pick(*names), before, Var("b"), fill("b"))
        for p in parts:
            rhs = Bin(pick("+", "-", "*"), rhs, p)
        if draw(st.booleans()):
            rhs = Call("select", (Bin("<", Var("t"), Num(pick(1, 2, 3))), p, rhs))
        ranges = (Range("t", Num(0), Dim("T")), Range("b", Num(0), Dim("B")))
        equations.append(
            Equation(name, ranges if first[name] else ranges[::-1], Call("tanh", (rhs,)))
        )
    outs = [n for n in names if draw(st.booleans())] or names[-1:]
    dtypes = {n: pick(DType.F32, DType.F16, DType.F64) for n in outs}
    shape = (Dim("T"), Dim("B"))
    outputs = tuple(
        Param(n, TensorType(dtypes[n], shape if first[n] else shape[::-1])) for n in outs
    )
    inputs = tuple(
        Param(n, TensorType(DType.F32, tuple(map(Dim, dims))))
        for n, dims in (("x", "BT"), ("w", "BB"), ("s", "B"))
    )
    size = pick(3, 5)
    dims = (DimDecl("T", Num(STEPS), 1, 100), DimDecl("B", Num(size)))
    return OpDef("f", inputs, outputs, dims, tuple(equations))


def written_out(op: OpDef, steps: int) -> OpDef:
    """The op as one equation for each step, without a recurrence: ``h3[b]`` for ``h[3, b]``."""
    place = {e.target: [r.name for r in e.ranges].index("t") for e in op.equations}
    up = not any(
        isinstance(i, Bin) and i == Bin("+", Var("t"), Num(1))
        for e in op.equations for r in _elements(e.rhs) if r.tensor in place for i in r.indices
    )  # fmt: skip
    order = list(range(steps) if up else reversed(range(steps)))

    def at(e: Expr, step: int) -> Expr:
        if e == Var("t"):
            return Num(step)
        if isinstance(e, Ref) and e.tensor in place:
            where = e.indices[place[e.tensor]]
            other = step if where == Var("t") else step - 1 if up else step + 1
            rest = tuple(at(i, step) for k, i in enumerate(e.indices) if k != place[e.tensor])
            if not 0 <= other < steps:
                assert e.fill is not None
                return at(e.fill, step)
            fill = None if e.fill is None else at(e.fill, step)
            return Ref(f"{e.tensor}{other}", rest, fill)
        return mapped(e, lambda x: at(x, step))

    equations = [
        Equation(f"{e.target}{s}", tuple(r for r in e.ranges if r.name != "t"), at(e.rhs, s))
        for s in order for e in op.equations
    ]  # fmt: skip
    outputs = tuple(
        Param(f"{p.name}{s}", TensorType(DType.F64, (Dim("B"),)))
        for p in op.outputs for s in range(steps)
    )  # fmt: skip
    dims = (replace(op.dims[0], size=Num(steps), low=None, high=None), *op.dims[1:])
    return replace(op, outputs=outputs, dims=dims, equations=tuple(equations))


def _elements(e: Expr) -> list[Ref]:
    from ke_ir.expr import walk

    return [n for n in walk(e) if isinstance(n, Ref)]
