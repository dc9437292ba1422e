"""Orthogonal polynomials by their recurrences of three terms (A&S 22.7), as PyTorch computes them.

A degree that is a tensor has no bound that an op could say, so there the recurrence goes as many
steps as PyTorch's own limit for Hermite polynomials (``MOST``), and each element keeps what it has
once its degree is reached. Above that limit the result is NaN, for all families; a degree that is
a number has no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Operand, element
from ke_ir.importers.aten.terms import plus, select, times
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import earlier
from ke_ir.types import DType

MOST = {DType.F64: 512}
"""The highest degree among those of a tensor."""
_MOST = 128
"""That of narrower floats."""

Term = Callable[[Expr, Expr], Expr]


def _twice(x: Expr) -> Expr:
    return times(Num(2.0), x)


@dataclass(frozen=True)
class Family:
    """P[k + 1] = ``now`` * P[k] - ``past`` * P[k - 1], by k and x; P[0] is 1.

    ``before`` stands for P[-1], so that the first step gives P[1].
    """

    now: Term
    past: Term
    before: Callable[[Expr], Expr] = lambda x: Num(0.0)


def _chebyshev(before: Callable[[Expr], Expr]) -> Family:
    return Family(lambda k, x: _twice(x), lambda k, x: Num(1.0), before)


def _over(k: Expr, e: Expr) -> Expr:
    return Bin("/", e, plus(k, Num(1)))


CHEBYSHEV = {
    "t": _chebyshev(lambda x: x),
    "u": _chebyshev(lambda x: Num(0.0)),
    "v": _chebyshev(lambda x: Num(1.0)),
    "w": _chebyshev(lambda x: Num(-1.0)),
}
FAMILIES = {
    "hermite_polynomial_h": Family(lambda k, x: _twice(x), lambda k, x: times(Num(2), k)),
    "hermite_polynomial_he": Family(lambda k, x: x, lambda k, x: k),
    "laguerre_polynomial_l": Family(
        lambda k, x: _over(k, Bin("-", plus(times(Num(2), k), Num(1)), x)),
        lambda k, x: _over(k, k)),
    "legendre_polynomial_p": Family(
        lambda k, x: _over(k, times(plus(times(Num(2), k), Num(1)), x)),
        lambda k, x: _over(k, k)),
    **{f"chebyshev_polynomial_{kind}": f for kind, f in CHEBYSHEV.items()},
}  # fmt: skip


def polynomial(node: Node, family: Family, x: Operand, n: Operand, shifted: bool) -> Value:
    """The member of degree ``n``, cut to an integer; 0 where that is negative."""
    if isinstance(n, Value):
        return _of_degrees(node, family, x, n, shifted)
    degree = int(n)
    if degree <= 0:
        return node.define(lambda _: Num(0.0 if degree < 0 else 1.0))
    at = _argument(node, x, shifted)
    found = _stepped(node, family, at, degree, lambda _i, _k, new, _old: new)
    return found.view(node.shape, lambda i: [Num(degree - 1), *i])


def _of_degrees(node: Node, family: Family, x: Operand, n: Value, shifted: bool) -> Value:
    at, wanted = _argument(node, x, shifted), element(n, node.shape)

    def degree(i: Index) -> Expr:
        return Call("trunc", (wanted(i),)) if n.dtype.is_float else wanted(i)

    def kept(i: Index, k: Expr, new: Expr, old: Expr) -> Expr:
        return select(Bin("<", k, degree(i)), new, old)

    most = MOST.get(node.dtype, _MOST)
    found = _stepped(node, family, at, most, kept)

    def whole(i: Index) -> Expr:
        above = select(Bin(">", degree(i), Num(most)), Num(math.nan),
                                found[[Num(most - 1), *i]])  # fmt: skip
        return select(Bin("<", degree(i), Num(0)), Num(0.0), above)

    return node.define(whole)


def _argument(node: Node, x: Operand, shifted: bool) -> Callable[[Index], Expr]:
    at = element(x, node.shape)
    return (lambda i: Bin("-", _twice(at(i)), Num(1.0))) if shifted else at


def _stepped(
    node: Node, family: Family, x: Callable[[Index], Expr], steps: int,
    kept: Callable[[Index, Expr, Expr, Expr], Expr],
) -> Value:  # fmt: skip
    """[steps, ...]: the polynomial after each step. ``kept`` chooses between new and old."""
    b, shape = node.builder, (Num(steps), *node.shape)
    now, past = b.name(f"{node.name}_now"), b.name(f"{node.name}_past")

    def new(i: Index) -> Expr:
        k, at = i[0], x(i[1:])
        old, last = earlier(now, i, Num(1.0)), earlier(past, i, family.before(at))
        step = Bin("-", times(family.now(k, at), old), times(family.past(k, at), last))
        return kept(i[1:], k, step, old)

    b.define(past, shape, node.dtype, lambda i: earlier(now, i, Num(1.0)), True)
    return b.define(now, shape, node.dtype, new, True)


def _register(name: str, family: Family, shifted: bool) -> None:
    @aten(*(f"special_{name}.{kind}" for kind in ("default", "x_scalar", "n_scalar")))
    def handler(node: Node, x: Operand, n: Operand) -> Value:
        return polynomial(node, family, x, n, shifted)


for _name, _family in FAMILIES.items():
    _register(_name, _family, False)
for _name, _family in CHEBYSHEV.items():
    _register(f"shifted_chebyshev_polynomial_{_name}", _family, True)
