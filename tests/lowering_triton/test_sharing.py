"""Calls of kernels that are equal but for names share one in the generated text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check
from targets.gpu.generated import parse as read_generated
from tests.lowering_triton.conftest import assert_same, lowered, run_both
from tests.lowering_triton.test_launch import Machine, imported

LAYER = """
kernel @first(%x: f32[B, 32], %w: f32[32, 32], %b: f32[32]) -> (%y: f32[B, 32])
dims B = 20
{
  parallel %i = 0 to B tile 16, %j = 0 to 32 tile 32 {
    %z = full 0.0 : f32[16, 32]
    %r = for %k = 0 to 32 tile 16 stages 2 carry (%acc = %z) {
      %xs = load %x[%i, %k] : f32[16, 16]
      %ws = load %w[%k, %j] : f32[16, 32]
      %t = dot %xs, %ws, %acc
      yield %t
    }
    %bs = load %b[%j] : f32[32]
    %row = expand %bs dim 0
    %s = add %r, %row
    %q = mul %s, 0.25
    store %q, %y[%i, %j]
  }
}
"""
PROGRAM = """
program @net(%x: f32[B, 32], %w: f32[32, 32], %b: f32[32], %v: f32[32, 32], %c: f32[32])
  -> (%out: f32[B, 32])
dims B = 20
{
  temp %h : f32[B, 32]
  call @first(%x, %w, %b) -> (%h)
  call @second(%h, %v, %c) -> (%out)
}
"""


def renamed(layer: str) -> str:
    """The layer as another kernel, with other names of everything but its dim."""
    return re.sub(r"%(\w+)", r"%other_\1", layer.replace("@first", "@second"))


def network(layer: str, program: str = PROGRAM) -> Module:
    """A program of a first layer and another."""
    return check(parse(LAYER + renamed(layer) + program))


def kernels(text: str) -> list[str]:
    return list(read_generated(text).kernels)


def test_equal_layers_share_a_kernel() -> None:
    """Under the first's name, each call with its own tensors."""
    net = network(LAYER)
    text = lowered(net)
    assert kernels(text) == ["first_kernel"]
    assert text.count("@triton.jit") == 1 and "second_kernel" not in text
    assert "_launch(on, first_kernel, grid, x, w, b, h)" in text
    assert "_launch(on, first_kernel, grid, h, v, c, out_2)" in text
    assert_same(*run_both(net), ulps=4, terms=32)


@pytest.mark.parametrize(
    "old, new",
    [
        ("mul %s, 0.25", "mul %s, 0.5"),
        ("%i = 0 to B tile 16", "%i = 0 to B tile 16, %one = 0 to 1"),
        ("stages 2", "stages 3"),
        ("%xs, %ws, %acc", "%xs, %ws, %acc precision tf32"),
        ("load %w[%k, %j]", "load %w[%k, %j - 1]"),
        ("%q = mul %s, 0.25", "%q = tanh %s"),
    ],
)
def test_nearly_equal_layers_do_not(old: str, new: str) -> None:
    assert old in LAYER
    net = network(LAYER.replace(old, new))
    assert kernels(lowered(net)) == ["first_kernel", "second_kernel"]
    assert_same(*run_both(net), ulps=4, terms=32)


def test_parameters_in_another_order_do_not() -> None:
    """Tensors of the same shape that trade places mean another computation."""
    old, new = "%x: f32[B, 32], %w: f32[32, 32]", "%w: f32[32, 32], %x: f32[B, 32]"
    module = LAYER + renamed(LAYER.replace(old, new)) + PROGRAM
    net = check(parse(module.replace("B = 20", "B = 32")))
    assert kernels(lowered(net)) == ["first_kernel", "second_kernel"]
    assert_same(*run_both(net), ulps=4, terms=32)


def test_dims_that_calls_bind_otherwise_do_not() -> None:
    program = """
program @net(%x: f32[B, 32], %w: f32[32, 32], %b: f32[32], %u: f32[40, 32])
  -> (%y: f32[B, 32], %z: f32[40, 32])
dims B = 20
{
  call @first(%x, %w, %b) -> (%y)
  call @second(%u, %w, %b) -> (%z)
}
"""
    net = network(LAYER, program)
    assert kernels(lowered(net)) == ["first_kernel", "second_kernel"]
    assert_same(*run_both(net), ulps=4, terms=32)


ROWS = """
kernel @one(%x: f32[D]) -> (%y: f32[D])
dims D = 32
{
  parallel %d = 0 to D tile 32 {
    %v = load %x[%d] : f32[32]
    %s = mul %v, 2.0
    store %s, %y[%d]
  }
}
kernel @two(%a: f32[D]) -> (%b: f32[D])
dims D = 32
{
  parallel %e = 0 to D tile 32 {
    %v = load %a[%e] : f32[32]
    %s = mul %v, 2.0
    store %s, %b[%e]
  }
}
program @rows(%x: f32[3, D]) -> (%y: f32[3, D])
dims D = 32
{
  temp %h : f32[D]
  temp %g : f32[D]
  call @one(%x[1]) -> (%h)
  call @two(%h) -> (%g)
  call @one(%g) -> (%y[0])
  call @two(%x[2]) -> (%y[1])
  call @one(%x[0]) -> (%y[2])
}
"""


def test_parts_of_tensors_share_where_they_are_aligned() -> None:
    net = check(parse(ROWS))
    assert kernels(lowered(net)) == ["one_kernel"]
    assert_same(*run_both(net))


def test_parts_that_may_be_unaligned_have_a_kernel_of_their_own() -> None:
    """The one whose tensors all start at 16 bytes reads as much at once as it could alone."""
    net = check(parse(ROWS.replace("D = 32", "D = 31")))
    text = lowered(net)
    found = read_generated(text).kernels
    assert {name: set(k.divisible) for name, k in found.items()} == {
        "one_kernel": set(),
        "two_kernel": {"a", "b"},
    }
    assert "_launch(on, two_kernel, grid, h, g)" in text and "_launch(one_kernel" not in text
    assert_same(*run_both(net))


def test_a_shared_kernel_is_compiled_once(monkeypatch: Any, tmp_path: Path) -> None:
    import torch

    machine = Machine(monkeypatch)
    made = imported(lowered(network(LAYER)), tmp_path)
    square, row = torch.ones(32, 32), torch.ones(32)
    made.net(torch.ones(20, 32), square, row, square, row)
    assert len(machine.compiled) == 1


STEP = LAYER.replace("B = 20", "B = 4")
LAYERS = """
program @layers(%x: f32[4, 32], %w: f32[32, 32], %b: f32[32], %v: f32[32, 32], %c: f32[32])
  -> (%h: f32[5, 4, 32], %g: f32[5, 4, 32])
{
  call @first(%x, %w, %b) -> (%h[0])
  repeat %t = 1 to 5 {
    call @first(%h[%t - 1], %w, %b) -> (%h[%t])
  }
  call @second(%h[4], %v, %c) -> (%g[0])
  repeat %t = 1 to 5 {
    call @second(%g[%t - 1], %v, %c) -> (%g[%t])
  }
}
"""


def test_steps_of_two_recurrences_share_a_kernel() -> None:
    """Loops launch it with the tensors of their own."""
    net = check(parse(STEP + renamed(STEP) + LAYERS))
    assert kernels(lowered(net)) == ["first_kernel"]
    assert_same(*run_both(net), ulps=8, terms=32)
