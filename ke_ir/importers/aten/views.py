"""Views: other shapes and orders of the same elements, as index maps, and joins of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Num, Ref
from ke_ir.importers.graph import At, Index, Value, literal, numeric
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import (
    add,
    equal,
    floordiv,
    mod,
    mul,
    number,
    product,
    reshaped,
    sub,
)
from ke_ir.types import DType


def place(dim: int, rank: int) -> int:
    """A dim counted from the end where it is negative."""
    return dim + max(rank, 1) if dim < 0 else dim


@aten("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints",
      "unflatten.int", "_reshape_alias.default", "view_copy.default")  # fmt: skip
def reshape(node: Node, x: Value, *_: Any) -> Value:
    b = node.builder
    return x.view(node.shape, lambda i: reshaped(i, node.shape, x.shape, b.known))


@aten("permute.default", "permute_copy.default")
def permute(node: Node, x: Value, dims: Sequence[int]) -> Value:
    order = [place(d, x.rank) for d in dims]
    return x.view(node.shape, lambda i: [i[order.index(k)] for k in range(x.rank)])


@aten("transpose.int")
def transpose(node: Node, x: Value, a: int, b: int) -> Value:
    order = list(range(x.rank))
    if order:
        p, q = place(a, x.rank), place(b, x.rank)
        order[p], order[q] = order[q], order[p]
    return permute(node, x, order)


@aten("t.default", "numpy_T.default", "mT.default", "matrix_H.default")
def transposed(node: Node, x: Value) -> Value:
    return transpose(node, x, -1, -2) if x.rank > 1 else x


@aten("expand.default", "expand_as.default", "expand_copy.default")
def expand(node: Node, x: Value, *_: Any) -> Value:
    return broadcast(x, node.shape)


def broadcast(x: Value, shape: Sequence[Expr]) -> Value:
    skip = len(shape) - x.rank

    def where(i: Index) -> Index:
        return [j if equal(n, shape[k + skip]) else Num(0)
                for k, (j, n) in enumerate(zip(i[skip:], x.shape, strict=True))]  # fmt: skip

    return x.view(shape, where)


@aten("unsqueeze.default")
def unsqueeze(node: Node, x: Value, dim: int) -> Value:
    at = dim + x.rank + 1 if dim < 0 else dim
    return x.view(node.shape, lambda i: [*i[:at], *i[at + 1 :]])


@aten("squeeze.default", "squeeze.dim", "squeeze.dims")
def squeeze(node: Node, x: Value, dims: int | Sequence[int] | None = None) -> Value:
    chosen = range(x.rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {place(d, x.rank) for d in chosen if x.rank}
    gone = {d for d in gone if number(x.shape[d]) == 1}

    def where(i: Index) -> Index:
        left = iter(i)
        return [Num(0) if k in gone else next(left) for k in range(x.rank)]

    return x.view(node.shape, where)


@aten("slice.Tensor")
def slice_(node: Node, x: Value, dim: int, start: int | None, end: int | None, step: int) -> Value:
    at = place(dim, x.rank)
    size = number(x.shape[at])
    first = start or 0
    if first < 0:
        if size is None:
            raise Unsupported("a slice from the end of a dim whose size is no number")
        first = max(0, first + size)
    if size is not None:
        first = min(first, size)
    return x.view(node.shape, lambda i: [
        add(mul(j, Num(step)), Num(first)) if k == at else j for k, j in enumerate(i)
    ])  # fmt: skip


@aten("narrow.default", "narrow_copy.default")
def narrow(node: Node, x: Value, dim: int, start: int, length: int) -> Value:
    return slice_(node, x, dim, start, None, 1)


@aten("select.int")
def select(node: Node, x: Value, dim: int, index: int) -> Value:
    at = place(dim, x.rank)
    where = Num(index) if index >= 0 else add(x.shape[at], Num(index))
    return x.view(node.shape, lambda i: [*i[:at], where, *i[at:]])


@aten("flip.default")
def flip(node: Node, x: Value, dims: Sequence[int]) -> Value:
    turned = {place(d, x.rank) for d in dims}
    return x.view(node.shape, lambda i: [
        sub(add(x.shape[k], Num(-1)), j) if k in turned else j for k, j in enumerate(i)
    ])  # fmt: skip


@aten("roll.default")
def roll(node: Node, x: Value, shifts: Sequence[int], dims: Sequence[int]) -> Value:
    if not dims:
        flat = x.view([_elements(x)], lambda i: reshaped(i, [_elements(x)], x.shape,
                                                         node.builder.known))  # fmt: skip
        rolled = _rolled(node, flat, {0: shifts[0]})
        return rolled.view(node.shape, lambda i: reshaped(
            i, node.shape, rolled.shape, node.builder.known))  # fmt: skip
    by: dict[int, int] = {}
    for d, s in zip(dims, shifts, strict=True):
        by[place(d, x.rank)] = by.get(place(d, x.rank), 0) + s
    return _rolled(node, x, by)


def _rolled(node: Node, x: Value, by: dict[int, int]) -> Value:
    def moved(k: int, j: Expr) -> Expr:
        n = number(x.shape[k])
        if n is None:
            raise Unsupported("a roll along a dim whose size is no number")
        back = -by[k] % n
        return mod(add(j, Num(back)), Num(n), node.builder.known) if back else j

    return x.view(x.shape, lambda i: [moved(k, j) if k in by else j for k, j in enumerate(i)])


def _elements(x: Value) -> Expr:
    return product(x.shape)


@aten("split.Tensor", "split_with_sizes.default", "chunk.default", "split_with_sizes_copy.default",
      "split_copy.Tensor")  # fmt: skip
def split(node: Node, x: Value, _: Any, dim: int) -> list[Value]:
    at = place(dim, x.rank)
    out = []
    start: Expr = Num(0)
    for shape, _dtype in node.results:
        out.append(_part(x, shape, at, start))
        start = add(start, shape[at])
    return out


def _part(x: Value, shape: Sequence[Expr], at: int, start: Expr) -> Value:
    return x.view(shape, lambda i: [add(j, start) if k == at else j for k, j in enumerate(i)])


@aten("unbind.int", "unbind_copy.int")
def unbind(node: Node, x: Value, dim: int) -> list[Value]:
    return [_slab(x, shape, place(dim, x.rank), n) for n, (shape, _) in enumerate(node.results)]


def _slab(x: Value, shape: Sequence[Expr], at: int, n: int) -> Value:
    return x.view(shape, lambda i: [*i[:at], Num(n), *i[at:]])


@aten("unfold.default", "unfold_copy.default")
def unfold(node: Node, x: Value, dim: int, size: int, step: int) -> Value:
    at = place(dim, x.rank)
    return x.view(node.shape, lambda i: [
        add(mul(j, Num(step)), i[-1]) if k == at else j for k, j in enumerate(i[:-1])
    ])  # fmt: skip


@aten("diagonal.default")
def diagonal(node: Node, x: Value, offset: int, dim1: int, dim2: int) -> Value:
    a, b = place(dim1, x.rank), place(dim2, x.rank)

    def where(i: Index) -> Index:
        left = iter(i[:-1])
        own = {a: add(i[-1], Num(max(-offset, 0))), b: add(i[-1], Num(max(offset, 0)))}
        return [own[k] if k in own else next(left) for k in range(x.rank)]

    return x.view(node.shape, where)


def outside(node: Node, x: Value, fill: int | float | bool) -> Value:
    """A value that may be subscripted anywhere: what lies outside its shape is ``fill``."""
    x = node.builder.stored(x, f"{node.name}_in")
    kind = DType.I64 if float(fill) == 0 and not x.dtype.is_bool else x.dtype
    return Value(x.shape, x.dtype, lambda i: Ref(x.tensor, tuple(i), literal(fill, kind)))


@aten("constant_pad_nd.default")
def constant_pad(node: Node, x: Value, pad: Sequence[int], value: int | float) -> Value:
    before = {x.rank - 1 - k // 2: pad[k] for k in range(0, len(pad), 2)}
    if all(p <= 0 for p in pad):
        source = x
    else:
        source = outside(node, x, value)
    return source.view(node.shape, lambda i: [
        add(j, Num(-before.get(k, 0))) for k, j in enumerate(i)
    ])  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What stands in one stretch of a dim: its length, and its elements by the index within."""

    size: Expr
    at: At


