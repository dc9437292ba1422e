"""The examples that the paper prints, exactly: op, derived program and shipped kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ke_ir.evaluate import evaluate_op
from ke_ir.interpret import interpret_program
from tests.recommendation.cases import Arrays, Sizes, derived, op_of, shipped

Compute = Callable[[str, Sizes, Arrays], Arrays]


def by_op(name: str, sizes: Sizes, inputs: Arrays) -> Arrays:
    return evaluate_op(op_of(name), sizes, inputs)


def by_derived(name: str, sizes: Sizes, inputs: Arrays) -> Arrays:
    return interpret_program(derived(name), derived(name).programs[name], sizes, inputs)


def by_shipped(name: str, sizes: Sizes, inputs: Arrays) -> Arrays:
    return interpret_program(shipped(name), shipped(name).programs[name], sizes, inputs)


pytestmark = pytest.mark.parametrize("compute", [by_op, by_derived, by_shipped])


def test_map_id(compute: Compute) -> None:
    inputs = {
        "ids": np.array([100, 300, 500, 200, 999]),
        "map": np.array([100, 200, 300, 400, 500]),
    }
    assert compute("map_id", {"N": 5, "M": 5}, inputs)["y"].tolist() == [1, 3, 5, 2, 0]


BORDERS = np.array([[0.3, 0.6], [0.4, 0.7]], np.float32)
OFFSETS = np.array([0, 3], np.int32)


def test_mbdt(compute: Compute) -> None:
    x = np.array([[0.1, 0.4, 0.8], [0.2, 0.5, 0.9]], np.float32)
    inputs = {"x": x, "borders": BORDERS, "offsets": OFFSETS}
    assert compute("mbdt", {"F": 2, "B": 3, "K": 2}, inputs)["y"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_mbdt_puts_a_border_in_the_bucket_below(compute: Compute) -> None:
    inputs = {"x": BORDERS, "borders": BORDERS, "offsets": OFFSETS}
    assert compute("mbdt", {"F": 2, "B": 2, "K": 2}, inputs)["y"].tolist() == [[0, 1], [3, 4]]


OUTER, INNER = [3, 4, 1], [1, 0, 2, 0, 3, 1, 1, 1]


@pytest.mark.parametrize(("events", "values"), [(5, 5), (8, 9), (13, 7)])
def test_batch_event_truncate(compute: Compute, events: int, values: int) -> None:
    """With just the room that is needed, with that of the inputs, and with more."""
    inputs = {
        "limit": np.array([2], np.int32),
        "outer": np.array([OUTER], np.int32),
        "inner": np.array(INNER, np.int32),
        "values": np.arange(1, 10),
    }
    sizes = {"F": 1, "B": 3, "E": 8, "V": 9, "P": events, "Q": values}
    got = compute("batch_event_truncate", sizes, inputs)
    assert got["outer_out"].tolist() == [[2, 2, 1]]
    assert got["inner_out"].tolist() == [1, 0, 0, 3, 1] + [0] * (events - 5)
    assert got["values_out"].tolist() == [1, 4, 5, 6, 9] + [0] * (values - 5)
