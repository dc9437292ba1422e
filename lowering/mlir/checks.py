"""Shape rules of the ``kea`` dialect that IRDL cannot state, checked on a parsed module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lowering.mlir import adapter
from lowering.mlir.dialect import LOCAL_SPACE

_LOCAL = f"{LOCAL_SPACE} : i64"


class ShapeError(Exception):
    """An operation of the ``kea`` dialect has operands that do not fit each other."""


@dataclass(frozen=True)
class _Memref:
    shape: tuple[int, ...]
    element: str
    local: bool

    @property
    def elements(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n


def check(module: Any) -> None:
    """Raise ShapeError at the first operation that breaks a rule."""
    bindings = adapter.ir()
    for op in adapter.operations(module, "kea."):
        _check_op(bindings, op)


def _check_op(bindings: Any, op: Any) -> None:
    name = op.name.removeprefix("kea.")
    types = [
        _memref(bindings, v) for v in (*op.operands, *op.results)
        if isinstance(v.type, bindings.MemRefType)
    ]  # fmt: skip
    want_tensor = {"bind": (0,), "view": (0, 1), "initialise": (0,), "load": (1,), "store": (1,),
                   "accumulate": (1,)}.get(name, ())  # fmt: skip
    for i, t in enumerate(types):
        if t.local is (i in want_tensor):
            _fail(op, f"operand {i} must be a {'tensor' if i in want_tensor else 'tile'}")
    rule = _RULES.get(name)
    if rule is not None and (problem := rule(bindings, op, types)):
        _fail(op, problem)


def _memref(bindings: Any, value: Any) -> _Memref:
    t = bindings.MemRefType(value.type)
    return _Memref(tuple(t.shape), str(t.element_type), str(t.memory_space) == _LOCAL)


def _fail(op: Any, problem: str) -> None:
    raise ShapeError(f"{op.name}: {problem}\n  {op}")


def _stretches(shape: Sequence[int], to: Sequence[int]) -> bool:
    return not shape or (
        len(shape) == len(to) and all(m in (1, n) for m, n in zip(shape, to, strict=True))
    )


def _elementwise(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    dst, *srcs = types
    if op.name == "kea.select":
        cond, *srcs = srcs
        if cond.element != "i1" or not _stretches(cond.shape, dst.shape):
            return "the condition must be i1 and stretch to the result's shape"
    if not all(_stretches(s.shape, dst.shape) for s in srcs):
        return "operands must stretch to the result's shape"
    same = {s.element for s in srcs}
    if op.name in ("kea.binary", "kea.select", "kea.broadcast"):
        same.add(dst.element)
    if op.name == "kea.cmp" and dst.element != "i1":
        return "a comparison gives i1"
    return "" if len(same) == 1 or op.name == "kea.cast" else "element types differ"


def _dot(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    dst, a, b = (t.shape for t in types)
    if min(len(dst), len(a), len(b)) < 2 or types[1].element != types[2].element:
        return "operands must be matrices of one element type"
    fits = a[-1] == b[-2] and dst == (*a[:-1], b[-1]) and a[:-2] == b[:-2]
    return "" if fits else f"{a} x {b} does not give {dst}"


def _reduce(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    dst, x = types
    dim = int(bindings.IntegerAttr(op.attributes["dim"]).value)
    if not 0 <= dim < len(x.shape):
        return f"no dimension {dim} in {x.shape}"
    if op.name == "kea.scan":
        return ""
    want = x.shape[:dim] + x.shape[dim + 1 :]
    return "" if dst.shape == want else f"the result must have the shape {want}"


def _permute(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    dst, x = types
    order = list(bindings.DenseI64ArrayAttr(op.attributes["order"]))
    if sorted(order) != list(range(len(x.shape))):
        return f"{order} is not an order of {len(x.shape)} dimensions"
    fits = dst.shape == tuple(x.shape[i] for i in order) and dst.element == x.element
    return "" if fits else "the result's shape is not the operand's in that order"


def _reshape(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    x, dst = types
    same = x.elements == dst.elements and x.element == dst.element
    return "" if same else "the number or type of elements changes"


def _access(bindings: Any, op: Any, types: Sequence[_Memref]) -> str:
    tile, tensor, *indices = types
    sizes = list(bindings.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"]))
    rank, dims = len(tile.shape), len(tensor.shape)
    if sizes[2] != dims or sizes[3] != rank:
        return f"needs {dims} bases and {rank} limits, has {sizes[2]} and {sizes[3]}"
    if len(list(bindings.DenseI64ArrayAttr(op.attributes["steps"]))) != rank * dims:
        return f"needs {rank * dims} steps"
    if any(sizes[4 + dims :]):
        return f"an integer tile for a coordinate that a tensor of {dims} dimensions lacks"
    if tile.element != tensor.element:
        return "tile and tensor have different element types"
    if not all(_stretches(i.shape, tile.shape) for i in indices):
        return "integer tiles must stretch to the tile's shape"
    return ""


_RULES: dict[str, Callable[[Any, Any, Sequence[_Memref]], str]] = {
    **dict.fromkeys(("binary", "cmp", "select", "cast", "broadcast"), _elementwise),
    **dict.fromkeys(("load", "store", "accumulate"), _access),
    "dot": _dot, "reduce": _reduce, "scan": _reduce, "permute": _permute, "reshape": _reshape,
}  # fmt: skip
