"""The kernels on every target: simulated, under Triton's interpreter, and compiled at full size.

An element may be off by what follows from dtypes and lengths; integers may not be off at all. Where
there is a GPU, the interpreter's part is a run on it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ke_ir.evaluate import evaluate_with_error
from ke_ir.ir import Module
from ke_ir.rounding import rounding_of
from search.evaluation.compare import capped, compare
from targets.base import Presence, Target
from targets.registry import find_target, knobs_for
from tests.recommendation.cases import CASES, derived, meant, op_of, shipped

PROGRAMS = [
    pytest.param(make, name, id=f"{name}-{make.__name__}")
    for name in CASES
    for make in (shipped, derived)
    if make is shipped or shipped(name) != derived(name)
]


def here(name: str) -> Target:
    target = find_target(name)
    if target.availability().presence is Presence.MISSING:
        pytest.skip(target.availability().reason)
    return target


@pytest.mark.parametrize(("make", "name"), PROGRAMS)
@pytest.mark.parametrize("target", ["kea.kea2", "nvidia.sm_90"])
def test_numbers(make: Callable[[str], Module], name: str, target: str) -> None:
    module, op = make(name), op_of(name)
    program = module.programs[name]
    sizes = op.sizes(CASES[name].sizes[0])
    inputs = CASES[name].inputs(name, sizes, 3)
    on = here(target)
    got = on.run(module, program, knobs_for(on, module, program), sizes, inputs).outputs
    want = meant(name, inputs, sizes)
    bounds = evaluate_with_error(op, sizes, inputs, rounding_of(module, program))
    allowed = {
        p.name: capped(bounds[p.name][1], want[p.name], p.type.dtype) for p in program.outputs
    }
    found = compare(program, got, want, allowed)
    assert found.passed, found.describe()
    for p in program.outputs:
        assert got[p.name].dtype == p.type.dtype.numpy()
        assert np.any(got[p.name]), f"{p.name} is all zeros: nothing was checked"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ["nvidia.sm_90", "amd.gfx942"])
def test_compiles(name: str, target: str) -> None:
    """At the sizes of the file, within the limits of the target."""
    module = shipped(name)
    program = module.programs[name]
    on = here(target)
    compiled = on.compile(module, program, knobs_for(on, module, program), program.sizes())
    assert len(compiled.resources) == len({call.kernel for call in program.calls})
    assert all(compiled.binary.values())
    assert not [x for r in compiled.resources.values() for x in r.exceeded]
