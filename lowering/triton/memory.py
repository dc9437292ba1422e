"""``load``, ``store`` and ``accumulate``: pointers and masks from coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ke_ir.expr import Bin, Dim, Expr, Num, Var, variables
from ke_ir.ops.memory import Accumulate, Load, Store
from ke_ir.scope import Axis
from ke_ir.types import DType, TileType
from lowering.ravel import raveled
from lowering.triton.bounds import Poly
from lowering.triton.context import Context
from lowering.triton.options import Unsupported
from lowering.triton.values import Value, index_suffix, operand_literal, power_of_two
from lowering.triton.writer import WIDTH, bare, call, tuple_text

_INT32_MAX = 2**31 - 1
_ATOMIC = (DType.F32, DType.F64, DType.I32, DType.I64)


@dataclass(frozen=True)
class Access:
    """A tile of pointers, and which of them may be followed (empty: all)."""

    pointer: str
    mask: str


def lower_load(ctx: Context, op: Load) -> None:
    """A load whose result is used by a ``cast`` only is written inside that cast."""
    t = op.type
    where = access(ctx, op.tensor, op.coords)
    args = [where.pointer]
    if where.mask:
        args += [f"mask={where.mask}", f"other={_fill(ctx, op)}"]
    text = call("tl.load", args, WIDTH - 4 * ctx.out.depth - len(str(op.result)) - 20)
    if ctx.carriers.as_bytes(t.dtype):
        text = call(ctx.helper(f"decode_{t.dtype}"), [text])
    pad = op.fill if where.mask and _pads(t) else None
    ctx.define(op, t, text, pad=pad, in_place=ctx.uses.in_place(op))


def _fill(ctx: Context, op: Load) -> str:
    d = op.type.dtype
    if not ctx.carriers.as_bytes(d):
        return operand_literal(op.fill, d)
    return str(_byte(float(op.fill), d))


def _byte(number: float, d: DType) -> int:
    """The byte that holds an ``else`` value of an fp8 tensor."""
    if number == 0.0:
        return 0
    import numpy as np

    return int(np.asarray(number, np.float32).astype(d.numpy()).view(np.uint8))


def _pads(t: TileType) -> bool:
    return any(power_of_two(n) != n for n in t.shape)


def lower_store(ctx: Context, op: Store) -> None:
    where = access(ctx, op.tensor, op.coords)
    args = [where.pointer, _stored(ctx, op), *([f"mask={where.mask}"] if where.mask else [])]
    ctx.out.line(call("tl.store", args, WIDTH - 4 * ctx.out.depth))


def lower_accumulate(ctx: Context, op: Accumulate) -> None:
    d = ctx.scope.tensor(op.tensor).dtype
    half = op.kind == "add" and d is DType.F16
    if d not in _ATOMIC and not half:
        raise Unsupported(
            f"`accumulate {op.kind}` into {d}",
            f"Triton has no atomic {op.kind} for {d}",
            "accumulate into f32 or i32 and convert in a second kernel",
        )
    where = access(ctx, op.tensor, op.coords)
    args = [where.pointer, _stored(ctx, op), *([f"mask={where.mask}"] if where.mask else [])]
    args.append('sem="relaxed"')
    ctx.out.line(call(f"tl.atomic_{op.kind}", args, WIDTH - 4 * ctx.out.depth))


def _stored(ctx: Context, op: Store | Accumulate) -> str:
    """The value to write; Triton's atomics and our encoders want it as a tile."""
    d = ctx.scope.tensor(op.tensor).dtype
    number = ctx.constant(op.x)
    if number is not None and isinstance(op, Store) and not ctx.carriers.as_bytes(d):
        return operand_literal(number, d)
    axes = ctx.scope.access(op.coords)
    dims = tuple(ctx.lanes(ctx.scope.loops.get(a.index), a.size) for a in axes)
    if number is not None:
        text = ctx.full(
            Value("", TileType(d, tuple(a.size for a in axes)), None, number, dims=dims)
        )
    else:
        text = bare(ctx.text(op.x, d))
        if isinstance(op, Accumulate) and axes and not ctx.value(op.x).type.shape:
            text = f"tl.full({tuple_text(dims)}, {text}, {ctx.carriers.register(d)})"
    return f"{ctx.helper(f'encode_{d}')}({text})" if ctx.carriers.as_bytes(d) else text


def access(ctx: Context, tensor: str, coords: tuple[Expr, ...]) -> Access:
    """Pointer and mask of the tile at these coordinates; lines for what both share are emitted."""
    axes = ctx.scope.access(coords)
    place = _Placement(ctx, axes)
    pointer, conditions = [], []
    coords, shape = raveled(coords, ctx.scope.tensor(tensor).shape)
    plain_limits: dict[str, Poly | None] = {}
    for i, (c, size) in enumerate(zip(coords, shape, strict=True)):
        limit = ctx.bounds.exact(size)
        checks = _needed_checks(ctx, c, limit)
        if isinstance(c, Var):
            plain_limits[c.name] = limit
        hint = f"{tensor}_{size.name.lower() if isinstance(size, Dim) else i}"
        text = _coordinate(ctx, place, hint, c, any(checks))
        if checks[0]:
            conditions.append(f"({text} >= 0)")
        if checks[1]:
            conditions.append(f"({text} < {ctx.integer(size, level=4)})")
        pointer += _term(ctx, tensor, text, c, shape[i + 1 :], size)
    ranges = [m for a in axes if (m := _range_mask(ctx, place, a, plain_limits))]
    mask = " & ".join(dict.fromkeys((*ranges, *conditions)))
    base = ctx.tensor_names[tensor]
    return Access(" + ".join([base, *pointer]), _bare(mask))