_MOST_PARTS = 32
"""That one equation joins: an expression has a bounded number of operators."""


def joined(node: Node, parts: Sequence[Part], at: int, result: int = 0, suffix: str = "") -> Value:
    """Parts one after the other along a dim; many of them in equations that are joined in turn."""
    shape, dtype = node.results[result]
    starts: list[Expr] = [Num(0)]
    for p in parts:
        starts.append(add(starts[-1], p.size))

    def between(first: int, last: int) -> Part:
        size = sub(starts[last], starts[first])
        own = Node(f"{node.name}_{first}", node.builder,
                   (((*shape[:at], size, *shape[at + 1 :]), dtype),))  # fmt: skip
        return Part(size, outside(own, joined(own, parts[first:last], at, 0, suffix), 0).at)

    if len(parts) > _MOST_PARTS:
        ends = [*range(0, len(parts), _MOST_PARTS), len(parts)]
        grouped = [between(a, b) for a, b in pairwise(ends)]
        return joined(node, grouped, at, result, suffix)

    def element(index: Index) -> Expr:
        found = [p.at([sub(j, start) if d == at else j for d, j in enumerate(index)])
                 for p, start in zip(parts, starts, strict=False)]  # fmt: skip
        return _chosen(index[at], starts, found)

    return node.define(element, result, suffix)


