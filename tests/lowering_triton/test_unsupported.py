"""What Triton cannot express is refused, with the reason and a way out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lowering.triton import Unsupported
from tests.lowering_triton.conftest import kernel, lowered


def test_accumulate_into_bf16() -> None:
    module = kernel(
        "(%x: bf16[N]) -> (%y: bf16[1])", "N = 64",
        "parallel %i = 0 to N tile 16 {\n  %v = load %x[%i] : bf16[16]\n"
        "  %s = reduce sum %v dim 0\n  accumulate add %s, %y[0]\n}",
    )  # fmt: skip
    with pytest.raises(Unsupported, match="bf16") as refused:
        lowered(module)
    assert "f32" in refused.value.fix


def test_reshape_that_would_move_padding() -> None:
    module = kernel(
        "(%x: f32[6, 10]) -> (%y: f32[60])", "",
        "parallel %i = 0 to 6 tile 6 { for %j = 0 to 10 tile 10 { for %k = 0 to 60 tile 60 {\n"
        "  %v = load %x[%i, %j] : f32[6, 10]\n  %r = reshape %v : f32[60]\n"
        "  store %r, %y[%k]\n}}}",
    )  # fmt: skip
    with pytest.raises(Unsupported, match="reshape"):
        lowered(module)


def test_dot_too_thin_for_the_matrix_unit_and_too_large_for_the_vector_unit() -> None:
    module = kernel(
        "(%x: f32[8, 512], %w: f32[512, 512]) -> (%y: f32[8, 512])", "",
        "parallel %i = 0 to 8 tile 8, %j = 0 to 512 tile 512 { for %k = 0 to 512 tile 512 {\n"
        "  %a = load %x[%i, %k] : f32[8, 512]\n  %b = load %w[%k, %j] : f32[512, 512]\n"
        "  %c = dot %a, %b\n  store %c, %y[%i, %j]\n}}",
    )  # fmt: skip
    with pytest.raises(Unsupported, match="16 x 16 x 16"):
        lowered(module)


def test_a_run_time_dim_that_no_shape_tells() -> None:
    module = kernel(
        "(%x: f32[4]) -> (%y: f32[4])", "N in 1..8 = 2",
        "parallel %i = 0 to 4 tile 4 {\n  %s = full N : f32\n  %v = load %x[%i] : f32[4]\n"
        "  %p = mul %v, %s\n  store %p, %y[%i]\n}",
    )  # fmt: skip
    with pytest.raises(Unsupported, match="dim N"):
        lowered(module)


def test_lowering_imports_no_toolchain() -> None:
    code = (
        "import sys\n"
        "from tests.lowering_triton.conftest import lowered, read\n"
        "lowered(read('rms_norm'))\n"
        "assert not {'torch', 'triton', 'mlir'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
