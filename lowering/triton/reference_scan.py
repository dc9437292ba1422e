"""Prefixes and suffixes in ``reference()``: ``cumsum`` and its kin."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ke_ir.derive.scans import scan_form
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, substitute
from ke_ir.types import DType

if TYPE_CHECKING:
    from lowering.triton.reference import Reference, Tensor

_METHODS = {"sum": "cumsum({})", "prod": "cumprod({})", "max": "cummax({}).values",
            "min": "cummin({}).values"}  # fmt: skip


def scan(ref: Reference, e: Reduce, axes: tuple[str, ...]) -> Tensor | None:
    """A reduction as a tensor over ``axes``; None if it is no scan along one of them."""
    indices = [Range(n, *ref.ranges[n]) for n in axes if n in ref.ranges]
    form = scan_form(e, indices)
    if form is None or ref.flat or form.along.lo != Num(0):
        return None
    lo, hi = ref.ranges[e.ranges[0].name]
    at = form.at
    if form.scan.live is not None:  # stay inside the tensors where nothing is added
        first = Call("max", (at, lo))
        at = Call("min", (at, Bin("-", hi, Num(1)))) if form.scan.reverse else first
    body = ref.translate(substitute(e.body, {e.ranges[0].name: at}), axes)
    if form.scan.live is not None:
        none = ref.translate(_neutral(e.kind, body.kind), axes)
        body = ref.select(ref.translate(form.scan.live, axes), body, none)
    along = form.along.name
    if along not in body.axes or body.rank < len(axes) - axes.index(along):
        body = ref.full(body, axes)
    dim = axes.index(along) - len(axes)
    x = body.at(9)
    if form.scan.reverse:
        x = f"{x}.flip({dim})"
    text = f"{x}.{_METHODS[e.kind].format(f'dim={dim}')}"
    if form.scan.reverse:
        text = f"{text}.flip({dim})"
    kind = "int" if body.kind == "bool" else body.kind
    dtype = body.dtype if kind == "float" else DType.I64
    return replace(body, text=text, kind=kind, dtype=dtype, level=9)


def _neutral(kind: str, of: str) -> Expr:
    if kind in ("sum", "prod"):
        return Num(int(kind == "prod"))
    largest = kind == "min"
    if of == "float":
        return Num(math.inf if largest else -math.inf)
    return Num((1 << 63) - 1 if largest else -(1 << 63))
