"""Reductions in loops that Triton's TritonGPUOptimizeThreadLocality gets wrong are kept from it.

Without that, most of these do not compile, and the others give wrong numbers on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ke_ir.interpret import interpret_program
from ke_ir.ir import Module
from lowering.triton import Traits
from targets.amd.target import AmdTarget
from targets.base import Presence
from targets.gpu.target import GpuTarget
from targets.nvidia.target import NvidiaTarget
from tests.lowering_triton.conftest import (
    H100,
    MI300,
    assert_same,
    function,
    kernel,
    lowered,
    random_input,
    run_both,
)
from tests.lowering_triton.test_compile import compiles

REWRITTEN = "efficient_layout"
"""The attribute of the reshape that the pass puts before the reduction it has rewritten."""


@dataclass(frozen=True)
class Loop:
    """A loop over the columns of ``%x``: what it computes of %v, and what is done with its results
    %s and %u."""

    body: str
    after: str = "store %s, %y[%b]"
    load: str = "%v = load %x[%b, %d] : f32[8, 128]"
    shape: str = "[B, D]"
    start: str = "0.0"

    def module(self) -> Module:
        return kernel(
            f"(%x: f32{self.shape}) -> (%y: f32[B], %z: f32[B])", "B = 64, D = 1024",
            f"parallel %b = 0 to B tile 8 {{\n%a0 = full {self.start} : f32[8]\n"
            "%s, %u = for %d = 0 to D tile 128 stages 2 carry (%acc = %a0, %old = %a0) {\n"
            f"{self.load}\n{self.body}\n}}\n{self.after}\nstore %u, %z[%b]\n}}",
        )  # fmt: skip


SUM = "%r = reduce sum %v dim 1\n%n = add %acc, %r\nyield %n, %old"
WRONG = {
    "result used twice": Loop(SUM, "%t = mul %s, %s\nstore %t, %y[%b]"),
    "result used twice by a function": Loop(SUM, "%t = tanh %s\nstore %t, %y[%b]"),
    "accumulator read in the loop": Loop(
        "%r = reduce sum %v dim 1\n%o = add %old, %acc\n%n = add %acc, %r\nyield %n, %o"
    ),
    "unary update": Loop("%r = reduce sum %v dim 1\n%n = neg %r\nyield %n, %old"),
    "another combiner": Loop(
        "%r = reduce max %v dim 1\n%n = mul %acc, %r\nyield %n, %old", start="1.0"
    ),
    "subtraction": Loop("%r = reduce sum %v dim 1\n%n = sub %acc, %r\nyield %n, %old"),
    "no accumulation": Loop("%r = reduce sum %v dim 1\n%n = mul %r, 2.0\nyield %n, %old"),
    "behind what folds away": Loop(
        "%w = mul %v, 1.0\n%r = reduce sum %w dim 1\n%n = add %acc, %r\nyield %n, %old",
        "%t = mul %s, %s\nstore %t, %y[%b]",
    ),
    "rows contiguous": Loop(
        SUM.replace("%v", "%w"),
        load="%v = load %x[%d, %b] : f32[128, 8]\n%w = permute %v [1, 0]", shape="[D, B]",
    ),
    "rows contiguous, gathered": Loop(
        "%r = reduce sum %v dim 1\n%n = add %acc, %r\nyield %n, %old",
        load="%v = load %x[%b * 1024 + %d] : f32[8, 128]", shape="[B * D]",
    ),
}  # fmt: skip
RIGHT = {
    "sum": Loop(SUM),
    "maximum": Loop("%r = reduce max %v dim 1\n%n = max %acc, %r\nyield %n, %old", start="-inf"),
    "mean": Loop(SUM, "%t = div %s, 1024.0\n%q = abs %t\nstore %q, %y[%b]"),
}


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("name", WRONG)
def test_what_the_pass_gets_wrong_is_kept_from_it(name: str, traits: Traits) -> None:
    assert REWRITTEN not in compiles(WRONG[name].module(), traits, "ttgir")


@pytest.mark.parametrize("traits", [H100, MI300], ids=lambda t: t.arch)
@pytest.mark.parametrize("name", RIGHT)
def test_what_it_gets_right_is_left_to_it(name: str, traits: Traits) -> None:
    assert "permute" not in function(lowered(RIGHT[name].module()))
    assert REWRITTEN in compiles(RIGHT[name].module(), traits, "ttgir")


def test_a_cast_is_enough() -> None:
    module = kernel(
        "(%x: f16[B, D]) -> (%y: f32[B])", "B = 64, D = 1024",
        "parallel %b = 0 to B tile 8 {\n%a0 = full 0.0 : f32[8]\n"
        "%s = for %d = 0 to D tile 128 carry (%acc = %a0) {\n"
        "%v = load %x[%b, %d] : f16[8, 128]\n%f = cast %v : f32\n%r = reduce sum %f dim 1\n"
        "%n = add %acc, %r\nyield %n\n}\n%t = mul %s, %s\nstore %t, %y[%b]\n}",
    )  # fmt: skip
    assert "permute" not in function(lowered(module))
    assert REWRITTEN not in compiles(module, H100, "ttgir")


@pytest.mark.parametrize("name", WRONG)
def test_numbers_stay(name: str) -> None:
    assert_same(*run_both(WRONG[name].module()), ulps=4, terms=128)


@pytest.mark.parametrize("target", [NvidiaTarget, AmdTarget])
@pytest.mark.parametrize("name", [*WRONG, *RIGHT])
def test_numbers_of_the_compiled_kernels(name: str, target: type[GpuTarget]) -> None:
    """On a GPU: what the pass would spoil is right there."""
    there = target(target.archs()[0])
    there = target(there.found_arch() or there.arch)
    if there.availability().presence is not Presence.HERE:
        pytest.skip(there.availability().reason)
    module = {**WRONG, **RIGHT}[name].module()
    program = module.programs["k"]
    sizes = program.sizes()
    rng = np.random.default_rng(0)
    given = {p.name: random_input(p, sizes, rng) for p in program.inputs}
    knobs = {n: space[0] for n, space in there.knobs(program, module).items()}
    got = there.run(module, program, knobs, sizes, given).outputs
    want = interpret_program(module, program, sizes, given, exact=False, check_nan=False)
    assert_same(got, want, ulps=4, terms=128)
