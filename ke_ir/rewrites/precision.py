"""Dtypes and precision of products and sums.

These change the numbers that a kernel gives as typed, never its float64 meaning: evaluation
reports a lower precision as a choice, and checks its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import For, Kernel
from ke_ir.ops import Binary, Cast, Dot, Full
from ke_ir.ops.base import Op, Stmt
from ke_ir.ops.shape import PRECISIONS
from ke_ir.rewrites.base import KernelRewrite, NoMatch, register_rewrite, value, word
from ke_ir.rewrites.body import Facts, facts, replace_block, splice, split_yield
from ke_ir.rewrites.carries import COMBINES
from ke_ir.rewrites.names import Fresh, renamed, used_in
from ke_ir.rewrites.tidy import alive
from ke_ir.types import DTYPES, DType

NARROW = (DType.F16, DType.BF16)
_OFFERED_PRECISIONS = tuple(p for p in PRECISIONS if p != "tf32_even")
"""``tf32_even`` is as fast and as exact as ``tf32``: a search would try the same thing twice."""


def _dot(f: Facts, name: str) -> Dot | NoMatch:
    op = f.definitions.get(name)
    if not isinstance(op, Dot):
        return NoMatch(f"@{f.kernel.name} has no dot %{name}")
    return op


@register_rewrite
@dataclass(frozen=True)
class SetPrecision(KernelRewrite):
    """Choose how a product of f32 tiles is computed: ``ieee``, ``tf32``, or sums of parts.

    ``set_precision(@mm, %p, tf32x3)``

    Before:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%k, %n] : f32[8, 4]
        %p = dot %u, %v
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%k, %n] : f32[8, 4]
        %p = dot %u, %v precision tf32x3
        store %p, %y[%m, %n]
      }
    }
    ```
    """

    name = "set_precision"
    dot: str = value()
    to: str = word(*PRECISIONS)

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = _dot(f, self.dot)
        if isinstance(op, NoMatch):
            return op
        if f.types[str(op.a)].dtype is not DType.F32:
            return NoMatch(f"the operands of %{self.dot} are {f.types[str(op.a)].dtype}, not f32")
        if op.precision == self.to:
            return NoMatch(f"the precision of %{self.dot} is {self.to} already")
        return splice(k, f.places[self.dot], (replace(op, precision=self.to),))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, op in f.definitions.items():
            if isinstance(op, Dot) and f.types[str(op.a)].dtype is DType.F32:
                yield from (cls(k.name, name, p) for p in _OFFERED_PRECISIONS if p != op.precision)


@register_rewrite
@dataclass(frozen=True)
class NarrowDot(KernelRewrite):
    """Round the operands of a product to f16 or bf16; it still accumulates in f32.

    ``narrow_dot(@pv, %p, f16)``

    Before:

    ```
    kernel @pv(%s: f32[M, K], %v: f16[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %s[%m, %k] : f32[4, 8]
        %w = load %v[%k, %n] : f16[8, 4]
        %x = cast %w : f32
        %p = dot %u, %x
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @pv(%s: f32[M, K], %v: f16[K, N]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4, %k = 0 to K tile 8 {
        %u = load %s[%m, %k] : f32[4, 8]
        %w = load %v[%k, %n] : f16[8, 4]
        %u_1 = cast %u : f16
        %p = dot %u_1, %w
        store %p, %y[%m, %n]
      }
    }
    ```
    """

    name = "narrow_dot"
    dot: str = value()
    to: str = word(*(d.value for d in NARROW))

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = _dot(f, self.dot)
        if isinstance(op, NoMatch):
            return op
        if f.types[str(op.a)].dtype is not DType.F32:
            return NoMatch(f"the operands of %{self.dot} are {f.types[str(op.a)].dtype}, not f32")
        fresh = Fresh(k)
        casts: list[Op] = []
        a, b = (_as(f, str(x), DTYPES[self.to], fresh, casts) for x in (op.a, op.b))
        new = replace(op, a=a, b=b, precision="ieee")
        return alive(splice(k, f.places[self.dot], (*casts, new)))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, op in f.definitions.items():
            if isinstance(op, Dot) and f.types[str(op.a)].dtype is DType.F32:
                yield from (cls(k.name, name, d.value) for d in NARROW)


def _as(f: Facts, x: str, to: DType, fresh: Fresh, casts: list[Op]) -> str:
    """A value converted to a dtype: what it was before it was widened, or a new cast."""
    op = f.definitions.get(x)
    if isinstance(op, Cast) and f.types[str(op.x)].dtype is to:
        return str(op.x)
    name = fresh(x)
    casts.append(Cast(x, to, result=name))
    return name


@register_rewrite
@dataclass(frozen=True)
class SetAccumulator(KernelRewrite):
    """Carry a running sum, product or extreme in another floating dtype.

    What each tile contributes is computed as before and then converted; the result is converted
    back after the loop.

    ``set_accumulator(@row_sum, %acc, f16)``

    Before:

    ```
    kernel @row_sum(%x: f16[B, D]) -> (%y: f32[B])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 8 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f16[2, 8]
          %w = cast %v : f32
          %r = reduce sum %w dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @row_sum(%x: f16[B, D]) -> (%y: f32[B])
    dims B = 4, D = 16
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f16[2]
        %s = for %d = 0 to D tile 8 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f16[2, 8]
          %w = cast %v : f32
          %r = reduce sum %w dim 1
          %r_1 = cast %r : f16
          %t = add %acc, %r_1
          yield %t
        }
        %s_1 = cast %s : f32
        store %s_1, %y[%b]
      }
    }
    ```
    """

    name = "set_accumulator"
    carry: str = value()
    to: str = word("f16", "bf16", "f32", "f64")

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        s = f.definitions.get(self.carry)
        names = [c for c, _ in s.carries] if isinstance(s, For) else []
        if not isinstance(s, For) or self.carry not in names:
            return NoMatch(f"@{k.name} has no carried value %{self.carry}")
        old, to = f.types[self.carry].dtype, DTYPES[self.to]
        if not old.is_float or old is to:
            return NoMatch(f"%{self.carry} is {old} already" if old is to else
                           f"%{self.carry} is {old}, not a float")  # fmt: skip
        op = _update(s, names.index(self.carry))
        if op is None:
            return NoMatch(f"how %{self.carry} is carried is not one operation with a value")
        return _converted(f, s, names.index(self.carry), op, to)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, t in f.types.items():
            s = f.definitions.get(name)
            names = [c for c, _ in s.carries] if isinstance(s, For) else []
            if name in names and isinstance(s, For) and _update(s, names.index(name)) is not None:
                yield from (cls(k.name, name, to) for to in _OFFERED.get(t.dtype, ()))


_OFFERED = {
    DType.F64: ("f32",), DType.F32: ("f16",), DType.F16: ("f32",), DType.BF16: ("f32",),
}  # fmt: skip


def _update(s: For, i: int) -> Binary | None:
    """The one operation by which a carried value becomes the next, if nothing else uses either."""
    body, yields = split_yield(s.body)
    c = s.carries[i][0]
    found = [x for x in body if isinstance(x, Binary) and x.result == yields[i]]
    if len(found) != 1 or found[0].fn not in COMBINES.values():
        return None
    op = found[0]
    others = used_in(x for x in body if x is not op)
    fine = (op.x == c) != (op.y == c) and c not in others and op.result not in others
    return op if fine and yields.count(yields[i]) == 1 else None


def _converted(f: Facts, s: For, i: int, op: Binary, to: DType) -> Kernel:
    fresh = Fresh(f.kernel)
    c, init = s.carries[i]
    before: list[Stmt] = []
    start, first = f.definitions.get(str(init)), fresh(str(init))
    if isinstance(start, Full) and isinstance(start.value, int | float):
        before.append(replace(start, type=start.type.with_dtype(to), result=first))
    else:
        before.append(Cast(str(init), to, result=first))
    added = op.y if op.x == c else op.x
    new: list[Stmt] = []
    for x in s.body:
        if x is op and isinstance(added, str):
            name = fresh(added)
            new += [Cast(added, to, result=name), *renamed((op,), {added: name})]
        else:
            new.append(x)
    carries = (*s.carries[:i], (c, first), *s.carries[i + 1 :])
    last = fresh(s.results[i])
    back = Cast(s.results[i], f.types[c].dtype, result=last)
    path = next(p for p, x in f.statements if x is s)
    block = list(f.block_of(path))
    at = path[-1]
    after = renamed(block[at + 1 :], {s.results[i]: last})
    body = (*block[:at], *before, replace(s, body=tuple(new), carries=carries), back, *after)
    return alive(replace_block(f.kernel, path[:-1], body))
