"""Numbers at the file's own sizes: one run on the device, against float64 on that device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.evaluation.reference import Case, legal_inputs
from search.evaluation.verdict import FullSize

if TYPE_CHECKING:
    from search.evaluation.numbers import Subject
    from targets.base import Knobs, Target


def check_full_size(
    subject: Subject, target: Target, knobs: Knobs, case: Case, baseline: str
) -> tuple[dict[str, FullSize], str]:
    """Errors by output, and a sentence about them; empty, and why, if nothing can be compared.

    Inputs are drawn as those of ``case``, a smaller one. Raises TargetError as the target's
    ``check_full_size`` does.
    """
    module, program, full = subject.module, subject.program, subject.full
    inputs = legal_inputs(
        program, subject.op, full, 0, "normal", domain=case.domain, scale=case.scale
    )
    path = Path(baseline) if baseline else None
    check: Any = target.check_full_size  # type: ignore[attr-defined]
    found = check(module, program, knobs, full, inputs, baseline=path)
    if "numbers" in found.failures:
        return {}, f"nothing to compare with at full size: {found.failures['numbers']}"
    out = {name: _output(mine, found.baseline_numbers.get(name))
           for name, mine in found.numbers.items()}  # fmt: skip
    said = "; ".join(f"{name} {describe(x)}" for name, x in out.items())
    missing = found.failures.get("numbers of eager")
    more = f"; no numbers of eager PyTorch: {missing}" if missing else ""
    return out, f"at full size against float64 on the same device: {said}{more}"


def _output(mine: Any, eager: Any) -> FullSize:
    return FullSize(
        max_abs_error=mine.max_abs_error,
        relative_error=mine.relative_error,
        allclose=mine.allclose,
        not_finite=mine.not_finite,
        eager_max_abs_error=None if eager is None else eager.max_abs_error,
        eager_relative_error=None if eager is None else eager.relative_error,
        eager_allclose=None if eager is None else eager.allclose,
    )


def describe(x: FullSize) -> str:
    """Both errors of one output, and eager PyTorch's where there are any."""
    wrong = "" if x.allclose else "beyond the benchmark's tolerance, "
    wrong += f"{x.not_finite} elements not finite, " if x.not_finite else ""
    text = f"{wrong}relative error {x.relative_error:.2g}, |error| up to {x.max_abs_error:.2g}"
    if x.eager_relative_error is not None and x.eager_max_abs_error is not None:
        beyond = "beyond it too, " if not x.allclose and x.eager_allclose is False else ""
        text += f" (eager {beyond}{x.eager_relative_error:.2g}, {x.eager_max_abs_error:.2g})"
    return text


def acceptable(found: Mapping[str, FullSize]) -> bool:
    """Whether every output is within the benchmark's tolerance, or as near as eager PyTorch where
    that is beyond it too: then it is the sizes that are beyond the dtype.
    """
    return all(x.allclose or _as_near(x) for x in found.values())


def _as_near(x: FullSize) -> bool:
    if x.not_finite or x.eager_max_abs_error is None or x.eager_relative_error is None:
        return False
    return x.max_abs_error <= x.eager_max_abs_error and x.relative_error <= x.eager_relative_error
