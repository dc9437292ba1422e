"""Each op means what PyTorch computes, and its kernels mean what the op does, all in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ke_ir.evaluate import evaluate_op
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.types import DType
from tests.ir.derive_check import agree
from tests.recommendation.cases import (
    CASES,
    EXAMPLES,
    Arrays,
    Sizes,
    by_pytorch,
    derived,
    file_of,
    meant,
    op_of,
    shipped,
)

AT = [(name, sizes) for name, case in CASES.items() for sizes in case.sizes]
NAMES = [f"{name}-{'x'.join(map(str, sizes.values()))}" for name, sizes in AT]
at_all_sizes = pytest.mark.parametrize(("name", "sizes"), AT, ids=NAMES)


def assert_meant(name: str, got: Arrays, want: Arrays) -> None:
    """Equal but for the one rounding to the declared dtype, and float64's own."""
    for p in op_of(name).outputs:
        x, y = got[p.name].astype(np.float64), want[p.name].astype(np.float64)
        assert x.shape == y.shape, p.name
        d = p.type.dtype
        near = 2 * d.unit_roundoff if d.is_float else 0.0
        tiny = 2.0**-24 if d is DType.F16 else 0.0  # where f16 is subnormal
        np.testing.assert_allclose(x, y, rtol=near, atol=tiny + 1e-9 * bool(near), err_msg=p.name)


def test_all_files_are_here() -> None:
    files = {p.stem for p in (EXAMPLES / "recommendation").glob("*.ir")}
    assert files == set(CASES) - {"conv1d"}


@pytest.mark.parametrize("name", CASES)
def test_round_trips(name: str) -> None:
    written = parse(file_of(name).read_text())
    assert parse(print_module(written)) == written


@pytest.mark.parametrize("seed", range(3))
@at_all_sizes
def test_op(name: str, sizes: Sizes, seed: int) -> None:
    full = op_of(name).sizes(sizes)
    inputs = CASES[name].inputs(name, full, seed)
    assert_meant(name, evaluate_op(op_of(name), full, inputs), meant(name, inputs, full))


@pytest.mark.parametrize("seed", range(20))
def test_truncation_by_pytorch(seed: int) -> None:
    """The PyTorch function beside it gives as much room as the inputs take."""
    name, sizes = "batch_event_truncate", {"F": 3, "B": 5, "E": 41, "V": 97, "P": 41, "Q": 97}
    inputs = CASES[name].inputs(name, sizes, seed)
    assert_meant(name, meant(name, inputs, sizes), by_pytorch(name, inputs, sizes))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [derived, shipped])
@at_all_sizes
def test_kernels(name: str, sizes: Sizes, make: Callable[[str], Module], seed: int) -> None:
    full = op_of(name).sizes(sizes)
    agree(make(name), full, CASES[name].inputs(name, full, seed))
