"""Which kind of op an op is, by its equations alone, so that notes for that kind are found."""

from __future__ import annotations

from ke_ir.expr import Bin, Call, Expr, Reduce, Ref, Var, walk
from ke_ir.ir import OpDef

_ROOTS = ("sqrt", "rsqrt")
_EXPONENTIALS = ("exp", "exp2")


def op_kind(op: OpDef) -> str:
    """One of ``notes.OPS``: the first that fits, from the most to the least special."""
    parts = [e for equation in op.equations for e in walk(equation.rhs)]
    reductions = [e for e in parts if isinstance(e, Reduce)]
    if any(_jagged(r) for r in reductions):
        return "jagged"
    softmax = any(r.kind == "max" for r in reductions) and _calls(parts, _EXPONENTIALS)
    products = [r for r in reductions if _is_product(r)]
    if softmax and len(products) > 1:
        return "attention"
    if any(_moving(r) for r in products):
        return "conv"
    if any(isinstance(e, Ref) and any(_reads(i) for i in e.indices) for e in parts):
        return "gather"
    if products:
        return "matmul"
    if softmax:
        return "softmax"
    if reductions:
        return "norm" if _calls(parts, _ROOTS) else "reduction"
    return "pointwise"


def _calls(parts: list[Expr], functions: tuple[str, ...]) -> bool:
    return any(isinstance(e, Call) and e.fn in functions for e in parts)


def _reads(e: Expr) -> bool:
    return any(isinstance(x, Ref) for x in walk(e))


def _jagged(r: Reduce) -> bool:
    return any(b is not None and _reads(b) for g in r.ranges for b in (g.lo, g.hi))


def _is_product(r: Reduce) -> bool:
    """A sum of products of two tensors, each with an index that the other lacks."""
    body = r.body
    if r.kind != "sum" or not (isinstance(body, Bin) and body.op == "*"):
        return False
    reads = [e for e in walk(body) if isinstance(e, Ref)]
    names = [{x.name for i in e.indices for x in walk(i) if isinstance(x, Var)} for e in reads]
    summed = {g.name for g in r.ranges}
    return any(
        a.tensor != b.tensor and x - y and y - x and x & y & summed
        for a, x in zip(reads, names, strict=True)
        for b, y in zip(reads, names, strict=True)
    )


def _moving(r: Reduce) -> bool:
    """A subscript adds a summed index to another one, as the window of a convolution does."""
    summed = {g.name for g in r.ranges}
    for e in walk(r.body):
        for index in e.indices if isinstance(e, Ref) else ():
            names = {x.name for x in walk(index) if isinstance(x, Var)}
            if names & summed and names - summed:
                return True
    return False
