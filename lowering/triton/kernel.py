"""One kernel as a ``@triton.jit`` function: the grid, the loops, and their statements in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ke_ir.expr import Num, variables
from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield, statements
from ke_ir.ops.arith import Binary, Cast, Cmp, Select, Unary
from ke_ir.ops.base import Op, Stmt
from ke_ir.ops.memory import Accumulate, Full, Iota, Load, Store
from ke_ir.ops.shape import Broadcast, Dot, Expand, Permute, Reduce, Reshape, Scan
from ke_ir.printer import print_head
from ke_ir.scope import infer_types
from lowering.triton import combine, elementwise, memory, shapes
from lowering.triton.bounds import Interval
from lowering.triton.context import Context, Index, is_innermost, span
from lowering.triton.dims import KernelDims
from lowering.triton.options import TritonOptions, Unsupported
from lowering.triton.uses import mentions_word, updated_in_place
from lowering.triton.values import Value, power_of_two
from lowering.triton.writer import WIDTH, atom, bare, call

_LOWER: dict[type[Op], Callable[[Context, Any], None]] = {
    Load: memory.lower_load, Store: memory.lower_store, Accumulate: memory.lower_accumulate,
    Full: shapes.lower_full, Iota: shapes.lower_iota, Unary: elementwise.lower_unary,
    Binary: elementwise.lower_binary, Cmp: elementwise.lower_cmp,
    Select: elementwise.lower_select, Cast: elementwise.lower_cast, Reduce: combine.lower_reduce,
    Scan: combine.lower_scan, Dot: combine.lower_dot, Reshape: shapes.lower_reshape,
    Permute: shapes.lower_permute, Expand: shapes.lower_expand,
    Broadcast: shapes.lower_broadcast,
}  # fmt: skip


_TILE_ELEMENTS_PER_THREAD = 32
_ACCUMULATORS_PER_THREAD = 64


@dataclass(frozen=True)
class LoweredKernel:
    """A kernel's text and what its callers need.

    ``runtime`` lists the dims passed as integers, ``static`` the constants (dims and tile sizes)
    with their values, ``grid`` the loop variables of the grid, ``blocks`` the constants that hold
    their tile sizes.
    """

    name: str
    kernel: Kernel
    text: str
    runtime: tuple[str, ...]
    static: Mapping[str, int]
    signature: Mapping[str, str]
    divisible: tuple[str, ...]
    options: Mapping[str, Any]
    grid: tuple[LoopVar, ...]
    blocks: Mapping[str, str]
    persistent: bool
    helpers: tuple[str, ...]


def lower_kernel(
    kernel: Kernel, sizes: KernelDims, options: TritonOptions, name: str
) -> LoweredKernel:
    """Lower one kernel for the way it is called. Raises Unsupported."""
    ctx = Context(kernel, sizes, options)
    grid = kernel.body[0]
    assert isinstance(grid, Parallel), "a verified kernel is one parallel"
    with ctx.names.scope():
        _lower_grid(ctx, grid)
    body = ctx.out.render()
    blocks = {v.name: ctx.block(v)[0] for v in grid.vars if v.tile is not None}
    params = list(ctx.tensor_names.values())
    runtime = [name for name, _ in sizes.ranges if name in ctx.used_dims]
    dims = {ctx.dim_names[name]: size for name, size in sizes.static if name in ctx.used_dims}
    static = {**dims, **ctx.constexprs}
    args = params + [ctx.dim_names[d] for d in runtime] + [f"{c}: tl.constexpr" for c in static]
    head = call(f"def {name}", args, WIDTH - 1)
    signature = {ctx.tensor_names[n]: ctx.carriers.pointer(t.dtype)
                 for n, t in kernel.tensors.items()}  # fmt: skip
    for d in runtime:
        signature[ctx.dim_names[d]] = "i32" if _fits_int32(ctx, d) else "i64"
    return LoweredKernel(
        name, kernel, f"@triton.jit\n{head}:\n{body}", tuple(runtime), static, signature,
        (*params, *(ctx.dim_names[d] for d in runtime if _always_16(ctx, d))),
        _compile_options(ctx), tuple(_spread(ctx, grid)), blocks, grid.persistent,
        tuple(ctx.helpers),
    )  # fmt: skip


def _fits_int32(ctx: Context, name: str) -> bool:
    return ctx.bounds.largest(ctx.bounds.dim(name)) < 2**31


def _always_16(ctx: Context, name: str) -> bool:
    """Whether every legal size of a run-time dim is a multiple of 16."""
    terms = ctx.bounds.dim(name).terms.values()
    return all(c % 16 == 0 for c in terms)


def _compile_options(ctx: Context) -> dict[str, Any]:
    stages = max(ctx.stages, default=1)
    warps = default_warps(ctx.kernel, ctx.options.warp_size)
    return {"num_warps": warps, "num_stages": stages, **ctx.options.knobs}


def default_warps(kernel: Kernel, warp_size: int) -> int:
    """Enough threads for the largest tile of a kernel."""
    values = infer_types(kernel).values
    dots = [s.result for s in statements(kernel.body) if isinstance(s, Dot) and s.result]
    accumulators = max((values[result].elements for result in dots), default=0)
    largest = max((tile.elements for tile in values.values()), default=1)
    if accumulators:
        warps = max(4, accumulators // (warp_size * _ACCUMULATORS_PER_THREAD))
        warps *= 2 if _pipelines_gathers(kernel) else 1
    else:
        warps = largest // (warp_size * _TILE_ELEMENTS_PER_THREAD)
    return min(8, power_of_two(warps)) if warps > 1 else 1


def _pipelines_gathers(kernel: Kernel) -> bool:
    """Whether a load in flight has an address of its own for each element, which takes registers.

    ``for`` loops without stages wait for what they load.
    """
    tiled: set[str] = set()
    loads: list[Load] = []
    stages = 1
    for s in statements(kernel.body):
        if isinstance(s, For | Parallel):
            tiled |= {v.name for v in ((s.var,) if isinstance(s, For) else s.vars) if v.tile}
            stages = max(stages, s.stages if isinstance(s, For) else 1)
        elif isinstance(s, Load):
            loads.append(s)
    gathered = any(len(tiled & set(variables(c))) > 1 for load in loads for c in load.coords)
    return gathered and stages > 1


# -- the grid ----------------------------------------------------------------------------------
def _lower_grid(ctx: Context, s: Parallel) -> None:
    ctx.out.line(f"# {print_head(s)}")
    loops = _spread(ctx, s)
    counts = {v.name: _count(ctx, v) for v in loops}
    if s.persistent:
        total = " * ".join(map(atom, counts.values()))
        name = ctx.names.new("tile_id")
        ctx.out.line(f"for {name} in range(tl.program_id(0), {total}, tl.num_programs(0)):")
        with ctx.out.indented(), ctx.names.scope():
            _grid_body(ctx, s, loops, counts, name)
    else:
        _grid_body(ctx, s, loops, counts, "")


def _spread(ctx: Context, s: Parallel) -> list[LoopVar]:
    """The grid variables with more than one place."""
    return [v for v in s.vars if ctx.trips(v) != 1] or [s.vars[0]]


def _count(ctx: Context, v: LoopVar) -> str:
    """How many places a grid variable has."""
    count = ctx.integer(span(v))
    return count if v.tile is None else f"tl.cdiv({count}, {ctx.block(v)[0]})"


def _grid_body(
    ctx: Context, s: Parallel, loops: list[LoopVar], counts: dict[str, str], flat: str
) -> None:
    ids = _program_ids(ctx, s, loops, counts, flat)
    ctx.scope.enter(s)
    for v in s.vars:
        _enter_grid_index(ctx, v, ids.get(v.name, ""))
    _lower_body(ctx, s.body)


def _program_ids(
    ctx: Context, s: Parallel, loops: list[LoopVar], counts: dict[str, str], flat: str
) -> dict[str, str]:
    """The place of this program along each grid variable, from its place in the whole grid."""
    names = {v.name: ctx.names.new(f"pid_{v.name}") for v in loops}
    source = flat or "tl.program_id(0)"
    if len(loops) == 1:
        ctx.out.line(f"{names[loops[0].name]} = {source}")
        return names
    # With one place along a row or a column there is nothing to reorder.
    grouped = s.group > 0 and loops[-2:] == list(s.vars[-2:])
    pid = flat or "pid"
    if not flat:
        ctx.out.line(f"pid = {source}")
    sizes = {}
    for v in [*loops[-2:], *loops[1:-2]] if grouped else loops[1:]:
        sizes[v.name] = counts[v.name]
        if not counts[v.name].isidentifier():
            sizes[v.name] = ctx.names.new(f"num_{v.name}")
            ctx.out.line(f"{sizes[v.name]} = {counts[v.name]}")
    rest = pid
    for i, v in reversed(list(enumerate(loops))):
        if i == 0:
            ctx.out.line(f"{names[v.name]} = {rest}")
        else:
            ctx.out.line(f"{names[v.name]} = {rest} % {sizes[v.name]}")
            rest = f"{rest} // {sizes[v.name]}" if i == 1 else f"({rest} // {sizes[v.name]})"
    if grouped:
        _swizzle(ctx, s, loops, names, sizes)
    return names


def _swizzle(
    ctx: Context, s: Parallel, loops: list[LoopVar], names: dict[str, str], sizes: dict[str, str]
) -> None:
    """Traverse the last two variables in columns of ``group`` rows."""
    row, column = (names[v.name] for v in loops[-2:])
    extents = [sizes[v.name] for v in loops[-2:]]
    args = ", ".join([row, column, *extents, str(s.group)])
    ctx.out.line(f"{row}, {column} = tl.swizzle2d({args})")


def _enter_grid_index(ctx: Context, v: LoopVar, pid: str) -> None:
    lo = "" if v.lo == Num(0) else ctx.integer(v.lo, level=3)
    if v.tile is None:
        text = " + ".join(filter(None, (lo, pid))) or "0"
        if text.isidentifier():
            index = Index(v, text, text)
        else:
            name = ctx.names.new(v.name)
            ctx.out.line(f"{name} = {text}")
            index = Index(v, name, name)
    else:
        size = ctx.block(v)[0]
        start = " + ".join(filter(None, (lo, f"{pid} * {size}" if pid else ""))) or "0"
        index = _tiled_index(ctx, v, ctx.names.new(f"{v.name}_start"), start)
    _enter_index(ctx, v, index)


# -- loop variables ----------------------------------------------------------------------------
def _tiled_index(ctx: Context, v: LoopVar, start_name: str, start: str | None) -> Index:
    """An index tile; ``start`` is the text of its first index, None when it is defined already."""
    size, lanes = ctx.block(v)
    lines = {}
    masked = _may_pass_end(ctx, v)
    end_text = f"{start_name} + {size}"
    if masked:
        end_text = f"min({end_text}, {ctx.integer(v.hi)})"
    names = {p: ctx.names.new(f"{b}_{v.name}") for p, b in
             (("offsets", "offs"), ("mask", "mask"), ("end", "end"))}  # fmt: skip
    if start is not None:
        lines["start"] = ctx.out.line(f"{start_name} = {start}", needed=False)
    first = start_name if start is None else start
    arange = f"tl.arange(0, {lanes})"
    text = arange if first == "0" else f"{first} + {arange}"
    lines["end"] = ctx.out.line(f"{names['end']} = {end_text}", needed=False)
    lines["offsets"] = ctx.out.line(f"{names['offsets']} = {text}", needed=False)
    padded = lanes != size
    limit = names["end"] if padded else ctx.integer(v.hi, level=4)
    lines["mask"] = ctx.out.line(f"{names['mask']} = {names['offsets']} < {limit}", needed=False)
    return Index(
        v,
        names["offsets"],
        start_name,
        names["end"],
        names["mask"],
        masked or padded,
        padded,
        lines,
        f"{names['offsets']} = {start_name} + {arange}",
    )


def _may_pass_end(ctx: Context, v: LoopVar) -> bool:
    """Whether the last tile may reach past the loop's end."""
    whole = math.gcd(ctx.bounds.multiple(v.hi, ctx.multiples),
                     ctx.bounds.multiple(v.lo, ctx.multiples))  # fmt: skip
    return whole % v.step != 0


