"""A wrong lowering is caught: each mutation of the emitted text changes the numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ke_ir.interpret import interpret_program
from lowering.mlir.kernel import Knobs
from lowering.mlir.lower import lower_program
from targets.kea.archs import load
from targets.kea.execute import build, simulate
from tests.kea.kea_support import draw, program_of

TEXT = """
kernel @mm(%a: f32[M, K], %b: f32[K, N]) -> (%c: f32[M, N])
dims M = 20, N = 20, K = 20
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
  %s = for %k = 0 to K tile 8 carry (%acc = full 0.0 : f32[16, 16]) {
    %x = load %a[%m, %k] : f32[16, 8]
    %y = load %b[%k, %n] : f32[8, 16]
    yield dot %x, %y, %acc
  }
  store %s, %c[%m, %n]
} }
"""


def _swap_bases(text: str) -> str:
    """A wrong index: the coordinates of the first load in the other order."""
    return re.sub(r'("kea.load"\(%x, %a), (%\w+), (%\w+)', r"\1, \3, \2", text, count=1)


def _drop_limit(text: str) -> str:
    """A wrong mask: the store also writes what lies past the loop's range."""
    return text.replace("steps = array<i64: 1, 0, 0, 1>", "steps = array<i64: 1, 0, 1, 0>", 1)


def _wrong_start(text: str) -> str:
    """A wrong start of the accumulator."""
    return text.replace("value = 0.0 : f64", "value = 1.0 : f64", 1)


def _pad(text: str) -> str:
    """A wrong value outside the tensor."""
    return text.replace("pad = 0.0 : f64", "pad = 1.0 : f64")


def _forget(text: str) -> str:
    """An accumulation that starts over in each iteration."""
    return text.replace("accumulate = true", "accumulate = false", 1)


def off(mutate: Callable[[str], str]) -> float:
    """Largest difference from the float64 meaning, with the text changed by ``mutate``."""
    module, program = program_of(TEXT)
    dims, arch = program.sizes(), load("kea2")
    inputs = draw(program, dims, {})
    lowered = lower_program(module, program, Knobs(), dims, arch.spec.local_bytes)
    arrays = {**{n: x.copy() for n, x in inputs.items()}, "c": np.zeros((20, 20), np.float32)}
    exe = build(replace(lowered, text=mutate(lowered.text)))
    simulate(exe, arch.config, dims, arrays)
    want = interpret_program(module, program, dims, inputs)["c"]
    return float(np.abs(arrays["c"] - want).max())


def test_unchanged_text_is_right() -> None:
    assert off(lambda text: text) < 1e-5


@pytest.mark.parametrize("mutate", [_swap_bases, _drop_limit, _wrong_start, _pad, _forget])
def test_mutation_changes_the_numbers(mutate: Callable[[str], str]) -> None:
    assert off(mutate) > 1e-2
