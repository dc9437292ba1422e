"""Recurrences, step by step: each step is one evaluation over all other indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ke_ir.evaluate_values import Array, Env, Val
from ke_ir.ranges import EquationRanges
from ke_ir.recurrence import Recurrence

if TYPE_CHECKING:
    from ke_ir.evaluate import Evaluator


def recur(ev: Evaluator, recurrence: Recurrence, equations: Sequence[EquationRanges]) -> None:
    """Evaluate the equations of a recurrence; their values join the evaluator's tensors."""
    states = [_State(ev, recurrence, eq) for eq in equations]
    lo, hi = states[0].env.ranges[recurrence.index]
    steps = range(lo, hi)
    for step in steps if recurrence.step > 0 else reversed(steps):
        for s in states:
            s.evaluate(step)


class _State:
    """The values of one equation so far."""

    def __init__(self, ev: Evaluator, recurrence: Recurrence, eq: EquationRanges) -> None:
        self.ev, self.eq, self.index = ev, eq, recurrence.index
        self.env: Env = ev.around(eq)
        self.kept: dict[int, Val] = {}
        self.at = recurrence.place(eq.equation.target)
        # Before its first step it is only asked for what lies outside: its shape is enough.
        self.data: Array = np.broadcast_to(np.False_, self.env.shape(eq.outer))
        self.err: Array | None = None
        ev.tensors[eq.equation.target] = Val(eq.outer, self.data)

    def evaluate(self, step: int) -> None:
        """One step, all other indices at once."""
        self.ev.current, self.ev.kept = self.eq.ranges, self.kept
        v = self.ev.part(self.eq, self.env.narrow(self.index, step, step + 1))
        place = (slice(None),) * self.at + (slice(step, step + 1),)
        self.data = _room(self.data, v.data)
        self.data[place] = v.data
        if v.err is not None:
            self.err = _room(np.zeros(self.data.shape, v.err.dtype) if self.err is None
                             else self.err, v.err)  # fmt: skip
            self.err[place] = v.err
        self.ev.tensors[self.eq.equation.target] = Val(self.eq.outer, self.data, self.err)


def _room(held: Array, new: Array) -> Array:
    """An array of the shape held that takes new values as they are."""
    if not held.flags.writeable:
        return np.zeros(held.shape, new.dtype)
    kind = np.result_type(held, new)
    return held if held.dtype == kind else held.astype(kind)
