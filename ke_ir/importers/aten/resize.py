"""Images at other sizes: upsampling, and sampling at places that data say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import outside
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add, floordiv, mul, number
from ke_ir.types import DType

Scales = Sequence[float] | None


def _sizes(node: Node, x: Value, rank: int) -> list[tuple[int, int]]:
    """Input and output size of the last dims."""
    found = [(number(a), number(b)) for a, b in zip(x.shape[-rank:], node.shape[-rank:],
                                                    strict=True)]  # fmt: skip
    known = [(a, b) for a, b in found if a is not None and b is not None]
    if len(known) < rank:
        raise Unsupported("a size that is no number")
    return known


@aten("upsample_nearest2d.vec")
def upsample_nearest2d(node: Node, x: Value, _: object, scales: Scales) -> Value:
    pairs = _sizes(node, x, 2)
    given = scales or [m / n for n, m in pairs]

    def nearest(j: Expr, n: int, m: int, s: float) -> Expr:
        if n * s == m:
            return floordiv(mul(j, Num(n)), Num(m), node.builder.known)
        return Call("min", (Call("floor", (Bin("*", j, Num(1 / s)),)), Num(n - 1)))

    def where(i: Index) -> Index:
        return [*i[:-2], *(nearest(j, n, m, s)
                           for j, (n, m), s in zip(i[-2:], pairs, given, strict=True))]  # fmt: skip

    return x.view(node.shape, where)


@dataclass(frozen=True)
class Between:
    """Two neighbours along a dim, and how near the second one is, from 0 to 1."""

    first: Expr
    second: Expr
    share: Expr


def _between(j: Expr, n: int, m: int, corners: bool, scale: float | None) -> Between:
    """Where output ``j`` of ``m`` lies among ``n`` inputs, in integers where the ratio is one."""
    if corners:
        above, below = mul(j, Num(n - 1)), max(m - 1, 1)
    elif scale is None or n * scale == m:
        # (j + 1/2) n / m - 1/2, over the common denominator 2 m.
        above = Call("max", (add(mul(add(mul(j, Num(2)), Num(1)), Num(n)), Num(-m)), Num(0)))
        below = 2 * m
    else:
        return _at_scale(j, n, 1 / scale)
    first = Bin("//", above, Num(below))
    second = Call("min", (Bin("+", first, Num(1)), Num(n - 1)))
    return Between(first, second, Bin("/", Bin("%", above, Num(below)), Num(below)))


def _at_scale(j: Expr, n: int, step: float) -> Between:
    """Where a scale is given that the sizes do not have: places are floats."""
    place = Bin("-", Bin("*", Bin("+", j, Num(0.5)), Num(step)), Num(0.5))
    first = Call("min", (Call("floor", (Call("max", (place, Num(0.0))),)), Num(n - 1)))
    share = Call("max", (Call("min", (Bin("-", place, first), Num(1.0))), Num(0.0)))
    return Between(first, Call("min", (Bin("+", first, Num(1)), Num(n - 1))), share)


@aten("upsample_bilinear2d.vec")
def upsample_bilinear2d(node: Node, x: Value, _: object, corners: bool, scales: Scales) -> Value:
    pairs = _sizes(node, x, 2)
    given: Sequence[float | None] = scales or [None, None]

    def element(i: Index) -> Expr:
        h, w = (_between(j, n, m, corners, s)
                for j, (n, m), s in zip(i[-2:], pairs, given, strict=True))  # fmt: skip

        def row(r: Expr) -> Expr:
            return _mixed(x[[*i[:-2], r, w.first]], x[[*i[:-2], r, w.second]], w.share)

        return _mixed(row(h.first), row(h.second), h.share)

    return node.define(element)


@aten("upsample_linear1d_backward.default", "upsample_bilinear2d_backward.default",
      "upsample_trilinear3d_backward.default")  # fmt: skip
def upsample_linear_backward(
    node: Node, grad: Value, _out: object, _in: object, corners: bool, *scales: float | None
) -> Value:
    """Each place gets its share of every result that was mixed from it."""
    rank = len(scales)
    pairs = [(n, m) for m, n in _sizes(node, grad, rank)]

    def element(i: Index) -> Expr:
        def part(o: Index) -> Expr:
            e = grad[[*i[:-rank], *o]]
            for j, k, (n, m), s in zip(i[-rank:], o, pairs, scales, strict=True):
                near = _between(k, n, m, corners, s)
                first = _where_equal(near.first, j, Bin("-", Num(1.0), near.share))
                e = Bin("*", e, Bin("+", first, _where_equal(near.second, j, near.share)))
            return e

        return node.reduce("sum", grad.shape[-rank:], part)

    return node.define(element)


def _where_equal(a: Expr, b: Expr, e: Expr) -> Expr:
    return select(Bin("==", a, b), e, Num(0.0))


def _mixed(a: Expr, b: Expr, share: Expr) -> Expr:
    return Bin("+", Bin("*", a, Bin("-", Num(1.0), share)), Bin("*", b, share))


# Sampling at the places of a grid, which are from -1 to 1

BILINEAR, NEAREST = 0, 1
ZEROS, BORDER, REFLECTION = 0, 1, 2


@aten("grid_sampler_2d.default")
def grid_sampler_2d(node: Node, x: Value, grid: Value, how: int, pad: int, corners: bool) -> Value:
    return _sampled(node, x, grid, how, pad, corners, 2)


@aten("grid_sampler_3d.default")
def grid_sampler_3d(node: Node, x: Value, grid: Value, how: int, pad: int, corners: bool) -> Value:
    return _sampled(node, x, grid, how, pad, corners, 3)


def _sampled(
    node: Node, x: Value, grid: Value, how: int, pad: int, corners: bool, rank: int
) -> Value:
    if how not in (BILINEAR, NEAREST):
        raise Unsupported("sampling that is bicubic")
    source = outside(node, x, 0)
    places = _places(node, x, grid, pad, corners, rank)

    def element(i: Index) -> Expr:
        n, c, *spot = i
        at = [p[[n, *spot]] for p in places]
        if how == NEAREST:
            return source[[n, c, *(Call("round", (p,)) for p in at)]]
        low = [Call("floor", (p,)) for p in at]

        def mixed(k: int, where: list[Expr]) -> Expr:
            if k == rank:
                return source[[n, c, *where]]
            share = Bin("-", at[k], low[k])
            return _mixed(mixed(k + 1, [*where, low[k]]),
                          mixed(k + 1, [*where, Bin("+", low[k], Num(1))]), share)  # fmt: skip

        return mixed(0, [])

    return node.define(element)


def _places(node: Node, x: Value, grid: Value, pad: int, corners: bool, rank: int) -> list[Value]:
    """An equation for each dim: where in it the grid points. The grid's last entry is dim 0's."""
    out = []
    for k in range(rank):
        size = number(x.shape[2 + k])
        if size is None:
            raise Unsupported("a size that is no number")

        def place(i: Index, k: int = k, n: int = size) -> Expr:
            e: Expr = Bin("+", grid[[*i, Num(rank - 1 - k)]], Num(1.0))
            e = Bin("*", e, Num((n - 1) / 2 if corners else n / 2))
            if not corners:
                e = Bin("-", e, Num(0.5))
            if pad == REFLECTION:
                e = _reflected(e, *((0.0, n - 1.0) if corners else (-0.5, float(n))))
            return Call("min", (Call("max", (e, Num(0.0))), Num(n - 1.0))) if pad else e

        shape = [x.shape[0], *node.shape[2:]]
        f: Callable[[Index], Expr] = place
        out.append(node.builder.define(f"{node.name}_at", shape, DType.F64, f))
    return out


def _reflected(e: Expr, low: float, span: float) -> Expr:
    """A place thrown back at ``low`` and ``low + span`` as often as it takes."""
    if span == 0:
        return Num(0.0)
    away = Bin("%", Bin("-", e, Num(low)), Num(2 * span))
    return Bin("+", Call("min", (away, Bin("-", Num(2 * span), away))), Num(low))
