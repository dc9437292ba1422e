"""Cleaning up after a rewrite: equal computations once, masks that change nothing, dead code.

Names must be unique within the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ke_ir.ir import For, Kernel, Parallel, Yield, statements
from ke_ir.ops import Accumulate, Binary, Full, Load, Select, Store
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.body import facts, split_yield
from ke_ir.rewrites.names import Renamer, defined_in, renamed, used_in
from ke_ir.rewrites.padding import Padding, origin

Write = Store | Accumulate


def writes(s: Stmt) -> bool:
    """True if a statement writes a tensor, itself or in its body."""
    return any(isinstance(x, Write) for x in statements((s,)))


def tidied(k: Kernel) -> Kernel:
    """The kernel without dead code, with each value computed once where it is first needed."""
    return alive(merged(k))


def alive(k: Kernel) -> Kernel:
    """The kernel without values and loops that nothing uses."""
    while True:
        used = used_in(k.body)
        new = replace(k, body=_alive(k.body, used))
        if new == k:
            return k
        k = new


def _alive(body: Iterable[Stmt], used: set[str]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Op) and not isinstance(s, Write) and s.result not in used:
            continue
        if isinstance(s, For):
            if not writes(s) and not used & set(s.results):
                continue
            s = _without_dead_carries(s, used)
        if isinstance(s, For | Parallel):
            s = replace(s, body=_alive(s.body, used))
        out.append(s)
    return tuple(out)


def _without_dead_carries(s: For, used: set[str]) -> For:
    """Without carried values that neither anything after the loop nor another one needs."""
    inner, yields = split_yield(s.body)
    needed = {n for n, r in zip((c for c, _ in s.carries), s.results, strict=True) if r in used}
    for x in statements(inner):
        if isinstance(x, Write | For | Yield):
            needed |= used_in((x,))
    origins: dict[str, set[str]] = {str(x.result): used_in((x,)) for x in inner
                                    if isinstance(x, Op) and x.result is not None}  # fmt: skip
    following = dict(zip((c for c, _ in s.carries), yields, strict=True))
    waiting = list(needed)
    while waiting:
        n = waiting.pop()
        more = set(origins.get(n, ()))
        if isinstance(y := following.get(n), str):
            more.add(y)
        waiting += more - needed
        needed |= more
    keep = [i for i, (c, _) in enumerate(s.carries) if c in needed]
    if len(keep) == len(s.carries):
        return s
    end = (Yield(tuple(yields[i] for i in keep)),) if keep else ()
    return replace(
        s, carries=tuple(s.carries[i] for i in keep), results=tuple(s.results[i] for i in keep),
        body=(*inner, *end),
    )  # fmt: skip


def merged(k: Kernel) -> Kernel:
    """The kernel with repeated computations replaced by the first of them in scope."""
    return replace(k, body=_Merger().block(k.body))


class _Merger(Renamer):
    def __init__(self) -> None:
        self.names: dict[str, Operand] = {}
        super().__init__(self.names)
        self.seen: list[dict[Stmt, Stmt]] = []
        self.filled: dict[str, Operand] = {}

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...]:
        self.seen.append({})
        out = []
        for s in body:
            s = self.statement(s)
            if writes(s) or isinstance(s, Yield | Parallel):
                out.append(s)
                continue
            key = anonymous(s, self.filled)
            if isinstance(s, Full) and s.type.shape and s.result is not None:
                # One tile for two uses would put what is unlike on one axis: equal, but two.
                self.filled[s.result] = f"%{key}"
                out.append(s)
                continue
            before = next((t[key] for t in reversed(self.seen) if key in t), None)
            if before is None:
                self.seen[-1][key] = s
                out.append(s)
            else:
                self.names |= zip(_results(s), _results(before), strict=True)
        self.seen.pop()
        return tuple(out)


def _results(s: Stmt) -> tuple[str, ...]:
    if isinstance(s, For):
        return s.results
    assert isinstance(s, Op) and s.result is not None
    return (s.result,)


def anonymous(s: Stmt, values: Mapping[str, Operand]) -> Stmt:
    """The statement with everything it defines named by order of definition.

    ``values`` names other values by what they are.
    """
    names: dict[str, Operand] = dict(values)
    names |= {n: f"%{i}" for i, n in enumerate(defined_in((s,)))}
    return Renamer(names, lambda n: str(names.get(n, n))).statement(s)


def without_masks(k: Kernel, maxima: Sequence[str] = ()) -> Kernel:
    """The kernel without selects whose value in the padding is the one that they choose there.

    ``maxima`` are values known to be greater than minus infinity.
    """
    f = facts(k)
    names: dict[str, Operand] = {}
    for _, s in f.statements:
        if isinstance(s, Select) and s.result is not None and is_redundant(k, s, maxima):
            names[s.result] = s.x
    if not names:
        return k
    for n, x in names.items():
        while isinstance(x, str) and x in names:
            x = names[x]
        names[n] = x
    return alive(replace(k, body=renamed(k.body, names)))


def is_redundant(k: Kernel, s: Select, maxima: Sequence[str] = ()) -> bool:
    """True if ``select C, X, F`` is X: C says whether an index is in range, and X is F beyond."""
    f = facts(k)
    if isinstance(s.y, str) or not isinstance(s.x, str) or not isinstance(s.c, str):
        return False
    if f.types[s.x].shape != f.types[str(s.result)].shape:
        return False
    for v in (site.var for site in f.loops.values() if site.var.tile is not None):
        padding = Padding(f, v)
        padding.above_lowest |= set(maxima)
        got = padding.value(s.x)
        if got is not None and got == s.y and padding.is_range_test(s.c):
            return True
    return False


def factors(fn: str, k: Kernel, x: Operand) -> tuple[Operand, Operand] | None:
    """The operands of the binary op ``fn`` that defines ``x``."""
    s = facts(k).definitions.get(x) if isinstance(x, str) else None
    return (s.x, s.y) if isinstance(s, Binary) and s.fn == fn else None


def loaded(k: Kernel, x: Operand) -> Load | None:
    """The load that ``x`` is, through casts and changes of shape."""
    s = facts(k).definitions.get(origin(facts(k), x))
    return s if isinstance(s, Load) else None
