"""The numbers stage: what the compiled kernel gives, against the float64 reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.rounding import rounding_of
from search.evaluation.compare import Comparison, capped, compare, worse
from search.evaluation.full_size import acceptable, check_full_size
from search.evaluation.inputs import DISTRIBUTIONS
from search.evaluation.reference import Case, error_bounds, make_case
from search.evaluation.sizes import Sizes, edge_sizes, reduce_sizes
from search.evaluation.verdict import Numbers, Outcome, StageResult
from search.evaluation.work import DEVICE, INTERPRETED, SIMULATED, Checker, program_work
from targets.base import Presence

if TYPE_CHECKING:
    from ke_ir.ir import Module, OpDef, Program
    from search.evaluation.precision import Precision
    from targets.base import Knobs, RunResult, Target

    Array = np.ndarray[Any, Any]

_EDGE_SHARE = 3
_STATIC_SHARE = 0.05
"""How much of the budget may be spent on keeping the sizes that are compiled into the code."""
_SEEDS = {"normal": 0, "uniform": 1, "mixed": 2}


@dataclass(frozen=True)
class Subject:
    """What is being evaluated: a program of a module, its op, and the precision it computes in."""

    module: Module
    program: Program
    op: OpDef | None
    precision: Precision
    given: Mapping[str, int]

    @property
    def full(self) -> Sizes:
        """Sizes of all dims, as the file and the command say."""
        return self.program.sizes(self.given)


def checker_for(target: Target) -> Checker:
    """What will run the kernel on this machine."""
    if target.availability().presence is not Presence.HERE:
        return INTERPRETED
    return DEVICE if hasattr(target, "measure") else SIMULATED


def check_numbers(
    subject: Subject, target: Target, knobs: Knobs, static_full: bool, baseline: str = ""
) -> tuple[StageResult, Numbers | None]:
    """Run on several inputs and edge sizes; each element must lie within its error bound.

    On a device also once at the file's own sizes, against float64 there, beside ``baseline`` (a
    Python file; empty for the op in plain PyTorch). ``static_full``: dims that are not ranges keep
    their size, because the kernel holds them as numbers. Raises TargetError as the target's ``run``
    does.
    """
    checker = checker_for(target)
    base = _base_sizes(subject, checker, static_full)
    worst, established, note = Comparison(0.0, 0.0, 0.0), None, ""
    sizes: list[Sizes] = []
    first: Case | None = None
    for case in _cases(subject, base, checker):
        first = first or case
        if case.sizes not in sizes:
            sizes.append(dict(case.sizes))
        result = _run(subject, target, knobs, case)
        established, note = result.established, result.note
        found = compare(subject.program, result.outputs, case.expected, _allowed(subject, case))
        worst = worse(worst, found)
        if not found.passed:
            return _wrong(subject, case, found, result, base), None
    assert established is not None and first is not None
    numbers = Numbers(
        established=established,
        sizes=tuple(sizes),
        reduced=base != subject.full,
        worst_ratio=worst.worst_ratio,
        worst_error=worst.worst_error,
        allowed=worst.allowed,
        note=note,
    )
    said = _say(numbers, subject)
    if checker is DEVICE and subject.op is not None:
        full_size, why = check_full_size(subject, target, knobs, first, baseline)
        numbers = replace(numbers, full_size=full_size)
        said = f"{said}; {why}"
        if not acceptable(full_size):
            return StageResult("numbers", Outcome.FAILED, why), None
    return StageResult("numbers", Outcome.PASSED, said), numbers


def _base_sizes(subject: Subject, checker: Checker, static_full: bool) -> Sizes:
    module, program, full = subject.module, subject.program, subject.full
    base = reduce_sizes(
        module, program, full, lambda s: checker.affords(program_work(module, program, s))
    )
    static = program.sizes({d.name: (base if d.is_range else full)[d.name] for d in program.dims})
    # At its own static sizes it is the compiled code of the other stages that is checked.
    cheap = checker.seconds(program_work(module, program, static))
    if static_full or cheap <= _STATIC_SHARE * checker.budget_seconds:
        return static
    return base


def _cases(subject: Subject, base: Sizes, checker: Checker) -> Iterator[Case]:
    module, program, op = subject.module, subject.program, subject.op
    for distribution in DISTRIBUTIONS:
        yield make_case(module, program, op, base, _SEEDS[distribution], distribution)
    for sizes in edge_sizes(module, program, base):
        work = program_work(module, program, sizes)
        if checker.seconds(work) <= _EDGE_SHARE * checker.budget_seconds:
            yield make_case(module, program, op, sizes, len(DISTRIBUTIONS), "normal")


def _run(subject: Subject, target: Target, knobs: Knobs, case: Case) -> RunResult:
    """Run on copies. Raises RunFailed when an input has changed afterwards."""
    from targets.base import RunFailed

    given = {name: x.copy() for name, x in case.inputs.items()}
    result = target.run(subject.module, subject.program, knobs, case.sizes, given)
    for name, x in case.inputs.items():
        if given[name].tobytes() != x.tobytes():
            raise RunFailed(f"input {name} was changed by the kernel")
    return result


def _allowed(subject: Subject, case: Case) -> dict[str, Array]:
    """The bound on |error| of each output element."""
    program = subject.program
    if subject.op is None:
        infinite = {p.name: np.full(case.expected[p.name].shape, np.inf) for p in program.outputs}
        bounds = infinite  # no op, no analysis: the benchmark's tolerance alone
    else:
        rounding = rounding_of(subject.module, program)
        bounds = error_bounds(subject.op, case, rounding)
    return {
        p.name: capped(bounds[p.name], case.expected[p.name], p.type.dtype) for p in program.outputs
    }


def _wrong(
    subject: Subject, case: Case, found: Comparison, result: RunResult, base: Sizes
) -> StageResult:
    dims = ", ".join(f"{k}={v}" for k, v in case.sizes.items())
    reason = f"{found.describe()}, {result.established.value}, {case.describe()}, {dims}"
    detail = {"worst_ratio": found.worst_ratio, "sizes": dict(case.sizes)}
    return StageResult("numbers", Outcome.FAILED, reason, detail=detail)


def _say(numbers: Numbers, subject: Subject) -> str:
    dims = ", ".join(f"{k}={v}" for k, v in numbers.sizes[0].items())
    size = f"reduced size {dims}" if numbers.reduced else "full size"
    more = f" and {len(numbers.sizes) - 1} edge sizes" if len(numbers.sizes) > 1 else ""
    against = "" if subject.op is not None else "; no op: against the kernel's float64 meaning"
    return (
        f"{numbers.established.value} at {size}{more}, worst error "
        f"{numbers.worst_ratio:.2f} of its bound{against}"
    )
