"""One kernel of a program computes what another stored for it: ``fuse`` and ``recompute``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import Kernel, KernelCall, Module, Param, View
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, register_rewrite
from ke_ir.rewrites.body import Recent
from ke_ir.rewrites.inline import inlined
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.programs import CallSite, call_site, own_programs, readers, with_calls


@register_rewrite
@dataclass(frozen=True)
class Fuse(Rewrite):
    """Compute what a kernel stored in temporaries where it is read, and drop the kernel.

    For pointwise producers and consumers, chains along the same rows, the work that follows a
    contraction; with several readers, or a reader that loops over what it reads, the producer's
    work is done again for each. Tiles are made equal: those of the kernel with a ``dot`` win.

    ``fuse(@f_s)``

    Before:

    ```
    kernel @f_s(%x: f32[B, D]) -> (%s: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %sum = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %sum, %s[%b]
      }
    }
    kernel @f_y(%s: f32[B]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 4 {
        %v = load %s[%b] : f32[4]
        %e = exp %v
        store %e, %y[%b]
      }
    }
    program @f(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      temp %s : f32[B]
      call @f_s(%x) -> (%s)
      call @f_y(%s) -> (%y)
    }
    ```

    After:

    ```
    kernel @f(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 4 {
        %zero = full 0.0 : f32[4]
        %sum = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[4, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        %e = exp %sum
        store %e, %y[%b]
      }
    }
    ```
    """

    name = "fuse"
    kernel: str = base.kernel()

    def apply(self, module: Module) -> Module | NoMatch:
        site = call_site(module, self.kernel)
        if isinstance(site, NoMatch):
            return site
        program = site.program
        kept = [t for _, t in site.writes if t not in program.temps]
        if kept:
            return NoMatch(f"@{self.kernel} writes %{kept[0]}, which is no temporary")
        found: dict[str, CallSite] = {}
        for _, t in site.writes:
            for c in readers(program, t):
                at = call_site(module, c.kernel)
                if isinstance(at, NoMatch):
                    return at
                found[c.kernel] = at
        if not found:
            return NoMatch(f"nothing reads what @{self.kernel} writes")
        changes: dict[str, tuple[Kernel, KernelCall]] = {}
        for name, at in found.items():
            got = _absorbed(site, at)
            if isinstance(got, NoMatch):
                return got
            changes[name] = got

        def change(c: KernelCall) -> KernelCall | None:
            if c.kernel == self.kernel:
                return None
            return changes[c.kernel][1] if c.kernel in changes else c

        return with_calls(module, program, change, tuple(k for k, _ in changes.values()))

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for p in own_programs(module):
            for c in p.calls:
                made = cls(c.kernel)
                if not isinstance(made.apply(module), NoMatch):
                    yield made


@register_rewrite
@dataclass(frozen=True)
class Recompute(Rewrite):
    """Compute in one reader what a kernel stores; it stays for the other readers.

    ``recompute(@f_s, @f_z)``

    Before:

    ```
    kernel @f_s(%x: f32[B]) -> (%s: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 2 {
        %v = load %x[%b] : f32[2]
        %e = exp %v
        store %e, %s[%b]
      }
    }
    kernel @f_y(%s: f32[B]) -> (%y: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 4 {
        %v = load %s[%b] : f32[4]
        %t = add %v, 1.0
        store %t, %y[%b]
      }
    }
    kernel @f_z(%s: f32[B]) -> (%z: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 4 {
        %v = load %s[%b] : f32[4]
        %t = mul %v, 3.0
        store %t, %z[%b]
      }
    }
    program @f(%x: f32[B]) -> (%y: f32[B], %z: f32[B])
    dims B in 1..64 = 5
    {
      temp %s : f32[B]
      call @f_s(%x) -> (%s)
      call @f_y(%s) -> (%y)
      call @f_z(%s) -> (%z)
    }
    ```

    After:

    ```
    kernel @f_s(%x: f32[B]) -> (%s: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 2 {
        %v = load %x[%b] : f32[2]
        %e = exp %v
        store %e, %s[%b]
      }
    }
    kernel @f_y(%s: f32[B]) -> (%y: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 4 {
        %v = load %s[%b] : f32[4]
        %t = add %v, 1.0
        store %t, %y[%b]
      }
    }
    kernel @f_z(%x: f32[B]) -> (%z: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 4 {
        %v = load %x[%b] : f32[4]
        %e = exp %v
        %t = mul %e, 3.0
        store %t, %z[%b]
      }
    }
    program @f(%x: f32[B]) -> (%y: f32[B], %z: f32[B])
    dims B in 1..64 = 5
    {
      temp %s : f32[B]
      call @f_s(%x) -> (%s)
      call @f_y(%s) -> (%y)
      call @f_z(%x) -> (%z)
    }
    ```
    """

    name = "recompute"
    kernel: str = base.kernel()
    reader: str = base.kernel()

    def apply(self, module: Module) -> Module | NoMatch:
        site = call_site(module, self.kernel)
        at = call_site(module, self.reader)
        if isinstance(site, NoMatch):
            return site
        if isinstance(at, NoMatch):
            return at
        if at.program is not site.program:
            return NoMatch(f"@{self.kernel} and @{self.reader} are called by different programs")
        program = site.program
        others = any(
            c.kernel != self.reader for _, t in site.writes for c in readers(program, t)
        )  # fmt: skip
        if not others and all(t in program.temps for _, t in site.writes):
            return NoMatch(f"only @{self.reader} reads what @{self.kernel} writes: use `fuse`")
        got = _absorbed(site, at)
        if isinstance(got, NoMatch):
            return got
        k, call = got
        return with_calls(module, program, lambda c: call if c is at.call else c, (k,))

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for p in own_programs(module):
            for c in p.calls:
                for r in p.calls:
                    made = cls(c.kernel, r.kernel)
                    if r is not c and not isinstance(made.apply(module), NoMatch):
                        yield made


Absorbed = tuple[Kernel, KernelCall] | NoMatch
_ABSORBED: Recent[Absorbed] = Recent(32)
"""``fuse``, ``recompute`` and ``flash`` ask the same of a module, to list and then to apply."""


def _absorbed(site: CallSite, at: CallSite) -> Absorbed:
    """The reader at ``at``, and its call, computing what it read of the kernel at ``site``."""
    of = (site.program, site.kernel, at.kernel, site.call, at.call)
    return _ABSORBED.get(of, lambda: _absorb(site, at))


def _absorb(site: CallSite, at: CallSite) -> Absorbed:
    if at.block is not site.block or at.position < site.position:
        return NoMatch(f"@{at.kernel.name} is not called after @{site.kernel.name} in one block")
    if at.kernel.dims != site.kernel.dims:
        return NoMatch(f"the dims of @{at.kernel.name} are not those of @{site.kernel.name}")
    made = {t: p for p, t in site.writes}
    outputs = {p: made[t] for p, t in at.reads if t in made}
    if not outputs:
        return NoMatch(f"@{at.kernel.name} reads nothing that @{site.kernel.name} writes")
    for s in site.block[site.position + 1 : at.position]:
        if isinstance(s, KernelCall):
            for _, t in site.reads:
                if any(v.tensor == t for v in s.outs):
                    return NoMatch(f"%{t} changes before @{at.kernel.name} is called")
    reader = at.kernel
    args = dict(at.reads)
    have = {t: p for p, t in at.reads}
    fresh = Fresh(reader)
    tensors: dict[str, str] = {}
    for p, t in site.reads:
        if t not in have:
            have[t] = fresh(t)
            args[have[t]] = t
            kind = site.kernel.tensors[p]
            reader = replace(reader, inputs=(*reader.inputs, Param(have[t], kind)))
        tensors[p] = have[t]
    got = inlined(site.kernel, outputs, reader, tensors)
    if isinstance(got, NoMatch):
        return got
    call = replace(at.call, args=tuple(View(args[p.name]) for p in got.inputs))
    return got, call
