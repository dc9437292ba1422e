"""Greatest common divisors and least common multiples, by Euclid's algorithm."""

from __future__ import annotations

import math

from ke_ir.expr import Bin, Call, Expr, Num, Ref
from ke_ir.importers.aten.pointwise import element, mapped
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.index import add
from ke_ir.importers.registry import Node, aten


def _steps(bits: int) -> int:
    """Enough for any two integers: Fibonacci numbers take longest (Lame), after a first swap."""
    return math.ceil(bits / math.log2((1 + math.sqrt(5)) / 2)) + 2


@aten("gcd.default")
def gcd(node: Node, a: Value, b: Value) -> Value:
    """Steps of (x, y) to (y, x % y), until y is 0."""
    steps = _steps(node.dtype.bits)
    builder, shape = node.builder, (Num(steps), *node.shape)
    larger, smaller = builder.name(f"{node.name}_x"), builder.name(f"{node.name}_y")
    starts = {name: element(v, node.shape) for name, v in ((larger, a), (smaller, b))}

    def before(name: str, i: Index) -> Expr:
        return Ref(name, (add(i[0], Num(-1)), *i[1:]), Call("abs", (starts[name](i[1:]),)))

    def next_larger(i: Index) -> Expr:
        x, y = before(larger, i), before(smaller, i)
        return Call("select", (Bin("==", y, Num(0)), x, y))

    def next_smaller(i: Index) -> Expr:
        x, y = before(larger, i), before(smaller, i)
        rest = Bin("%", x, Call("max", (y, Num(1))))
        return Call("select", (Bin("==", y, Num(0)), Num(0), rest))

    found = builder.define(larger, shape, node.dtype, next_larger, True)
    builder.define(smaller, shape, node.dtype, next_smaller, True)
    return found.view(node.shape, lambda i: [Num(steps - 1), *i])


@aten("lcm.default")
def lcm(node: Node, a: Value, b: Value) -> Value:
    named = Node(f"{node.name}_gcd", node.builder, node.results)

    def f(x: Expr, y: Expr, common: Expr) -> Expr:
        share = Bin("//", Call("abs", (x,)), Call("max", (common, Num(1))))
        return Bin("*", share, Call("abs", (y,)))

    return mapped(node, f, a, b, gcd(named, a, b))