def _enter_index(ctx: Context, v: LoopVar, index: Index) -> None:
    """Make a loop variable known, with what is known of its values."""
    lo, hi = (ctx.bounds.interval(e, ctx.env) for e in (v.lo, v.hi))
    last = None if hi.hi is None else hi.hi.plus(-1)
    ctx.indices[v.name] = index
    ctx.env[v.name] = Interval(lo.lo, last)
    ctx.env[f"begin({v.name})"] = Interval(lo.lo, last)
    ctx.env[f"end({v.name})"] = Interval(None if lo.lo is None else lo.lo.plus(1), hi.hi)
    first = math.gcd(ctx.bounds.multiple(v.lo, ctx.multiples), v.step)
    ctx.multiples[f"begin({v.name})"] = first
    tail = ctx.bounds.multiple(v.hi, ctx.multiples) if _may_pass_end(ctx, v) else 0
    ctx.multiples[f"end({v.name})"] = math.gcd(first, tail)
    if v.tile is None:
        ctx.multiples[v.name] = 1


# -- statements --------------------------------------------------------------------------------
def _lower_body(ctx: Context, body: Iterable[Stmt]) -> None:
    for s in body:
        if isinstance(s, For):
            _lower_for(ctx, s)
        elif isinstance(s, Op):
            ctx.scope.define(s)
            lower = _LOWER.get(type(s))
            if lower is None:
                raise Unsupported(f"`{s.mnemonic}`", "this op has no Triton lowering")
            lower(ctx, s)


