"""Convolutions, transposed ones, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ke_ir.expr import Bin, Expr, Num
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import outside
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten, whole
from ke_ir.index_maps import add, floordiv, mod, mul, number, sub

MATRIX = 32
"""Output channels and terms from which those of a group are worth a matrix product of their own."""


@aten("convolution.default")
def convolution(
    node: Node, x: Value, w: Value, bias: Value | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    rank = w.rank - 2
    stride, padding, dilation = (list(v) * (rank // len(v)) for v in (stride, padding, dilation))
    if x.rank == w.rank - 1:
        raise Unsupported("a convolution without a batch dim")
    make = _transposed if transposed else _forward
    total = make(node, x, w, stride, padding, dilation, groups, node.shape)
    if bias is None:
        return node.define(total)
    return node.define(lambda i: Bin("+", total(i), bias[[i[1]]]))


@dataclass(frozen=True)
class Groups:
    """Groups of channels, each with its own weights: ``count`` of ``per_out`` output channels.

    ``apart``: they are large enough to be matrix products, of which each needs all its channels in
    one place. An index that counts groups says so; else it would have to be read out of the
    channels'.
    """

    count: int
    per_out: Expr
    terms: int

    @property
    def apart(self) -> bool:
        return self.count > 1 and min(whole(self.per_out), self.terms) >= MATRIX

    @property
    def shape(self) -> list[Expr]:
        """Of output channels."""
        return [Num(self.count), self.per_out]

    def split(self, o: Expr, node: Node) -> tuple[Expr, Expr]:
        """The group of an output channel, and its place there."""
        if self.count == 1:
            return Num(0), o
        group = floordiv(o, self.per_out, node.builder.known)
        if self.apart:
            return group, mod(o, self.per_out, node.builder.known)
        return group, sub(o, mul(group, self.per_out))


def _forward(
    node: Node, x: Value, w: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, shape: Sequence[Expr],
) -> Callable[[Index], Expr]:  # fmt: skip
    per_in, per_out = w.shape[1], Num(whole(w.shape[0]) // groups)
    parts = Groups(groups, per_out, math.prod(whole(n) for n in w.shape[1:]))
    source = outside(node, x, 0) if any(padding) else node.builder.stored(x, f"{node.name}_in")

    def total(n: Expr, group: Expr, o: Expr, place: Index) -> Expr:
        window = [number(s) != 1 for s in w.shape[2:]]
        sizes = [s for s, wide in zip(w.shape[2:], window, strict=True) if wide]
        deep = number(per_in) != 1

        def body(inner: Index) -> Expr:
            left = iter(inner)
            c = next(left) if deep else Num(0)
            taps = [next(left) if wide else Num(0) for wide in window]
            where = [
                add(add(mul(i, Num(s)), mul(p, Num(d))), Num(-pad))
                for i, p, s, d, pad in zip(place, taps, stride, dilation, padding, strict=True)
            ]
            channel = add(mul(group, per_in), c)
            return Bin("*", source[[n, channel, *where]], w[[o, c, *taps]])

        return node.reduce("sum", [*([per_in] if deep else []), *sizes], body)

    if not parts.apart:
        return lambda i: total(i[0], parts.split(i[1], node)[0], i[1], i[2:])
    sums = node.builder.define(
        f"{node.name}_groups", [shape[0], *parts.shape, *shape[2:]], x.dtype,
        lambda i: total(i[0], i[1], add(mul(i[1], per_out), i[2]), i[3:]),
    )  # fmt: skip
    return lambda i: sums[[i[0], *parts.split(i[1], node), *i[2:]]]


@dataclass(frozen=True)
class Window:
    """One dim of a transposed convolution: output place i meets tap p at (i + pad - p * d) / s.

    ``phased``: outputs are told apart by their remainder r by the stride (``i = q * s + r``), which
    says which taps meet whole places. ``sparse``: where the stride divides the dilation, all taps
    meet whole places or none does, so that only every s-th output has a sum. Where they have
    another common factor, all taps are gone through and those that meet none are left out.
    """

    size: int
    taps: int
    stride: int
    pad: int
    dilation: int

    @property
    def phased(self) -> bool:
        return self.stride > 1 and math.gcd(self.stride, self.dilation) == 1

    @property
    def sparse(self) -> bool:
        return self.stride > 1 and self.dilation % self.stride == 0 and self.last >= self.first

    @property
    def first(self) -> int:
        """The first place that has a sum where ``sparse``: ``(i + pad) / s`` is whole."""
        return -(-self.pad // self.stride)

    @property
    def last(self) -> int:
        return (self.size - 1 + self.pad) // self.stride

    @property
    def shape(self) -> list[Expr]:
        """Of the sums: [q, r], [q], or the output's own."""
        if self.sparse:
            return [Num(self.last - self.first + 1)]
        if not self.phased:
            return [Num(self.size)]
        return [Num(-(-self.size // self.stride)), Num(self.stride)]

    def summed(self, i: Expr, node: Node) -> tuple[tuple[Expr, ...], Expr | None]:
        """Where the sum of an output is, and the condition for it to have one (None: always)."""
        known, s = node.builder.known, Num(self.stride)
        if self.phased:
            return (floordiv(i, s, known), mod(i, s, known)), None
        if not self.sparse:
            return (i,), None
        at = add(i, Num(self.pad))
        test = Bin("==", mod(at, s, known), Num(0))
        return (sub(floordiv(at, s, known), Num(self.first)),), test

    @property
    def terms(self) -> int:
        """How many taps a sum goes through."""
        return -(-self.taps // self.stride) if self.phased else self.taps

    @property
    def overhangs(self) -> bool:
        """True if some of these taps lie beyond the window."""
        return self.phased and self.taps % self.stride != 0

    def meets(self, place: Index, m: Expr, node: Node) -> tuple[Expr, Expr, Expr | None]:
        """The tap, the place in the input, and the condition for them to meet (None: always)."""
        if self.phased:
            q, r = place
            s = self.stride
            known = node.builder.known
            inverse = Num(pow(self.dilation, -1, s))
            first = mod(mul(add(r, Num(self.pad)), inverse), Num(s), known)
            ahead = sub(add(r, Num(self.pad)), mul(first, Num(self.dilation)))
            back = mul(m, Num(self.dilation))
            return (
                add(first, mul(m, Num(s))),
                sub(add(q, floordiv(ahead, Num(s), known)), back),
                None,
            )
        (i,) = place
        if self.sparse:
            back = mul(m, Num(self.dilation // self.stride))
            return m, sub(add(i, Num(self.first)), back), None
        at = sub(add(i, Num(self.pad)), mul(m, Num(self.dilation)))
        if self.stride == 1:
            return m, at, None
        test = Bin("==", Bin("%", at, Num(self.stride)), Num(0))
        return m, Bin("//", at, Num(self.stride)), test


def _transposed(
    node: Node, x: Value, w: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, shape: Sequence[Expr],
) -> Callable[[Index], Expr]:  # fmt: skip
    """Elements of the output of a given shape [N, O, ...]."""
    windows = [
        Window(whole(n), whole(k), s, p, d)
        for n, k, s, p, d in zip(shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    ]
    source = outside(node, x, 0)
    weights = outside(node, w, 0) if any(v.overhangs for v in windows) else w
    per_in, per_out = Num(whole(w.shape[0]) // groups), w.shape[1]
    parts = Groups(groups, per_out, whole(per_in) * math.prod(v.terms for v in windows))

    def total(n: Expr, group: Expr, inside_group: Expr, rest: Index) -> Expr:
        left = iter(rest)
        places = [[next(left) for _ in v.shape] for v in windows]

        def body(inner: Index) -> Expr:
            c, *given = inner
            terms = iter(given)
            found = [
                v.meets(place, next(terms) if v.terms > 1 else Num(0), node)
                for v, place in zip(windows, places, strict=True)
            ]
            channel = add(mul(group, per_in), c)
            element = source[[n, channel, *(where for _, where, _ in found)]]
            for _, _, test in found:
                if test is not None:
                    element = select(test, element, Num(0))
            return Bin(
                "*", element, weights[[channel, inside_group, *(tap for tap, _, _ in found)]]
            )

        return node.reduce("sum", [per_in, *(Num(v.terms) for v in windows if v.terms > 1)], body)

    def of_channel(i: Index) -> Expr:
        return total(i[0], *parts.split(i[1], node), i[2:])

    in_phases = any(v.phased or v.sparse for v in windows)
    if not in_phases and not parts.apart:
        return of_channel
    outer = [shape[0], *parts.shape] if parts.apart else list(shape[:2])
    sums = node.builder.define(
        f"{node.name}_{'phases' if in_phases else 'groups'}",
        [*outer, *(n for v in windows for n in v.shape)], x.dtype,
        (lambda i: total(i[0], i[1], i[2], i[3:])) if parts.apart else of_channel,
    )  # fmt: skip
    place = outside(node, sums, 0) if any(v.sparse for v in windows) else sums

    def element(index: Index) -> Expr:
        found = [v.summed(i, node) for v, i in zip(windows, index[2:], strict=True)]
        channel = parts.split(index[1], node) if parts.apart else (index[1],)
        value: Expr = place[[index[0], *channel, *(e for places, _ in found for e in places)]]
        for _, test in found:
            if test is not None:
                value = select(test, value, Num(0))
        return value

    return element


@aten("convolution_backward.default")
def convolution_backward(
    node: Node, grad: Value, x: Value, w: Value, _sizes: object, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, _output_padding: object,
    groups: int, wanted: Sequence[bool],
) -> list[Value | None]:  # fmt: skip
    rank = w.rank - 2
    stride, padding, dilation = (list(v) * (rank // len(v)) for v in (stride, padding, dilation))
    b, name, out = node.builder, node.name, node.dtype
    by_x = by_w = by_bias = None
    if wanted[0]:
        back = _forward if transposed else _transposed
        by_x = b.define(name, x.shape, out, back(
            node, grad, w, stride, padding, dilation, groups, x.shape))  # fmt: skip
    if wanted[1]:
        small, big = (x, grad) if transposed else (grad, x)
        by_w = b.define(f"{name}_weight", w.shape, out, _by_weight(
            node, small, big, stride, padding, dilation, groups))  # fmt: skip
    if wanted[2]:
        dims = [grad.shape[0], *grad.shape[2:]]
        by_bias = b.define(f"{name}_bias", [grad.shape[1]], out, lambda i: node.reduce(
            "sum", dims, lambda k: grad[[k[0], i[0], *k[1:]]]))  # fmt: skip
    return [by_x, by_w, by_bias]


def _by_weight(
    node: Node, small: Value, big: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Callable[[Index], Expr]:  # fmt: skip
    """Products of the two sides of a convolution, where a tap of the window lets them meet."""
    source = outside(node, big, 0)
    first, second = (Num(whole(v.shape[1]) // groups) for v in (small, big))

    def at(index: Index) -> Expr:
        a, c, *taps = index
        group = Num(0) if groups == 1 else floordiv(a, first, node.builder.known)

        def body(inner: Index) -> Expr:
            n, *place = inner
            where = [
                add(add(mul(i, Num(s)), mul(t, Num(d))), Num(-p))
                for i, t, s, d, p in zip(place, taps, stride, dilation, padding, strict=True)
            ]
            return Bin("*", small[[n, a, *place]], source[[n, add(mul(group, second), c), *where]])

        return node.reduce("sum", [small.shape[0], *small.shape[2:]], body)

    return at