def _chosen(index: Expr, starts: Sequence[Expr], parts: Sequence[Expr]) -> Expr:
    """The part in which an index lies, as a balanced tree, so that nothing is nested deep."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    before = _chosen(index, starts[:half], parts[:half])
    return Call("select", (Bin("<", index, starts[half]), before,
                           _chosen(index, starts[half:], parts[half:])))  # fmt: skip


@aten("cat.default", "concat.default")
def cat(node: Node, parts: Sequence[Value], dim: int) -> Value:
    at = place(dim, len(node.shape))
    parts = [p for p in parts if p.rank == len(node.shape) and number(p.shape[at]) != 0]
    if len(parts) == 1:
        return parts[0]

    def part(x: Value) -> Part:
        source = outside(node, x, 0)
        if node.dtype.is_bool:
            return Part(x.shape[at], source.at)
        return Part(x.shape[at], lambda i: numeric(source[i], x.dtype))

    return joined(node, [part(x) for x in parts], at)


@aten("stack.default")
def stack(node: Node, parts: Sequence[Value], dim: int) -> Value:
    rank = len(node.shape)
    return stacked(node, parts, dim + rank if dim < 0 else dim)


def stacked(
    node: Node, parts: Sequence[Value], at: int, result: int = 0, suffix: str = ""
) -> Value:
    """Parts of one shape along a new dim; a view where there is one only."""

    def part(x: Value) -> Part:
        return Part(Num(1), lambda i: x[[*i[:at], *i[at + 1 :]]])

    if len(parts) == 1:
        return Value(*node.results[result], part(parts[0]).at)
    return joined(node, [part(x) for x in parts], at, result, suffix)


@aten("tril.default")
def tril(node: Node, x: Value, diagonal: int) -> Value:
    return _triangle(node, x, diagonal, "<=")


@aten("triu.default")
def triu(node: Node, x: Value, diagonal: int) -> Value:
    return _triangle(node, x, diagonal, ">=")


def _triangle(node: Node, x: Value, diagonal: int, op: str) -> Value:
    zero = literal(False if x.dtype.is_bool else 0, x.dtype)
    return node.define(lambda i: Call(
        "select", (Bin(op, i[-1], add(i[-2], Num(diagonal))), x[i], zero)))  # fmt: skip


@aten("broadcast_tensors.default")
def broadcast_tensors(node: Node, xs: Sequence[Value]) -> list[Value]:
    return [broadcast(x, shape) for x, (shape, _) in zip(xs, node.results, strict=True)]


@aten("repeat.default")
def repeat(node: Node, x: Value, times: Sequence[int]) -> Value:
    skip = len(times) - x.rank
    return x.view(node.shape, lambda i: [
        mod(j, n, node.builder.known) if times[k + skip] != 1 else j
        for k, (j, n) in enumerate(zip(i[skip:], x.shape, strict=True))
    ])  # fmt: skip


@aten("pixel_shuffle.default")
def pixel_shuffle(node: Node, x: Value, r: int) -> Value:
    def where(i: Index) -> Index:
        known = node.builder.known
        c = add(mul(i[-3], Num(r * r)), add(mul(mod(i[-2], Num(r), known), Num(r)),
                                            mod(i[-1], Num(r), known)))  # fmt: skip
        return [*i[:-3], c, *(floordiv(j, Num(r), known) for j in i[-2:])]

    return x.view(node.shape, where)
