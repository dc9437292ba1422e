"""Places found by halving: a recurrence, whose steps one kernel goes through in a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ke_ir.expr import Bin, Expr, Num, Ref
from ke_ir.importers.aten.terms import select
from ke_ir.importers.graph import At, Index
from ke_ir.importers.registry import Node
from ke_ir.index_maps import earlier
from ke_ir.types import DType


def halved(
    node: Node, what: str, shape: Sequence[Expr], width: int, low: At, high: At,
    goes_on: Callable[[Index, Expr], Expr],
) -> At:  # fmt: skip
    """The first place from ``low`` on where ``goes_on`` does not hold; ``high`` if there is none.

    It holds up to some place and not beyond. ``width`` is the most by which ``high`` may be above
    ``low``: each step leaves at most half of what is between them. What is tried may be ``high``
    itself once they have met; what ``goes_on`` says there does not matter.
    """
    if width == 0:
        return low
    b, steps = node.builder, width.bit_length()
    mid, up, first, last = (
        b.name(f"{node.name}_{name}{what}") for name in ("mid", "up", "low", "high")
    )

    def here(name: str, i: Index) -> Expr:
        return Ref(name, tuple(i))

    def before(name: str, i: Index, start: At) -> Expr:
        return earlier(name, i, start(i[1:]))

    def middle(i: Index) -> Expr:
        return Bin("//", Bin("+", before(first, i, low), before(last, i, high)), Num(2))

    def is_above(i: Index) -> Expr:
        tried = here(mid, i)
        return Bin("and", Bin("<", tried, before(last, i, high)), goes_on(i[1:], tried))

    def lower(i: Index) -> Expr:
        above = Bin("+", here(mid, i), Num(1))
        return select(here(up, i), above, before(first, i, low))

    def upper(i: Index) -> Expr:
        return select(here(up, i), before(last, i, high), here(mid, i))

    each = (Num(steps), *shape)
    b.define(mid, each, DType.I64, middle, reserved=True)
    b.define(up, each, DType.I1, is_above, reserved=True)
    found = b.define(first, each, DType.I64, lower, reserved=True)
    b.define(last, each, DType.I64, upper, reserved=True)
    return lambda i: found[[Num(steps - 1), *i]]
