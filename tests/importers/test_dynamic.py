"""Sizes that are arguments of a run: one op for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ke_ir.derive import with_derived
from ke_ir.evaluate import evaluate_op
from ke_ir.importers.sizes import DynamicDim, parsed
from ke_ir.importers.torch_export import ImportFailure, import_module
from ke_ir.index_maps import equal
from ke_ir.interpret_program import interpret_program
from ke_ir.ir import Module
from ke_ir.parser import parse
from tests.cli.conftest_cli import Run
from tests.importers.agree import arguments, compare, expected


class Net(nn.Module):  # type: ignore[misc]
    """Views, a convolution, a join and a mean, whose sizes follow from the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.conv = nn.Conv1d(4, 6, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        z = self.conv(self.fc(x).transpose(1, 2))
        rows = x.reshape(-1, 8)
        return torch.softmax(z.flatten(1), -1), torch.cat([x, y]), rows.mean(), (rows * 2).sum(1)


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 10, 8), torch.randn(5, 10, 8)


def test_one_op_serves_every_batch() -> None:
    torch.manual_seed(0)
    module = Net()
    imported = import_module(module, inputs(3), "f", [DynamicDim("B", ((0, 0),), 1, 64)])
    (dim,) = imported.op.dims
    assert (dim.name, dim.low, dim.high) == ("B", 1, 64)
    full = with_derived(Module((imported.op,)))
    for n in (3, 1, 7):
        given = inputs(n)
        arrays = arguments(imported, given)
        want = expected(module, given, imported)
        want = {k: np.atleast_1d(v) if v.ndim == 0 else v for k, v in want.items()}
        for found in (
            evaluate_op(imported.op, {"B": n}, arrays),
            interpret_program(full, full.programs["f"], {"B": n}, arrays),
        ):
            compare({k: np.reshape(v, want[k].shape) for k, v in found.items()}, want)


def test_a_dim_that_cannot_vary_is_refused() -> None:
    class Fixed(nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(3, 4) * 2

    with pytest.raises(ImportFailure, match="every size of its range"):
        import_module(Fixed(), (torch.randn(12),), "f", [DynamicDim("N", ((0, 0),), 1, 64)])


@pytest.mark.parametrize("text", ["B", "B=x", "B=z.0", "B=x.a", "B=x.0:1", "B=x.0:5..2", "1=x.0"])
def test_bad_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="--dynamic"):
        parsed([text], ["x", "y"])


def test_spelling() -> None:
    assert parsed(["B=x.0+1.2:2..8"], ["x", "y"]) == [DynamicDim("B", ((0, 0), (1, 2)), 2, 8)]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("B * (L + 1)", "B * L + B", True), ("B * L", "L * B", True), ("B + L", "B * L", False),
     ("(L - 1) // 2 + 1", "(L + 1) // 2", True), ("L // 2", "(L + 1) // 2", False)],
)  # fmt: skip
def test_sizes_are_compared_by_what_they_are(a: str, b: str, same: bool) -> None:
    text = f"op @f(x: f32[{a}], y: f32[{b}]) -> (z: f32[]) dims B = 2, L = 3 {{ z[] = 1.0 }}"
    x, y = parse(text).ops["f"].inputs
    assert equal(x.type.shape[0], y.type.shape[0]) is same


def test_the_command_takes_dynamic_dims(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import torch\ndef f(x): return torch.relu(x)\ndef get_inputs(): return [torch.randn(4, 8)]"
    )
    done = run("import", f"{file}:f", "--dynamic", "B=0.0:1..99")
    assert done.code == 0, done.err
    assert "dims B in 1..99 = 4" in done.out
    assert run("import", f"{file}:f", "--dynamic", "B=q.0").code == 2
