"""What the analytic models of targets say of a candidate before anything is compiled or run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from targets.base import TargetError
from targets.registry import find_target, knobs_for

if TYPE_CHECKING:
    from ke_ir.ir import Module

_REFUSED = math.log(1e3)
"""Added to the logarithm of the time for a target that refuses the candidate."""


def estimates(
    module: Module, program: str, targets: Sequence[str], dims: Mapping[str, int]
) -> dict[str, float]:
    """Seconds by target; one that refuses the candidate is left out."""
    entry = module.programs[program]
    sizes = entry.sizes(dims)
    found = {}
    for name in targets:
        target = find_target(name)
        try:
            timing = target.estimate(module, entry, knobs_for(target, module, entry), sizes)
        except TargetError:
            continue
        found[name] = timing.seconds
    return found


def log_cost(
    found: Mapping[str, float], targets: Sequence[str], weights: Mapping[str, float]
) -> float:
    """Weighted mean of the logarithms of the seconds. Only differences between candidates tell."""
    total = sum(weights.get(t, 1.0) for t in targets)
    if not total:
        return 0.0
    logs = (
        weights.get(t, 1.0) * (math.log(found[t]) if found.get(t, 0.0) > 0 else _REFUSED)
        for t in targets
    )
    return sum(logs) / total