def _bare(mask: str) -> str:
    """A single condition needs no parentheses."""
    single = mask.startswith("(") and mask.endswith(")") and " & " not in mask
    return mask[1:-1] if single else mask


class _Placement:
    """Where each variable of the coordinates stands among the dimensions of the tile."""

    def __init__(self, ctx: Context, axes: tuple[Axis, ...]) -> None:
        self.ctx, self.axes, self.rank = ctx, axes, len(axes)
        self.at = {a.index: i for i, a in enumerate(axes) if a.index}
        self.tiles = [i for i, a in enumerate(axes) if a.tiles]

    def suffix(self, name: str) -> str:
        """The subscript that puts a variable's dimensions in their place."""
        if name in self.at:
            return index_suffix([self.at[name]], self.rank)
        if name in self.ctx.indices:
            return ""
        rank = self.ctx.values[name].type.rank
        return index_suffix(self.tiles[len(self.tiles) - rank :], self.rank) if rank else ""

    def leaf(self, name: str) -> str:
        return self.ctx.leaf(name) + self.suffix(name)


def _needed_checks(ctx: Context, c: Expr, limit: Poly | None) -> tuple[bool, bool]:
    """Whether a coordinate may be negative, and whether it may reach past its dimension."""
    got = ctx.bounds.interval(c, ctx.env)
    below = ctx.bounds.at_most(Poly.const(0), got.lo)
    last = None if limit is None else limit.plus(-1)
    return not below, not ctx.bounds.at_most(got.hi, last)


def _coordinate(ctx: Context, place: _Placement, hint: str, c: Expr, checked: bool) -> str:
    """Text of a coordinate: an atom. One that is checked and used gets a variable."""
    if isinstance(c, Var | Num) or not variables(c):
        return ctx.integer(c, place.leaf, 9)
    if not checked:
        return f"({ctx.integer(c, place.leaf)})"
    text = ctx.integer(c, place.leaf)
    name = ctx.names.new(hint)
    ctx.out.line(f"{name} = {text}")
    return name


def _term(
    ctx: Context, tensor: str, text: str, c: Expr, inner: tuple[Expr, ...], size: Expr
) -> list[str]:
    """What a coordinate adds to the pointer: itself times its stride."""
    if c == Num(0):
        return []
    stride = _product(inner)
    reach = _extent(ctx, (size, *inner))
    if reach > _INT32_MAX:
        text = f"tl.cast({text}, tl.int64)"
    if stride == Num(1):
        return [text[1:-1] if text[0] == "(" and _plus_only(c) else text]
    return [f"{text} * {ctx.integer(stride, level=5)}"]


def _plus_only(c: Expr) -> bool:
    """Whether an expression reads the same without parentheses at the end of a sum."""
    return isinstance(c, Bin) and c.op in ("*", "//", "%")


def _extent(ctx: Context, sizes: Sequence[Expr]) -> int:
    """Most elements that these dimensions can have together."""
    total = 1
    for e in sizes:
        p = ctx.bounds.exact(e)
        total *= 2**63 if p is None else max(1, ctx.bounds.largest(p))
    return total


def _product(sizes: Sequence[Expr]) -> Expr:
    """Product of sizes, numbers multiplied out."""
    number, rest = 1, None
    for e in sizes:
        if isinstance(e, Num) and isinstance(e.value, int):
            number *= e.value
        else:
            rest = e if rest is None else Bin("*", rest, e)
    if rest is None:
        return Num(number)
    return rest if number == 1 else Bin("*", rest, Num(number))


def _range_mask(
    ctx: Context, place: _Placement, axis: Axis, plain_limits: dict[str, Poly | None]
) -> str:
    """The condition that keeps to an index tile's live range, or to a padded tile's own lanes."""
    if not axis.index:
        lanes = power_of_two(axis.size)
        if lanes == axis.size:
            return ""
        at = next(i for i, a in enumerate(place.axes) if a is axis)
        return f"(tl.arange(0, {lanes}) < {axis.size}){index_suffix([at], place.rank)}"
    index = ctx.indices[axis.index]
    if not index.masked:
        return ""
    limit = plain_limits.get(axis.index)
    hi = ctx.env[axis.index].hi
    shorter = ctx.bounds.at_most(limit, hi) and not ctx.bounds.at_most(hi, limit)
    if shorter and not index.padded:
        return ""  # the tensor ends inside the loop's range: its own check is enough
    return index.ask("mask") + place.suffix(axis.index)
