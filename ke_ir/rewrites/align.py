"""Rows of odd lengths, copied to rows that begin where the memory's pieces do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.derive.tiles import power
from ke_ir.expr import Num, Var, variables
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp, statements
from ke_ir.ops import Load, Store
from ke_ir.ops.base import Op
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, integer, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts, splice
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.programs import fresh_item, in_sequence, on_tensors
from ke_ir.rewrites.retile import range_reason
from ke_ir.types import TensorType, TileType

MULTIPLES = (4, 8, 16)
"""Lengths of rows that are offered: multiples of these."""
_ROWS, _COLUMNS = 4, 1024
"""The tile that is copied at a time."""


@register_rewrite
@dataclass(frozen=True)
class Align(Rewrite):
    """Copy the rows that a loop goes along, with zeros up to a multiple of so many elements.

    Memory is copied in pieces of several elements where each row begins with one. The loop goes
    on to the end of the longer rows, and what it reads there must not count.

    ``align(@mm, %k, 4)``

    Before:

    ```
    kernel @mm(%x: f32[M, 37], %w: f32[N, 37]) -> (%y: f32[M, N])
    dims M = 4, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %s = for %k = 0 to 37 tile 8 carry (%acc = %zero) {
          %u = load %x[%m, %k] : f32[4, 8]
          %v = load %w[%n, %k] : f32[4, 8]
          %t = permute %v [1, 0]
          %p = dot %u, %t, %acc
          yield %p
        }
        store %s, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @mm_align_x(%x: f32[M, 37]) -> (%x_aligned: f32[M, 40])
    dims M = 4, N = 4
    {
      parallel %i0 = 0 to M tile 4, %i1 = 0 to 40 tile 64 {
        %v = load %x[%i0, %i1] : f32[4, 64]
        store %v, %x_aligned[%i0, %i1]
      }
    }
    kernel @mm_align_w(%w: f32[N, 37]) -> (%w_aligned: f32[N, 40])
    dims M = 4, N = 4
    {
      parallel %i0 = 0 to N tile 4, %i1 = 0 to 40 tile 64 {
        %v = load %w[%i0, %i1] : f32[4, 64]
        store %v, %w_aligned[%i0, %i1]
      }
    }
    kernel @mm_aligned(%x_aligned: f32[M, 40], %w_aligned: f32[N, 40]) -> (%y: f32[M, N])
    dims M = 4, N = 4
    {
      parallel %m = 0 to M tile 4, %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %s = for %k = 0 to 40 tile 8 carry (%acc = %zero) {
          %u = load %x_aligned[%m, %k] : f32[4, 8]
          %v = load %w_aligned[%n, %k] : f32[4, 8]
          %t = permute %v [1, 0]
          %p = dot %u, %t, %acc
          yield %p
        }
        store %s, %y[%m, %n]
      }
    }
    program @mm(%x: f32[M, 37], %w: f32[N, 37]) -> (%y: f32[M, N])
    dims M = 4, N = 4
    {
      temp %x_aligned : f32[M, 40]
      temp %w_aligned : f32[N, 40]
      call @mm_align_x(%x) -> (%x_aligned)
      call @mm_align_w(%w) -> (%w_aligned)
      call @mm_aligned(%x_aligned, %w_aligned) -> (%y)
    }
    ```
    """

    name = "align"
    kernel: str = base.kernel()
    loop: str = loop()
    multiple: int = integer()

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        extent = f.extent(site.var)
        if extent is None or site.var.lo != Num(0) or site.var.hi != Num(extent):
            return NoMatch(f"%{self.loop} does not run from 0 to a size that is known")
        if self.multiple < 2 or extent % self.multiple == 0:
            return NoMatch(f"{extent} is a multiple of {self.multiple} already")
        rows = _rows(f, site, extent)
        if isinstance(rows, NoMatch):
            return rows
        if why := range_reason(f, site):
            return NoMatch(why)
        return self._aligned(module, f, site, rows, -(-extent // self.multiple) * self.multiple)

    def _aligned(
        self, module: Module, f: Facts, site: LoopSite, rows: list[Param], length: int
    ) -> Module | NoMatch:
        k, fresh = f.kernel, Fresh(f.kernel)
        wide = {p.name: _longer(p, fresh(f"{p.name}_aligned"), length) for p in rows}
        loop = site.loop
        assert isinstance(loop, For)
        longer = replace(loop, var=replace(site.var, hi=Num(length)))
        new = on_tensors(splice(k, site.path, (longer,)), {n: p.name for n, p in wide.items()})
        inputs = tuple(wide.get(p.name, p) for p in k.inputs)
        reader = replace(new, name=fresh_item(module, f"{k.name}_aligned"), inputs=inputs)
        copies = tuple(
            _copier(fresh_item(module, f"{k.name}_align_{p.name}"), k, p, wide[p.name])
            for p in rows
        )  # fmt: skip
        temps = tuple(Temp(p.name, p.type) for p in wide.values())
        return in_sequence(module, k.name, (*copies, reader), temps)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for site in facts(k).loops.values():
                if isinstance(site.loop, For) and site.var.tile is not None:
                    for multiple in MULTIPLES:
                        made = cls(k.name, site.var.name, multiple)
                        if not isinstance(made.apply(module), NoMatch):
                            yield made


def _rows(f: Facts, site: LoopSite, extent: int) -> list[Param] | NoMatch:
    """The inputs whose rows the loop goes along."""
    inputs = {p.name: p for p in f.kernel.inputs}
    found: dict[str, Param] = {}
    for s in statements(site.loop.body):
        if not isinstance(s, Op) or not any(site.var.name in variables(c) for c in s.coordinates()):
            continue
        if not isinstance(s, Load) or s.tensor not in inputs:
            return NoMatch(f"%{site.var.name} addresses more than inputs")
        *lead, last = s.coords
        along = last == Var(site.var.name) and not any(site.var.name in variables(c) for c in lead)
        if not along or inputs[s.tensor].type.shape[-1] != Num(extent) or s.fill != 0:
            return NoMatch(f"%{site.var.name} does not go along whole rows of %{s.tensor}")
        found[s.tensor] = inputs[s.tensor]
    elsewhere = [
        s.tensor for path, s in f.statements
        if isinstance(s, Load) and s.tensor in found and path[: len(site.path)] != site.path
    ]  # fmt: skip
    if elsewhere:
        return NoMatch(f"%{elsewhere[0]} is read outside of the loop %{site.var.name}, too")
    return list(found.values()) or NoMatch(f"%{site.var.name} goes along no rows")


def _longer(p: Param, name: str, length: int) -> Param:
    return Param(name, TensorType(p.type.dtype, (*p.type.shape[:-1], Num(length))))


def _copier(name: str, k: Kernel, p: Param, wide: Param) -> Kernel:
    """The kernel that stores the copy, several rows at a time; beyond their ends 0 is read."""
    outer = replace(k, name=name, inputs=(p,), outputs=(wide,), body=())
    fresh = Fresh(outer)
    rank = len(wide.type.shape)
    length = wide.type.shape[-1]
    assert isinstance(length, Num)
    tiles = [*[None] * (rank - 2), *[_ROWS] * (rank > 1), min(_COLUMNS, power(int(length.value)))]
    vars_ = tuple(
        LoopVar(fresh(f"i{i}"), Num(0), n, t)
        for i, (n, t) in enumerate(zip(wide.type.shape, tiles, strict=True))
    )
    coords = tuple(Var(v.name) for v in vars_)
    shape = tuple(v.tile for v in vars_ if v.tile is not None)
    load = Load(p.name, coords, TileType(p.type.dtype, shape), result=fresh("v"))
    store = Store(str(load.result), wide.name, coords)
    return replace(outer, body=(Parallel(vars_, (load, store)),))
