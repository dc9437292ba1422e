"""Images at other sizes, each result a mean of all pixels that it covers.

A size smaller than the image's widens the filter by their ratio. Along each dim that is a product
with a matrix of weights, whose rows sum to 1 (PyTorch: UpSampleKernel.cpp, as Pillow does it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.terms import absolute, select, times
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten, whole
from ke_ir.types import DType

Filter = Callable[[Expr], Expr]
_CUBIC = -0.5
"""The free parameter of the cubic filter, as in Pillow."""


def _triangle(e: Expr) -> Expr:
    return Call("max", (Bin("-", Num(1.0), e), Num(0.0)))


def _cubic(e: Expr) -> Expr:
    """Keys' filter of a distance (IEEE Trans. ASSP 29, 1981)."""
    a = _CUBIC
    near = Bin("+", times(Bin("-", times(Num(a + 2), e), Num(a + 3)), e, e), Num(1.0))
    far = times(Num(a), Bin("-", times(Bin("+", times(Bin(
        "-", e, Num(5.0)), e), Num(8.0)), e), Num(4.0)))  # fmt: skip
    outer = select(Bin("<", e, Num(2.0)), far, Num(0.0))
    return select(Bin("<", e, Num(1.0)), near, outer)


FILTERS: dict[str, Filter] = {"bilinear": _triangle, "bicubic": _cubic}


def _weights(node: Node, name: str, shape: Filter, n: int, m: int, step: float) -> Value:
    """[m, n]: how much of each of ``n`` pixels is in each of ``m`` results."""
    b, width = node.builder, max(step, 1.0)

    def raw(i: Index) -> Expr:
        center = Bin("*", Num(step), Bin("+", i[0], Num(0.5)))
        apart = absolute(Bin("-", Bin("+", i[1], Num(0.5)), center))
        return shape(Bin("*", apart, Num(1 / width)))

    table = b.define(f"{node.name}_{name}_raw", (Num(m), Num(n)), DType.F64, raw)
    total = b.define(f"{node.name}_{name}_sum", (Num(m),), DType.F64, lambda i: node.reduce(
        "sum", [Num(n)], lambda j: table[[i[0], j[0]]]))  # fmt: skip
    return b.define(f"{node.name}_{name}", (Num(m), Num(n)), DType.F64, lambda i: Bin(
        "/", table[i], total[i[:1]]))  # fmt: skip


def _step(n: int, m: int, corners: bool, scale: float | None) -> float:
    """Pixels from one result to the next."""
    if corners:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return 1 / scale if scale else n / m


def _tables(
    node: Node, kind: str, image: Value, result: Value, corners: bool,
    scales: tuple[float | None, float | None],
) -> list[Value]:  # fmt: skip
    out = []
    for k, name in ((0, "rows"), (1, "columns")):
        n, m = whole(image.shape[k - 2]), whole(result.shape[k - 2])
        out.append(_weights(node, name, FILTERS[kind], n, m, _step(n, m, corners, scales[k])))
    return out


def _both_ways(node: Node, x: Value, tables: Sequence[Value], turned: bool) -> Value:
    """x along its last dim and then the one before, each multiplied with a matrix."""

    def along(v: Value, table: Value, dim: int, i: Index) -> Expr:
        def part(j: Index) -> Expr:
            index = list(i)
            index[dim] = j[0]
            own = [j[0], i[dim]] if turned else [i[dim], j[0]]
            return Bin("*", v[index], table[own])

        return node.reduce("sum", [v.shape[dim]], part)

    rows, columns = tables
    shape = (*x.shape[:-1], node.shape[-1])
    wide = node.builder.define(f"{node.name}_wide", shape, node.dtype,
                               lambda i: along(x, columns, -1, i))  # fmt: skip
    return node.define(lambda i: along(wide, rows, -2, i))


def _register(kind: str) -> None:
    @aten(f"_upsample_{kind}2d_aa.default")
    def forward(
        node: Node, x: Value, _: object, corners: bool, down: float | None, across: float | None
    ) -> Value:
        result = Value(node.shape, node.dtype, x.at)
        tables = _tables(node, kind, x, result, corners, (down, across))
        return _both_ways(node, x, tables, False)

    @aten(f"_upsample_{kind}2d_aa_backward.default")
    def backward(
        node: Node, grad: Value, _out: object, _in: object, corners: bool, down: float | None,
        across: float | None,
    ) -> Value:  # fmt: skip
        image = Value(node.shape, node.dtype, grad.at)
        tables = _tables(node, kind, image, grad, corners, (down, across))
        return _both_ways(node, grad, tables, True)


for _kind in FILTERS:
    _register(_kind)
