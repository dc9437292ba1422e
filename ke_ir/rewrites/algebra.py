"""Identities of algebra: operations that change nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ke_ir.ir import Kernel
from ke_ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Full,
    Permute,
    Reshape,
    Select,
    Unary,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import register_rewrite
from ke_ir.rewrites.body import Facts, facts
from ke_ir.rewrites.clean import WholeKernel, simplified
from ke_ir.rewrites.tidy import alive
from ke_ir.types import DType, TileType


@register_rewrite
@dataclass(frozen=True)
class Simplify(WholeKernel):
    """Remove operations that change nothing: ``x * 1``, ``x + 0``, casts there and back, ...

    ``simplify(@scale)``

    Before:

    ```
    kernel @scale(%x: f16[N, M]) -> (%y: f16[N, M])
    dims N = 4, M = 4
    {
      parallel %n = 0 to N tile 4, %m = 0 to M tile 4 {
        %v = load %x[%n, %m] : f16[4, 4]
        %w = cast %v : f32
        %one = mul %w, 1.0
        %p = permute %one [1, 0]
        %q = permute %p [1, 0]
        %zero = full 0.0 : f32[4, 4]
        %r = add %zero, %q
        %h = cast %r : f16
        store %h, %y[%n, %m]
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f16[N, M]) -> (%y: f16[N, M])
    dims N = 4, M = 4
    {
      parallel %n = 0 to N tile 4, %m = 0 to M tile 4 {
        %v = load %x[%n, %m] : f16[4, 4]
        store %v, %y[%n, %m]
      }
    }
    ```
    """

    name = "simplify"

    def run(self, k: Kernel) -> Kernel:
        while True:
            rules = _Identities(facts(k))
            new = simplified(k, rules)
            if new is k:
                return k
            k = alive(new)


class _Identities:
    """Called with a statement: an equal value or simpler statement, or None."""

    def __init__(self, f: Facts) -> None:
        self.f = f
        self.now: dict[str, Stmt] = {}

    def __call__(self, s: Stmt) -> Operand | Stmt | None:
        got = self.rule(s)
        if isinstance(s, Op) and s.result is not None:
            self.now[s.result] = got if isinstance(got, Stmt) else s
        return got

    def definition(self, x: Operand | None) -> Stmt | None:
        return self.now.get(x) if isinstance(x, str) else None

    def type(self, x: Operand) -> TileType:
        return self.f.types[str(x)]

    def constant(self, x: Operand) -> int | float | bool | None:
        """The literal that ``x`` is, or that fills its tile."""
        if not isinstance(x, str):
            return x
        s = self.definition(x)
        while isinstance(s, Broadcast):
            s = self.definition(s.x)
        return s.value if isinstance(s, Full) and isinstance(s.value, int | float) else None

    def same_type(self, s: Op, x: Operand) -> Operand | None:
        """``x``, if it has the type of the statement's result."""
        return x if isinstance(x, str) and self.type(x) == self.type(str(s.result)) else None

    def rule(self, s: Stmt) -> Operand | Stmt | None:
        match s:
            case Binary():
                return self.binary(s)
            case Unary("neg", x):
                d = self.definition(x)
                return self.same_type(s, d.x) if isinstance(d, Unary) and d.fn == "neg" else None
            case Cast(x=x, dtype=to):
                return self.cast(s, x, to)
            case Select(c=c, x=x, y=y):
                return self.select(s, c, x, y)
            case Permute(x=x, order=order):
                return self.permute(s, x, order)
            case Broadcast(x=x) | Reshape(x=x):
                return self.same_type(s, x)
        return None

    def binary(self, s: Binary) -> Operand | Stmt | None:
        a, b = self.constant(s.x), self.constant(s.y)
        neutral_right = {"add": 0, "sub": 0, "mul": 1, "div": 1}.get(s.fn)
        if b is not None and not isinstance(b, bool) and b == neutral_right:
            return self.same_type(s, s.x)
        commutes = s.fn in ("add", "mul")
        if commutes and a is not None and not isinstance(a, bool) and a == neutral_right:
            return self.same_type(s, s.y)
        lowest = {"max": -math.inf, "min": math.inf}.get(s.fn)
        if lowest is not None and b == lowest:
            return self.same_type(s, s.x)
        if lowest is not None and a == lowest:
            return self.same_type(s, s.y)
        if s.fn in ("min", "max", "and", "or") and s.x == s.y:
            return self.same_type(s, s.x)
        return None

    def cast(self, s: Cast, x: Operand, to: DType) -> Operand | Stmt | None:
        if self.type(x).dtype is to:
            return x
        d = self.definition(x)
        if not isinstance(d, Cast) or not _widens(self.type(d.x).dtype, d.dtype):
            return None
        return d.x if self.type(d.x).dtype is to else replace(s, x=d.x)

    def select(self, s: Select, c: Operand, x: Operand, y: Operand) -> Operand | Stmt | None:
        known = self.constant(c)
        if known is not None:
            return self.same_type(s, x if known else y)
        return self.same_type(s, x) if x == y else None

    def permute(self, s: Permute, x: Operand, order: tuple[int, ...]) -> Operand | Stmt | None:
        if order == tuple(range(len(order))):
            return x
        d = self.definition(x)
        if not isinstance(d, Permute):
            return None
        whole = tuple(d.order[i] for i in order)
        return d.x if whole == tuple(range(len(whole))) else replace(s, x=d.x, order=whole)


def _widens(old: DType, new: DType) -> bool:
    """True if every value of ``old`` is one of ``new``."""
    if old.is_float and new.is_float:
        wider_exponent = not (old is DType.BF16 and new is DType.F16)
        return wider_exponent and old.mantissa_bits <= new.mantissa_bits and old.bits < new.bits
    return old.is_int and new.is_int and old.bits < new.bits and new is not DType.U8
