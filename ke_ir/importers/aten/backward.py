"""Gradients of activations, pads and averages that PyTorch keeps as operators of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar, mapped
from ke_ir.importers.aten.pooling import window_ends
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten, whole
from ke_ir.index_maps import add

Share = Callable[[int, Expr, Expr], tuple[Expr, Expr]]
"""For dim, place and result: whether the result reads the place, and by what it is divided."""


def collected(node: Node, grad: Value, rank: int, share: Share) -> Value:
    """For each place the gradients of all results over the last dims that read it."""

    def element(i: Index) -> Expr:
        lead = list(i[: len(i) - rank])

        def part(o: Index) -> Expr:
            e = grad[[*lead, *o]]
            for k, (place, result) in enumerate(zip(i[len(lead) :], o, strict=True)):
                reads, by = share(k, place, result)
                e = select(reads, e if by == Num(1) else Bin("/", e, by), Num(0.0))
            return e

        return node.reduce("sum", grad.shape[len(lead) :], part)

    return node.define(element)


@aten("_adaptive_avg_pool2d_backward.default")
def adaptive_avg_pool2d_backward(node: Node, grad: Value, x: Value) -> Value:
    return _adaptive(node, grad, x, 2)


@aten("_adaptive_avg_pool3d_backward.default")
def adaptive_avg_pool3d_backward(node: Node, grad: Value, x: Value) -> Value:
    return _adaptive(node, grad, x, 3)


def _adaptive(node: Node, grad: Value, x: Value, rank: int) -> Value:
    ins, outs = ([whole(n) for n in v.shape[-rank:]] for v in (x, grad))

    def share(k: int, place: Expr, result: Expr) -> tuple[Expr, Expr]:
        start, end = window_ends(result, ins[k], outs[k])
        return Bin("and", Bin(">=", place, start), Bin("<", place, end)), Bin("-", end, start)

    return collected(node, grad, rank, share)


@aten("replication_pad1d_backward.default", "replication_pad2d_backward.default",
      "replication_pad3d_backward.default")  # fmt: skip
def replication_pad_backward(node: Node, grad: Value, x: Value, pad: Sequence[int]) -> Value:
    rank = len(pad) // 2
    ins = [whole(n) for n in x.shape[-rank:]]

    def share(k: int, place: Expr, result: Expr) -> tuple[Expr, Expr]:
        own = add(result, Num(-pad[2 * (rank - 1 - k)]))
        read = Call("min", (Call("max", (own, Num(0))), Num(ins[k] - 1)))
        return Bin("==", read, place), Num(1)

    return collected(node, grad, rank, share)


def _nearest(node: Node, grad: Value, rank: int, exact: bool) -> Value:
    ins, outs = ([whole(n) for n in shape[-rank:]] for shape in (node.shape, grad.shape))

    def share(k: int, place: Expr, result: Expr) -> tuple[Expr, Expr]:
        n, m = ins[k], outs[k]
        if exact:
            doubled = Bin("+", Bin("*", result, Num(2 * n)), Num(n))
            return Bin("==", Bin("//", doubled, Num(2 * m)), place), Num(1)
        return Bin("==", Bin("//", Bin("*", result, Num(n)), Num(m)), place), Num(1)

    return collected(node, grad, rank, share)


def _register(name: str, rank: int, exact: bool) -> None:
    @aten(f"{name}.default")
    def handler(node: Node, grad: Value, *_: object) -> Value:
        return _nearest(node, grad, rank, exact)


for _rank in (1, 2, 3):
    _register(f"upsample_nearest{_rank}d_backward", _rank, False)
    _register(f"_upsample_nearest_exact{_rank}d_backward", _rank, True)


# Activations


@aten("silu_backward.default")
def silu_backward(node: Node, grad: Value, x: Value) -> Value:
    def f(g: Expr, e: Expr) -> Expr:
        s = Call("sigmoid", (e,))
        slope = Bin("+", Num(1.0), Bin("*", e, Bin("-", Num(1.0), s)))
        return Bin("*", g, Bin("*", s, slope))

    return mapped(node, f, grad, x)


@aten("mish_backward.default")
def mish_backward(node: Node, grad: Value, x: Value) -> Value:
    named = Node(f"{node.name}_tanh", node.builder, node.results)
    t = mapped(named, lambda e: Call("tanh", (Call("log", (
        Bin("+", Num(1.0), Call("exp", (e,))),)),)), x)  # fmt: skip

    def f(g: Expr, e: Expr, tanh: Expr) -> Expr:
        rest = Bin("-", Num(1.0), Bin("*", tanh, tanh))
        slope = Bin("*", Bin("*", e, Call("sigmoid", (e,))), rest)
        return Bin("*", g, Bin("+", tanh, slope))

    return mapped(node, f, grad, x, t)


@aten("hardshrink_backward.default", "softshrink_backward.default")
def shrink_backward(node: Node, grad: Value, x: Value, width: Scalar) -> Value:
    return mapped(node, lambda g, e: select(
        Bin("<=", absolute(e), Num(float(width))), Num(0.0), g), grad, x)  # fmt: skip
