"""Recurrences in which each place goes its own way: one kernel, whose loop carries the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ke_ir.derive.builder import Val
from ke_ir.derive.node import Node, before
from ke_ir.derive.reductions import Accumulator, Nest
from ke_ir.expr import Num, Reduce
from ke_ir.ir import LoopVar
from ke_ir.types import DType


class States(Accumulator):
    """The values of one recurrence. ``then`` gets them, step by step, inside the loop."""

    def __init__(
        self, nest: Nest, nodes: Sequence[Node], then: Callable[[list[Val]], None]
    ) -> None:
        self.k, self.nodes, self.then = nest, nodes, then
        self.e = Reduce("sum", (), Num(0))
        # A value that no step asks for again is not carried.
        self.carried = [n for n in nodes if n.state is not None and n.state.start is not None]

    def probe(self, loops: Sequence[LoopVar]) -> None:
        """Dtypes are known already, and every value has all the axes."""

    def start(self) -> list[Val]:
        out = []
        for n in self.carried:
            assert n.state is not None and n.state.start is not None
            out.append(self.whole(n, self.k.value(n.state.start)))
        return out

    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        values = self.k.values
        for n, v in zip(self.carried, carried, strict=True):
            values[before(n.name)] = v
        for n in self.nodes:
            values[n.name] = self.whole(n, self.k.value(n.expr))
        self.then([values[n.name] for n in self.nodes])
        return [values[n.name] for n in self.carried]

    def whole(self, n: Node, v: Val) -> Val:
        """A value of the state's dtype, over all the axes."""
        b, dtype = self.k.b, n.state.dtype if n.state is not None else None
        assert isinstance(dtype, DType)
        return b.spread(b.cast(v, dtype), b.ordered(b.tiles))

    def finish(self, carried: list[Val]) -> Val:
        self.ends = {n.name: v for n, v in zip(self.carried, carried, strict=True)}
        return carried[0]

    def last(self, name: str) -> Val:
        """What a carried value is after the last step."""
        return self.ends[name]
