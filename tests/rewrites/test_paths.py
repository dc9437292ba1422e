"""Rewrites compose: from a derived kernel of two or three passes to one that loads a row once."""

from __future__ import annotations

import pytest

from ke_ir.hashing import structural_hash
from ke_ir.ir import Module, statements
from ke_ir.ops import Load
from ke_ir.rewrites import applicable
from targets.registry import find_target
from tests.rewrites.support import after, assert_same_meaning, example, module_of, only_kernel

LOOPS = {
    "rms_norm": ("d", "d_1"),
    "softmax": ("d", "d_1", "d_2"),
    "layer_norm": ("d", "d_1", "d_2"),
}
SIZES = {"B": 3}


def path(name: str) -> list[str]:
    steps = []
    for loop in LOOPS[name]:
        steps += [f"retile(@{name}, %{loop}, 4096)", f"drop_loop(@{name}, %{loop})"]
    masks = [] if name == "rms_norm" else [f"simplify_masks(@{name})"]
    return [*steps, *masks, f"cse(@{name})"]


def loads(module: Module, tensor: str) -> int:
    body = only_kernel(module).body
    return sum(isinstance(s, Load) and s.tensor == tensor for s in statements(body))


def simulated(module: Module, name: str) -> float:
    return _on("kea", module, name, "time")


def estimated(module: Module, name: str) -> float:
    return _on("nvidia", module, name, "estimate")


def _on(target_name: str, module: Module, name: str, method: str) -> float:
    target = find_target(target_name)
    program = module.programs[name]
    knobs = {n: values[0] for n, values in target.knobs(program, module).items()}
    timing = getattr(target, method)(module, program, knobs, program.sizes())
    return float(timing.seconds)


@pytest.mark.parametrize("name", LOOPS)
def test_a_row_is_loaded_once(name: str) -> None:
    root = example(name)
    assert loads(root, "x") == len(LOOPS[name])
    module = root
    for step in path(name):
        assert step in map(str, applicable(module))
        module = after(module, step)
    assert loads(module, "x") == 1
    assert_same_meaning(root, module, name, SIZES)
    (first, *_) = LOOPS[name]
    at_once = after(root, f"whole_row(@{name}, %{first})")
    assert structural_hash(at_once) == structural_hash(module)


@pytest.mark.parametrize("name", LOOPS)
def test_loading_once_is_faster(name: str) -> None:
    root = example(name)
    once = after(root, *path(name), f"retile(@{name}, %b, 1)")
    assert simulated(once, name) < simulated(root, name)
    assert estimated(once, name) <= estimated(root, name)


def test_loops_over_several_tiles_merge_too() -> None:
    module = module_of("""
    kernel @k(%x: f32[B, D]) -> (%s: f32[B], %m: f32[B])
    dims B in 1..64 = 5, D = 96
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %r = for %d = 0 to D tile 32 carry (%acc = %zero) {
          %u = load %x[%b, %d] : f32[2, 32]
          %p = reduce sum %u dim 1
          %t = add %acc, %p
          yield %t
        }
        store %r, %s[%b]
        %low = full -inf : f32[2]
        %q = for %e = 0 to D tile 16 carry (%best = %low) {
          %v = load %x[%b, %e else -inf] : f32[2, 16]
          %w = reduce max %v dim 1
          %z = max %best, %w
          yield %z
        }
        store %q, %m[%b]
      }
    }
    """)
    apart = after(module, "retile(@k, %e, 32)", "merge_loops(@k, %d, %e)")
    assert loads(apart, "x") == 2
    # What they read beyond the end differs until nothing is read there.
    together = after(apart, "simplify_masks(@k)", "cse(@k)")
    assert loads(together, "x") == 1
    for got in (apart, together):
        assert_same_meaning(module, got, "k")


def test_a_tile_that_meets_another_keeps_its_own_variable() -> None:
    module = module_of("""
    kernel @k(%x: f32[A]) -> (%y: f32[A, A])
    dims A = 3
    {
      parallel %i = 0 to A tile 4 {
        %u = load %x[%i] : f32[4]
        %v = expand %u dim 1
        for %j = 0 to A tile 4 {
          %w = load %x[%j] : f32[4]
          %z = expand %w dim 0
          %p = mul %v, %z
          store %p, %y[%i, %j]
        }
      }
    }
    """)
    assert_same_meaning(module, after(module, "drop_loop(@k, %j)"), "k")
