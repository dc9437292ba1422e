"""Operands packed before the kernel."""

from __future__ import annotations

import pytest

from ke_ir.derive import with_derived
from ke_ir.expr import Dim
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


CONVOLUTIONS = {
    "plain": ("x: f32[N, C, 11, 13]", "w: f32[O, C, 3, 2]", "y: f32[N, O, 9, 12]",
              "sum[c, p, q](x[n, c, i + p, j + q] * w[o, c, p, q])"),
    "padded and strided": ("x: f32[N, C, 11, 13]", "w: f32[O, C, 3, 3]", "y: f32[N, O, 6, 7]",
              "sum[c, p, q](x[n, c, 2*i + p - 1, 2*j + q - 1 else 0] * w[o, c, p, q])"),
    "transposed": ("x: f32[N, C, 5, 70]", "w: f32[C, O, 3, 3]", "y: f32[N, O, 7, 72]",
              "sum[c, p, q](x[n, c, i - p, j - q else 0] * w[c, o, p, q])"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_the_channels_of_a_convolution_come_last(kind: str) -> None:
    x, w, y, value = CONVOLUTIONS[kind]
    module = unique_names(with_derived(module_of(f"""
    op @f({x}, {w}) -> ({y})
    dims N = 2, C = 40, O = 17
    {{
      y[n, o, i, j] = {value}
    }}
    """)))  # fmt: skip
    got = after(after(module, "pack(@f, %w, once)"), "pack(@f_packed, %x, each)")
    image = next(t for t in got.programs["f"].temps.values() if len(t.shape) == 4
                 and t.shape[0] == Dim("N"))  # fmt: skip
    assert image.shape[-1] == Dim("C")
    assert_same_meaning(module, got, "f")
    assert "lies in memory along" in refusal(got, "pack(@f_packed_packed, %x_packed, each)")


def test_coordinates_that_are_computed_are_refused() -> None:
    module = unique_names(with_derived(module_of("""
    op @f(x: f32[40, 30], w: f32[30, 50], g: i64[20]) -> (y: f32[40, 20])
    {
      y[i, j] = sum[k](x[i, k] * w[k, g[j]])
    }
    """)))  # fmt: skip
    assert "not all of loop variables" in refusal(module, "pack(@f, %w, each)")
