"""Random numbers are inputs of the op, which whoever calls it has PyTorch draw beforehand."""

from __future__ import annotations

from typing import Any

from ke_ir.expr import Bin, Num
from ke_ir.importers.aten.terms import select
from ke_ir.importers.graph import Value, constant, literal, numeric
from ke_ir.importers.registry import Node, aten
from ke_ir.types import DType


@aten("rand.default", "rand_like.default")
def rand(node: Node, *_: Any) -> Value:
    return _drawn(node, "uniform", 0.0, 1.0)


@aten("uniform.default")
def uniform(node: Node, x: Value, low: float, high: float, _: Any) -> Value:
    return _drawn(node, "uniform", low, high)


@aten("randn.default", "randn_like.default")
def randn(node: Node, *_: Any) -> Value:
    return _drawn(node, "normal", 0.0, 1.0)


@aten("normal.float_float")
def normal(node: Node, mean: float, deviation: float, *_: Any) -> Value:
    return _drawn(node, "normal", mean, deviation)


@aten("normal_functional.default", "prims.normal.default")
def normal_of_shape(node: Node, _: Any, mean: float, deviation: float, *__: Any) -> Value:
    return _drawn(node, "normal", mean, deviation)


def _drawn(node: Node, kind: str, *of: float) -> Value:
    return node.builder.draw(node.name, kind, node.shape, node.dtype, *of)


@aten("bernoulli.p")
def bernoulli(node: Node, x: Value, p: float, _: Any) -> Value:
    mask = _mask(node, p)
    return Value(
        mask.shape,
        node.dtype,
        lambda i: select(mask[i], literal(1, node.dtype), literal(0, node.dtype)),
    )


@aten("native_dropout.default")
def dropout(node: Node, x: Value, p: float, train: bool | None) -> list[Value]:
    shape, dtype = node.results[1]
    if train is False or p == 0:
        return [x, constant(True, dtype, shape)]
    if p == 1:
        return [node.define(lambda i: Bin("*", x[i], Num(0))), constant(False, dtype, shape)]
    mask = _mask(node, 1 - p)
    kept = node.define(lambda i: Bin("*", Bin("*", x[i], numeric(mask[i], mask.dtype)),
                                     Num(1 / (1 - p))))  # fmt: skip
    return [kept, mask]


def _mask(node: Node, p: float) -> Value:
    """True with probability ``p``."""
    return node.builder.draw(f"{node.name}_mask", "bernoulli", node.shape, DType.I1, p)
