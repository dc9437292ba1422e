"""Tasks that a trivial kernel would pass are flagged; others are not."""

from __future__ import annotations

import pytest

from ke_ir.derive import with_derived
from ke_ir.parser import parse
from search.evaluation.degenerate import degenerate
from search.evaluation.numbers import Subject
from search.evaluation.precision import precision_of


def flagged(text: str) -> str:
    module = with_derived(parse(text))
    program = next(iter(module.programs.values()))
    op = module.ops[program.name]
    return degenerate(Subject(module, program, op, precision_of(module, program, op), {}))


OP = "op @f(x: f32[8, 64]) -> (y: f32[8, 64]) {{ y[i, j] = {rhs} }}"


@pytest.mark.parametrize(
    ("rhs", "why"),
    [
        ("x[i, j] - x[i, j]", "zero"),
        ("x[i, j] * 1e-8", "zero"),
        ("min(max(x[i, j] * 1e9, 1.0), 1.0)", "is 1 everywhere"),
        ("3.0 + x[i, j] * 1e-9 + i", "does not depend on the inputs"),
    ],
)
def test_trivial_tasks(rhs: str, why: str) -> None:
    assert why in flagged(OP.format(rhs=rhs))


@pytest.mark.parametrize("rhs", ["max(x[i, j], 0.0)", "x[i, j] + 100.0", "exp(x[i, j])"])
def test_real_tasks(rhs: str) -> None:
    assert flagged(OP.format(rhs=rhs)) == ""


def test_one_real_output_is_enough() -> None:
    text = ("op @f(x: f32[8]) -> (y: f32[8], z: f32[8]) "
            "{ y[i] = x[i] * 0.0 \n z[i] = x[i] }")  # fmt: skip
    assert flagged(text) == ""
