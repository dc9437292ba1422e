"""Common subexpressions, dead code, masks that nothing needs, identities of algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Num, Var, variables
from ke_ir.ir import Kernel
from ke_ir.ops import Accumulate, Broadcast, Load, Select, Store
from ke_ir.ops.base import Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, register_rewrite
from ke_ir.rewrites.body import Facts, facts
from ke_ir.rewrites.names import Renamer
from ke_ir.rewrites.padding import Padding, divides
from ke_ir.rewrites.tidy import alive, merged


@dataclass(frozen=True)
class WholeKernel(KernelRewrite):
    """A rewrite of all of a kernel, whose only argument is the kernel."""

    def run(self, k: Kernel) -> Kernel:
        """The kernel after it; equal to ``k`` if there is nothing to do."""
        raise NotImplementedError(type(self).__name__)

    def change(self, k: Kernel) -> Kernel | NoMatch:
        new = self.run(k)
        return NoMatch(f"{self.name} changes nothing in @{k.name}") if new == k else new

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        new = cls(k.name)
        if new.run(k) != k:
            yield new


@register_rewrite
@dataclass(frozen=True)
class Cse(WholeKernel):
    """Compute equal values once: common subexpression elimination.

    ``cse(@twice)``

    Before:

    ```
    kernel @twice(%x: f32[B]) -> (%y: f32[B])
    dims B = 8
    {
      parallel %b = 0 to B tile 4 {
        %u = load %x[%b] : f32[4]
        %v = load %x[%b] : f32[4]
        %t = mul %u, %v
        store %t, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @twice(%x: f32[B]) -> (%y: f32[B])
    dims B = 8
    {
      parallel %b = 0 to B tile 4 {
        %u = load %x[%b] : f32[4]
        %t = mul %u, %u
        store %t, %y[%b]
      }
    }
    ```
    """

    name = "cse"

    def run(self, k: Kernel) -> Kernel:
        return merged(k)


@register_rewrite
@dataclass(frozen=True)
class Dce(WholeKernel):
    """Remove values that nothing uses: dead code elimination.

    ``dce(@copy)``

    Before:

    ```
    kernel @copy(%x: f32[B]) -> (%y: f32[B])
    dims B = 8
    {
      parallel %b = 0 to B tile 4 {
        %u = load %x[%b] : f32[4]
        %v = exp %u
        store %u, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @copy(%x: f32[B]) -> (%y: f32[B])
    dims B = 8
    {
      parallel %b = 0 to B tile 4 {
        %u = load %x[%b] : f32[4]
        store %u, %y[%b]
      }
    }
    ```
    """

    name = "dce"

    def run(self, k: Kernel) -> Kernel:
        return alive(k)


@register_rewrite
@dataclass(frozen=True)
class SimplifyMasks(WholeKernel):
    """Remove masks of padding where no tile reaches beyond the end of its loop.

    Loads from wholly inside a tensor also lose their ``else``, which nothing reads.
    A kernel without them is right only for tiles that divide its range: ``retile`` then offers no
    others.

    ``simplify_masks(@row_sum)``

    Before:

    ```
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B {
        %n = full D : i32
        %zero = full 0.0 : f32
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[4]
          %e = exp %v
          %i = iota %d : i32[4]
          %live = cmp lt %i, %n
          %m = select %live, %e, 0.0
          %r = reduce sum %m dim 0
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B {
        %zero = full 0.0 : f32
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[4]
          %e = exp %v
          %r = reduce sum %e dim 0
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```
    """

    name = "simplify_masks"

    def run(self, k: Kernel) -> Kernel:
        f = facts(k)
        tests = [
            Padding(f, s.var)
            for s in f.loops.values()
            if s.var.tile is not None and divides(f, s.var.step, s.var)
        ]

        def without_mask(s: Stmt) -> Operand | Stmt | None:
            if isinstance(s, Select) and any(t.is_range_test(s.c) for t in tests):
                return stretched_to(f, s, s.x)
            if isinstance(s, Load) and s.fill != 0 and _always_inside(f, s):
                return replace(s, fill=0)
            return None

        new = simplified(k, without_mask)
        return k if new is k else alive(new)


def _always_inside(f: Facts, s: Load) -> bool:
    """True if no element that counts is read from outside the tensor or a loop's range."""
    for c, size in zip(s.coords, f.kernel.tensors[s.tensor].shape, strict=True):
        site = f.loops.get(c.name) if isinstance(c, Var) else None
        if site is None or site.var.lo != Num(0) or site.var.hi != size:
            return False
        if not divides(f, site.var.step, site.var) and _padding_counts(f, site.var.name):
            return False
    return True


def _padding_counts(f: Facts, name: str) -> bool:
    """True if elements beyond the end of a loop may show in what is written."""
    axis = f.axes.of_loop(name)
    if axis is None:
        return False
    if f.axes.combined(axis) or f.axes.pinned(axis) or f.axes.loops(axis) != (name,):
        return True
    writes = [s for _, s in f.statements if isinstance(s, Store | Accumulate)]
    return not all(any(name in variables(c) for c in w.coords) for w in writes)


def stretched_to(f: Facts, s: Select, x: Operand) -> Operand | Stmt | None:
    """What stands for ``s`` if it always is ``x``: ``x``, or ``x`` in the shape of ``s``."""
    t = f.types[str(s.result)]
    if not isinstance(x, str):
        return None
    have = f.types[x]
    if have == t:
        return x
    return Broadcast(x, t, result=s.result)


def simplified(k: Kernel, rule: Callable[[Stmt], Operand | Stmt | None]) -> Kernel:
    """The kernel with statements replaced, by an equal value or another statement.

    ``rule`` sees a statement with names replaced so far; None keeps it. Gives ``k`` itself if
    nothing changes.
    """
    found = _Simplifier(rule)
    body = found.block(k.body)
    return replace(k, body=body) if found.changed else k


class _Simplifier(Renamer):
    def __init__(self, rule: Callable[[Stmt], Operand | Stmt | None]) -> None:
        self.names: dict[str, Operand] = {}
        super().__init__(self.names)
        self.rule, self.changed = rule, False

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:  # type: ignore[override]
        out: list[Stmt] = []
        for s in body:
            s = self.statement(s)
            got = self.rule(s)
            if isinstance(got, Stmt):
                out.append(got)
                self.changed = True
            elif got is not None:
                self.names[str(getattr(s, "result"))] = got  # noqa: B009
                self.changed = True
            else:
                out.append(s)
        return tuple(out)
