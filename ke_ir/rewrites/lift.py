"""Several indices of ``parallel`` in one program: each value that depends on one gets a dimension.

The new dimension comes first. Nothing is combined along it, so that what lies beyond the end of the
range, which loads may read and stores leave out, touches nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ke_ir.expr import Expr, Var, rewrite, variables
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Expand,
    Full,
    Iota,
    Load,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Unary,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import Facts
from ke_ir.rewrites.names import Fresh, used_names
from ke_ir.rewrites.tidy import tidied
from ke_ir.types import DType, TileType


class _Refused(Exception):
    """Why a variable stays untiled."""


def tiled(f: Facts, var: LoopVar, tile: int) -> Kernel | NoMatch:
    """The kernel with tiles of an untiled variable of ``parallel``."""
    try:
        return tidied(replace(f.kernel, body=_Lift(f, var, tile).block(f.kernel.body)))
    except _Refused as why:
        return NoMatch(str(why))


def dependents(f: Facts, var: LoopVar) -> set[str]:
    """Values that may differ from index to index."""
    found: set[str] = {var.name}
    size = 0
    while len(found) != size:
        size = len(found)
        for _, s in f.statements:
            if isinstance(s, Op) and s.result is not None and not found.isdisjoint(used_names(s)):
                found.add(s.result)
            elif isinstance(s, For):
                end = s.body[-1] if s.carries else None
                ends = end.values if isinstance(end, Yield) else ()
                for (c, init), y, r in zip(s.carries, ends, s.results, strict=True):
                    if not found.isdisjoint((c, init, y)):
                        found |= {c, r}
    return found - {var.name}


class _Lift:
    def __init__(self, f: Facts, var: LoopVar, tile: int) -> None:
        self.f, self.var, self.tile = f, var, tile
        self.lifted = dependents(f, var)
        self.varying = {var.name, *self.lifted}
        self.fresh = Fresh(f.kernel)
        self.out: list[Stmt] = []

    def type_of(self, x: str) -> TileType:
        """The type of a value as it was."""
        return self.f.types[x]

    def wide(self, t: TileType) -> TileType:
        return t.with_shape((self.tile, *t.shape))

    def emit(self, op: Op) -> str:
        self.out.append(op)
        return str(op.result)

    # Statements

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...]:
        outer, self.out = self.out, []
        for s in body:
            if isinstance(s, Parallel):
                vars_ = (replace(v, tile=self.tile) if v == self.var else v for v in s.vars)
                self.out.append(replace(s, vars=tuple(vars_), body=self.block(s.body)))
            elif isinstance(s, For):
                self.loop(s)
            elif isinstance(s, Op) and not self.varying.isdisjoint(used_names(s)):
                self.op(s)
            else:
                self.out.append(s)
        done, self.out = tuple(self.out), outer
        return done

    def loop(self, s: For) -> None:
        named = {*variables(s.var.lo), *variables(s.var.hi)}
        if named & self.varying:
            raise _Refused(f"the range of %{s.var.name} depends on %{self.var.name}")
        wide = [c in self.lifted for c, _ in s.carries]
        carries = tuple(
            (c, self.widened(x) if w else x)
            for (c, x), w in zip(s.carries, wide, strict=True)
        )  # fmt: skip
        body = s.body
        if s.carries:
            *rest, end = s.body
            assert isinstance(end, Yield)
            inner = self.block(rest)
            outer, self.out = self.out, list(inner)
            values = (self.widened(y) if w else y for y, w in zip(end.values, wide, strict=True))
            self.out.append(Yield(tuple(values)))
            body, self.out = tuple(self.out), outer
        else:
            body = self.block(s.body)
        self.out.append(replace(s, carries=carries, body=body))

    def op(self, s: Op) -> None:
        match s:
            case Iota(type=t):
                self.out.append(replace(s, type=self.wide(t)))
            case Load():
                self.load(s)
            case Store() | Accumulate():
                self.write(s)
            case Unary() | Binary() | Cmp() | Select() | Cast():
                self.elementwise(s)
            case Reduce(dim=dim) | Scan(dim=dim) | Expand(dim=dim):
                self.out.append(replace(s, dim=dim + 1))
            case Permute(order=order):
                self.out.append(replace(s, order=(0, *(i + 1 for i in order))))
            case Reshape(type=t):
                self.out.append(replace(s, type=self.wide(t)))
            case Broadcast(x=x, type=t):
                y = self.ranked(str(x), t.rank)
                self.out.append(replace(s, x=y, type=self.wide(t)))
            case _:
                raise _Refused(f"`{s.mnemonic}` would be one of several %{self.var.name}")

    def elementwise(self, s: Op) -> None:
        rank = max(self.type_of(x).rank for x in s.operands() if isinstance(x, str))
        new = {n: self.ranked(x, rank) for n in s.operand_fields
               if isinstance(x := getattr(s, n), str)}  # fmt: skip
        self.out.append(replace(s, **new))  # type: ignore[arg-type]

    # Operands

    def ranked(self, x: str, rank: int) -> str:
        """``x`` for use beside tiles of this rank, which have the new dimension first."""
        have = self.type_of(x).rank
        if x not in self.lifted:
            return self.emit(Expand(x, 0, result=self.fresh(x))) if have else x
        for d in range(rank - have):
            x = self.emit(Expand(x, 1 + d, result=self.fresh(x)))
        return x

    def widened(self, x: Operand) -> Operand:
        """``x``, the same for each index, with the new dimension."""
        if not isinstance(x, str) or x in self.lifted:
            return x
        t = self.type_of(x)
        s = self.f.definitions.get(x)
        if isinstance(s, Full):
            return self.emit(replace(s, type=self.wide(t), result=self.fresh(x)))
        y = self.emit(Expand(x, 0, result=self.fresh(x))) if t.rank else x
        return self.emit(Broadcast(y, self.wide(t), result=self.fresh(x)))

    # Memory

    def load(self, s: Load) -> None:
        coords = s.coords
        if any(n in self.lifted for c in coords for n in variables(c)):
            coords = self.gathered(coords)
        at = self.place(coords)
        shape = (*s.type.shape[:at], self.tile, *s.type.shape[at:])
        if at == 0:
            self.out.append(replace(s, coords=coords, type=s.type.with_shape(shape)))
            return
        name = self.fresh(str(s.result))
        self.emit(replace(s, coords=coords, type=s.type.with_shape(shape), result=name))
        order = (at, *(i for i in range(len(shape)) if i != at))
        self.emit(Permute(name, order, result=s.result))

    def gathered(self, coords: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Coordinates whose integer tiles stretch together along the new dimension."""
        seen = list(dict.fromkeys(n for c in coords for n in variables(c)))
        values = [n for n in seen if n not in self.f.loops]
        old = [n for n in values if self.type_of(n).rank]
        new = [n for n in seen if n in self.lifted or n in old or n == self.var.name]
        if old and self.tiles_before(seen, new[0]) != self.tiles_before(seen, old[0]):
            raise _Refused(f"%{new[0]} and %{old[0]} are coordinates of one load")
        rank = max((self.type_of(n).rank for n in old), default=0)
        names = {n: self.ranked(n, rank) for n in values if n in self.lifted}
        if self.var.name in seen:
            at = self.emit(Iota(self.var.name, TileType(DType.I32, (self.tile,)),
                                result=self.fresh(f"{self.var.name}_at")))  # fmt: skip
            for d in range(rank):
                at = self.emit(Expand(at, 1 + d, result=self.fresh(at)))
            names[self.var.name] = at
        return tuple(
            rewrite(c, lambda e: Var(names[e.name]) if isinstance(e, Var) and e.name in names
                    else None)
            for c in coords
        )  # fmt: skip

    def tiles_before(self, names: list[str], name: str) -> int:
        found = (self.f.loops.get(n) for n in names[: names.index(name)])
        return sum(site is not None and site.var.tile is not None for site in found)

    def place(self, coords: tuple[Expr, ...]) -> int:
        """Which dimension of what these coordinates address is the new one."""
        seen = list(dict.fromkeys(n for c in coords for n in variables(c)))
        values = [n for n in seen if n not in self.f.loops]
        ranks = {n: self.type_of(n).rank if n in self.f.types else 1 for n in values}
        at = 0
        for n in seen:
            if n == self.var.name:
                break
            if n in self.f.loops:
                at += self.f.loops[n].var.tile is not None
            elif n in self.lifted or ranks[n]:
                if self.var.name not in seen:
                    break
                # Integer tiles bring their dimensions together, at the place of the first.
                at += max(ranks.values())
                ranks = dict.fromkeys(ranks, 0)
        return at

    def write(self, s: Store | Accumulate) -> None:
        named = [n for c in s.coords for n in variables(c)]
        if any(n in self.lifted for n in named):
            raise _Refused(f"where %{s.tensor} is written depends on %{self.var.name}")
        if self.var.name not in named:
            raise _Refused(f"%{s.tensor} is written for each %{self.var.name}, at one place")
        x = s.x
        if isinstance(x, str) and (x in self.lifted or self.type_of(x).rank):
            at = self.place(s.coords)
            shape = self.f.axes.scope.access_shape(s.coords)
            t = self.type_of(x)
            if t.rank < len(shape):
                wide = self.wide(t.with_shape(shape))
                x = self.emit(Broadcast(self.ranked(x, len(shape)), wide, result=self.fresh(x)))
            else:
                x = str(self.widened(x))
            if at:
                order = (*range(1, at + 1), 0, *range(at + 1, len(shape) + 1))
                x = self.emit(Permute(x, order, result=self.fresh(x)))
        self.out.append(replace(s, x=x))
