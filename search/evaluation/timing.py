"""The time stage: how long the program takes, of what kind the figure is, and its roofline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.evaluation.reference import legal_inputs
from search.evaluation.roofline import OpCost, op_cost, roofline
from search.evaluation.verdict import Baseline, Outcome, Roofline, StageResult, Timing
from targets.base import Presence, RunFailed

if TYPE_CHECKING:
    from search.evaluation.numbers import Subject
    from targets.base import HardwareSpec, Knobs, Target

_SLACK = 1.02
"""A device's clock and memory may be a little better than the figures its peaks come from."""


def check_time(
    subject: Subject, target: Target, knobs: Knobs, baseline: str
) -> tuple[StageResult, Timing | None, Roofline | None, tuple[Baseline, ...]]:
    """Time at the full size; on a device beside PyTorch in the same run.

    ``baseline`` is a Python file or empty. What is computed once per set of weights is reported
    beside the time and is no part of it or of the roofline fraction. A time below the op's floor
    fails the candidate: such a figure is a fault of the measurement, whatever its kind. Raises
    TargetError as the target's ``time`` does.
    """
    timing, baselines, notes = _timed(subject, target, knobs, baseline)
    once = float(timing.detail.get("once_seconds", 0.0))
    bound = None
    if subject.op is not None:
        bound = _roofline(op_cost(subject.op, subject.full), target.spec, subject, timing.seconds)
        if bound.floor_seconds > _SLACK * (timing.seconds + once):
            reason = (
                f"{timing.kind.value} time {timing.seconds:.3g} s is below the roofline of "
                f"{bound.floor_seconds:.3g} s on {timing.on}: the figure cannot be right"
            )
            return StageResult("time", Outcome.FAILED, reason), None, bound, baselines
    reason = f"{timing.kind.value} on {timing.on}" + "".join(f"; {note}" for note in notes)
    return StageResult("time", Outcome.PASSED, reason), timing, bound, baselines


def _timed(
    subject: Subject, target: Target, knobs: Knobs, baseline: str
) -> tuple[Timing, tuple[Baseline, ...], list[str]]:
    module, program, full = subject.module, subject.program, subject.full
    measure: Any = getattr(target, "measure", None)
    if measure is None or target.availability().presence is not Presence.HERE:
        timing = target.time(module, program, knobs, full)
        made_up = timing.detail.get("made_up")
        return timing, (), [f"with made-up values of {made_up}"] if made_up else []
    inputs = legal_inputs(program, subject.op, full, seed=0, distribution="normal")
    path = Path(baseline) if baseline else None
    found = measure(module, program, knobs, full, inputs, baseline=path)
    if found.fault:
        raise RunFailed("the measured time is impossible", found.fault)
    notes = [f"{name}: {reason}" for name, reason in found.failures.items()]
    baselines = tuple(Baseline(name, timing) for name, timing in found.baselines.items())
    return found.timing, baselines, notes


def _roofline(cost: OpCost, spec: HardwareSpec, subject: Subject, seconds: float) -> Roofline:
    """Against the fastest of the formats that the kernel multiplies in."""
    formats = subject.precision.formats or (("f32", 1),)
    candidates = [roofline(cost, spec, name, parts, seconds) for name, parts in formats]
    return min(candidates, key=lambda r: r.floor_seconds)
