"""Operands packed before the kernel."""

from __future__ import annotations

import pytest

from ke_ir.derive import with_derived
from ke_ir.ir import Once, Program
from ke_ir.rewrites import unique_names
from ke_ir.rewrites.pack import Pack
from tests.rewrites.support import after, assert_same_meaning, example, module_of, refusal


@pytest.mark.parametrize("when", ["once", "each"])
@pytest.mark.parametrize("sizes", [(1, 40, 30), (70, 50, 33)])
def test_the_weights_of_a_matmul(when: str, sizes: tuple[int, int, int]) -> None:
    module = example("matmul_gelu")
    got = after(module, f"pack(@matmul_gelu, %w, {when})")
    program = got.programs["matmul_gelu"]
    assert isinstance(program, Program)
    assert any(isinstance(s, Once) for s in program.body) == (when == "once")
    assert_same_meaning(module, got, "matmul_gelu", dict(zip("MKN", sizes, strict=True)))


def test_what_lies_along_the_sum_already_is_not_offered() -> None:
    offered = {(r.tensor, r.when) for r in Pack.applicable(example("matmul_gelu"))}
    assert offered == {("w", "once"), ("w", "each")}


def test_a_batch_of_products() -> None:
    module = unique_names(
        with_derived(
            module_of("""
    op @bmm(a: f32[B, M, K], c: f32[B, K, N]) -> (y: f32[B, M, N])
    dims B = 3, M = 20, K = 40, N = 24
    {
      y[b, m, n] = sum[k](a[b, m, k] * c[b, k, n])
    }
    """)
        )
    )
    got = after(module, "pack(@bmm, %c, each)")
    assert_same_meaning(module, got, "bmm")


def test_a_temporary_is_not_packed_once() -> None:
    module = example("attention")
    assert "computed anew" in refusal(module, "pack(@attention_o, %s, once)")
    got = after(module, "pack(@attention_o, %v, each)")
    assert_same_meaning(module, got, "attention", {"B": 1, "H": 2, "N": 70, "D": 20})


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("pack(@matmul_gelu, %c, once)", "two dimensions"),
        ("pack(@matmul_gelu, %y, once)", "no input %y"),
    ],
)
def test_refusals(step: str, says: str) -> None:
    assert says in refusal(example("matmul_gelu"), step)


def test_coordinates_that_are_computed_are_refused() -> None:
    assert "not all loop variables" in refusal(example("conv1d"), "pack(@conv1d, %x, once)")
