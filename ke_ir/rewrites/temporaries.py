"""Values of one kernel through a temporary into another: what such rewrites share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ke_ir.expr import Num
from ke_ir.ir import Kernel, LoopVar, Module, Parallel, Param
from ke_ir.ops import Load
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.padding import Padding, divides
from ke_ir.rewrites.programs import fresh_item
from ke_ir.rewrites.tidy import alive


def coordinates_of(k: Kernel, value: str, loops: Sequence[LoopVar]) -> list[LoopVar] | NoMatch:
    """Loop variables as coordinates of a value: untiled ones, then one for each dimension.

    Each of ``loops`` must be among them, and start at 0.
    """
    f = facts(k)
    out = [v for v in loops if v.tile is None]
    by_axis = {f.axes.of_loop(v.name): v for v in loops if v.tile is not None}
    for a in f.axes.of(value):
        v = by_axis.pop(a, None)
        if v is None:
            return NoMatch(f"a dimension of %{value} is not that of a loop around it")
        out.append(v)
    if left := next(iter(by_axis.values()), None):
        return NoMatch(f"%{value} is the same for all of %{left.name}")
    if bad := next((v for v in out if v.lo != Num(0)), None):
        return NoMatch(f"%{bad.name} does not start at 0")
    return out


def part_of(
    module: Module, k: Kernel, what: str, body: Parallel, ins: Sequence[Param],
    outs: Sequence[Param],
) -> Kernel:  # fmt: skip
    """A kernel that does part of another's work, with the inputs that it needs."""
    name = fresh_item(module, f"{k.name}_{what}")
    made = alive(replace(k, name=name, inputs=tuple(ins), outputs=tuple(outs), body=(body,)))
    read = {s.tensor for _, s in facts(made).statements if isinstance(s, Load)}
    return replace(made, inputs=tuple(q for q in made.inputs if q.name in read))


def beyond_counts(before: Kernel, after: Kernel, loops: Iterable[LoopVar]) -> str:
    """Why what lies beyond the end of a tiled loop counts; empty if it provably does not.

    It must count neither in the kernel that computed a value nor in the one that loads it: what
    the load gives there is not what was computed. A loop that a kernel does not have has no end.
    """
    for v in (v for v in loops if v.tile is not None):
        for k in (before, after):
            f = facts(k)
            axis = f.axes.of_loop(v.name)
            if axis is None or divides(f, v.step, v):
                continue
            padding = Padding(f, v)
            for op in f.axes.combined(axis):
                if not padding.neutral(op):
                    return f"%{op.result} counts what lies beyond the end of %{v.name}"
    return ""
