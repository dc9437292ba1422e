"""Computing in one kernel what another stored: the part that ``fuse`` and ``recompute`` share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ke_ir.expr import Call, Dim, Expr, Num, Var, show, variables
from ke_ir.ir import For, Kernel, LoopVar, Parallel, statements
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cmp,
    Dot,
    Expand,
    Full,
    Iota,
    Load,
    Select,
    Store,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import Path, facts, splice
from ke_ir.rewrites.names import Fresh, copied, renamed, used_in
from ke_ir.rewrites.padding import Padding, divides
from ke_ir.rewrites.retile import Retile
from ke_ir.rewrites.tidy import tidied, without_masks, writes
from ke_ir.types import DType, TileType


@dataclass(frozen=True)
class Source:
    """How a kernel makes one of its outputs: where it is stored, by which index variables."""

    kernel: Kernel
    store: Store
    path: Path
    index: tuple[str, ...]
    """The loop variable that each coordinate is."""
    single: tuple[LoopVar, ...] = ()
    """The other variables of loops around the store, each of one trip."""


def source_of(k: Kernel, tensor: str) -> Source | NoMatch:
    """The one store of an output whose coordinates are loop variables, all of them."""
    f = facts(k)
    found = [
        (p, s) for p, s in f.statements
        if isinstance(s, Store | Accumulate) and s.tensor == tensor
    ]  # fmt: skip
    path, store = found[0]
    if len(found) > 1 or not isinstance(store, Store):
        return NoMatch(f"@{k.name} does not write %{tensor} by one store")
    index = tuple(c.name for c in store.coords if isinstance(c, Var) and c.name in f.loops)
    if len(index) != len(store.coords) or len(set(index)) != len(index):
        return NoMatch(f"coordinates of %{tensor} in @{k.name} are not all loop variables")
    around: list[LoopVar] = []
    for s in f.enclosing(path):
        around += [s.var] if isinstance(s, For) else s.vars
        if isinstance(s, For) and s.carries:
            return NoMatch(f"%{tensor} is stored in a loop of @{k.name} that carries values")
    single = tuple(v for v in around if v.name not in index)
    if extra := [v for v in single if not f.one_trip(v)]:
        return NoMatch(f"%{extra[0].name} of @{k.name} is no coordinate of %{tensor}")
    if not isinstance(store.x, str):
        return NoMatch(f"%{tensor} is a constant")
    for n, size in zip(index, k.tensors[tensor].shape, strict=True):
        v = f.loops[n].var
        if v.lo != Num(0) or v.hi != size:
            return NoMatch(f"%{n} of @{k.name} does not run over all of %{tensor}")
    return Source(k, store, path, index, single)


def loads_of(k: Kernel, tensor: str) -> list[Load]:
    return [s for s in statements(k.body) if isinstance(s, Load) and s.tensor == tensor]


def inlined(
    producer: Kernel, outputs: Mapping[str, str], consumer: Kernel, tensors: Mapping[str, str]
) -> Kernel | NoMatch:
    """The consumer computing what it loaded from the producer's outputs.

    ``outputs`` maps tensors that the consumer loads to outputs of the producer, ``tensors`` the
    producer's inputs to arguments of the consumer. Dims must mean the same in both.
    """
    follows = _has_dot(producer) and not _has_dot(consumer)
    for mine, theirs in outputs.items():
        source = source_of(producer, theirs)
        if isinstance(source, NoMatch):
            return source
        if not loads_of(consumer, mine):
            return NoMatch(f"@{consumer.name} does not load %{mine}")
        while loads := loads_of(consumer, mine):
            got = _replaced(source, consumer, loads[0].result or "", tensors, follows)
            if isinstance(got, NoMatch):
                return got
            consumer = got
    kept = tuple(p for p in consumer.inputs if p.name not in outputs)
    return without_masks(tidied(replace(consumer, inputs=kept)))


def _replaced(
    source: Source, consumer: Kernel, name: str, tensors: Mapping[str, str], follows: bool
) -> Kernel | NoMatch:
    """The consumer with one load replaced by a copy of what computed the loaded tile.

    ``follows``: the consumer takes the producer's tiles, where it can.
    """
    fitted = _fitted(source, consumer, name, follows)
    if isinstance(fitted, NoMatch):
        return fitted
    source, consumer = fitted
    load = facts(consumer).definitions.get(name)
    if not isinstance(load, Load):  # merged with an equal one by the new tiles
        return consumer
    fresh = Fresh(consumer)
    names: dict[str, Operand] = dict(
        zip(source.index, (c.name for c in load.coords if isinstance(c, Var)), strict=True)
    )
    work = slice_of(source.kernel, source.path, str(source.store.x))
    consumer = _with_single(source, consumer, work, names, fresh)
    body = copied(work, fresh, names)
    body = _on_tensors(body, tensors)
    x = str(names[str(source.store.x)])
    if facts(source.kernel).types[str(source.store.x)].shape != load.type.shape:
        body = (*body, Broadcast(x, load.type, result=fresh(x)))
        x = str(body[-1].result)  # type: ignore[attr-defined]
    plain = _placed(consumer, name, body, x)
    sensitive = [c.name for c in load.coords if isinstance(c, Var) and _sees_padding(plain, c.name)]
    if not sensitive:
        return plain
    masked = _mask(consumer, load, x, sensitive, fresh)
    if isinstance(masked, NoMatch):
        return masked
    return _placed(consumer, name, (*body, *masked), str(masked[-1].result))


def _with_single(
    source: Source, consumer: Kernel, work: Iterable[Stmt], names: dict[str, Operand], fresh: Fresh
) -> Kernel:
    """The consumer with the variables of one trip that the work uses; ``names`` receives theirs.

    A variable of the same range and tile that is there already serves, unless it is a coordinate.
    """
    used = used_in(work)
    taken = set(names.values())
    p = facts(consumer).parallel
    for v in source.single:
        if v.name not in used:
            continue
        same = (u.name for u in p.vars if (u.lo, u.hi, u.tile) == (v.lo, v.hi, v.tile))
        name = next((n for n in same if n not in taken), "")
        if not name:
            name = fresh(v.name)
            # Before the two variables whose tiles are traversed in groups.
            at = len(p.vars) - 2 if p.group else len(p.vars)
            p = replace(p, vars=(*p.vars[:at], replace(v, name=name), *p.vars[at:]))
        names[v.name] = name
        taken.add(name)
    return replace(consumer, body=(p,))


def _sees_padding(k: Kernel, var: str) -> bool:
    """True if elements past the end of a loop, which the load gave as its ``else``, count."""
    f = facts(k)
    v = f.loops[var].var
    if v.tile is None or divides(f, v.tile, v):
        return False
    axis = f.axes.of_loop(var)
    assert axis is not None
    padding = Padding(f, v)
    return any(not padding.neutral(op) for op in f.axes.combined(axis)) or any(
        isinstance(s, Store | Accumulate)
        and any(f.axes.position(n, axis) is not None for c in s.coords for n in variables(c))
        and not padding.unwritten(s)
        for _, s in f.statements
    )


# Tiles


def _fitted(
    source: Source, consumer: Kernel, name: str, follows: bool
) -> tuple[Source, Kernel] | NoMatch:
    """Both kernels with equal tiles where one's indices become the other's."""
    load = facts(consumer).definitions[name]
    assert isinstance(load, Load)
    chosen = [c.name for c in load.coords
              if isinstance(c, Var) and c.name in facts(consumer).loops]  # fmt: skip
    if len(chosen) != len(load.coords) or len(set(chosen)) != len(chosen):
        return NoMatch(f"coordinates of %{load.tensor} in @{consumer.name} are not all "
                       "loop variables")  # fmt: skip
    for var, size in zip(chosen, consumer.tensors[load.tensor].shape, strict=True):
        if why := _strays(consumer, var, size):
            return NoMatch(why)
    for mine, theirs in zip(chosen, source.index, strict=True):
        tile = facts(source.kernel).loops[theirs].var.tile
        if tile is not None and (follows or facts(consumer).loops[mine].var.tile is None):
            got = _retiled(consumer, mine, tile)
            consumer = consumer if isinstance(got, NoMatch) else got
    k = source.kernel
    for mine, theirs in zip(chosen, source.index, strict=True):
        got = _retiled(k, theirs, facts(consumer).loops[mine].var.tile)
        if isinstance(got, NoMatch):
            return NoMatch(f"@{k.name} cannot have the tiles of @{consumer.name}: {got.reason}")
        k = got
    k = _alike_inside(k, source.index, consumer)
    again = source_of(k, source.store.tensor)
    return again if isinstance(again, NoMatch) else (again, consumer)


def _strays(k: Kernel, var: str, size: Expr) -> str:
    """Why a loop may leave the range of a dimension of this size; empty if it does not."""
    v = facts(k).loops[var].var
    ends = [v.hi]
    if isinstance(v.hi, Call) and v.hi.fn == "end" and isinstance(v.hi.args[0], Var):
        ends.append(facts(k).loops[v.hi.args[0].name].var.hi)
    if v.lo != Num(0) or size not in ends:
        return f"%{var} of @{k.name} runs from {show(v.lo, '%')} to {show(v.hi, '%')}"
    return ""


def _has_dot(k: Kernel) -> bool:
    return any(isinstance(s, Dot) for s in statements(k.body))


def _retiled(k: Kernel, var: str, tile: int | None) -> Kernel | NoMatch:
    old = facts(k).loops[var].var.tile
    if old == tile:
        return k
    if tile is None:
        return NoMatch(f"%{var} is tiled in one of them only")
    return Retile(k.name, var, tile).change(k)


def _alike_inside(k: Kernel, taken: Sequence[str], consumer: Kernel) -> Kernel:
    """The producer's other loops with the tiles that the consumer's of the same range have."""
    theirs = {(s.var.lo, s.var.hi): s.var.tile for s in facts(consumer).loops.values()
              if isinstance(s.loop, For)}  # fmt: skip
    for name, site in facts(k).loops.items():
        tile = theirs.get((site.var.lo, site.var.hi))
        if name not in taken and tile is not None and site.var.tile is not None:
            got = _retiled(k, name, tile)
            k = k if isinstance(got, NoMatch) else got
    return k


# The copy


def slice_of(k: Kernel, path: Path, x: str) -> list[Stmt]:
    """The statements before ``path`` that a value needs, in order, without what they write.

    Those of all loops around ``path`` stand one after the other.
    """
    body: list[Stmt] = []
    s: Stmt | Kernel = k
    for i in path:
        assert isinstance(s, Kernel | For | Parallel)
        if not isinstance(s, Kernel):
            body += s.body[:i]
        s = s.body[i]
    needed = {x}
    out: list[Stmt] = []
    for s in reversed(body):
        defined = s.results if isinstance(s, For) else (getattr(s, "result", None),)
        if needed & set(defined):
            s = _without_writes(s)
            needed |= used_in((s,))
            out.append(s)
    return out[::-1]


def _without_writes(s: Stmt) -> Stmt:
    if not isinstance(s, For):
        return s
    kept = (_without_writes(x) for x in s.body if not writes(x) or isinstance(x, For))
    return replace(s, body=tuple(x for x in kept if not isinstance(x, For) or x.results))


def _on_tensors(body: Iterable[Stmt], names: Mapping[str, str]) -> tuple[Stmt, ...]:
    """Statements that load from tensors of other names."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, For):
            s = replace(s, body=_on_tensors(s.body, names))
        elif isinstance(s, Load):
            s = replace(s, tensor=names.get(s.tensor, s.tensor))
        out.append(s)
    return tuple(out)


