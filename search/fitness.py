"""Fitness: one number for a candidate on all targets, relative to the root of its search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.graph import Node, Score

_LACKING = math.log(1e-3)
"""Log speed-up of a target on which a candidate fails while it works on others."""


class Geomean:
    """The weighted geometric mean of the speed-ups over the root, as a logarithm.

    Times are compared with the root's of the same kind only. A target on which the root has no
    time (its toolchain is missing) does not count.
    """

    def __init__(
        self,
        reference: Mapping[str, Score],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.reference = {t: s for t, s in reference.items() if s.seconds is not None}
        self.weights = {t: (weights or {}).get(t, 1.0) for t in reference}

    def score(self, node: Node) -> float:
        """Log speed-up; 0 for the root, minus infinity where it is correct on no target."""
        if node.status != "correct":
            return -math.inf
        logs = {}
        for target, ref in self.reference.items():
            mine = node.scores.get(target)
            usable = mine is not None and mine.seconds is not None and mine.kind == ref.kind
            logs[target] = (
                math.log(ref.seconds / mine.seconds)
                if usable and mine is not None and mine.seconds and ref.seconds
                else _LACKING
            )
        return self._mean(logs)

    def estimate(self, estimates: Mapping[str, float]) -> float:
        """The same of the analytic model's seconds, against the root's estimates."""
        logs = {}
        for target, ref in self.reference.items():
            seconds = estimates.get(target)
            known = seconds is not None and seconds > 0 and ref.estimate is not None
            logs[target] = math.log(ref.estimate / seconds) if known else _LACKING  # type: ignore[operator]
        return self._mean(logs)

    def _mean(self, logs: Mapping[str, float]) -> float:
        total = sum(self.weights[t] for t in logs)
        if not total:
            return 0.0
        return sum(self.weights[t] * x for t, x in logs.items()) / total


class BestTarget(Geomean):
    """The largest speed-up on any one target: each target may have a kernel of its own."""

    def _mean(self, logs: Mapping[str, float]) -> float:
        counted = [x for t, x in logs.items() if self.weights[t] > 0]
        return max(counted, default=0.0)


class Pareto(Geomean):
    """Half the geometric mean, half the best target: specialists on the front are kept too."""

    def _mean(self, logs: Mapping[str, float]) -> float:
        counted = [x for t, x in logs.items() if self.weights[t] > 0]
        return 0.5 * super()._mean(logs) + 0.5 * max(counted, default=0.0)
