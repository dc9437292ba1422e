"""Reading a generated file without importing it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from targets.base import CompileFailed
from targets.gpu.generated import kernels_only, parse

Text = Callable[[str], str]


def test_declarations_are_read(text: Text) -> None:
    generated = parse(text("rms_norm_bf16"))
    assert generated.program == "rms_norm"
    assert generated.inputs["x"].dtype == "bf16"
    assert generated.inputs["x"].shape == (37, 512)
    kernel = generated.kernels["rms_norm_kernel"]
    assert list(kernel.signature) == ["x", "w", "y", "B"]
    assert kernel.constexprs == {"BLOCK_B": 4, "D": 512}
    assert kernel.grid == (10, 1, 1)


def test_nothing_is_executed(text: Text) -> None:
    parse(text("add") + "\nraise SystemExit('executed')\n")


def test_kernels_only_drops_torch_and_keeps_lines(text: Text) -> None:
    full = text("rms_norm_bf16_interp")
    kept = kernels_only(full)
    assert "import torch" not in kept
    assert "def reference" not in kept
    assert "def round_bf16" in kept and "EPS = tl.constexpr(1e-6)" in kept
    line = next(i for i, s in enumerate(full.split("\n")) if s.startswith("def rms_norm_kernel"))
    assert kept.split("\n")[line].startswith("def rms_norm_kernel")
    fewer = kernels_only(full, without=["rms_norm_kernel"])
    assert "def rms_norm_kernel" not in fewer and "def round_bf16" in fewer


@pytest.mark.parametrize(
    "broken",
    ["", "def f(:\n", "PROGRAM = 'f'\nKERNELS = {}\n", "KERNELS = {'k': 1}\n", "PROGRAM = f()\n"],
)
def test_another_form_is_refused_with_a_reason(broken: str) -> None:
    with pytest.raises(CompileFailed) as error:
        parse(broken)
    assert error.value.why and "docs/generated-triton.md" in error.value.fix