def _placed(k: Kernel, name: str, body: Sequence[Stmt], x: str) -> Kernel:
    """The kernel with ``body`` in place of a load, each statement as far out as it may stand."""
    f = facts(k)
    path = f.places[name]
    level: dict[str, int] = {}
    for depth, loop in enumerate(f.enclosing(path)):
        for v in (loop.var,) if isinstance(loop, For) else loop.vars:
            level[v.name] = depth
    at: list[list[Stmt]] = [[] for _ in path[1:]]
    for s in body:
        depth = max((level.get(n, 0) for n in used_in((s,))), default=0)
        for n in s.results if isinstance(s, For) else (getattr(s, "result", None),):
            level[str(n)] = depth
        at[depth].append(s)
    for depth in reversed(range(len(at))):
        here = path[: depth + 2]
        last = facts(k).get(here)
        keep = () if here == path else (last,)
        k = splice(k, here, (*at[depth], *keep))
    return replace(k, body=renamed(k.body, {name: x}))


def _mask(k: Kernel, load: Load, x: str, along: Sequence[str], fresh: Fresh) -> list[Op] | NoMatch:
    """Statements that choose ``x`` where these indices are in range, else what the load gave."""
    out: list[Op] = []
    loops = facts(k).loops
    tiled = [c.name for c in load.coords if isinstance(c, Var) and loops[c.name].var.tile]
    both = ""
    for name in along:
        v = loops[name].var
        if not _is_size(v.hi):
            return NoMatch(f"%{name} of @{k.name} runs to {show(v.hi, '%')}, which is no size")
        size = v.hi.value if isinstance(v.hi, Num) else v.hi
        n = Full(size, TileType(DType.I32), result=fresh(f"{name}_size"))
        i = Iota(name, TileType(DType.I32, (v.step,)), result=fresh(f"{name}_at"))
        live: Op = Cmp("lt", str(i.result), str(n.result), result=fresh(f"{name}_live"))
        out += [n, i, live]
        for d, other in enumerate(tiled):
            if other != name:
                live = Expand(str(live.result), d, result=fresh(f"{name}_live"))
                out.append(live)
        if both:
            live = Binary("and", both, str(live.result), result=fresh("live"))
            out.append(live)
        both = str(live.result)
    kind = load.type.dtype
    fill = bool(load.fill) if kind.is_bool else load.fill
    fill = float(fill) if kind.is_float else fill
    return [*out, Select(both, x, fill, result=fresh(x))]


def _is_size(e: Expr) -> bool:
    return isinstance(e, Num | Dim)
