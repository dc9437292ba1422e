"""Cheaper operations in place of dear ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import Kernel
from ke_ir.ops import Binary, Full, Unary
from ke_ir.ops.base import Op, Operand
from ke_ir.rewrites.base import KernelRewrite, NoMatch, register_rewrite, value
from ke_ir.rewrites.body import Facts, Path, facts, splice
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.tidy import alive

LOG2_E = 1.0 / math.log(2.0)


@register_rewrite
@dataclass(frozen=True)
class Strength(KernelRewrite):
    """Compute a value by cheaper operations.

    ``exp`` by ``exp2``; division by a constant, or by what is the same for many elements, by a
    product with the reciprocal; a small integer power by products; ``1 / sqrt`` by ``rsqrt``.

    ``strength(@scale, %q)``

    Before:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B tile 2 {
        %u = load %s[%b] : f32[2]
        %v = expand %u dim 1
        for %d = 0 to D tile 8 {
          %w = load %x[%b, %d] : f32[2, 8]
          %q = div %w, %v
          store %q, %y[%b, %d]
        }
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B tile 2 {
        %u = load %s[%b] : f32[2]
        %v = expand %u dim 1
        %one = full 1.0 : f32[2, 1]
        %r = div %one, %v
        for %d = 0 to D tile 8 {
          %w = load %x[%b, %d] : f32[2, 8]
          %q = mul %w, %r
          store %q, %y[%b, %d]
        }
      }
    }
    ```
    """

    name = "strength"
    value: str = value()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = f.definitions.get(self.value)
        if not isinstance(op, Unary | Binary):
            return NoMatch(f"@{k.name} has no arithmetic that gives %{self.value}")
        new = _cheaper(f, op)
        if new is None:
            return NoMatch(f"there is no cheaper form of %{self.value}")
        return new

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, op in f.definitions.items():
            if isinstance(op, Unary | Binary) and _cheaper(f, op) is not None:
                yield cls(k.name, name)


def _cheaper(f: Facts, op: Unary | Binary) -> Kernel | None:
    name = str(op.result)
    fresh = Fresh(f.kernel)
    path = f.places[name]

    def here(*ops: Op) -> Kernel:
        return splice(f.kernel, path, ops)

    match op:
        case Unary("exp", x) if isinstance(x, str):
            t = fresh("scaled")
            return here(
                Binary("mul", x, LOG2_E, result=t), Unary("exp2", t, result=name)
            )  # fmt: skip
        case Unary("log", x) if isinstance(x, str):
            t = fresh("log2")
            return here(
                Unary("log2", x, result=t), Binary("mul", t, math.log(2.0), result=name)
            )  # fmt: skip
        case Binary("div", x, y) if isinstance(x, str) and not isinstance(y, str):
            return here(Binary("mul", x, 1.0 / y, result=name)) if _invertible(y) else None
        case Binary("div", x, y) if isinstance(y, str):
            return _by_reciprocal(f, op, x, y, fresh)
        case Binary("pow", x, y) if isinstance(x, str) and y in (2, 3, 4):
            return here(*_power(x, int(y), name, fresh))
    return None


def _invertible(y: float) -> bool:
    return y != 0 and math.isfinite(y) and math.isfinite(1.0 / y)


def _power(x: str, n: int, name: str, fresh: Fresh) -> list[Op]:
    if n == 2:
        return [Binary("mul", x, x, result=name)]
    square = fresh("square")
    last = Binary("mul", square, x if n == 3 else square, result=name)
    return [Binary("mul", x, x, result=square), last]


def _by_reciprocal(f: Facts, op: Binary, x: Operand, y: str, fresh: Fresh) -> Kernel | None:
    name = str(op.result)
    root = f.definitions.get(y)
    if isinstance(root, Unary) and root.fn == "sqrt" and isinstance(root.x, str):
        inverse = Unary("rsqrt", root.x, result=fresh("inverse"))
        product = Binary("mul", str(inverse.result), x, result=name)
        new = (replace(inverse, result=name),) if x == 1 else (inverse, product)
        return alive(splice(f.kernel, f.places[name], new))
    if not isinstance(x, str):
        return None
    t = f.types[y]
    at = _earliest(f, y, f.places[name])
    if t.elements >= f.types[name].elements and at == f.places[name]:
        return None
    one = Full(1.0, t, result=fresh("one"))
    r = Binary("div", str(one.result), y, result=fresh("r"))
    new_op = Binary("mul", x, str(r.result), result=name)
    if at == f.places[name]:
        return splice(f.kernel, at, (one, r, new_op))
    inside = splice(f.kernel, f.places[name], (new_op,))
    return splice(inside, at, (one, r, facts(inside).get(at)))


def _earliest(f: Facts, y: str, path: Path) -> Path:
    """The outermost place, at or around ``path``, before which ``y`` is known."""
    for n in range(2, len(path)):
        start = f.places[y]
        if start[: n - 1] == path[: n - 1] and len(start) == n and start < path[:n]:
            return path[:n]
    return path


@register_rewrite
@dataclass(frozen=True)
class Regroup(KernelRewrite):
    """Multiply the two small factors of a product first, and the large one once.

    ``regroup(@scale, %t)``

    Before:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B, %d = 0 to D tile 8 {
        %u = load %s[%b] : f32
        %w = load %x[%b, %d] : f32[8]
        %q = mul %w, %u
        %t = mul %q, 0.5
        store %t, %y[%b, %d]
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B, %d = 0 to D tile 8 {
        %u = load %s[%b] : f32
        %w = load %x[%b, %d] : f32[8]
        %small = mul %u, 0.5
        %t = mul %w, %small
        store %t, %y[%b, %d]
      }
    }
    ```
    """

    name = "regroup"
    value: str = value()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = f.definitions.get(self.value)
        if not (isinstance(op, Binary) and op.fn == "mul"):
            return NoMatch(f"@{k.name} has no product %{self.value}")
        found = _regrouped(f, op)
        if found is None:
            return NoMatch(f"%{self.value} is not a product of one large and two small factors")
        return alive(splice(k, f.places[self.value], found))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, op in f.definitions.items():
            if isinstance(op, Binary) and op.fn == "mul" and _regrouped(f, op) is not None:
                yield cls(k.name, name)


def _regrouped(f: Facts, op: Binary) -> tuple[Op, ...] | None:
    name = str(op.result)
    for inner, small in ((op.x, op.y), (op.y, op.x)):
        product = f.definitions.get(inner) if isinstance(inner, str) else None
        if not (isinstance(product, Binary) and product.fn == "mul" and inner != small):
            continue
        if f.uses[str(inner)] != 1 or not f.types[name].dtype.is_float:
            continue
        for large, other in ((product.x, product.y), (product.y, product.x)):
            if not isinstance(large, str) or f.types[large] != f.types[name]:
                continue
            part = _product(other, small)
            if _size(f, other, small) >= f.types[name].elements:
                continue
            if not isinstance(part, Op):
                return (Binary("mul", large, part, result=name),)
            fresh = Fresh(f.kernel)
            part = replace(part, result=fresh("small"))
            return (part, Binary("mul", large, str(part.result), result=name))
    return None


def _product(a: Operand, b: Operand) -> Op | Operand:
    if not isinstance(a, str) and not isinstance(b, str):
        return float(a) * float(b)
    return Binary("mul", a, b)


def _size(f: Facts, a: Operand, b: Operand) -> int:
    """Elements of the product of two factors that stretch along each other."""
    shapes = [f.types[x].shape for x in (a, b) if isinstance(x, str)]
    wide = [s for s in shapes if s]
    n = 1
    for sizes in zip(*wide, strict=True):
        n *= max(sizes)
    return n
