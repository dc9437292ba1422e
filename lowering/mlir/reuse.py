"""Which values of a block may be computed into memory that already holds another."""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import variables
from ke_ir.ir import For, Parallel, Yield
from ke_ir.ops import Binary, Dot, Expand, Reshape, Select, Unary
from ke_ir.ops.base import Op, Stmt


def names_used(s: Stmt) -> set[str]:
    """Values that a statement, or anything inside it, reads."""
    if isinstance(s, Op):
        found = {x for x in s.operands() if isinstance(x, str)}
        return found | {v for c in s.coordinates() for v in variables(c)}
    if isinstance(s, Yield):
        return {x for x in s.values if isinstance(x, str)}
    if isinstance(s, For):
        found = {x for _, x in s.carries if isinstance(x, str)}
        found |= {*variables(s.var.lo), *variables(s.var.hi)}
        return found.union(*(names_used(x) for x in s.body))
    if isinstance(s, Parallel):
        return set().union(*(names_used(x) for x in s.body))
    return set()


def last_uses(body: Sequence[Stmt]) -> dict[str, int]:
    """Where in a block each value is last needed; a reshaped value is the value itself."""
    same: dict[str, str] = {}
    last: dict[str, int] = {}
    for i, s in enumerate(body):
        for name in names_used(s):
            while name in same:
                last[name] = i
                name = same[name]
            last[name] = i
        if isinstance(s, Reshape | Expand) and isinstance(s.x, str) and s.result:
            same[s.result] = s.x
    return last


def in_place_chain(body: Sequence[Stmt], value: str, carry: str) -> list[str]:
    """Values of a block that may be computed into the tile of ``carry``, which yields ``value``.

    That is ``value`` itself and, where it is a product, the accumulator that it adds to.
    """
    if not _writes_in_place(body, value, carry):
        return []
    at = {s.result: i for i, s in enumerate(body) if isinstance(s, Op) and s.result}
    product = body[at[value]]
    if not isinstance(product, Dot) or not isinstance(product.acc, str) or product.acc not in at:
        return [value]
    alone = last_uses(body).get(product.acc) == at[value]
    alone = alone and product.acc not in (product.a, product.b)
    return [value, *(in_place_chain(body, product.acc, carry) if alone else ())]


def _writes_in_place(body: Sequence[Stmt], value: str, carry: str) -> bool:
    """True if ``value``, yielded for ``carry``, may be computed into the carried tile.

    Its op must be a statement of this block, and nothing may read the carried value after it.
    The op itself may, if it reads each element before it writes that element.
    """
    for i, s in enumerate(body):
        if isinstance(s, For) and value in s.results:
            return False
        if not isinstance(s, Op) or s.result != value or isinstance(s, Reshape | Expand):
            continue
        last = last_uses(body).get(carry, -1)
        if last < i:
            return True
        if last > i:
            return False
        aliases = {carry} | {
            x.result for x in body
            if isinstance(x, Reshape | Expand) and x.x == carry and x.result
        }  # fmt: skip
        if isinstance(s, Dot):
            return s.acc == carry and not aliases & {s.a, s.b}
        elementwise = isinstance(s, Unary | Binary | Select)
        return elementwise and not (aliases - {carry}) & set(s.operands())
    return False
