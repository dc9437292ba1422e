"""A problem at sizes that a CPU can check in float64. Used in worker processes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ke_ir.importers.source import Problem
from ke_ir.importers.torch_export import ImportFailure
from search.kernelbench import eager
from search.kernelbench.sizes import (
    Position,
    Sizes,
    asked_sizes,
    elements,
    groups,
    more_samples,
    smaller,
)

_MOST_RUNS = 5
"""Sizes at which the module runs that are looked at for one where float32 is near float64."""
_LARGER = 4
"""How many times the elements of one that was not near the next has."""
_BETTER = 0.5
"""What is left of the error at sizes that are worth taking though they are larger."""


class DoesNotRun(Exception):
    """The module itself fails on its own inputs: why, in one line."""


@dataclass(frozen=True)
class Case:
    """A problem with inputs, and what PyTorch gives for them: in its own dtypes and in float64.

    ``error`` is the largest relative error, in PyTorch's own dtypes, of those outputs and buffers
    that are not within the benchmark's tolerance of float64; zero if all are.
    """

    inputs: tuple[Any, ...]
    own: eager.Given
    exact: eager.Given
    error: float


def reduced(problem: Problem) -> Case:
    """At the smallest sizes at which the module itself runs, weights as they are.

    Rather at those where PyTorch in its own dtypes is within the benchmark's tolerance of float64:
    a normalisation of two elements that nearly agree says nothing of a kernel. Where the problem's
    batch is too small for that, at more and smaller samples than it has; and where nothing is near,
    at the sizes with the least error. Raises DoesNotRun, ImportFailure.
    """
    asked = _asked(problem)
    runs = partial(_runs, problem)
    free = groups(asked, runs)
    tried = _Tried(problem)
    if not tried.near_among(smaller(asked, free)):
        tried.near_among(more_samples(asked, free, runs))
    if tried.best is None:
        raise DoesNotRun(f"{problem.path.name}: the module does not run: {tried.fault}")
    return tried.best


class _Tried:
    """The best of the sizes tried so far, and why the module failed at the last that it did at."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.best: Case | None = None
        self.fault = "no sizes were tried"

    def near_among(self, candidates: Iterable[Mapping[Position, int]]) -> bool:
        """Whether PyTorch in its own dtypes is near float64 at one of the first that run."""
        runs, least = 0, 0
        for chosen in candidates:
            if runs == _MOST_RUNS:
                break
            if elements(chosen) < least:
                continue
            case = self._case(chosen)
            if case is None:
                continue
            if self.best is None or case.error < _BETTER * self.best.error:
                self.best = case
            if not case.error:
                return True
            runs, least = runs + 1, _LARGER * elements(chosen)
        return False

    def _case(self, chosen: Mapping[Position, int]) -> Case | None:
        """The problem at these sizes; None if the module does not run."""
        module = self.problem.module
        try:
            inputs = _inputs(self.problem, chosen)
            # A module may write to its inputs.
            own = eager.run(module, eager.mapped(inputs, torch.clone))
        except Exception as error:
            self.fault = str(error).strip().partition("\n")[0]
            return None
        exact = eager.run_float64(module, inputs, own.draws)
        wrong = [x["relative_error"] for x in eager.errors(own, exact) if not x["allclose"]]
        return Case(inputs, own, exact, max(wrong, default=0.0))


def _runs(problem: Problem, chosen: Mapping[Position, int]) -> bool:
    """Whether the module takes inputs of these sizes, others as they are. Nothing is computed."""
    try:
        try_without_values(problem, chosen)
    except Exception:
        return False
    return True


def try_without_values(
    problem: Problem,
    chosen: Mapping[Position, int] | None = None,
    within: AbstractContextManager[object] | None = None,
) -> None:
    """Run the module ``within`` a context, computing nothing.

    At the ``chosen`` sizes, the problem's own where there are none. Raises what the module raises.
    """
    # In fake mode a module's own buffers are real, and counting batches counts.
    with (
        eager.state_kept(problem.module),
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
    ):
        with Sizes(chosen or {}):
            inputs = problem.draw(problem.seed)
        with within or nullcontext():
            problem.module(*inputs)


def _asked(problem: Problem) -> dict[Position, int]:
    try:
        return asked_sizes(lambda: problem.draw(problem.seed))
    except ImportFailure:
        # What reads values cannot be followed without them.
        sizes = Sizes()
        with sizes:
            problem.draw(problem.seed)
        return sizes.asked


def _inputs(problem: Problem, chosen: Mapping[Position, int]) -> tuple[Any, ...]:
    with Sizes(chosen):
        return problem.draw(problem.seed)


def without_values(problem: Problem) -> tuple[Any, ...]:
    """Inputs at full size that hold no values and take no memory: enough to export with."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return problem.draw(problem.seed)
