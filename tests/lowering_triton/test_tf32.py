"""Products of operands rounded to TF32: how they are rounded, and that they compile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ke_ir.parser import parse
from ke_ir.verify import check
from lowering.triton import Traits
from targets.nvidia.target import NvidiaTarget
from tests.ir.tf32_model import KERNEL, ROUNDED, ROWS, check_product, numbers, operands
from tests.lowering_triton.conftest import MI300, lowered, run_both
from tests.lowering_triton.test_compile import compiles


@pytest.mark.parametrize("precision", ROUNDED)
@given(x=numbers(ROWS), left=st.booleans())
@settings(max_examples=25, deadline=None)
def test_operands_are_rounded_to_the_nearest(precision: str, x: Any, left: bool) -> None:
    module = check(parse(KERNEL.format(precision=precision)))
    ones = np.ones(ROWS, np.float32)
    given_ = operands(x, ones) if left else operands(ones, x)
    got, _ = run_both(module, inputs=lambda sizes, rng: given_)
    check_product(got["y"], x, precision, left)


@pytest.mark.parametrize("arch", NvidiaTarget.archs())
@pytest.mark.parametrize("precision", ROUNDED)
def test_rounded_with_integers_and_multiplied_as_tf32(precision: str, arch: str) -> None:
    module = check(parse(KERNEL.format(precision=precision)))
    traits = NvidiaTarget(arch).traits()
    text = lowered(module, traits=traits)
    # Once defined and called for either operand.
    assert text.count(f"round_{precision}(") == 3 and 'input_precision="tf32"' in text
    ttir = compiles(module, traits)
    assert ttir.count("tt.dot ") == 1 and "inputPrecision = tf32" in ttir
    assert "arith.andi" in ttir


@pytest.mark.parametrize("traits", [MI300], ids=lambda t: t.arch)
def test_where_the_matrix_unit_rounds_otherwise_it_is_written_out(traits: Traits) -> None:
    """Products of rounded operands in full float32: as exact, and slower."""
    module = check(parse(KERNEL.format(precision="tf32_even")))
    assert "dot_tf32_even(" in lowered(module, traits=traits)
    assert "inputPrecision = tf32" not in compiles(module, traits)