def _lower_for(ctx: Context, s: For) -> None:
    """A loop, or the loops of a nest as one: only one without a loop inside is pipelined."""
    nest = ctx.nest(s)
    carried = [_start_carry(ctx, s, i) for i in range(len(s.carries))]
    for loop in nest:
        ctx.scope.enter(loop)
        for i, ((name, init), variable) in enumerate(zip(loop.carries, carried, strict=True)):
            ctx.enter(name, Value(variable, ctx.value(init).type, owned=True), (loop, -1 - i))
    inner = nest[-1]
    in_place = updated_in_place(inner, ctx.uses)
    ctx.assign_to.update({key: carried[place] for key, place in in_place.items()})
    written = [loop for loop in nest if ctx.trips(loop.var) != 1]
    for loop in nest:
        if ctx.trips(loop.var) == 1:
            _enter_single(ctx, loop.var)
    if not written:
        _lower_iteration(ctx, inner, carried)
    else:
        start = _open_loop(ctx, written)
        with ctx.out.indented(), ctx.names.scope():
            if len(written) > 1:
                _enter_places(ctx, written, start)
            else:
                _enter_loop_index(ctx, written[0].var, start)
            ctx.loops.append(inner)
            _lower_iteration(ctx, inner, carried)
            ctx.loops.pop()
    for loop in reversed(nest):
        ctx.scope.leave(loop)
        for i, (result, (name, _)) in enumerate(zip(loop.results, loop.carries, strict=True)):
            ctx.enter(result, Value(carried[i], ctx.values[name].type, owned=True), (loop, i))


