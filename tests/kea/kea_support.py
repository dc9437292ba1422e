"""Runs a KE-IR text on the simulator and through the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ke_ir.interpret import interpret_program
from ke_ir.ir import Module, Program
from ke_ir.parser import parse
from ke_ir.types import DType
from ke_ir.verify import check
from targets.base import Timing
from targets.kea.target import KeaTarget

Arrays = dict[str, np.ndarray[Any, Any]]


def program_of(text: str) -> tuple[Module, Program]:
    """The last program of a module."""
    module = check(parse(text))
    return module, list(module.programs.values())[-1]


def draw(program: Program, sizes: Mapping[str, int], given: Mapping[str, Any]) -> Arrays:
    rng = np.random.default_rng(0)
    out: Arrays = {}
    for p in program.inputs:
        shape, dtype = p.type.sizes(dict(sizes)), p.type.dtype
        if p.name in given:
            out[p.name] = np.asarray(given[p.name], dtype.numpy())
        elif dtype.is_float:
            out[p.name] = rng.standard_normal(shape).astype(dtype.numpy())
        else:
            out[p.name] = rng.integers(0, 3, shape).astype(dtype.numpy())
    return out


def both(
    text: str,
    sizes: Mapping[str, int] | None = None,
    given: Mapping[str, Any] | None = None,
    knobs: Mapping[str, int | str | bool] | None = None,
    arch: str = "kea2",
) -> tuple[Arrays, Arrays]:
    """Outputs of the simulator and of the interpreter (as typed), as float64 or integers."""
    module, program = program_of(text)
    dims = program.sizes(sizes)
    inputs = draw(program, dims, given or {})
    got = KeaTarget(arch).run(module, program, knobs or {}, dims, inputs).outputs
    want = interpret_program(module, program, dims, inputs, exact=False)
    return dict(got), dict(want)


def agree(got: Arrays, want: Arrays, program: Program) -> None:
    """Assert that outputs agree to a few units in the last place of their dtype."""
    for p in program.outputs:
        g, w = got[p.name], want[p.name]
        assert g.shape == w.shape and g.dtype == p.type.dtype.numpy()
        if not p.type.dtype.is_float:
            np.testing.assert_array_equal(g, w)
            continue
        # Sums are taken in another order: a few roundings of f32, and one of the output.
        ulp = max(p.type.dtype.unit_roundoff, 0.0 if p.type.dtype is DType.F64 else 2.0**-20)
        x, y = g.astype(np.float64), w.astype(np.float64)
        np.testing.assert_allclose(x, y, rtol=4 * ulp, atol=4 * ulp * float(np.abs(y).max()))


def simulated(
    text: str, sizes: Mapping[str, int] | None = None, arch: str = "kea2", **knobs: int | str | bool
) -> Timing:
    module, program = program_of(text)
    return KeaTarget(arch).time(module, program, knobs, program.sizes(sizes))
