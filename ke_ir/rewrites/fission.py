"""One kernel as two: the inverse of ``fuse``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Var
from ke_ir.ir import For, Kernel, Module, Param, Temp, statements
from ke_ir.ops import Accumulate, Load, Store
from ke_ir.ops.base import Stmt
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, loop, register_rewrite
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.names import Fresh, used_in
from ke_ir.rewrites.programs import in_sequence
from ke_ir.rewrites.temporaries import beyond_counts, coordinates_of, part_of
from ke_ir.types import TensorType


@register_rewrite
@dataclass(frozen=True)
class Fission(Rewrite):
    """Do what follows a loop in a second kernel, which reads the loop's results from temporaries.

    Results of loops up to there that are needed later are stored; all else is computed again. The
    second kernel can then have tiles and parallelism of its own.

    ``fission(@scale, %d)``

    Before:

    ```
    kernel @scale(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        %se = expand %s dim 1
        for %e = 0 to D tile 4 {
          %w = load %x[%b, %e] : f32[2, 4]
          %q = div %w, %se
          store %q, %y[%b, %e]
        }
      }
    }
    ```

    After:

    ```
    kernel @scale_first(%x: f32[B, D]) -> (%s_all: f32[B])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %s_all[%b]
      }
    }
    kernel @scale_rest(%x: f32[B, D], %s_all: f32[B]) -> (%y: f32[B, D])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %s = load %s_all[%b] : f32[2]
        %se = expand %s dim 1
        for %e = 0 to D tile 4 {
          %w = load %x[%b, %e] : f32[2, 4]
          %q = div %w, %se
          store %q, %y[%b, %e]
        }
      }
    }
    program @scale(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B = 5, D = 12
    {
      temp %s_all : f32[B]
      call @scale_first(%x) -> (%s_all)
      call @scale_rest(%x, %s_all) -> (%y)
    }
    ```
    """

    name = "fission"
    kernel: str = base.kernel()
    loop: str = loop()

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        got = self._parts(module, k)
        return got if isinstance(got, NoMatch) else in_sequence(module, k.name, got[0], got[1])

    def _parts(
        self, module: Module, k: Kernel
    ) -> tuple[tuple[Kernel, Kernel], list[Temp]] | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For) or len(site.path) != 2:
            return NoMatch(f"@{k.name} has no loop %{self.loop} that stands in its own block")
        body = f.parallel.body
        before, after = body[: site.path[-1] + 1], body[site.path[-1] + 1 :]
        early, late = _written(before), _written(after)
        if not late:
            return NoMatch(f"nothing is written after the loop %{self.loop}")
        if both := early & late:
            return NoMatch(f"%{min(both)} is written before and after")
        fresh = Fresh(k)
        stores: list[Stmt] = []
        params: list[Param] = []
        rest: list[Stmt] = []
        needed = _needed(before, after)
        for s in before:
            if not isinstance(s, For):
                rest += () if isinstance(s, Store | Accumulate) else (s,)
                continue
            for r in (r for r in s.results if r in needed):
                order = coordinates_of(k, r, f.parallel.vars)
                if isinstance(order, NoMatch):
                    return order
                t = f.types[r]
                shape = tuple(v.hi for v in order)
                params.append(Param(fresh(f"{r}_all"), TensorType(t.dtype, shape)))
                coords = tuple(Var(v.name) for v in order)
                stores.append(Store(r, params[-1].name, coords))
                rest.append(Load(params[-1].name, coords, t, result=r))
        if not params:
            return NoMatch(f"nothing that loops up to %{self.loop} give is needed later")
        one = replace(f.parallel, body=(*before, *stores))
        two = replace(f.parallel, body=(*rest, *after))
        kept = [p for p in k.outputs if p.name in early]
        first = part_of(module, k, "first", one, k.inputs, (*kept, *params))
        outs = [p for p in k.outputs if p.name in late]
        second = part_of(module, k, "rest", two, (*k.inputs, *params), outs)
        if why := beyond_counts(k, second, f.parallel.vars):
            return NoMatch(why)
        return (first, second), [Temp(p.name, p.type) for p in params]

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for name, site in facts(k).loops.items():
                if isinstance(site.loop, For):
                    made = cls(k.name, name)
                    if not isinstance(made.apply(module), NoMatch):
                        yield made


def _written(body: tuple[Stmt, ...]) -> set[str]:
    return {s.tensor for s in statements(body) if isinstance(s, Store | Accumulate)}


def _needed(before: tuple[Stmt, ...], after: tuple[Stmt, ...]) -> set[str]:
    """Names that the second kernel uses of the first, through what it computes again."""
    needed = used_in(after)
    for s in reversed(before):
        if not isinstance(s, For) and getattr(s, "result", None) in needed:
            needed |= used_in((s,))
    return needed
