"""From passes over scores in several kernels to one loop that never stores them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from ke_ir.diagnostics import near
from ke_ir.ir import For, Kernel, Module, statements
from ke_ir.ops import Binary, Dot, Load, Reduce
from ke_ir.ops.base import Op, Operand
from ke_ir.rewrites import base
from ke_ir.rewrites.base import (
    KernelRewrite,
    NoMatch,
    Rewrite,
    register_rewrite,
    replace_kernel,
)
from ke_ir.rewrites.body import Facts, LoopSite, facts, split_yield
from ke_ir.rewrites.bound import BoundLoopByMask
from ke_ir.rewrites.fuse import Fuse
from ke_ir.rewrites.merge_loops import DropLoop
from ke_ir.rewrites.motion import Hoist
from ke_ir.rewrites.online import Online
from ke_ir.rewrites.retile import Retile


@register_rewrite
@dataclass(frozen=True)
class Flash(Rewrite):
    """Maxima, and sums of what they scale, from several passes and kernels into one loop.

    What makes the scores is fused where they are read (``fuse``), and so are the statistics; the
    loops get one tile (``retile``) and become one (``online``); it ends where a mask leaves nothing
    (``bound_loop_by_mask``), loops of one trip in it go (``drop_loop``), and what is the same in
    each iteration moves out (``hoist``). For attention, cross-entropy, softmax before a product.

    ``flash(@f)``

    Before:

    ```
    kernel @f_l(%x: f32[B, D]) -> (%m: f32[B], %l: f32[B])
    dims B in 1..64 = 5, D = 16, P = 3
    {
      parallel %b = 0 to B tile 2 {
        %low = full -inf : f32[2]
        %m_1 = for %d = 0 to D tile 4 carry (%mi = %low) {
          %v = load %x[%b, %d else -inf] : f32[2, 4]
          %r = reduce max %v dim 1
          %t = max %mi, %r
          yield %t
        }
        store %m_1, %m[%b]
        %zero = full 0.0 : f32[2]
        %me = expand %m_1 dim 1
        %l_1 = for %e = 0 to D tile 4 carry (%li = %zero) {
          %w = load %x[%b, %e else -inf] : f32[2, 4]
          %z = sub %w, %me
          %p = exp %z
          %q = reduce sum %p dim 1
          %u = add %li, %q
          yield %u
        }
        store %l_1, %l[%b]
      }
    }
    kernel @f_y(%x: f32[B, D], %w: f32[D, P], %m: f32[B], %l: f32[B]) -> (%y: f32[B, P])
    dims B in 1..64 = 5, D = 16, P = 3
    {
      parallel %b = 0 to B tile 4, %p = 0 to P tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %m_1 = load %m[%b] : f32[4]
        %me = expand %m_1 dim 1
        %s = for %d = 0 to D tile 8 carry (%si = %zero) {
          %v = load %x[%b, %d else -inf] : f32[4, 8]
          %z = sub %v, %me
          %e = exp %z
          %u = load %w[%d, %p] : f32[8, 4]
          %t = dot %e, %u, %si
          yield %t
        }
        %l_1 = load %l[%b] : f32[4]
        %le = expand %l_1 dim 1
        %o = div %s, %le
        store %o, %y[%b, %p]
      }
    }
    program @f(%x: f32[B, D], %w: f32[D, P]) -> (%y: f32[B, P])
    dims B in 1..64 = 5, D = 16, P = 3
    {
      temp %m : f32[B]
      temp %l : f32[B]
      call @f_l(%x) -> (%m, %l)
      call @f_y(%x, %w, %m, %l) -> (%y)
    }
    ```

    After:

    ```
    kernel @f(%x: f32[B, D], %w: f32[D, P]) -> (%y: f32[B, P])
    dims B in 1..64 = 5, D = 16, P = 3
    {
      parallel %b = 0 to B tile 4, %p = 0 to P tile 4 {
        %zero = full 0.0 : f32[4, 4]
        %low_low = full -3.4028234663852886e+38 : f32[4]
        %zero_1 = full 0.0 : f32[4]
        %m_2, %s, %l_2 = for %d_1 = 0 to D tile 8 carry (%mi = %low_low, %si = %zero, %li = %zero_1) {
          %v_1 = load %x[%b, %d_1 else -inf] : f32[4, 8]
          %r = reduce max %v_1 dim 1
          %t_1 = max %mi, %r
          %me_1 = expand %t_1 dim 1
          %grown = sub %mi, %t_1
          %fix = exp %grown
          %fix_1 = expand %fix dim 1
          %si_fixed = mul %si, %fix_1
          %z_2 = sub %v_1, %me_1
          %e_2 = exp %z_2
          %u_2 = load %w[%d_1, %p] : f32[8, 4]
          %t_2 = dot %e_2, %u_2, %si_fixed
          %li_fixed = mul %li, %fix
          %q_1 = reduce sum %e_2 dim 1
          %u_3 = add %li_fixed, %q_1
          yield %t_1, %t_2, %u_3
        }
        %le = expand %l_2 dim 1
        %o = div %s, %le
        store %o, %y[%b, %p]
      }
    }
    ```
    """  # noqa: E501

    name = "flash"
    kernel: str = base.kernel()

    def apply(self, module: Module) -> Module | NoMatch:
        program = module.programs.get(self.kernel)
        if program is None:
            hint = near(self.kernel, module.programs)
            return NoMatch(f"there is no program @{self.kernel}" + (f"; {hint}" if hint else ""))
        kernels = [module.kernels[c.kernel] for c in program.calls]
        found = [k.name for k in dict.fromkeys(kernels) if any(True for _ in maxima(k))]
        why = NoMatch(f"no loop of @{self.kernel} carries a maximum")
        for name in found:
            got = _Step(module, self.kernel, name).run()
            if not isinstance(got, NoMatch):
                return got
            why = got
        return why

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for name in module.programs:
            made = cls(name)
            if not isinstance(made.apply(module), NoMatch):
                yield made


def maxima(k: Kernel) -> Iterator[tuple[LoopSite, Operand]]:
    """Loops that carry a maximum, each with what it is the maximum of."""
    f = facts(k)
    for site in f.loops.values():
        if not isinstance(site.loop, For):
            continue
        _, yields = split_yield(site.loop.body)
        for (c, _), y in zip(site.loop.carries, yields, strict=True):
            s = f.definitions.get(y) if isinstance(y, str) else None
            if isinstance(s, Binary) and s.fn == "max" and c in (s.x, s.y):
                yield site, s.y if s.x == c else s.x


class _Step:
    """The flash form of what depends on the maxima of one kernel."""

    def __init__(self, module: Module, program: str, kernel: str) -> None:
        self.module, self.program = module, program
        self.kernels = [kernel]
        """The kernel of the maxima, and later those that compute them in its place."""
        self.steps = 0

    def run(self) -> Module | NoMatch:
        while self._take(self._score_kernels()):
            pass
        found = self._into_readers()
        if not any(m.loops for m in found):
            return found[0].why
        self.steps += sum(len(m.loops) for m in found)
        for m in found:
            k = m.kernel
            for loop in dict.fromkeys(m.loops):
                k = self._finished(k, loop)
            self.module = replace_kernel(self.module, k)
        return NoMatch("one `online` does all of it") if self.steps == 1 else self.module

    def _take(self, names: Sequence[str]) -> bool:
        """Fuse the first of these kernels that can be."""
        for n in names:
            got = Fuse(n).apply(self.module)
            if not isinstance(got, NoMatch):
                self.module = got
                self.steps += 1
                self.kernels = [k if k in got.kernels else self.program for k in self.kernels]
                return True
        return False

    def _score_kernels(self) -> list[str]:
        """Kernels that store what the maxima are taken of."""
        program = self.module.programs[self.program]
        read: set[str] = set()
        for c in program.calls:
            if c.kernel in self.kernels:
                k = self.module.kernels[c.kernel]
                args = {p.name: v.tensor for p, v in zip(k.inputs, c.args, strict=True)}
                read |= {args[t] for _, x in maxima(k) for t in _loaded(facts(k), x)}
        return [c.kernel for c in program.calls if any(v.tensor in read for v in c.outs)]

    def _into_readers(self) -> list[Merged]:
        """Compute the maxima where they are read, as long as more sums follow them there."""
        found = self._merged()
        while len(self.kernels) == 1:
            before = self.module, self.kernels, self.steps
            calls = self.module.programs[self.program].calls
            made = {v.tensor for c in calls if c.kernel == self.kernels[0] for v in c.outs}
            readers = [c.kernel for c in calls if any(v.tensor in made for v in c.args)]
            taken, self.kernels = self.kernels, list(dict.fromkeys(readers))
            more = self._merged() if self._take(taken) else []
            if not any(len(m.loops) > len(found[0].loops) for m in more):
                self.module, self.kernels, self.steps = before
                break
            found = more
        return found

    def _merged(self) -> list[Merged]:
        return [merged(self.module.kernels[n]) for n in self.kernels]

    def _finished(self, k: Kernel, loop: str) -> Kernel:
        """The kernel with what the merged loop does for nothing left out."""
        inner = [s.var.name for s in statements(facts(k).loops[loop].loop.body)
                 if isinstance(s, For)]  # fmt: skip
        todo: list[KernelRewrite] = [BoundLoopByMask(k.name, loop)]
        todo += [DropLoop(k.name, n) for n in inner]
        todo.append(Hoist(k.name, loop))
        for step in todo:
            got = step.change(k)
            if not isinstance(got, NoMatch):
                k = got
                self.steps += 1
        return k


@dataclass(frozen=True)
class Merged:
    """A kernel with sums in the loops of the maxima that they follow.

    ``loops`` has one name for each sum, ``why`` says why there are no more.
    """

    kernel: Kernel
    loops: tuple[str, ...]
    why: NoMatch


def merged(k: Kernel) -> Merged:
    """The kernel with every sum that can be in the loop of the maximum that it follows."""
    loops: list[str] = []
    while not isinstance(got := _one_more(k), NoMatch):
        k, loop = got
        loops.append(loop)
    return Merged(k, tuple(loops), got)


def _loaded(f: Facts, x: Operand) -> set[str]:
    """Tensors of whose elements ``x`` is a function, one by one or as a maximum."""
    s = f.definitions.get(x) if isinstance(x, str) else None
    if isinstance(s, Load):
        return {s.tensor}
    if not isinstance(s, Op) or isinstance(s, Dot) or (isinstance(s, Reduce) and s.kind != "max"):
        return set()
    return {t for y in s.operands() for t in _loaded(f, y)}


def _one_more(k: Kernel) -> tuple[Kernel, str] | NoMatch:
    """The kernel with one sum more in the loop of its maximum, and that loop's name."""
    why = NoMatch(f"no sum of @{k.name} follows a maximum")
    for a, _ in maxima(k):
        for b in facts(k).loops.values():
            same_block = a.path[:-1] == b.path[:-1] and a.path[-1] < b.path[-1]
            if same_block and (a.var.lo, a.var.hi) == (b.var.lo, b.var.hi):
                got = Online(k.name, a.var.name, b.var.name).change(_one_tile(k, a, b))
                if not isinstance(got, NoMatch):
                    return got, a.var.name
                why = got
    return why


def _one_tile(k: Kernel, a: LoopSite, b: LoopSite) -> Kernel:
    """The kernel with one tile for both loops, if it can have it: that of a loop with a ``dot``."""
    has_dot = any(isinstance(s, Dot) for s in statements(a.loop.body))
    keep, other = (a, b) if has_dot else (b, a)
    for like, changed in ((keep, other), (other, keep)):
        if like.var.tile is not None and like.var.tile != changed.var.tile:
            got = Retile(k.name, changed.var.name, like.var.tile).change(k)
            if not isinstance(got, NoMatch):
                return got
    return k
