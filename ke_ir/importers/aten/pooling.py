"""Pooling: windows that slide over the last dims, and adaptive ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import truncated
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import outside
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten, whole
from ke_ir.index_maps import add, floordiv, mod, mul, product, sub


def _each(values: Sequence[int] | int, rank: int) -> list[int]:
    given = [values] if isinstance(values, int) else list(values)
    return given * rank if len(given) == 1 else given


@aten("max_pool1d.default")
def max_pool1d(node: Node, x: Value, *window: Any) -> Value:
    return _max_pool(node, x, 1, *window)


@aten("max_pool2d.default")
def max_pool2d(node: Node, x: Value, *window: Any) -> Value:
    return _max_pool(node, x, 2, *window)


@aten("max_pool3d.default")
def max_pool3d(node: Node, x: Value, *window: Any) -> Value:
    return _max_pool(node, x, 3, *window)


def _max_pool(
    node: Node, x: Value, rank: int, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], ceil: bool,
) -> Value:  # fmt: skip
    size, pad, apart = (_each(v, rank) for v in (kernel, padding, dilation))
    step = _each(stride, rank) if stride else size
    source = outside(node, x, _least(x)) if any(pad) or ceil else x

    def element(index: Index) -> Expr:
        lead, place = index[:-rank], index[-rank:]
        return node.reduce("max", [Num(k) for k in size], lambda taps: source[
            [*lead, *_where(place, taps, step, pad, apart)]])  # fmt: skip

    return node.define(element)


def _least(x: Value) -> int | float:
    return -math.inf if x.dtype.is_float else -(1 << (x.dtype.bits - 1))


def _where(
    place: Index, taps: Index, step: Sequence[int], pad: Sequence[int], apart: Sequence[int]
) -> list[Expr]:
    return [
        add(add(mul(i, Num(s)), mul(t, Num(d))), Num(-p))
        for i, t, s, p, d in zip(place, taps, step, pad, apart, strict=True)
    ]


@aten("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def max_pool_with_indices(
    node: Node, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil: bool,
) -> list[Value]:  # fmt: skip
    rank = len(kernel)
    out = _max_pool(node, x, rank, kernel, stride, padding, dilation, ceil)
    size, pad, apart = (_each(v, rank) for v in (kernel, padding, dilation))
    step = _each(stride, rank) if stride else size
    source = outside(node, x, _least(x))
    known = node.builder

    def taps_of(flat: Expr) -> list[Expr]:
        out = []
        for k in range(rank):
            part = floordiv(flat, Num(math.prod(size[k + 1 :])), known.known)
            out.append(mod(part, Num(size[k]), known.known) if k else part)
        return out

    def best(index: Index) -> Expr:
        lead, place = index[:-rank], index[-rank:]
        return node.reduce("argmax", [Num(math.prod(size))], lambda t: source[
            [*lead, *_where(place, taps_of(t[0]), step, pad, apart)]])  # fmt: skip

    shape, dtype = node.results[1]
    tap = known.define(f"{node.name}_tap", shape, dtype, best)

    def flat_place(index: Index) -> Expr:
        place = index[-rank:]
        taps = [
            Bin("%", Bin("//", tap[index], Num(math.prod(size[k + 1 :]))), Num(size[k]))
            for k in range(rank)
        ]
        e: Expr = Num(0)
        for k, w in enumerate(_where(place, taps, step, pad, apart)):
            e = add(mul(e, x.shape[x.rank - rank + k]), w)
        return e

    return [out, known.define(f"{node.name}_indices", shape, dtype, flat_place)]


@aten("avg_pool1d.default")
def avg_pool1d(
    node: Node, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil: bool, counted: bool,
) -> Value:  # fmt: skip
    return _avg_pool(node, x, 1, kernel, stride, padding, ceil, counted, None)


@aten("avg_pool2d.default")
def avg_pool2d(node: Node, x: Value, *window: Any) -> Value:
    return _avg_pool(node, x, 2, *window)


@aten("avg_pool3d.default")
def avg_pool3d(node: Node, x: Value, *window: Any) -> Value:
    return _avg_pool(node, x, 3, *window)


def _avg_pool(
    node: Node, x: Value, rank: int, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], ceil: bool, counted: bool, divisor: int | None,
) -> Value:  # fmt: skip
    size, pad = _each(kernel, rank), _each(padding, rank)
    step = _each(stride, rank) if stride else size
    source = outside(node, x, 0) if any(pad) or ceil else x
    ones = [1] * rank

    def element(index: Index) -> Expr:
        lead, place = index[:-rank], index[-rank:]
        total = node.reduce("sum", [Num(k) for k in size], lambda taps: source[
            [*lead, *_where(place, taps, step, pad, ones)]])  # fmt: skip
        if divisor is not None:
            count: Expr = Num(divisor)
        elif not ceil and (counted or not any(pad)):
            count = Num(math.prod(size))
        else:
            count = product(
                _covered(i, n, k, s, p, counted)
                for i, n, k, s, p in zip(place, x.shape[-rank:], size, step, pad, strict=True)
            )
        return Bin("/", total, count) if node.dtype.is_float else truncated(total, count)

    return node.define(element)


@aten("avg_pool2d_backward.default")
def avg_pool2d_backward(node: Node, grad: Value, x: Value, *window: Any) -> Value:
    return _avg_pool_backward(node, grad, x, 2, *window)


@aten("avg_pool3d_backward.default")
def avg_pool3d_backward(node: Node, grad: Value, x: Value, *window: Any) -> Value:
    return _avg_pool_backward(node, grad, x, 3, *window)


def _avg_pool_backward(
    node: Node, grad: Value, x: Value, rank: int, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], ceil: bool, counted: bool, divisor: int | None,
) -> Value:  # fmt: skip
    """Each place gets a share of what the windows over it get."""
    size, pad = _each(kernel, rank), _each(padding, rank)
    step = _each(stride, rank) if stride else size
    source = outside(node, grad, 0)

    def count(window: Sequence[Expr]) -> Expr:
        if divisor is not None:
            return Num(divisor)
        if not ceil and (counted or not any(pad)):
            return Num(math.prod(size))
        return product(
            _covered(i, n, k, s, p, counted)
            for i, n, k, s, p in zip(window, x.shape[-rank:], size, step, pad, strict=True)
        )

    def element(index: Index) -> Expr:
        lead, place = index[:-rank], index[-rank:]

        def share(taps: Index) -> Expr:
            starts = [sub(add(i, Num(p)), t) for i, t, p in zip(place, taps, pad, strict=True)]
            window = [floordiv(e, Num(s), {}) for e, s in zip(starts, step, strict=True)]
            part: Expr = Bin("/", source[[*lead, *window]], count(window))
            for e, s in zip(starts, step, strict=True):
                if s != 1:
                    test = Bin("==", mod(e, Num(s), {}), Num(0))
                    part = select(test, part, Num(0.0))
            return part

        return node.reduce("sum", [Num(k) for k in size], share)

    return node.define(element)


def _covered(i: Expr, n: Expr, size: int, step: int, pad: int, counted: bool) -> Expr:
    """How many places of a window are inside; of the padding too if it is counted."""
    start = add(mul(i, Num(step)), Num(-pad))
    edge = add(n, Num(pad)) if counted else n
    end = Call("min", (add(start, Num(size)), edge))
    return Bin("-", end, start if counted or not pad else Call("max", (start, Num(0))))


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default",
      "adaptive_avg_pool3d.default", "_adaptive_avg_pool3d.default")  # fmt: skip
def adaptive_avg_pool(node: Node, x: Value, size: Sequence[int]) -> Value:
    rank = len(size)
    x = node.builder.stored(x, f"{node.name}_in")
    ins = [whole(n) for n in x.shape[-rank:]]
    outs = [n if s is None else s for n, s in zip(ins, size, strict=True)]

    def element(index: Index) -> Expr:
        lead, place = index[:-rank], index[-rank:]
        if all(n % m == 0 for n, m in zip(ins, outs, strict=True)):
            per = [n // m for n, m in zip(ins, outs, strict=True)]
            total = node.reduce("sum", [Num(p) for p in per], lambda taps: x[
                [*lead, *_where(place, taps, per, [0] * rank, [1] * rank)]])  # fmt: skip
            return Bin("/", total, Num(math.prod(per)))
        return _uneven(node, x, lead, place, ins, outs, [])

    return node.define(element)


def _uneven(
    node: Node, x: Value, lead: Index, place: Index, ins: Sequence[int], outs: Sequence[int],
    inner: list[Expr],
) -> Expr:  # fmt: skip
    """The mean over windows whose size differs from place to place."""
    k = len(inner)
    if k == len(ins):
        return x[[*lead, *inner]]
    start, end = window_ends(place[k], ins[k], outs[k])
    total = node.builder.bounded("sum", start, end, lambda j: _uneven(
        node, x, lead, place, ins, outs, [*inner, j]))  # fmt: skip
    return Bin("/", total, Bin("-", end, start))


@aten("adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max_pool(node: Node, x: Value, size: Sequence[int]) -> list[Value]:
    """The largest of each window, and its flat place; windows differ where sizes do not divide."""
    rank = len(size)
    x = node.builder.stored(x, f"{node.name}_in")
    ins = [whole(n) for n in x.shape[-rank:]]
    Body = Callable[[list[Expr]], Expr]

    def window(kind: str, place: Index, body: Body, inner: list[Expr]) -> Expr:
        k = len(inner)
        if k == rank:
            return body(inner)
        start, end = window_ends(place[k], ins[k], size[k])
        return node.builder.bounded(kind, start, end, lambda j: window(
            kind, place, body, [*inner, j]))  # fmt: skip

    top = node.define(lambda i: window("max", i[-rank:], lambda j: x[[*i[:-rank], *j]], []))

    def place_if_top(i: Index, j: list[Expr]) -> Expr:
        flat: Expr = Num(0)
        for e, n in zip(j, ins, strict=True):
            flat = add(mul(flat, Num(n)), e)
        return select(Bin("==", x[[*i[:-rank], *j]], top[i]), flat, Num(math.prod(ins)))

    where = node.define(lambda i: window("min", i[-rank:], lambda j: place_if_top(i, j), []), 1,
                        "_indices")  # fmt: skip
    return [top, where]


def window_ends(place: Expr, n: int, m: int) -> tuple[Expr, Expr]:
    """Where the window of one of ``m`` results over ``n`` elements starts and ends."""
    start = floordiv(mul(place, Num(n)), Num(m), {})
    return start, floordiv(add(mul(add(place, Num(1)), Num(n)), Num(m - 1)), Num(m), {})
