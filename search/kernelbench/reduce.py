"""A problem at sizes that a CPU can check in float64. Used in worker processes only."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ke_ir.importers.source import Problem
from ke_ir.importers.torch_export import ImportFailure
from search.kernelbench import eager
from search.kernelbench.sizes import Position, Sizes, asked_sizes, elements, groups, smaller

_MOST_RUNS = 5
"""Sizes at which the module runs that are looked at for one where float32 is near float64."""
_LARGER = 4
"""How many times the elements of one that was not near the next has."""


class DoesNotRun(Exception):
    """The module itself fails on its own inputs: why, in one line."""


@dataclass(frozen=True)
class Case:
    """A problem with inputs, and what PyTorch gives for them: in its own dtypes and in float64."""

    inputs: tuple[Any, ...]
    own: eager.Given
    exact: eager.Given


def reduced(problem: Problem) -> Case:
    """At the smallest sizes at which the module itself runs, weights as they are.

    Rather at those where PyTorch in its own dtypes is within the benchmark's tolerance of float64:
    a normalisation of two elements that nearly agree says nothing of a kernel. Raises DoesNotRun,
    ImportFailure.
    """
    last: Case | None = None
    runs, least, fault = 0, 0, "no sizes were tried"
    asked = _asked(problem)
    free = groups(asked, partial(_runs, problem))
    for chosen in smaller(asked, free):
        if elements(chosen) < least:
            continue
        try:
            inputs = _inputs(problem, chosen)
            # A module may write to its inputs.
            own = eager.run(problem.module, eager.mapped(inputs, torch.clone))
        except Exception as error:
            fault = str(error).strip().partition("\n")[0]
            continue
        case = Case(inputs, own, eager.run_float64(problem.module, inputs, own.draws))
        if eager.allclose(case.own, case.exact):
            return case
        last, runs, least = case, runs + 1, _LARGER * elements(chosen)
        if runs == _MOST_RUNS:
            break
    if last is None:
        raise DoesNotRun(f"{problem.path.name}: the module does not run: {fault}")
    return last


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
