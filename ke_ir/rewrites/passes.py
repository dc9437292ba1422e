"""Two loops over one range, one after the other, becoming one: what such rewrites share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import For, Kernel, Parallel, Yield
from ke_ir.ops import Load
from ke_ir.ops.base import Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, loop
from ke_ir.rewrites.body import Path, facts, replace_block
from ke_ir.rewrites.names import defined_in, used_in
from ke_ir.rewrites.padding import Padding
from ke_ir.rewrites.tidy import tidied, without_masks, writes


@dataclass(frozen=True)
class Pair:
    """Two loops of one block, and the statements between them.

    ``free`` do not depend on the first loop's results and can precede it; ``bound`` do, or write.
    """

    kernel: Kernel
    path: Path
    before: tuple[Stmt, ...]
    first: For
    free: tuple[Stmt, ...]
    bound: tuple[Stmt, ...]
    second: For
    after: tuple[Stmt, ...]

    @property
    def late(self) -> set[str]:
        """Names that depend on the first loop's results."""
        return {*self.first.results, *defined_in(self.bound)}

    @property
    def bridges(self) -> set[str]:
        """Names by which the second loop depends on the first."""
        return used_in((self.second,)) & self.late

    def with_loop(self, loop: For, extra: Sequence[Stmt] = ()) -> Kernel:
        """The kernel with one loop in place of the two, after some ``extra`` statements."""
        body = (*self.before, *self.free, *extra, loop, *self.bound, *self.after)
        return replace_block(self.kernel, self.path, body)


def pair_of(k: Kernel, first: str, second: str) -> Pair | NoMatch:
    """The two loops, if they have one range and tile, stand in one block, and write nothing."""
    f = facts(k)
    sites = []
    for name in (first, second):
        site = f.loops.get(name)
        if site is None:
            return NoMatch(f"@{k.name} has no loop %{name}")
        if not isinstance(site.loop, For):
            return NoMatch(f"%{name} is a variable of `parallel`")
        sites.append(site)
    a, b = sites
    if a.path[:-1] != b.path[:-1] or a.path[-1] >= b.path[-1]:
        return NoMatch(f"%{second} does not follow %{first} in one block")
    if (a.var.lo, a.var.hi, a.var.tile) != (b.var.lo, b.var.hi, b.var.tile):
        return NoMatch(f"%{first} and %{second} differ in range or tile")
    assert isinstance(a.loop, For)
    assert isinstance(b.loop, For)
    if writes(a.loop) or writes(b.loop):
        return NoMatch("one of the loops writes")
    block = f.block_of(a.path)
    i, j = a.path[-1], b.path[-1]
    late = set(a.loop.results)
    free: list[Stmt] = []
    bound: list[Stmt] = []
    for s in block[i + 1 : j]:
        if writes(s) or used_in((s,)) & late:
            bound.append(s)
            late |= set(defined_in((s,)))
        else:
            free.append(s)
    if any(x in late for _, x in b.loop.carries):
        return NoMatch(f"what %{second} carries starts from what %{first} gives")
    return Pair(k, a.path[:-1], block[:i], a.loop, tuple(free), tuple(bound), b.loop,
                block[j + 1 :])  # fmt: skip


def pairs(k: Kernel) -> Iterator[tuple[str, str]]:
    """Names of loops with one range that follow each other in one block."""
    f = facts(k)
    found = [s for s in f.loops.values() if isinstance(s.loop, For)]
    for a in found:
        for b in found:
            if a.path[:-1] == b.path[:-1] and a.path[-1] < b.path[-1]:
                yield a.var.name, b.var.name


def joined(
    p: Pair, body: Sequence[Stmt], carries: Sequence[tuple[str, Operand]],
    yields: Sequence[Operand], results: Sequence[str],
) -> For:  # fmt: skip
    """One loop of the first one's variable."""
    end = (Yield(tuple(yields)),) if carries else ()
    return replace(
        p.first, body=(*body, *end), carries=tuple(carries), results=tuple(results),
        stages=max(p.first.stages, p.second.stages),
    )  # fmt: skip


def simplified(k: Kernel, loop: str, maxima: Sequence[str] = ()) -> Kernel:
    """The kernel with what the two bodies had in common computed once, and fewer masks.

    ``maxima`` are values known to be greater than minus infinity.
    """
    return without_masks(tidied(_one_fill(k, loop, maxima)), maxima)


def _one_fill(k: Kernel, loop: str, maxima: Sequence[str]) -> Kernel:
    """Loads of one tile that differ in what they give outside as one load, where that is right."""
    f = facts(k)
    body = f.loops[loop].loop.body
    first: dict[object, Load] = {}
    fills: dict[str, float | int | bool] = {}
    for s in body:
        if isinstance(s, Load) and s.result is not None:
            before = first.setdefault((s.tensor, s.coords, s.type), s)
            if before.fill != s.fill:
                fills[s.result] = before.fill
    if not fills:
        return k
    changed = replace(k, body=_filled(k.body, fills))
    return changed if _ignores_padding(changed, maxima) else k


def _filled(body: tuple[Stmt, ...], fills: dict[str, float | int | bool]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Load) and s.result in fills:
            s = replace(s, fill=fills[str(s.result)])
        elif isinstance(s, For | Parallel):
            s = replace(s, body=_filled(s.body, fills))
        out.append(s)
    return tuple(out)


def _ignores_padding(k: Kernel, maxima: Sequence[str]) -> bool:
    f = facts(k)
    for site in f.loops.values():
        axis = f.axes.of_loop(site.var.name)
        if axis is not None:
            padding = Padding(f, site.var)
            padding.above_lowest |= set(maxima)
            if not all(padding.neutral(op) for op in f.axes.combined(axis)):
                return False
    return True


@dataclass(frozen=True)
class PairRewrite(KernelRewrite):
    """A rewrite that makes one loop of two that follow each other over one range."""

    first: str = loop()
    second: str = loop()

    def merge(self, pair: Pair) -> Kernel | NoMatch:
        """The kernel with the pair as one loop, or why it stays as it is."""
        raise NotImplementedError(type(self).__name__)

    def change(self, k: Kernel) -> Kernel | NoMatch:
        pair = pair_of(k, self.first, self.second)
        return pair if isinstance(pair, NoMatch) else self.merge(pair)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        for a, b in pairs(k):
            made = cls(k.name, a, b)
            if not isinstance(made.change(k), NoMatch):
                yield made
