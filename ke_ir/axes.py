"""Axes: which loop each dimension of each value of a kernel stems from.

Two dimensions are on one axis when a change of the size of one forces the same change on the other:
a loop variable's tile, the tiles loaded with it, all that is computed from these element by
element, what is carried beside them. ``resized`` makes that change. Names must be unique within
the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Dot,
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
from ke_ir.scope import Axis, TypeScope
from ke_ir.types import TileType

AxisId = int


class Axes:
    """The axes of one kernel. Take it from ``find_axes``."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.scope = TypeScope(kernel)
        self._parent: list[int] = []
        self._one: list[bool] = []
        """For a root: all its dimensions were inserted with size 1, to stretch."""
        self._dims: dict[str, tuple[int, ...]] = {}
        self._loop: dict[str, int] = {}
        self._pins: list[tuple[int, str]] = []
        self._combined: list[tuple[int, Reduce | Scan | Dot]] = []
        self._block(kernel.body)

    # Asking

    def of(self, value: str) -> tuple[AxisId, ...]:
        """The axis of each dimension of a value."""
        return tuple(map(self._find, self._dims[value]))

    def of_loop(self, var: str) -> AxisId | None:
        """The axis of a tiled loop variable; None for an untiled one."""
        node = self._loop.get(var)
        return None if node is None else self._find(node)

    def loops(self, axis: AxisId) -> tuple[str, ...]:
        """Loop variables whose tiles lie along this axis."""
        return tuple(n for n, node in self._loop.items() if self._find(node) == axis)

    def pinned(self, axis: AxisId) -> str:
        """Why the size of this axis cannot change; empty if it can."""
        return next((why for node, why in self._pins if self._find(node) == axis), "")

    def combined(self, axis: AxisId) -> tuple[Reduce | Scan | Dot, ...]:
        """Ops that combine elements along this axis (for ``dot`` the inner one), in order."""
        return tuple(op for node, op in self._combined if self._find(node) == axis)

    def position(self, value: Operand, axis: AxisId | None) -> int | None:
        """Which dimension of a value lies along an axis; None if none does."""
        if not isinstance(value, str) or value not in self._dims:
            return None
        found = self.of(value)
        return found.index(axis) if axis in found else None

    # Building

    def _find(self, a: int) -> int:
        parent = self._parent
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        return a

    def _union(self, a: int, b: int) -> None:
        a, b = self._find(a), self._find(b)
        if a != b:
            self._parent[b] = a
            self._one[a] = self._one[a] and self._one[b]

    def _node(self, one: bool = False) -> int:
        self._parent.append(len(self._parent))
        self._one.append(one)
        return self._parent[-1]

    def _new(self, t: TileType) -> tuple[int, ...]:
        return tuple(self._node() for _ in t.shape)

    def _unify(self, a: Sequence[int], b: Sequence[int]) -> None:
        for x, y in zip(a, b, strict=True):
            self._union(x, y)

    def _get(self, x: Operand | None) -> tuple[int, ...]:
        return self._dims[x] if isinstance(x, str) else ()

    def _block(self, body: Iterable[Stmt]) -> Yield | None:
        end = None
        for s in body:
            if isinstance(s, Op):
                t = self.scope.define(s)
                nodes = self._op(s, t)
                if s.result is not None:
                    self._dims[s.result] = nodes
            elif isinstance(s, For | Parallel):
                self._enter(s)
            elif isinstance(s, Yield):
                end = s
        return end

    def _enter(self, s: For | Parallel) -> None:
        for v in (s.var,) if isinstance(s, For) else s.vars:
            if v.tile is not None:
                self._loop[v.name] = self._node()
        self.scope.enter(s)
        if isinstance(s, For):
            for name, init in s.carries:
                self._dims[name] = self._get(init)
        end = self._block(s.body)
        if isinstance(s, For):
            for (name, _), x, r in zip(
                s.carries, end.values if end else (), s.results, strict=True
            ):
                self._unify(self._dims[name], self._get(x))
                self._dims[r] = self._dims[name]
        self.scope.leave(s)

    def _op(self, op: Op, t: TileType | None) -> tuple[int, ...]:
        match op:
            case Unary() | Binary() | Cmp() | Select() | Cast():
                assert t is not None
                return self._elementwise(op.operands(), t.shape)
            case Load():
                return self._access(self.scope.access(op.coords))
            case Store() | Accumulate():
                if (nodes := self._get(op.x)) != ():
                    self._unify(self._access(self.scope.access(op.coords)), nodes)
                return ()
            case Iota(index=i):
                return (self._loop[i],) if i in self._loop else ()
            case Full(type=t):
                return self._new(t)
            case Broadcast(x=x, type=t):
                if not (nodes := self._get(x)):
                    return self._new(t)
                out = self._new(t)
                self._stretch(nodes, self._shape(x), out, t.shape)
                return out
            case Expand(x=x, dim=dim):
                nodes = self._get(x)
                return (*nodes[:dim], self._node(one=True), *nodes[dim:])
            case Permute(x=x, order=order):
                return tuple(self._get(x)[i] for i in order)
            case Reduce(x=x, dim=dim):
                nodes = self._get(x)
                self._combined.append((nodes[dim], op))
                return (*nodes[:dim], *nodes[dim + 1 :])
            case Scan(x=x, dim=dim):
                nodes = self._get(x)
                self._combined.append((nodes[dim], op))
                return nodes
            case Dot():
                return self._dot(op)
            case Reshape(x=x, type=t):
                return self._reshape(self._get(x), self._shape(x), t.shape)
        return self._opaque(op, t)

    def _opaque(self, op: Op, t: TileType | None) -> tuple[int, ...]:
        """An op kind that says nothing of its dimensions: none of them may change."""
        nodes = () if t is None else self._new(t)
        for n in (*nodes, *(n for x in op.operands() for n in self._get(x))):
            self._pins.append((n, f"`{op.mnemonic}` needs its sizes as they are"))
        return nodes

    def _shape(self, x: Operand) -> tuple[int, ...]:
        t = self.scope.type_of(x)
        return () if t is None else t.shape

    def _elementwise(self, xs: Iterable[Operand], shape: tuple[int, ...]) -> tuple[int, ...]:
        given = [(self._get(x), self._shape(x)) for x in xs]
        given = [(nodes, s) for nodes, s in given if nodes]
        if len(given) == 1:
            return given[0][0]
        out = []
        for i, n in enumerate(shape):
            whole = [nodes[i] for nodes, s in given if s[i] == n]
            if n == 1:
                # What was inserted to stretch does not follow what it stretches along.
                whole = [a for a in whole if not self._one[self._find(a)]] or whole
            for a in whole[1:]:
                self._union(whole[0], a)
            for nodes, s in given:
                if s[i] != n:
                    self._pin_stretched(nodes[i])
            out.append(whole[0])
        return tuple(out)

    def _stretch(
        self, nodes: Sequence[int], shape: Sequence[int], out: Sequence[int], to: Sequence[int]
    ) -> None:
        for a, n, b, m in zip(nodes, shape, out, to, strict=True):
            if n == m:
                self._union(b, a)
            else:
                self._pin_stretched(a)

    def _pin_stretched(self, node: int) -> None:
        if not self._one[self._find(node)]:
            self._pins.append((node, "a tile of size 1 along it is stretched"))

    def _access(self, axes: Sequence[Axis]) -> tuple[int, ...]:
        out = []
        for a in axes:
            if a.index:
                out.append(self._loop[a.index])
                continue
            node = self._node()
            for x in a.tiles:
                nodes, shape = self._get(x), self._shape(x)
                rank = max(len(self._shape(y)) for y in a.tiles)
                i = a.tile_dim - (rank - len(shape))
                if i >= 0:
                    self._stretch(nodes[i : i + 1], shape[i : i + 1], (node,), (a.size,))
            out.append(node)
        return tuple(out)

    def _dot(self, op: Dot) -> tuple[int, ...]:
        a, b = self._get(op.a), self._get(op.b)
        self._unify(a[:-2], b[:-2])
        self._union(a[-1], b[-2])
        self._combined.append((a[-1], op))
        out = (*a[:-1], b[-1])
        if op.acc is not None:
            self._unify(out, self._get(op.acc))
        return out

    def _reshape(
        self, nodes: Sequence[int], old: Sequence[int], new: Sequence[int]
    ) -> tuple[int, ...]:
        """Dimensions that pass through unchanged stay on their axis; others are pinned."""
        why = "`reshape` needs its sizes as they are"
        i, out, j = 0, [self._node(one=n == 1) for n in new], 0
        while i < len(old) or j < len(new):
            if i < len(old) and j < len(new) and old[i] == new[j]:
                out[j] = nodes[i]
                i, j = i + 1, j + 1
            elif i < len(old) and old[i] == 1:
                self._pins.append((nodes[i], why))
                i += 1
            elif j < len(new) and new[j] == 1:
                j += 1
            else:
                self._pins += [(n, why) for n in (*nodes[i:], *out[j:])]
                break
        return tuple(out)


