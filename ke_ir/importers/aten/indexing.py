"""Data-dependent indices: gather, embedding, index, and what losses need of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ke_ir.expr import Bin, Expr, Num
from ke_ir.importers.aten.reductions import vector_norm
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import broadcast, place
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten


@aten("embedding.default")
def embedding(node: Node, table: Value, ids: Value, *_: Any) -> Value:
    return node.define(lambda i: table[[ids[i[:-1]], i[-1]]])


@aten("gather.default")
def gather(node: Node, x: Value, dim: int, ids: Value, _: bool) -> Value:
    at = place(dim, x.rank)
    if x.rank == 0:
        return node.define(lambda _: x[[]])
    return node.define(lambda i: x[[ids[i] if k == at else j for k, j in enumerate(i)]])


@aten("index_select.default")
def index_select(node: Node, x: Value, dim: int, ids: Value) -> Value:
    at = place(dim, x.rank)
    return node.define(lambda i: x[[ids[[j]] if k == at else j for k, j in enumerate(i)]])


@aten("index.Tensor")
def index(node: Node, x: Value, ids: Sequence[Value | None]) -> Value:
    ids = [*ids, *[None] * (x.rank - len(ids))]
    given = [k for k, v in enumerate(ids) if v is not None]
    if any(v is not None and v.dtype.is_bool for v in ids):
        raise Unsupported("a mask as an index, whose result has a size that depends on data")
    together = given == list(range(given[0], given[-1] + 1))
    rank = max(v.rank for v in ids if v is not None)
    start = given[0] if together else 0
    common = node.shape[start : start + rank]
    ats = {k: broadcast(v, common).at for k, v in enumerate(ids) if v is not None}

    def element(i: Index) -> Expr:
        rest = iter([*i[:start], *i[start + rank :]])
        shared = i[start : start + rank]
        return x[[wrapped_index(ats[k](shared), x.shape[k]) if k in ats else next(rest)
                  for k in range(x.rank)]]  # fmt: skip

    return node.define(element)


def wrapped_index(e: Expr, size: Expr) -> Expr:
    """A negative index counts from the end."""
    return select(Bin("<", e, Num(0)), Bin("+", e, size), e)


@aten("embedding_renorm.default")
def embedding_renorm(node: Node, table: Value, ids: Value, most: float, order: float) -> Value:
    """The rows that are asked for, made shorter where their norm is above ``most``."""
    named = Node(f"{node.name}_norm", node.builder, ((table.shape[:1], node.dtype),))
    size = vector_norm(named, table, order, [1], False, None)

    def element(i: Index) -> Expr:
        asked = node.reduce("any", ids.shape, lambda j: Bin("==", ids[j], i[0]))
        long = Bin("and", asked, Bin(">", size[i[:1]], Num(float(most))))
        shorter = Bin("*", table[i], Bin("/", Num(float(most)), Bin("+", size[i[:1]], Num(1e-7))))
        return select(long, shorter, table[i])

    return node.define(element)