def _start_carry(ctx: Context, s: For, place: int) -> str:
    """The variable of a carried value, holding its start: its own, where nothing else uses it."""
    name, init = s.carries[place]
    v = ctx.value(init)
    if ctx.lends(init, s):
        return v.text
    variable = ctx.names.new(name)
    ctx.out.line(f"{variable} = {ctx.materialised(v)}")
    return variable


def _open_loop(ctx: Context, nest: list[For]) -> str:
    """Write the loop's head; returns the name of the first index of an iteration.

    Of several loops that are written as one: the name of the iteration's number.
    """
    inner = nest[-1]
    v = inner.var
    if len(nest) > 1:
        name = ctx.names.new("step")
        args = [" * ".join(atom(_count(ctx, s.var)) for s in nest)]
    else:
        bounds = [ctx.integer(e) for e in (v.lo, v.hi)]
        step = [] if v.tile is None else [ctx.block(v)[0]]
        if bounds[0] == "0" and not step:
            bounds = bounds[1:]
        name = ctx.names.new(v.name if v.tile is None else f"{v.name}_start")
        args = [*bounds, *step]
    own = is_innermost(inner) and len(ctx.stages) > 1 and "num_stages" not in ctx.options.knobs
    if own:
        ctx.out.line(f"for {name} in tl.range({', '.join(args)}, num_stages={inner.stages}):")
    else:
        ctx.out.line(f"for {name} in range({', '.join(args)}):")
    return name