def find_axes(kernel: Kernel) -> Axes:
    """The axes of a verified kernel with unique names. Raises Invalid if its types are wrong."""
    return Axes(kernel)


def resized(axes: Axes, sizes: Mapping[AxisId, int]) -> Kernel:
    """The kernel with these axes at other sizes; its types follow, its meaning may not."""
    return replace(axes.kernel, body=_Resizer(axes, sizes).block(axes.kernel.body))


class _Resizer:
    def __init__(self, axes: Axes, sizes: Mapping[AxisId, int]) -> None:
        self.axes, self.sizes = axes, sizes

    def block(self, body: Iterable[Stmt]) -> tuple[Stmt, ...]:
        return tuple(self.statement(s) for s in body)

    def statement(self, s: Stmt) -> Stmt:
        if isinstance(s, Parallel):
            return replace(s, vars=tuple(map(self.var, s.vars)), body=self.block(s.body))
        if isinstance(s, For):
            return replace(s, var=self.var(s.var), body=self.block(s.body))
        if isinstance(s, Load | Full | Iota | Broadcast | Reshape):
            assert s.result is not None
            found = self.axes.of(s.result)
            if any(a in self.sizes for a in found):
                shape = (self.sizes.get(a, n) for a, n in zip(found, s.type.shape, strict=True))
                return replace(s, type=s.type.with_shape(tuple(shape)))
        return s

    def var(self, v: LoopVar) -> LoopVar:
        axis = self.axes.of_loop(v.name)
        return v if axis is None or axis not in self.sizes else replace(v, tile=self.sizes[axis])
