"""Sorted rows by merging: about ``n log n`` of work, each element of a result gathered by itself.

A row falls into chunks, which are ranked by comparing all pairs in each, and whose elements are
put in order. Then pairs of sorted runs are merged, until one is left. How many of the elements
before place ``p`` of what two runs give are of the first of them is found by halving, each place
for itself; the element at ``p`` is the lesser of the next two. Of equal elements those of the first
run come first, so that the order is stable. A row is filled up behind its end with what comes last
in the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Num, Ref
from ke_ir.importers.aten.halving import halved
from ke_ir.importers.aten.terms import one_if, select
from ke_ir.importers.graph import At, Index, Value, literal
from ke_ir.importers.registry import Node
from ke_ir.index_maps import add, mul, sub
from ke_ir.types import DType

CHUNK = 64
"""Elements that are ranked by comparing all pairs of them."""
PAIR = 9
"""Operations for one pair: two comparisons, each with what a NaN asks for, and the sum."""
PICK = 3
"""Operations to look whether an element has a rank, and to add its place."""
HALVING = 26
"""Operations for one step of a search: ten, and two gathers counted as eight each."""
TAKE = 40
"""Operations for one element of a merged run beside the search, three gathers among them."""


def pair_work(n: int, asked: int) -> int:
    """Operations to rank ``n`` elements by all pairs, and to find ``asked`` of them with places."""
    return n * (PAIR * n + 2 * PICK * asked)


def pays(n: int, k: int, by_pairs: int) -> bool:
    """Whether the first ``k`` of a row of ``n`` take fewer operations than ``by_pairs`` by merging.

    A sort does from 89 elements on, at 256 a third of them; ``topk`` of 8 from 91, a median from
    148, a mode from 680.
    """
    return n > CHUNK and merging_work(n, k) < by_pairs


def merging_work(n: int, k: int) -> int:
    """Operations to find the first ``k`` of a row of ``n`` by merging."""
    count, length = -(-n // CHUNK), min(k, CHUNK)
    work = count * CHUNK * (PAIR * CHUNK + PICK * length)
    while count > 1:
        count, before, length = (count + 1) // 2, length, min(2 * length, k)
        steps = min(before, length - 1).bit_length()
        work += count * length * (HALVING * steps + TAKE)
    return work


@dataclass(frozen=True)
class Runs:
    """Sorted runs of equal length, ``[*outer, count, length]``: elements, and where they stood.

    What stands behind the end of a row has a place outside of it. ``keys`` and ``places`` are
    stored.
    """

    keys: Value
    places: Value
    count: int
    length: int


@dataclass(frozen=True)
class Order:
    """Rows ``[*outer, n]`` of stored numbers to be sorted; ``x`` may be subscripted up to ``n``."""

    node: Node
    x: Value
    n: int
    descending: bool

    @property
    def outer(self) -> tuple[Expr, ...]:
        return self.x.shape[:-1]

    @property
    def last(self) -> Expr:
        """A number that nothing comes after, but what equals it and stands further back."""
        if self.x.dtype.is_float:
            return literal(-math.inf if self.descending else math.nan, self.x.dtype)
        low, high = bounds(self.x.dtype)
        return Num(low if self.descending else high)

    def stays(self, a: Expr, b: Expr) -> Expr:
        """Whether ``a``, which stands before ``b``, stays so. NaN is above all numbers."""
        fine = Bin(">=" if self.descending else "<=", a, b)
        if not self.x.dtype.is_float:
            return fine
        above = a if self.descending else b
        return Bin("or", fine, Bin("!=", above, above))

    def define(self, what: str, shape: tuple[Expr, ...], dtype: DType, at: At) -> Value:
        return self.node.builder.define(f"{self.node.name}_{what}", shape, dtype, at)


def bounds(dtype: DType) -> tuple[int, int]:
    """The least and the largest of an integer dtype."""
    if dtype is DType.U8:
        return 0, 255
    top = (1 << (dtype.bits - 1)) - 1
    return -top - 1, top


def sorted_rows(order: Order, k: int) -> tuple[Value, Value]:
    """The first ``k`` of each row, ``[*outer, k]``, and their places."""
    runs = chunks(order, min(k, CHUNK))
    level = 0
    while runs.count > 1:
        level += 1
        runs = merged(order, runs, min(2 * runs.length, k), level)
    return runs.keys, runs.places


def chunks(order: Order, keep: int) -> Runs:
    """The first ``keep`` of each chunk, ranked by pairs."""
    c = CHUNK
    count = -(-order.n // c)
    size = (*order.outer, Num(count), Num(c))

    def element(i: Index, place: Expr) -> Expr:
        e = order.x[[*i[:-2], place]]
        return e if order.n % c == 0 else filled(e, order.last)

    def spot(i: Index, j: Expr) -> Expr:
        return add(mul(Num(c), i[-2]), j)

    def rank(i: Index) -> Expr:
        def comes_before(inner: Index) -> Expr:
            other, own = element(i, spot(i, inner[0])), element(i, spot(i, i[-1]))
            ahead = select(
                Bin("<", inner[0], i[-1]), order.stays(other, own),
                Call("not", (order.stays(own, other),)))  # fmt: skip
            return one_if(ahead)

        return order.node.reduce("sum", [Num(c)], comes_before)

    ranks = order.define("rank", size, DType.I64, rank)
    shape = (*order.outer, Num(count), Num(keep))

    def place(i: Index) -> Expr:
        found = order.node.reduce("sum", [Num(c)], lambda j: select(
            Bin("==", ranks[[*i[:-1], j[0]]], i[-1]), j[0], Num(0)))  # fmt: skip
        return add(spot(i, Num(0)), found)

    places = order.define("place0", shape, DType.I64, place)
    keys = order.define("run0", shape, order.x.dtype, lambda i: element(i, places[i]))
    return Runs(keys, places, count, keep)


def filled(e: Expr, fill: Expr) -> Expr:
    assert isinstance(e, Ref)
    return Ref(e.tensor, e.indices, fill)


def merged(order: Order, runs: Runs, length: int, level: int) -> Runs:
    """The first ``length`` of each pair of runs; the last run may be without a partner."""
    return Merge(order, runs, length, level).run()


@dataclass(frozen=True)
class Merge:
    """One level. Where only one run is left there is no index that counts them."""

    order: Order
    runs: Runs
    length: int
    level: int

    @property
    def count(self) -> int:
        return (self.runs.count + 1) // 2

    @property
    def shape(self) -> tuple[Expr, ...]:
        counted = (Num(self.count),) if self.count > 1 else ()
        return (*self.order.outer, *counted, Num(self.length))

    def define(self, what: str, dtype: DType, at: At) -> Value:
        return self.order.define(f"{what}{self.level}", self.shape, dtype, at)

    def element(self, v: Value, i: Index, second: Expr, place: Expr) -> Expr:
        """An element of the first or the second of the runs that ``i`` is made of."""
        outer = len(self.order.outer)
        run = add(mul(Num(2), i[outer]), second) if self.count > 1 else second
        e = v[[*i[:outer], run, place]]
        if self.runs.count % 2 == 0 or second == Num(0):
            return e
        return filled(e, self.order.last if v is self.runs.keys else Num(0))

    def stays(self, i: Index, a: Expr, b: Expr) -> Expr:
        """Whether element ``a`` of the first run comes before element ``b`` of the second."""
        keys = self.runs.keys
        return self.order.stays(self.element(keys, i, Num(0), a), self.element(keys, i, Num(1), b))

    def run(self) -> Runs:
        m = self.runs.length
        taken = self.taken()

        def from_first(i: Index) -> Expr:
            a, p = taken(i), i[-1]
            b = sub(p, a)
            ahead = self.stays(i, self.inside(a), self.inside(b))
            if self.length <= m:
                return ahead
            over = Bin("or", Bin(">=", b, Num(m)), ahead)
            return Bin("and", Bin("<", a, Num(m)), over)

        first = self.define("first", DType.I1, from_first)

        def key(i: Index) -> Expr:
            a, keys = taken(i), self.runs.keys
            return select(
                first[i], self.element(keys, i, Num(0), self.inside(a)),
                self.element(keys, i, Num(1), self.inside(sub(i[-1], a))))  # fmt: skip

        def place(i: Index) -> Expr:
            a = taken(i)
            run = select(first[i], Num(0), Num(1))
            return self.element(self.runs.places, i, run, select(first[i], a, sub(i[-1], a)))

        keys = self.define("run", self.order.x.dtype, key)
        return Runs(keys, self.define("place", DType.I64, place), self.count, self.length)

    def inside(self, place: Expr) -> Expr:
        """A place that may be behind the end of a run, as one in it."""
        return place if self.length <= self.runs.length else at_most(place, self.runs.length - 1)

    def taken(self) -> At:
        """How many of the elements before each place are of the first run.

        An element of it is one of them if it comes before the last of those that the second run
        would have to give without it.
        """
        m = self.runs.length

        def is_one(i: Index, a: Expr) -> Expr:
            other = Call("max", (sub(sub(i[-1], Num(1)), a), Num(0)))
            return self.stays(i, at_most(a, m - 1), other)

        def least(i: Index) -> Expr:
            return Num(0) if self.length <= m else Call("max", (sub(i[-1], Num(m)), Num(0)))

        def most(i: Index) -> Expr:
            return i[-1] if self.length <= m + 1 else at_most(i[-1], m)

        width = min(m, self.length - 1)
        return halved(self.order.node, str(self.level), self.shape, width, least, most, is_one)


def at_most(e: Expr, n: int) -> Expr:
    return Call("min", (e, Num(n)))
