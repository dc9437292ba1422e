"""What an evaluation says: one outcome and reason for each stage, and the figures behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any

from targets.base import Established, Kind, Resources, Timing

STAGES = ("parse", "verify", "meaning", "legal", "compile", "numbers", "time")
"""All stages in order. The first three do not depend on the target."""


class Outcome(StrEnum):
    """How a stage ended. A stage that could not be tried is skipped, never passed."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StageResult:
    """``reason`` is empty only for a stage that passed with nothing to add.

    ``seconds`` is wall-clock time of the stage itself; ``detail`` holds JSON values.
    """

    stage: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAILED


@dataclass(frozen=True)
class FullSize:
    """One output of a run at the file's own sizes, against float64 on the same device.

    ``max_abs_error`` and ``relative_error`` (in the Frobenius norm) are the kernel's, those with
    ``eager_`` PyTorch's on the same inputs (None where that did not run). ``allclose`` and
    ``eager_allclose`` are at the benchmark's tolerance; ``not_finite`` counts the elements that are
    NaN or infinite where the reference is not, and belong to neither error.
    """

    max_abs_error: float
    relative_error: float
    allclose: bool
    not_finite: int = 0
    eager_max_abs_error: float | None = None
    eager_relative_error: float | None = None
    eager_allclose: bool | None = None


@dataclass(frozen=True)
class Numbers:
    """How the compiled kernel's numbers were checked.

    ``sizes`` binds every dim of each size that was checked element by element; ``reduced`` says
    that these are smaller than the file's own. ``full_size`` has what a device gave at those, by
    output; it is empty where that was not tried or could not be compared. ``worst_ratio`` is the
    largest |error| / bound over all elements (<= 1 passes); ``worst_error`` the largest |error|,
    ``allowed`` the bound at the element of ``worst_ratio``.
    """

    established: Established
    sizes: tuple[Mapping[str, int], ...]
    reduced: bool
    worst_ratio: float
    worst_error: float
    allowed: float
    note: str = ""
    full_size: Mapping[str, FullSize] = field(default_factory=dict)

    @property
    def at_full_size(self) -> bool:
        """Whether the file's own sizes were among those that passed."""
        return not self.reduced or (
            bool(self.full_size) and all(x.allclose for x in self.full_size.values())
        )


@dataclass(frozen=True)
class Roofline:
    """The least time that the op's own bytes and operations take on the device's peaks.

    ``fraction`` is ``floor_seconds`` / time, so 1 is perfect. ``bound`` is ``memory`` or
    ``compute``; ``flops`` and ``bytes`` are the op's, not the kernel's.
    """

    floor_seconds: float
    fraction: float
    bound: str
    flops: float
    bytes: int


@dataclass(frozen=True)
class Baseline:
    """A time of PyTorch on the same device in the same run (``name``: eager, torch.compile)."""

    name: str
    timing: Timing


@dataclass(frozen=True)
class Verdict:
    """One candidate on one target.

    ``lower_precision`` names what computes below the op's own dtypes (a choice that is reported,
    never silent). ``degenerate`` says why a trivial kernel would pass this task, or is empty.
    """

    program: str
    target: str
    arch: str
    file: str = ""
    stages: tuple[StageResult, ...] = ()
    numbers: Numbers | None = None
    timing: Timing | None = None
    roofline: Roofline | None = None
    baselines: tuple[Baseline, ...] = ()
    resources: Mapping[str, Resources] = field(default_factory=dict)
    lower_precision: tuple[str, ...] = ()
    degenerate: str = ""

    @property
    def failures(self) -> tuple[StageResult, ...]:
        return tuple(s for s in self.stages if s.failed)

    @property
    def established(self) -> Established | None:
        """How the numbers were established; None when they were not."""
        return self.numbers.established if self.numbers and self.correct else None

    @property
    def correct(self) -> bool:
        """No stage failed, and the numbers were checked and passed."""
        checked = any(s.stage == "numbers" and s.outcome is Outcome.PASSED for s in self.stages)
        return checked and not self.failures

    @property
    def summary(self) -> str:
        """``correct``, ``wrong`` (a stage failed) or ``unknown`` (it could not be judged)."""
        if self.failures:
            return "wrong"
        return "correct" if self.correct else "unknown"

    def with_stages(self, *results: StageResult) -> Verdict:
        """This verdict with more stages at the end."""
        return replace(self, stages=(*self.stages, *results))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only; keys are the field names, and the derived properties."""
        plain: dict[str, Any] = _plain(asdict(self))
        established = self.established
        plain["summary"] = self.summary
        plain["established"] = established.value if established else None
        return plain


def _plain(value: Any) -> Any:
    """Enums by value, tuples as lists, mappings as dicts, infinities and NaN as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value


def skip_rest(done: tuple[StageResult, ...], reason: str) -> Iterator[StageResult]:
    """A skipped result for each stage that has none yet."""
    have = {s.stage for s in done}
    for stage in STAGES:
        if stage not in have:
            yield StageResult(stage, Outcome.SKIPPED, reason)


__all__ = [
    "STAGES", "Baseline", "Established", "Kind", "Numbers", "Outcome", "Roofline", "StageResult",
    "Timing", "Verdict", "skip_rest",
]  # fmt: skip
