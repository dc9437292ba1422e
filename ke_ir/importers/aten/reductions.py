"""Reductions along dims, scans, softmax, and norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar, converted
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.aten.views import place
from ke_ir.importers.graph import Index, Value, numeric
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import add, number, product

Dims = Sequence[int] | int | None


def reduced(x: Value, dims: Dims) -> list[int]:
    """The dims meant: all where none are given."""
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return list(range(x.rank))
    given = [dims] if isinstance(dims, int) else dims
    return sorted({place(d, x.rank) for d in given}) if x.rank else []


def along(
    node: Node, x: Value, dims: Sequence[int], kind: str, keep: bool,
    f: Callable[[Expr], Expr] = lambda e: e, number: bool = True,
) -> Callable[[Index], Expr]:  # fmt: skip
    """Elements of a reduction of ``f`` of the elements over some dims."""

    def at(index: Index) -> Expr:
        outer = [j for k, j in enumerate(index) if k not in dims] if keep else list(index)

        def body(inner: Index) -> Expr:
            free, bound = iter(outer), iter(inner)
            e = x[[next(bound) if k in dims else next(free) for k in range(x.rank)]]
            return f(numeric(e, x.dtype) if number else e)

        return node.reduce(kind, [x.shape[d] for d in dims], body)

    return at


def count(x: Value, dims: Sequence[int]) -> Expr:
    return product(x.shape[d] for d in dims)


@aten("sum.default", "sum.dim_IntList")
def sum_(node: Node, x: Value, dims: Dims = None, keep: bool = False, _: Any = None) -> Value:
    if not isinstance(dims, list | tuple | int):
        dims = None
    return node.define(along(node, x, reduced(x, dims), "sum", keep))


@aten("mean.default", "mean.dim")
def mean(node: Node, x: Value, dims: Dims = None, keep: bool = False, _: Any = None) -> Value:
    if not isinstance(dims, list | tuple | int):
        dims = None
    over = reduced(x, dims)
    total = along(node, x, over, "sum", keep)
    return node.define(lambda i: Bin("/", total(i), count(x, over)))


@aten("prod.default", "prod.dim_int")
def prod(node: Node, x: Value, dim: Any = None, keep: bool = False, _: Any = None) -> Value:
    dims = dim if isinstance(dim, int) else None
    return node.define(along(node, x, reduced(x, dims), "prod", keep))


@aten("amax.default")
def amax(node: Node, x: Value, dims: Dims, keep: bool) -> Value:
    return node.define(along(node, x, reduced(x, dims), "max", keep))


@aten("amin.default")
def amin(node: Node, x: Value, dims: Dims, keep: bool) -> Value:
    return node.define(along(node, x, reduced(x, dims), "min", keep))


@aten("max.default")
def max_all(node: Node, x: Value) -> Value:
    return amax(node, x, None, False)


@aten("min.default")
def min_all(node: Node, x: Value) -> Value:
    return amin(node, x, None, False)


@aten("max.dim")
def max_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    return _with_place(node, x, dim, keep, "max")


@aten("min.dim")
def min_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    return _with_place(node, x, dim, keep, "min")


def _with_place(node: Node, x: Value, dim: int, keep: bool, kind: str) -> list[Value]:
    dims = reduced(x, dim)
    if not dims:
        return [x, node.define(lambda _: Num(0), 1)]
    return [
        node.define(along(node, x, dims, kind, keep)),
        node.define(along(node, x, dims, f"arg{kind}", keep), 1, "_place"),
    ]


@aten("argmax.default")
def argmax(node: Node, x: Value, dim: int | None, keep: bool) -> Value:
    return _place_of(node, x, dim, keep, "argmax")


@aten("argmin.default")
def argmin(node: Node, x: Value, dim: int | None, keep: bool) -> Value:
    return _place_of(node, x, dim, keep, "argmin")


def _place_of(node: Node, x: Value, dim: int | None, keep: bool, kind: str) -> Value:
    if x.rank == 0:
        return node.define(lambda _: Num(0))
    if dim is None:
        flat = x.view([count(x, range(x.rank))], lambda i: _flat(node, x, i))
        at = along(node, flat, [0], kind, False)
        return node.define(lambda _: at([]))
    return node.define(along(node, x, reduced(x, dim), kind, keep))


def _flat(node: Node, x: Value, index: Index) -> Index:
    from ke_ir.index_maps import reshaped

    return reshaped(index, [count(x, range(x.rank))], x.shape, node.builder.known)


@aten("any.default", "any.dim", "any.dims")
def any_(node: Node, x: Value, dims: Dims = None, keep: bool = False) -> Value:
    return _truth(node, x, dims, keep, "any")


@aten("all.default", "all.dim", "all.dims")
def all_(node: Node, x: Value, dims: Dims = None, keep: bool = False) -> Value:
    return _truth(node, x, dims, keep, "all")


def _truth(node: Node, x: Value, dims: Dims, keep: bool, kind: str) -> Value:
    def test(e: Expr) -> Expr:
        return e if x.dtype.is_bool else Bin("!=", e, Num(0))

    return node.define(along(node, x, reduced(x, dims), kind, keep, test, number=False))


@aten("var.correction")
def var(node: Node, x: Value, dims: Dims, correction: Scalar | None, keep: bool) -> Value:
    return variance(node, x, reduced(x, dims), correction, keep)


@aten("var_mean.correction")
def var_mean(
    node: Node, x: Value, dims: Dims, correction: Scalar | None, keep: bool
) -> list[Value]:
    over = reduced(x, dims)
    total = along(node, x, over, "sum", keep)
    middle = node.define(lambda i: Bin("/", total(i), count(x, over)), 1, "_mean")
    return [variance(node, x, over, correction, keep), middle]


def variance(
    node: Node, x: Value, dims: Sequence[int], correction: Scalar | None, keep: bool,
    result: int = 0, suffix: str = "",
) -> Value:  # fmt: skip
    """The mean square distance from the mean, over ``count - correction``."""
    center = mean_of(node, x, dims)
    n = _freedom(count(x, dims), 1 if correction is None else correction)
    shifted = Value(x.shape, x.dtype, lambda i: Bin("-", x[i], center[
        [j for k, j in enumerate(i) if k not in dims]]))  # fmt: skip
    total = along(node, shifted, dims, "sum", keep, lambda e: Bin("*", e, e))
    return node.define(lambda i: Bin("/", total(i), n), result, suffix)


def _freedom(n: Expr, correction: Scalar) -> Expr:
    """``n - correction``, never below 0."""
    if float(correction).is_integer():
        left = add(n, Num(-int(correction)))
        size = number(left)
        return left if size is None or size >= 0 else Num(0)
    return Call("max", (Bin("-", n, Num(float(correction))), Num(0.0)))


def mean_of(node: Node, x: Value, dims: Sequence[int]) -> Value:
    """An equation for the mean over some dims, which go away."""
    shape = [n for k, n in enumerate(x.shape) if k not in dims]
    total = along(node, x, dims, "sum", False)
    return node.builder.define(
        f"{node.name}_mean", shape, x.dtype, lambda i: Bin("/", total(i), count(x, dims))
    )


@aten("linalg_vector_norm.default")
def vector_norm(node: Node, x: Value, order: Scalar, dims: Dims, keep: bool, _: Any) -> Value:
    over = reduced(x, dims)

    def size(e: Expr) -> Expr:
        return absolute(e)

    if order == 2:
        squares = along(node, x, over, "sum", keep, lambda e: Bin("*", e, e))
        return node.define(lambda i: Call("sqrt", (squares(i),)))
    if math.isinf(order):
        return node.define(along(node, x, over, "max" if order > 0 else "min", keep, size))
    if order == 0:
        return node.define(along(node, x, over, "sum", keep, lambda e: select(
            Bin("!=", e, Num(0)), Num(1.0), Num(0.0))))  # fmt: skip
    if order == 1:
        return node.define(along(node, x, over, "sum", keep, size))
    powers = along(node, x, over, "sum", keep, lambda e: Call("pow", (size(e), Num(float(order)))))
    return node.define(lambda i: Call("pow", (powers(i), Num(1 / order))))


# Scans: a reduction up to the element's own place


def scanned(node: Node, x: Value, dim: int, kind: str) -> Value:
    if x.rank == 0:
        return x
    at = place(dim, x.rank)

    def element(index: Index) -> Expr:
        def body(j: Expr) -> Expr:
            e = x[[j if k == at else i for k, i in enumerate(index)]]
            return numeric(e, x.dtype)

        return node.builder.bounded(kind, Num(0), add(index[at], Num(1)), body)

    return node.define(element)


@aten("cumsum.default")
def cumsum(node: Node, x: Value, dim: int, _: Any) -> Value:
    return scanned(node, node.builder.stored(x, f"{node.name}_in"), dim, "sum")


@aten("cumprod.default")
def cumprod(node: Node, x: Value, dim: int, _: Any) -> Value:
    return scanned(node, node.builder.stored(x, f"{node.name}_in"), dim, "prod")


# Softmax and its relatives


def along_dim(index: Index, dim: int) -> list[Expr]:
    return [j for k, j in enumerate(index) if k != dim]


def shifted_exp(node: Node, x: Value, dim: int) -> tuple[Value, Value]:
    """The largest element along a dim, and the sum of exp of the differences from it."""
    shape = along_dim(x.shape, dim)
    top = along(node, x, [dim], "max", False)
    largest = node.builder.define(f"{node.name}_max", shape, x.dtype, top)
    apart = Value(x.shape, x.dtype, lambda i: Bin("-", x[i], largest[along_dim(i, dim)]))
    total = along(node, apart, [dim], "sum", False, lambda e: Call("exp", (e,)))
    return largest, node.builder.define(f"{node.name}_sum", shape, x.dtype, total)


@aten("_softmax.default", "softmax.int")
def softmax(node: Node, x: Value, dim: int, _: Any = None) -> Value:
    at = place(dim, x.rank)
    if x.rank == 0:
        return node.define(lambda _: Num(1.0))
    x = converted(x, node.dtype, node)
    largest, total = shifted_exp(node, x, at)
    return node.define(lambda i: Bin(
        "/", Call("exp", (Bin("-", x[i], largest[along_dim(i, at)]),)), total[along_dim(i, at)]
    ))  # fmt: skip


@aten("_log_softmax.default", "log_softmax.int")
def log_softmax(node: Node, x: Value, dim: int, _: Any = None) -> Value:
    at = place(dim, x.rank)
    if x.rank == 0:
        return node.define(lambda _: Num(0.0))
    x = converted(x, node.dtype, node)
    largest, total = shifted_exp(node, x, at)
    return node.define(lambda i: Bin(
        "-", Bin("-", x[i], largest[along_dim(i, at)]), Call("log", (total[along_dim(i, at)],))
    ))  # fmt: skip


@aten("logsumexp.default")
def logsumexp(node: Node, x: Value, dims: Dims, keep: bool) -> Value:
    over = reduced(x, dims)
    shape = [n for k, n in enumerate(x.shape) if k not in over]
    top = along(node, x, over, "max", False)
    largest = node.builder.define(f"{node.name}_max", shape, x.dtype, top)

    def outer(index: Index) -> list[Expr]:
        return [j for k, j in enumerate(index) if k not in over]

    def shift(index: Index) -> Expr:
        """The largest element; 0 where that is infinite, from which nothing can be taken."""
        e = largest[index]
        if not x.dtype.is_float:
            return e
        return select(Bin("<", absolute(e), Num(math.inf)), e, Num(0.0))

    def apart(index: Index) -> Expr:
        # As floats: the difference of two integers may be none.
        e = x[index] if x.dtype.is_float else Bin("*", Num(1.0), numeric(x[index], x.dtype))
        return Bin("-", e, shift(outer(index)))

    total = along(node, Value(x.shape, node.dtype, apart), over, "sum", keep,
                  lambda e: Call("exp", (e,)))  # fmt: skip
    return node.define(lambda i: Bin(
        "+", Call("log", (total(i),)), shift(outer(i) if keep else list(i))))  # fmt: skip


# Normalisation


def normalised(
    node: Node, x: Value, dims: Sequence[int], weight: Value | None, bias: Value | None,
    where: Callable[[Index], Index], eps: float,
) -> list[Value]:  # fmt: skip
    """(x - mean) * rsqrt(variance + eps) over some dims, scaled; also the mean and the rsqrt.

    ``where`` gives the index in ``weight`` and ``bias`` of an element.
    """

    def outer(index: Index) -> list[Expr]:
        return [j for k, j in enumerate(index) if k not in dims]

    center = mean_of(node, x, dims)
    apart = Value(x.shape, x.dtype, lambda i: Bin("-", x[i], center[outer(i)]))
    squares = along(node, apart, dims, "sum", False, lambda e: Bin("*", e, e))
    scale = node.builder.define(
        f"{node.name}_rstd", [n for k, n in enumerate(x.shape) if k not in dims], x.dtype,
        lambda i: Call("rsqrt", (Bin("+", Bin("/", squares(i), count(x, dims)), Num(eps)),)),
    )  # fmt: skip

    def element(i: Index) -> Expr:
        e = Bin("*", apart[i], scale[outer(i)])
        if weight is not None:
            e = Bin("*", e, weight[where(i)])
        return e if bias is None else Bin("+", e, bias[where(i)])

    return [node.builder.define(node.name, x.shape, node.dtype, element), center, scale]


@aten("native_layer_norm.default")
def layer_norm(
    node: Node, x: Value, shape: Sequence[Any], weight: Value | None, bias: Value | None,
    eps: float,
) -> list[Value]:  # fmt: skip
    n = x.rank - len(shape)
    dims = list(range(n, x.rank))
    out, center, scale = normalised(node, x, dims, weight, bias, lambda i: i[n:], eps)
    stats = node.results[1][0]
    return [out, *(v.view(stats, lambda i: i[:n]) for v in (center, scale))]


@aten("native_group_norm.default")
def group_norm(
    node: Node, x: Value, weight: Value | None, bias: Value | None, n: int, c: int, hxw: int,
    groups: int, eps: float,
) -> list[Value]:  # fmt: skip
    from ke_ir.index_maps import floordiv, mod

    per = Num(c // groups)
    shape = (x.shape[0], Num(groups), per, *x.shape[2:])
    split = x.view(shape, lambda i: [i[0], add_channel(i[1], i[2], per), *i[3:]])
    dims = list(range(2, len(shape)))
    out, center, scale = normalised(
        node, split, dims, weight, bias, lambda i: [add_channel(i[1], i[2], per)], eps)  # fmt: skip
    known = node.builder
    joined = out.view(x.shape, lambda i: [
        i[0], floordiv(i[1], per, known.known), mod(i[1], per, known.known), *i[2:]
    ])  # fmt: skip
    return [joined, center, scale]


def add_channel(group: Expr, inside: Expr, per: Expr) -> Expr:
    from ke_ir.index_maps import mul

    return add(mul(group, per), inside)


@aten("_native_batch_norm_legit_functional.default")
def batch_norm_training(
    node: Node, x: Value, weight: Value | None, bias: Value | None, running_mean: Value,
    running_var: Value, training: bool, momentum: float, eps: float,
) -> list[Value]:  # fmt: skip
    if not training:
        fixed = batch_norm_inference(
            node, x, weight, bias, running_mean, running_var, momentum, eps
        )
        return [*fixed, running_mean, running_var]
    dims = [0, *range(2, x.rank)]
    out, center, scale = normalised(node, x, dims, weight, bias, lambda i: [i[1]], eps)
    spread = along(node, _apart(x, center, dims), dims, "sum", False, lambda e: Bin("*", e, e))
    rest = add(count(x, dims), Num(-1))
    b = node.builder

    def mixed(old: Value, new: Callable[[Index], Expr]) -> Callable[[Index], Expr]:
        return lambda i: Bin("+", Bin("*", Num(1 - momentum), old[i]),
                             Bin("*", Num(momentum), new(i)))  # fmt: skip

    means = b.define(f"{node.name}_running_mean", running_mean.shape, running_mean.dtype,
                     mixed(running_mean, center.at))  # fmt: skip
    vars_ = b.define(f"{node.name}_running_var", running_var.shape, running_var.dtype,
                     mixed(running_var, lambda i: Bin("/", spread(i), rest)))  # fmt: skip
    return [out, center, scale, means, vars_]


def _apart(x: Value, center: Value, dims: Sequence[int]) -> Value:
    return Value(x.shape, x.dtype, lambda i: Bin(
        "-", x[i], center[[j for k, j in enumerate(i) if k not in dims]]))  # fmt: skip


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_no_stats(
    node: Node, x: Value, weight: Value | None, bias: Value | None, training: bool,
    momentum: float, eps: float,
) -> list[Value]:  # fmt: skip
    dims = [0, *range(2, x.rank)]
    return normalised(node, x, dims, weight, bias, lambda i: [i[1]], eps)


@aten("_native_batch_norm_legit_no_training.default")
def batch_norm_inference(
    node: Node, x: Value, weight: Value | None, bias: Value | None, running_mean: Value,
    running_var: Value, momentum: float, eps: float,
) -> list[Value]:  # fmt: skip
    def element(i: Index) -> Expr:
        c = [i[1]]
        scale = Call("rsqrt", (Bin("+", running_var[c], Num(eps)),))
        e = Bin("*", Bin("-", x[i], running_mean[c]), scale)
        if weight is not None:
            e = Bin("*", e, weight[c])
        return e if bias is None else Bin("+", e, bias[c])

    out = node.builder.define(node.name, x.shape, node.dtype, element)
    return [out, running_mean, running_var]