def _enter_places(ctx: Context, nest: list[For], step: str) -> None:
    """The place along each loop of a nest, from the number of the iteration."""
    starts = {}
    rest = step
    for s in reversed(nest):
        v = s.var
        count = atom(_count(ctx, v))
        place = rest if s is nest[0] else f"{rest} % {count}"
        rest = f"({rest} // {count})"
        size = "" if v.tile is None else f" * {ctx.block(v)[0]}"
        lo = "" if v.lo == Num(0) else f"{ctx.integer(v.lo, level=3)} + "
        starts[v.name] = f"{lo}({place}){size}" if size or lo else place
    for s in nest:
        v = s.var
        if v.tile is None:
            name = ctx.names.new(v.name)
            ctx.out.line(f"{name} = {bare(starts[v.name])}")
            _enter_index(ctx, v, Index(v, name, name))
        else:
            name = ctx.names.new(f"{v.name}_start")
            _enter_index(ctx, v, _tiled_index(ctx, v, name, starts[v.name]))


def _enter_loop_index(ctx: Context, v: LoopVar, start: str) -> None:
    if v.tile is None:
        _enter_index(ctx, v, Index(v, start, start))
    else:
        _enter_index(ctx, v, _tiled_index(ctx, v, start, None))


def _enter_single(ctx: Context, v: LoopVar) -> None:
    """A loop of one iteration needs no loop."""
    first = ctx.integer(v.lo)
    if v.tile is None:
        _enter_index(ctx, v, Index(v, first, first))
    else:
        _enter_index(ctx, v, _tiled_index(ctx, v, ctx.names.new(f"{v.name}_start"), first))


def _lower_iteration(ctx: Context, s: For, carried: list[str]) -> None:
    _lower_body(ctx, s.body)
    last = s.body[-1] if s.body else None
    if not isinstance(last, Yield):
        return
    moves = []
    for variable, value, (name, _) in zip(carried, last.values, s.carries, strict=True):
        text = ctx.text(value, ctx.values[name].type.dtype)
        if text != variable:
            moves.append((variable, text))
    targets = [m[0] for m in moves]
    if any(mentions_word(text, t) for t in targets for _, text in moves):
        ctx.out.line(f"{', '.join(targets)} = {', '.join(text for _, text in moves)}")
    else:
        for variable, text in moves:
            ctx.out.line(f"{variable} = {text}")
