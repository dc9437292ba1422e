"""How the simulator rounds operands of a product to TF32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from targets.kea.target import KeaTarget
from tests.ir.tf32_model import KERNEL, ROUNDED, ROWS, check_product, numbers, operands
from tests.kea.kea_support import program_of


@pytest.mark.parametrize("precision", ROUNDED)
@given(x=numbers(ROWS), left=st.booleans())
@settings(max_examples=100, deadline=None)
def test_operands_are_rounded_to_the_nearest(precision: str, x: Any, left: bool) -> None:
    module, program = program_of(KERNEL.format(precision=precision))
    ones = np.ones(ROWS, np.float32)
    inputs = operands(x, ones) if left else operands(ones, x)
    got = KeaTarget().run(module, program, {}, program.sizes({}), inputs).outputs["y"]
    check_product(got, x, precision, left)
