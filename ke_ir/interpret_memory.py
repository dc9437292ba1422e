"""Tensor memory of the interpreter: where an access lands, and who wrote which element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ke_ir.diagnostics import Loc
from ke_ir.expr import Expr, variables
from ke_ir.interpret_index import (
    Array,
    Frame,
    Int,
    affine,
    compile_index,
    compile_scalar,
    constant,
)
from ke_ir.numerics import identity
from ke_ir.ops.base import Op
from ke_ir.scope import Axis, TypeScope


class MeaningError(Exception):
    """A kernel that runs but does not mean anything, such as one that writes an element twice.

    ``code`` is stable and short; ``tensor`` and ``index`` name the element and ``loc`` the
    statement, where known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        tensor: str = "",
        index: tuple[int, ...] = (),
        loc: Loc | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.tensor = code, message, tensor
        self.index, self.loc = index, loc


Region = tuple[tuple[int | slice, ...], tuple[slice, ...] | None, bool]
"""Part of a tensor, the part of the tile that maps to it (None: all), and whether it is empty."""


class SliceAccess:
    """Coordinates that are scalars or strided index tiles, each tile in one coordinate only."""

    def __init__(
        self, parts: Sequence[tuple[str, int, Callable[[], int]]], shape: tuple[int, ...],
        sizes: Mapping[str, int], frame: Frame,
    ) -> None:  # fmt: skip
        self.parts = [
            (name, step, rest, size, sizes.get(name, 0))
            for (name, step, rest), size in zip(parts, shape, strict=True)
        ]
        self.shape = tuple(sizes[name] for name, _, _ in parts if name)
        self.tiles = frame.tiles

    def region(self) -> Region:
        where: list[int | slice] = []
        inside: list[slice] = []
        full, empty = True, False
        for name, step, rest, size, tile in self.parts:
            at = rest()
            if not name:
                where.append(at)
                empty = empty or not 0 <= at < size
                continue
            start, stop, _ = self.tiles[name]
            at += start * step
            first = 0 if at >= 0 else -(at // step)
            last = min(stop - start, -((at - size) // step))
            if first >= last:
                first, last, empty = 0, 0, True
            if last - first != tile:
                full = False
            begin = at + first * step
            where.append(slice(begin, max(begin, at + (last - 1) * step + 1), step))
            inside.append(slice(first, last))
        return tuple(where), None if full else tuple(inside), empty

    def load(self, data: Array, fill: Any, dtype: np.dtype[Any]) -> Array:
        where, inside, empty = self.region()
        if inside is None and not empty:
            whole: Array = data[where].astype(dtype, copy=False)
            return whole
        out = np.full(self.shape, fill, dtype)
        if not empty:
            out[inside if inside is not None else ...] = data[where]
        return out

    def targets(self, x: Array, output: Output) -> tuple[Any, Any]:
        """What of ``output`` is written (a basic index), and with what; None if nothing is."""
        where, inside, empty = self.region()
        if empty:
            return None, None
        if inside is not None and np.ndim(x):
            x = x[inside]
        return where, x


class GatherAccess:
    """Any coordinates: each element of the tile is located by its own linear index."""

    def __init__(
        self, coords: Sequence[Expr], axes: tuple[Axis, ...], shape: tuple[int, ...],
        scope: TypeScope, dims: Mapping[str, int], frame: Frame,
    ) -> None:  # fmt: skip
        self.axes, self.frame = axes, frame
        self.shape = tuple(a.size for a in axes)
        self.bases: dict[str, Array] = {
            a.index: np.arange(a.size).reshape(self._at(i, (a.size,)))
            for i, a in enumerate(axes)
            if a.index
        }
        strides = np.cumprod((1, *shape[:0:-1]))[::-1].tolist()
        self.coords: list[tuple[Int, int, int]] = []
        for c, size, stride in zip(coords, shape, strides, strict=True):
            ix = compile_index(c, dims, lambda name: self._leaf(name, scope))
            self.coords.append((constant(ix) if isinstance(ix, int) else ix, size, stride))

    def _at(self, axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``shape`` moved to the given dimension of the tile, sizes 1 around it."""
        return (1,) * axis + shape + (1,) * (len(self.axes) - axis - len(shape))

    def _leaf(self, name: str, scope: TypeScope) -> Int:
        frame = self.frame
        if name in self.bases:
            base = self.bases[name]
            return lambda: base + frame.tiles[name][0]
        if name in scope.loops:
            return lambda: frame.scalars[name]
        tile = scope.values[name].shape
        if not tile:
            return lambda: int(frame.values[name])
        group = [i for i, a in enumerate(self.axes) if name in a.tiles]
        shape = self._at(group[-1] + 1 - len(tile), tile)
        return lambda: frame.values[name].astype(np.int64).reshape(shape)

    def locate(self) -> tuple[Any, Any]:
        """Linear indices and where they are inside (None: everywhere), both of them stretching
        to the tile's shape."""
        linear: Any = 0
        inside: Any = None
        for coordinate, size, stride in self.coords:
            at = np.asarray(coordinate())
            if at.min() < 0 or at.max() >= size:
                ok = (at >= 0) & (at < size)
                inside = ok if inside is None else inside & ok
                at = at.clip(0, max(size - 1, 0))
            linear = linear + at * stride
        for name, base in self.bases.items():
            start, stop, _ = self.frame.tiles[name]
            if stop - start < base.size:
                live = base < stop - start
                inside = live if inside is None else inside & live
        return linear, inside

    def load(self, data: Array, fill: Any, dtype: np.dtype[Any]) -> Array:
        linear, inside = self.locate()
        if not data.size:
            return np.full(self.shape, fill, dtype)
        found = data.reshape(-1).take(linear).astype(dtype, copy=False)
        out: Array = np.broadcast_to(found, self.shape)
        return out if inside is None else np.where(inside, out, dtype.type(fill))

    def targets(self, x: Array, output: Output) -> tuple[Any, Any]:
        linear, inside = self.locate()
        linear = np.broadcast_to(linear, self.shape)
        x = np.broadcast_to(x, self.shape)
        if inside is not None:
            keep = np.broadcast_to(inside, self.shape)
            linear, x = linear[keep], x[keep]
        return np.unravel_index(linear.reshape(-1), output.data.shape), x.reshape(-1)


Access = SliceAccess | GatherAccess


def compile_access(
    coords: Sequence[Expr], shape: tuple[int, ...], scope: TypeScope, dims: Mapping[str, int],
    frame: Frame,
) -> Access:  # fmt: skip
    """The access of one statement; the fast form where the coordinates allow it.

    ``shape`` is the tensor's; ``scope`` knows the loops and values where the statement stands.
    """
    axes = scope.access(coords)
    tiles = frozenset(a.index for a in axes if a.index)
    parts: list[tuple[str, int, Callable[[], int]]] = []
    used = [v for c in coords for v in variables(c) if v in tiles]
    if len(used) == len(tiles) == len(axes):
        for c in coords:
            got = affine(c, tiles, dims)
            if got is None or (got[0] and got[1] < 1):
                break
            parts.append((got[0], got[1], compile_scalar(got[2], dims, frame)))
        else:
            return SliceAccess(parts, shape, {a.index: a.size for a in axes}, frame)
    return GatherAccess(coords, axes, shape, scope, dims, frame)


class Output:
    """An output tensor being written, and for each element the statement that wrote it.

    ``data`` starts as poison (NaN, or the smallest integer), so that what is never written shows.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any],
        rounded: Callable[[Array], Array],
    ) -> None:  # fmt: skip
        self.name, self.rounded = name, rounded
        poison = np.nan if dtype.kind == "f" else identity("max", dtype)
        self.data: Array = np.full(shape, poison, dtype)
        self.writer: Array = np.zeros(shape, np.int16)
        self.statements: list[Op] = []
        self.numbers: dict[int, int] = {}  # of a statement by its identity, from 1
        self.kind = ""

    def declare(self, op: Op, kind: str) -> None:
        """Announce a statement that writes: ``store``, or a kind of accumulation, which starts
        from its identity. All that write one tensor must be of one kind."""
        if self.kind and kind != self.kind:
            raise MeaningError(
                "mixed-writes",
                f"%{self.name} is written by `{_text(self.statements[0])}` and by `{_text(op)}`; "
                "an output is either stored or accumulated in one way",
                tensor=self.name,
                loc=op.loc,
            )
        if not self.kind and kind != "store":
            self.data[...] = identity(kind, self.data.dtype)
        self.kind = kind
        self.statements.append(op)
        self.numbers[id(op)] = len(self.statements)

    def store(self, op: Op, access: Access, x: Array) -> None:
        me = self.numbers[id(op)]
        where, x = access.targets(x, self)
        if where is None:
            return
        before = self.writer[where]
        if np.any(before):
            self._twice(op, where, before)
        self.writer[where] = me
        self.data[where] = x
        if isinstance(access, GatherAccess):
            self._check_distinct(op, where)

    def _check_distinct(self, op: Op, where: Any) -> None:
        """A gathered store may name one element twice by itself."""
        linear = np.ravel_multi_index(where, self.data.shape)
        found, counts = np.unique(linear, return_counts=True)
        if found.size == linear.size:
            return
        at = np.unravel_index(int(found[counts > 1][0]), self.data.shape)
        index = tuple(int(i) for i in at)
        raise MeaningError(
            "written-twice",
            f"element {list(index)} of %{self.name} is written twice by one `{_text(op)}`: its "
            "coordinates name it more than once",
            tensor=self.name,
            index=index,
            loc=op.loc,
        )

    def _twice(self, op: Op, where: Any, before: Array) -> None:
        picked = np.zeros(self.data.shape, bool)
        picked[where] = True
        index = _first(picked & (self.writer != 0))
        other = self.statements[int(self.writer[index]) - 1]
        who = (
            f"again by `{_text(op)}` in another iteration"
            if other is op
            else f"by `{_text(other)}` and by `{_text(op)}`"
        )
        raise MeaningError(
            "written-twice", f"element {list(index)} of %{self.name} is written twice, {who}",
            tensor=self.name, index=index, loc=op.loc,
        )  # fmt: skip

    def accumulate(self, op: Op, access: Access, x: Array, kind: str) -> None:
        me = self.numbers[id(op)]
        where, x = access.targets(x, self)
        if where is None:
            return
        ufunc = {"add": np.add, "min": np.minimum, "max": np.maximum}[kind]
        if isinstance(access, GatherAccess):  # one element may be named several times
            ufunc.at(self.data, where, x)
            self.data[where] = self.rounded(self.data[where])
        else:
            self.data[where] = self.rounded(ufunc(self.data[where], x))
        self.writer[where] = me

    def finish(self, check_nan: bool) -> None:
        """Raise MeaningError for an element that was never written, or that is NaN."""
        if self.kind in ("", "store") and not self.writer.all():
            index = _first(self.writer == 0)
            count = int((self.writer == 0).sum())
            by = ", ".join(f"`{_text(s)}`" for s in self.statements)
            raise MeaningError(
                "never-written",
                f"element {list(index)} of %{self.name} is never written"
                + (f", nor are {count - 1} others" if count > 1 else "")
                + (f"; the tensor is written by {by}" if by else "; no statement writes it"),
                tensor=self.name,
                index=index,
                loc=self.statements[0].loc if self.statements else None,
            )
        if check_nan and self.data.dtype.kind == "f" and np.isnan(self.data).any():
            index = _first(np.isnan(self.data))
            op = self.statements[max(int(self.writer[index]) - 1, 0)]
            raise MeaningError(
                "nan",
                f"element {list(index)} of %{self.name} is NaN, written by `{_text(op)}`, though "
                "no input is NaN",
                tensor=self.name,
                index=index,
                loc=op.loc,
            )


def _text(op: Op) -> str:
    from ke_ir.printer import print_op

    return print_op(op)


def _first(where: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(where)), where.shape))
