"""Products of bf16 parts that are written out, and parts computed beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.derive import with_derived
from ke_ir.interpret import interpret_program
from ke_ir.ir import Module, Once, program_statements
from ke_ir.rewrites import unique_names
from ke_ir.rewrites.split_operand import PackParts, SplitDot
from tests.rewrites.support import after, assert_same_meaning, draw_inputs, module_of, refusal

MATMUL = """
op @mm(x: f32[M, K], w: f32[K, N]) -> (y: f32[M, N])
dims M in 1..4096 = 70, K = 100, N = 33
{
  y[m, n] = sum[k](x[m, k] * w[k, n])
}
"""


@pytest.fixture(scope="module")
def root() -> Module:
    return unique_names(with_derived(module_of(MATMUL)))


def path(precision: str) -> list[str]:
    return [
        f"set_precision(@mm, %dot_1, {precision})",
        "split_dot(@mm, %dot_1)",
        "pack_parts(@mm, %w, once)",
        "pack_parts(@mm_parts, %x, each)",
        "pack(@mm_parts_parts, %w_part, once)",
    ]


@pytest.mark.parametrize("precision", ["bf16x3", "bf16x6"])
def test_each_step_keeps_the_meaning(root: Module, precision: str) -> None:
    module = root
    for step in path(precision):
        module = after(module, step)
        for m in (1, 70):
            assert_same_meaning(root, module, "mm", {"M": m})
    assert sum(isinstance(s, Once) for s in program_statements(module.programs["mm"].body)) == 2


@pytest.mark.parametrize(("precision", "bound"), [("bf16x3", 2e-5), ("bf16x6", 5e-7)])
def test_the_numbers_are_those_of_the_precision(root: Module, precision: str, bound: float) -> None:
    """As typed, not in float64: as exact as the precision, and far more than one bf16 product."""
    sizes = {"M": 70, "K": 100, "N": 33}
    given = draw_inputs(root, root.programs["mm"], sizes)
    exact = given["x"].astype(np.float64) @ given["w"].astype(np.float64)
    scale = np.abs(given["x"]) @ np.abs(given["w"])
    for n in (1, 2, 4):
        m = after(root, *path(precision)[:n])
        got = interpret_program(m, m.programs["mm"], sizes, given, exact=False)
        assert float(np.max(np.abs(got["y"] - exact) / scale)) < bound


def test_tiles_of_written_out_products_can_change(root: Module) -> None:
    module = after(root, *path("bf16x3")[:3])
    got = after(module, "retile(@mm_parts, %k, 16)")
    assert_same_meaning(root, got, "mm")


def test_only_what_applies_is_offered(root: Module) -> None:
    assert not list(SplitDot.applicable(root))
    assert not list(PackParts.applicable(root))
    module = after(root, *path("bf16x6")[:2])
    assert [str(r) for r in PackParts.applicable(module)] == [
        "pack_parts(@mm, %x, once)", "pack_parts(@mm, %x, each)",
        "pack_parts(@mm, %w, once)", "pack_parts(@mm, %w, each)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "step", "says"),
    [
        (0, "split_dot(@mm, %dot_1)", "precision of %dot_1 is ieee"),
        (0, "split_dot(@mm, %x)", "no dot %x"),
        (0, "pack_parts(@mm, %w, once)", "otherwise than by its bf16 parts"),
        (0, "pack_parts(@mm, %y, once)", "no input %y"),
    ],
)
def test_refusals(root: Module, steps: int, step: str, says: str) -> None:
    assert says in refusal(after(root, *path("bf16x3")[:steps]), step)


def test_operands_that_are_computed_stay_whole() -> None:
    """The difference of an infinity and its bf16 part is not a number."""
    module = unique_names(with_derived(module_of("""
    op @f(x: f32[M, K], w: f32[K, N]) -> (y: f32[M, N])
    dims M = 20, K = 40, N = 33
    {
      y[m, n] = sum[k](exp(x[m, k]) * w[k, n])
    }
    """)))  # fmt: skip
    module = after(module, "set_precision(@f, %dot_1, bf16x3)")
    assert "may be infinite" in refusal(module, "split_dot(@f, %dot_1)")
