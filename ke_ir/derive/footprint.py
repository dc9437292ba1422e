"""Local memory that a kernel's tiles need, by the lifetimes of its values."""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.ir import For, Kernel, Parallel, Yield
from ke_ir.ops import Load
from ke_ir.ops.base import Op, Stmt
from ke_ir.scope import infer_types
from ke_ir.types import TileType


def peak_bytes(kernel: Kernel) -> int:
    """Most bytes of tiles alive at once in one program.

    Loads in a pipelined loop count once a stage, scalars nothing. An upper bound: a target may
    reuse an operand's space for a result.
    """
    types = infer_types(kernel).values
    (body,) = kernel.body
    assert isinstance(body, Parallel)
    return _block(body.body, types, frozenset(), (), 1)


def _bytes(name: str, types: dict[str, TileType]) -> int:
    t = types.get(name)
    return 0 if t is None or not t.shape else t.elements * t.dtype.bytes


def uses(s: Stmt) -> set[str]:
    """Names of the values that a statement and everything inside it uses."""
    from ke_ir.expr import variables

    if isinstance(s, Op):
        names = {x for x in s.operands() if isinstance(x, str)}
        return names | {v for c in s.coordinates() for v in variables(c)}
    if isinstance(s, Yield):
        return {x for x in s.values if isinstance(x, str)}
    if isinstance(s, For):
        inits = {x for _, x in s.carries if isinstance(x, str)}
        bounds = {v for e in (s.var.lo, s.var.hi) for v in variables(e)}
        return inits.union(bounds, *(uses(b) for b in s.body))
    if isinstance(s, Parallel):
        return set().union(*(uses(b) for b in s.body))
    return set()


def _block(
    body: Sequence[Stmt],
    types: dict[str, TileType],
    kept: frozenset[str],
    carried: Sequence[str],
    stages: int,
) -> int:
    """Peak within a block while the values ``kept`` stay alive around it."""
    last: dict[str, int] = {}
    for i, s in enumerate(body):
        for n in uses(s):
            last[n] = i
    alive: dict[str, int] = {n: _bytes(n, types) for n in (*kept, *carried)}
    peak = sum(alive.values())
    for i, s in enumerate(body):
        if isinstance(s, For):
            inside = set().union(*(uses(b) for b in s.body))
            around = {n for n in alive if last.get(n, -1) > i or n in inside or n in kept}
            own = [n for n, _ in s.carries]
            peak = max(peak, _block(s.body, types, frozenset(around), own, s.stages))
            # The results take the place of the carried values.
            alive = {n: b for n, b in alive.items() if n in around}
            for r in s.results:
                alive[r] = _bytes(r, types)
        elif isinstance(s, Op) and s.result is not None:
            size = _bytes(s.result, types)
            alive[s.result] = size * (stages if isinstance(s, Load) else 1)
        peak = max(peak, sum(alive.values()))
        for n in [n for n in alive if last.get(n, -1) <= i and n not in kept]:
            del alive[n]
    return peak
