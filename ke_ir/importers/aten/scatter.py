"""Writes at places that data or numbers say, as what each element of the result reads.

Where data say the place, an element is the sum of what was written to it, among all writes;
derivation makes one atomic write of each (``ke_ir.derive.scatter``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.indexing import wrapped_index
from ke_ir.importers.aten.pointwise import Operand, Scalar, element, scaled, where
from ke_ir.importers.aten.sorting import flattened, put
from ke_ir.importers.aten.terms import OPERATION, one_if, select
from ke_ir.importers.aten.views import broadcast, outside, place
from ke_ir.importers.graph import At, Index, Value, constant, literal, numeric
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add, equal, floordiv, mod, mul, number, product, reshaped, sub
from ke_ir.types import DType

LOGIC = {"sum": "any", "max": "any", "prod": "all", "min": "all"}
"""What a reduction of conditions is."""
KINDS = {"sum": "sum", "add": "sum", "prod": "prod", "multiply": "prod", "mean": "sum",
         "amax": "max", "amin": "min"}  # fmt: skip


def identity(kind: str, dtype: DType) -> Expr:
    """What changes nothing in a reduction."""
    if dtype.is_bool:
        return literal(kind == "all", dtype)
    if kind in ("sum", "prod"):
        return literal(int(kind == "prod"), DType.F64 if dtype.is_float else DType.I64)
    if dtype.is_float:
        return Num(-math.inf if kind == "max" else math.inf)
    top = (1 << (dtype.bits - 1)) - 1
    return Num(-top - 1 if kind == "max" else top)


class Writes:
    """What is written to an element of a tensor: ``hit`` and ``value`` of the ``j``-th write.

    Which element it is written to, ``hit``, depends on its indices of ``dims`` alone.
    """

    def __init__(
        self, node: Node, dims: Sequence[int], count: Expr, hit: Callable[[Index, Expr], Expr],
        value: Callable[[Index, Expr], Expr],
    ) -> None:  # fmt: skip
        self.node, self.dims, self.count, self.hit, self.value = node, dims, count, hit, value

    def of_place(self, suffix: str, e: Callable[[Index], Expr]) -> At:
        """An integer for each element, stored once for all that differ in other dims only."""
        shape = self.node.shape

        def with_others(own: Index) -> Expr:
            given = dict(zip(self.dims, own, strict=True))
            return e([given.get(d, Num(0)) for d in range(len(shape))])

        made = self.node.builder.define(
            f"{self.node.name}_{suffix}", [shape[d] for d in self.dims], DType.I64, with_others
        )
        return lambda i: made[[i[d] for d in self.dims]]

    def reduce(self, kind: str, i: Index, e: Callable[[Expr], Expr], none: Expr) -> Expr:
        return self.node.reduce(
            kind, [self.count], lambda j: select(self.hit(i, j[0]), e(j[0]), none)
        )

    def kind(self, kind: str) -> str:
        return LOGIC[kind] if self.node.dtype.is_bool else kind

    def combined(self, kind: str, i: Index) -> Expr:
        kind = self.kind(kind)
        none = identity(kind, self.node.dtype)
        return self.reduce(kind, i, lambda j: self.value(i, j), none)

    def number(self, i: Index) -> Expr:
        return self.reduce("sum", i, lambda _: Num(1), Num(0))

    def replacing(self, x: Value) -> Value:
        """``x`` with the last of the writes to each element."""
        last = self.of_place("last", lambda i: self.reduce("max", i, lambda j: j, Num(-1)))

        def found(i: Index) -> Expr:
            j = Call("max", (last(i), Num(0)))
            return select(Bin("<", last(i), Num(0)), x[i], self.value(i, j))

        return self.node.define(found)

    def adding(self, x: Value) -> Value:
        both = OPERATION[self.kind("sum")]

        def found(i: Index) -> Expr:
            old, total = x[i], self.combined("sum", i)
            return total if old == Num(0) else both(old, total)

        return self.node.define(found)

    def reducing(self, x: Value, how: str, include: bool) -> Value:
        """``x`` and the writes to each element, reduced; elements without any stay."""
        kind = KINDS[how]
        count = self.of_place("count", self.number)

        def found(i: Index) -> Expr:
            total = self.combined(kind, i)
            if include:
                total = OPERATION[self.kind(kind)](x[i], total)
            if how == "mean":
                n = add(count(i), Num(int(include)))
                total = Bin("/" if self.node.dtype.is_float else "//", total, n)
            if include and how != "mean":
                return total
            return select(Bin("==", count(i), Num(0)), x[i], total)

        return self.node.define(found)


def _scattered(node: Node, dim: int, ids: Value, source: Operand) -> Writes:
    """Writes of ``scatter``: all indices but that of the dim are those of the result."""
    rank = len(node.shape)
    at = place(dim, rank)
    if rank and ids.rank == 0:
        ids = ids.view((Num(1),) * rank, lambda _: [])
    if isinstance(source, Value) and source.rank < rank:
        source = broadcast(source, ids.shape)
    pairs = [(a, b) for k, (a, b) in enumerate(zip(ids.shape, node.shape, strict=True)) if k != at]
    smaller = not all(equal(a, b) for a, b in pairs)
    where_ = outside(node, ids, -1) if smaller else node.builder.stored(ids, f"{node.name}_ids")
    values = source
    if isinstance(values, Value):
        values = outside(node, values, 0) if smaller else values

    def spot(i: Index, j: Expr) -> list[Expr]:
        return put(i, at, j) if rank else []

    def value(i: Index, j: Expr) -> Expr:
        if isinstance(values, Value):
            e = values[spot(i, j)]
            return e if node.dtype.is_bool else numeric(e, values.dtype)
        return literal(values, node.dtype)

    def hit(i: Index, j: Expr) -> Expr:
        return Bin("==", where_[spot(i, j)], i[at] if rank else Num(0))

    return Writes(node, range(rank), ids.shape[at] if rank else Num(1), hit, value)


@aten("scatter.src", "scatter.value")
def scatter(node: Node, x: Value, dim: int, ids: Value, source: Operand) -> Value:
    return _scattered(node, dim, ids, source).replacing(x)


@aten("scatter.reduce", "scatter.value_reduce")
def scatter_with(node: Node, x: Value, dim: int, ids: Value, source: Operand, how: str) -> Value:
    return _scattered(node, dim, ids, source).reducing(x, how, True)


@aten("scatter_reduce.two")
def scatter_reduce(
    node: Node, x: Value, dim: int, ids: Value, source: Value, how: str, include: bool
) -> Value:
    return _scattered(node, dim, ids, source).reducing(x, how, include)


@aten("scatter_add.default")
def scatter_add(node: Node, x: Value, dim: int, ids: Value, source: Value) -> Value:
    return _scattered(node, dim, ids, source).adding(x)


def _indexed(node: Node, dim: int, ids: Value, source: Value) -> Writes:
    """Writes of whole slices at places along one dim."""
    at, rank = place(dim, len(node.shape)), len(node.shape)
    ids = node.builder.stored(ids, f"{node.name}_ids")

    def id_of(j: Expr) -> Expr:
        return wrapped_index(ids[[j] if ids.rank else []], node.shape[at])

    def value(i: Index, j: Expr) -> Expr:
        e = source[put(i, at, j)] if source.rank == rank else source[[]]
        return e if node.dtype.is_bool else numeric(e, source.dtype)

    count = ids.shape[0] if ids.rank else Num(1)
    return Writes(node, [at], count, lambda i, j: Bin("==", id_of(j), i[at]), value)


def _as_row(node: Node, x: Value, ids: Value, source: Value) -> tuple[Node, Value, Value]:
    """A tensor of rank 0 as one of a single element."""
    one = (Num(1),)
    made = Node(node.name, node.builder, ((one, node.dtype),))
    return made, x.view(one, lambda _: []), source.view(one, lambda _: [Num(0)] * source.rank)


@aten("index_add.default")
def index_add(node: Node, x: Value, dim: int, ids: Value, source: Value, alpha: Scalar) -> Value:
    if x.rank == 0:
        made, row, given = _as_row(node, x, ids, source)
        return index_add(made, row, 0, ids, given, alpha).view((), lambda _: [Num(0)])
    times = source
    if not node.dtype.is_bool:
        times = Value(source.shape, source.dtype, lambda i: scaled(source[i], alpha))
    elif not alpha:
        return x
    return _indexed(node, dim, ids, times).adding(x)


@aten("index_copy.default")
def index_copy(node: Node, x: Value, dim: int, ids: Value, source: Value) -> Value:
    if x.rank == 0:
        made, row, given = _as_row(node, x, ids, source)
        return index_copy(made, row, 0, ids, given).view((), lambda _: [Num(0)])
    return _indexed(node, dim, ids, source).replacing(x)


@aten("index_reduce.default")
def index_reduce(
    node: Node, x: Value, dim: int, ids: Value, source: Value, how: str, include: bool
) -> Value:
    if x.rank == 0:
        made, row, given = _as_row(node, x, ids, source)
        return index_reduce(made, row, 0, ids, given, how, include).view((), lambda _: [Num(0)])
    return _indexed(node, dim, ids, source).reducing(x, how, include)


@aten("index_fill.int_Scalar", "index_fill.int_Tensor")
def index_fill(node: Node, x: Value, dim: int, ids: Value, value: Operand) -> Value:
    if not isinstance(value, Value):
        value = constant(value, node.dtype)
    if x.rank == 0:
        return value
    return _indexed(node, dim, ids, value).replacing(x)


# ``x[ids, ...] = values``


@aten("index_put.default", "_unsafe_index_put.default", "_index_put_impl.default")
def index_put(
    node: Node, x: Value, ids: Sequence[Value | None], values: Value, accumulate: bool = False,
    _: bool = False,
) -> Value:  # fmt: skip
    given = [(k, v) for k, v in enumerate(ids) if v is not None]
    if any(v.dtype.is_bool for _, v in given):
        return _masked_put(node, x, ids, values, accumulate)
    dims = [k for k, _ in given]
    together = dims == list(range(dims[0], dims[-1] + 1))
    common = common_shape([v.shape for _, v in given])
    start = dims[0] if together else 0
    rest = [k for k in range(x.rank) if k not in dims]
    shape = [*(x.shape[k] for k in rest[:start]), *common, *(x.shape[k] for k in rest[start:])]
    full = broadcast(values, shape)
    ats = {k: broadcast(v, common).at for k, v in given}

    def write(j: Expr) -> list[Expr]:
        return list(reshaped([j], [product(common)], common, node.builder.known))

    def hit(i: Index, j: Expr) -> Expr:
        w = write(j)
        tests = [Bin("==", wrapped_index(ats[k](w), x.shape[k]), i[k]) for k in dims]
        out: Expr = tests[0]
        for t in tests[1:]:
            out = Bin("and", out, t)
        return out

    def value(i: Index, j: Expr) -> Expr:
        others = [i[k] for k in rest]
        return full[[*others[:start], *write(j), *others[start:]]]

    writes = Writes(node, dims, product(common), hit, value)
    return writes.adding(x) if accumulate else writes.replacing(x)


def common_shape(shapes: Sequence[Sequence[Expr]]) -> list[Expr]:
    """The shape that several broadcast to."""
    rank = max(len(s) for s in shapes)
    out: list[Expr] = [Num(1)] * rank
    for s in shapes:
        for k, n in enumerate(s):
            if number(n) != 1:
                out[rank - len(s) + k] = n
    return out


def _masked_put(
    node: Node, x: Value, ids: Sequence[Value | None], values: Value, accumulate: bool
) -> Value:
    """One value where a mask holds."""
    mask = ids[0]
    alone = len([v for v in ids if v is not None]) == 1
    if mask is None or not alone or any(number(n) != 1 for n in values.shape) or accumulate:
        raise Unsupported("as many values as a mask holds, a size that depends on data")
    spread = mask.view(x.shape, lambda i: i[: mask.rank])
    one = values.view((), lambda _: [Num(0)] * values.rank)
    return where(node, spread, one, x)


@aten("masked_scatter.default")
def masked_scatter(node: Node, x: Value, mask: Value, source: Value) -> Value:
    """The next element of the source wherever the mask holds."""
    b, flat = node.builder, flattened(node, source)
    at, old = broadcast(mask, node.shape).at, element(x, node.shape, not node.dtype.is_bool)
    n = product(node.shape)

    def held(j: Expr) -> Expr:
        return one_if(at(reshaped([j], [n], node.shape, b.known)))

    line = b.define(f"{node.name}_mask", [n], DType.I64, lambda i: held(i[0]))
    before = b.define(f"{node.name}_before", [n], DType.I64, lambda i: b.bounded(
        "sum", Num(0), add(i[0], Num(1)), lambda j: line[[j]]))  # fmt: skip

    def chosen(i: Index) -> Expr:
        j = reshaped(i, node.shape, [n], b.known)[0] if i else Num(0)
        own = Call("max", (Bin("-", before[[j]], Num(1)), Num(0)))
        return select(at(i), flat[[own]], old(i))

    return node.define(chosen)


# By flat places


@aten("take.default")
def take(node: Node, x: Value, ids: Value) -> Value:
    flat = node.builder.stored(flattened(node, x), f"{node.name}_in")
    return node.define(lambda i: flat[[wrapped_index(ids[i], flat.shape[0])]])


@aten("put.default")
def put_flat(node: Node, x: Value, ids: Value, source: Value, accumulate: bool) -> Value:
    shape = [product(x.shape)]
    flat_node = Node(node.name, node.builder, ((tuple(shape), node.dtype),))
    writes = _indexed(flat_node, 0, flattened(node, ids), flattened(node, source))
    flat = flattened(node, x)
    done = writes.adding(flat) if accumulate else writes.replacing(flat)
    return done.view(node.shape, lambda i: reshaped(i, node.shape, shape, node.builder.known))


# At places that numbers say


@aten("slice_scatter.default")
def slice_scatter(
    node: Node, x: Value, source: Value, dim: int, start: int | None, end: int | None, step: int
) -> Value:
    at, n = place(dim, x.rank), number(x.shape[place(dim, x.rank)])
    if n is None:
        raise Unsupported("a slice of a dim whose size is no number")
    first, last, _ = slice(start, end, step).indices(n)
    inner = outside(
        node, broadcast(source, put(x.shape, at, Num(len(range(first, last, step))))), 0
    )

    def element_(i: Index) -> Expr:
        j, known = i[at], node.builder.known
        tests = [Bin("<", j, Num(first))] if first else []
        if last < n:
            tests.append(Bin(">=", j, Num(last)))
        if step != 1:
            tests.append(Bin("!=", mod(sub(j, Num(first)), Num(step), known), Num(0)))
        mine = inner[put(i, at, floordiv(sub(j, Num(first)), Num(step), known))]
        for t in tests:
            mine = select(t, x[i], mine)
        return mine

    return node.define(element_)


@aten("select_scatter.default")
def select_scatter(node: Node, x: Value, source: Value, dim: int, index: int) -> Value:
    at = place(dim, x.rank)
    spot = Num(index) if index >= 0 else add(x.shape[at], Num(index))
    return node.define(lambda i: select(
        Bin("==", i[at], spot), source[[*i[:at], *i[at + 1 :]]], x[i]))  # fmt: skip


@aten("diagonal_scatter.default")
def diagonal_scatter(
    node: Node, x: Value, source: Value, offset: int, dim1: int, dim2: int
) -> Value:
    a, b = place(dim1, x.rank), place(dim2, x.rank)
    inner = outside(node, source, 0)

    def element_(i: Index) -> Expr:
        rest = [j for k, j in enumerate(i) if k not in (a, b)]
        along = sub(i[a], Num(max(-offset, 0)))
        off = Bin("!=", add(i[a], Num(offset)), i[b])
        return select(off, x[i], inner[[*rest, along]])

    return node.define(element_)


def _spread(node: Node, source: Value, flat: Value, shape: Sequence[Expr], lead: int) -> Writes:
    """Writes at the flat places over the dims after ``lead`` that ``flat`` gives."""
    rest = source.shape[lead:]
    line = [product(rest)]

    def own(i: Index, j: Expr) -> list[Expr]:
        return [*i[:lead], *reshaped([j], line, rest, node.builder.known)]

    def hit(i: Index, j: Expr) -> Expr:
        spot: Expr = Num(0)
        for k, n in zip(i[lead:], shape[lead:], strict=True):
            spot = add(mul(spot, n), k)
        return Bin("==", flat[own(i, j)], spot)

    return Writes(node, range(len(shape)), line[0], hit, lambda i, j: source[own(i, j)])


@aten("max_pool2d_with_indices_backward.default", "adaptive_max_pool2d_backward.default")
def max_pool2d_backward(node: Node, grad: Value, x: Value, *window: Any) -> Value:
    return _collected(node, grad, x, window[-1], 2)


@aten("max_pool3d_with_indices_backward.default", "adaptive_max_pool3d_backward.default")
def max_pool3d_backward(node: Node, grad: Value, x: Value, *window: Any) -> Value:
    return _collected(node, grad, x, window[-1], 3)


def _collected(node: Node, grad: Value, x: Value, places: Value, rank: int) -> Value:
    places = node.builder.stored(places, f"{node.name}_places")
    writes = _spread(node, grad, places, x.shape, x.rank - rank)
    return node.define(lambda i: writes.combined("sum", i))


@aten("max_unpool2d.default")
def max_unpool2d(node: Node, x: Value, places: Value, _size: object) -> Value:
    return _unpooled(node, x, places, 2)


@aten("max_unpool3d.default")
def max_unpool3d(node: Node, x: Value, places: Value, *_: object) -> Value:
    return _unpooled(node, x, places, 3)


def _unpooled(node: Node, x: Value, places: Value, rank: int) -> Value:
    places = node.builder.stored(places, f"{node.name}_places")
    zeros = constant(0, node.dtype, node.shape)
    return _spread(node, x, places, node.shape, x.rank - rank).replacing(zeros)
