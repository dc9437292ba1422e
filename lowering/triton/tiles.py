"""Which loop variable each dimension of a value runs along, so that shapes read ``BLOCK_M``.

Dimensions that must agree (operands of one op, a carried value and its start) are joined; a load,
a store or an ``iota`` tells which index tile they are.
"""

from __future__ import annotations

from collections.abc import Iterable

from ke_ir.ir import For, Kernel, LoopVar, Parallel, Yield
from ke_ir.ops.arith import Binary, Cast, Cmp, Select, Unary
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.ops.memory import Accumulate, Iota, Load, Store
from ke_ir.ops.shape import Broadcast, Dot, Expand, Permute, Reduce, Scan
from ke_ir.scope import TypeScope

_Slot = tuple[str, int]


class Tiles:
    """The index tiles behind the dimensions of every value of a kernel, by name."""

    def __init__(self, kernel: Kernel) -> None:
        self._parent: dict[_Slot, _Slot] = {}
        self._label: dict[_Slot, LoopVar] = {}
        self._scope = TypeScope(kernel)
        self._walk(kernel.body)

    def of(self, name: str, dim: int) -> LoopVar | None:
        """The loop variable that a dimension of a value runs along, if one is known."""
        return self._label.get(self._root((name, dim)))

    def _root(self, s: _Slot) -> _Slot:
        while (up := self._parent.get(s, s)) != s:
            s = up
        return s

    def _join(self, a: _Slot, b: _Slot) -> None:
        a, b = self._root(a), self._root(b)
        if a != b:
            self._parent[a] = b
            if a in self._label:
                self._label.setdefault(b, self._label[a])

    def _name(self, s: _Slot, index: str) -> None:
        self._label.setdefault(self._root(s), self._scope.loops[index])

    def _walk(self, body: Iterable[Stmt]) -> None:
        for s in body:
            if isinstance(s, Op):
                self._scope.define(s)
                self._op(s)
            elif isinstance(s, For | Parallel):
                self._scope.enter(s)
                self._walk(s.body)
                self._scope.leave(s)
                if isinstance(s, For):
                    self._carried(s)

    def _carried(self, s: For) -> None:
        last = s.body[-1] if s.body else None
        yielded = last.values if isinstance(last, Yield) else ()
        for result, (name, init), value in zip(s.results, s.carries, yielded, strict=True):
            for other in (result, init, value):
                self._same(name, other)

    def _rank(self, x: Operand) -> int:
        return self._scope.values[x].rank if isinstance(x, str) else 0

    def _same(self, a: str, b: Operand) -> None:
        """All dimensions of two values agree, but for those of size 1."""
        if not isinstance(b, str):
            return
        pairs = zip(self._scope.values[a].shape, self._scope.values[b].shape, strict=False)
        if self._rank(a) == self._rank(b):
            for i, (m, n) in enumerate(pairs):
                if m == n:
                    self._join((a, i), (b, i))

    def _op(self, op: Op) -> None:
        r = op.result or ""
        if isinstance(op, Load | Store | Accumulate):
            self._access(op, r if isinstance(op, Load) else op.x)
        elif isinstance(op, Iota):
            if self._rank(r):
                self._name((r, 0), op.index)
        elif isinstance(op, Unary | Binary | Cmp | Select | Cast | Scan | Broadcast):
            for x in op.operands():
                self._same(r, x)
        elif isinstance(op, Dot):
            self._dot(op, r)
        elif isinstance(op, Reduce | Expand | Permute):
            self._moved(op, r)

    def _access(self, op: Load | Store | Accumulate, x: Operand) -> None:
        axes = self._scope.access(op.coords)
        if not isinstance(x, str) or self._rank(x) != len(axes):
            return
        for i, a in enumerate(axes):
            if a.index:
                self._name((x, i), a.index)
            elif len(a.tiles) == 1:
                self._join((a.tiles[0], a.tile_dim), (x, i))

    def _dot(self, op: Dot, r: str) -> None:
        rank = self._rank(r)
        if not isinstance(op.a, str) or not isinstance(op.b, str):
            return
        for i in range(rank - 1):
            self._join((op.a, i), (r, i))
        for i in (*range(rank - 2), rank - 1):
            self._join((op.b, i), (r, i))
        self._join((op.a, rank - 1), (op.b, rank - 2))
        if op.acc is not None:
            self._same(r, op.acc)

    def _moved(self, op: Reduce | Expand | Permute, r: str) -> None:
        if not isinstance(op.x, str):
            return
        if isinstance(op, Permute):
            places = {source: i for i, source in enumerate(op.order)}
        elif isinstance(op, Expand):
            places = {i: i + (i >= op.dim) for i in range(self._rank(op.x))}
        else:
            places = {i: i - (i > op.dim) for i in range(self._rank(op.x)) if i != op.dim}
        for source, place in places.items():
            self._join((op.x, source), (r, place))
