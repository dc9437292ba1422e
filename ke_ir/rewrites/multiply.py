"""Products of tiles without a matrix unit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ke_ir.ir import Kernel
from ke_ir.ops import Binary, Cast, Dot, Expand, Permute, Reduce
from ke_ir.ops.base import Op
from ke_ir.ops.shape import dot_dtype
from ke_ir.rewrites.base import KernelRewrite, NoMatch, register_rewrite, value
from ke_ir.rewrites.body import Facts, facts, splice
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.tidy import alive

MOST = 1 << 14
"""Products of one tile, which are all there at a time."""
FEW = 16
"""Rows or columns up to which it is offered: a matrix unit has work enough above."""


@register_rewrite
@dataclass(frozen=True)
class Multiply(KernelRewrite):
    """Compute a product of small tiles term by term: multiply, and sum along the terms.

    A matrix unit takes rows and columns by the sixteen. Where there are few rows, and so few
    programs, narrower tiles give every unit something to do. The terms are added as a tree.

    ``multiply(@mm, %p)``

    Before:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[N, K]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 6
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 2, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%n, %k] : f32[2, 8]
        %w = permute %v [1, 0]
        %p = dot %u, %w
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm(%a: f32[M, K], %b: f32[N, K]) -> (%y: f32[M, N])
    dims M = 4, K = 8, N = 6
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 2, %k = 0 to K tile 8 {
        %u = load %a[%m, %k] : f32[4, 8]
        %v = load %b[%n, %k] : f32[2, 8]
        %rows = expand %u dim 1
        %columns = expand %v dim 0
        %products = mul %rows, %columns
        %p = reduce sum %products dim 2
        store %p, %y[%m, %n]
      }
    }
    ```
    """

    name = "multiply"
    dot: str = value()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        op = f.definitions.get(self.dot)
        if not isinstance(op, Dot):
            return NoMatch(f"@{k.name} has no dot %{self.dot}")
        if op.precision != "ieee":
            return NoMatch(f"the precision of %{self.dot} is {op.precision}, not ieee")
        if _products(f, op) > MOST:
            return NoMatch(f"%{self.dot} has more than {MOST} products in a tile")
        return alive(splice(k, f.places[self.dot], _written_out(f, op, Fresh(k))))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for name, op in f.definitions.items():
            if isinstance(op, Dot) and min(f.types[name].shape[-2:]) <= FEW:
                made = cls(k.name, name)
                if not isinstance(made.change(k), NoMatch):
                    yield made


def _products(f: Facts, op: Dot) -> int:
    """Products of one tile."""
    return math.prod(f.types[str(op.a)].shape) * f.types[str(op.b)].shape[-1]


def _written_out(f: Facts, op: Dot, fresh: Fresh) -> list[Op]:
    out: list[Op] = []

    def new(made: Op) -> str:
        out.append(made)
        return str(made.result)

    tile = f.types[str(op.a)]
    dtype, last = dot_dtype(tile.dtype), tile.rank - 1
    a, b = str(op.a), _columns_first(f, op, fresh, out)
    if tile.dtype is not dtype:
        a, b = (new(Cast(x, dtype, result=fresh(f"{x}_wide"))) for x in (a, b))
    rows = new(Expand(a, last, result=fresh("rows")))
    columns = new(Expand(b, last - 1, result=fresh("columns")))
    products = new(Binary("mul", rows, columns, result=fresh("products")))
    if op.acc is None:
        new(Reduce("sum", products, last + 1, result=op.result))
    else:
        part = new(Reduce("sum", products, last + 1, result=fresh("part")))
        new(Binary("add", op.acc, part, result=op.result))
    return out


def _columns_first(f: Facts, op: Dot, fresh: Fresh, out: list[Op]) -> str:
    """The second operand with the dimension that is summed over last."""
    rank = f.types[str(op.b)].rank
    order = (*range(rank - 2), rank - 1, rank - 2)
    made = f.definitions.get(str(op.b))
    if isinstance(made, Permute) and tuple(made.order) == order:
        return str(made.x)
    out.append(Permute(op.b, order, result=fresh(f"{op.b}_columns")))
    return str(out[-1].result)
