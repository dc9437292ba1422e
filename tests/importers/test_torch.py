"""PyTorch programs and the ops that they are imported to mean the same in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ke_ir.derive import with_derived
from ke_ir.derive.inlining import depth
from ke_ir.importers.torch_export import ImportFailure, import_module
from ke_ir.ir import Module, statements
from ke_ir.ops import Dot
from ke_ir.printer import print_module
from tests.importers.agree import check
from tests.importers.modules import CASES

UNDERIVED = {"max_pool_indices", "adaptive_avg_pool_uneven", "reductions"}
"""Cases whose derivation takes long at these sizes; their op's meaning is compared all the same."""


@pytest.mark.parametrize("name", CASES)
def test_an_imported_op_means_what_pytorch_computes(name: str) -> None:
    torch.manual_seed(0)
    module, inputs = CASES[name]()
    check(module, inputs, derived=name not in UNDERIVED)


def test_views_are_index_maps_and_not_equations() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        heads = x.view(2, 3, 4, 5).transpose(1, 2)
        return heads.reshape(2, 4, 15).permute(0, 2, 1).unsqueeze(-1)[..., 0] * 2

    op = import_module(f, (torch.randn(2, 3, 20),), "f").op
    assert len(op.equations) == 1
    text = print_module(Module((op,)))
    assert "mul[i, j, k] = x[i, j // 5, k * 5 + j % 5] * 2" in text


def test_splitting_what_was_merged_leaves_no_division() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).view(2, 3, 4) + 1

    text = print_module(Module((import_module(f, (torch.randn(2, 3, 4),), "f").op,)))
    assert "add[i, j, k] = x[i, j, k] + 1" in text


def test_weights_and_mutated_buffers_are_named() -> None:
    found = import_module(nn.Sequential(nn.BatchNorm1d(4)), (torch.randn(3, 4),), "f")
    assert {(a.source, a.path) for a in found.arguments} == {
        ("parameter", "0.weight"), ("parameter", "0.bias"), ("buffer", "0.running_mean"),
        ("buffer", "0.running_var"), ("buffer", "0.num_batches_tracked"), ("input", ""),
    }  # fmt: skip
    assert [r.path for r in found.results if r.source == "buffer"] == [
        "0.running_mean", "0.running_var", "0.num_batches_tracked",
    ]  # fmt: skip


def test_everything_unsupported_is_told_at_once_with_the_users_line() -> None:
    class Two(nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.linalg.svdvals(x)
            return torch.nextafter(y, y) + torch.linalg.eigvalsh(x)

    with pytest.raises(ImportFailure) as caught:
        import_module(Two(), (torch.randn(3, 3),), "f")
    found = caught.value.diagnostics
    assert [d.code for d in found] == ["unsupported"] * 3
    assert "linalg.svdvals" in found[0].text
    assert "nextafter" in found[1].text
    assert "linalg.eigvalsh" in found[2].text
    assert all(d.file == __file__ for d in found)


def test_operators_with_effects_are_unsupported_but_for_checks_of_errors() -> None:
    def said(x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten._print("said")
        return x + 1

    with pytest.raises(ImportFailure, match="with_effects"):
        import_module(said, (torch.randn(3, 3),), "f")
    check(torch.linalg.inv, (torch.randn(3, 3),))


def test_control_flow_that_depends_on_data_is_refused() -> None:
    class Branch(nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ImportFailure) as caught:
        import_module(Branch(), (torch.randn(3),), "f")
    assert "depends on" in str(caught.value)
    assert "torch.where" in str(caught.value)


def test_dtypes_without_a_form_are_refused() -> None:
    with pytest.raises(ImportFailure, match="complex64"):
        import_module(lambda x: x * 2, (torch.randn(3, dtype=torch.complex64),), "f")


@pytest.mark.parametrize("join", [torch.stack, torch.cat])
@pytest.mark.parametrize("count", [33, 256, 1024])
def test_many_tensors_are_joined_by_shallow_expressions(join: Any, count: int) -> None:
    def f(x: torch.Tensor) -> Any:
        return join([x * float(k) for k in range(count)])

    op = check(f, (torch.randn(3, 4),), derived=count < 1024).op
    assert max(depth(e.rhs) for e in op.equations) < 12


def test_what_pytorch_may_compute_in_tf32() -> None:
    """Products of convolutions and recurrent layers, no others; derivation is told by equation."""

    class Mixed(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(20, 24, 3)
            self.rnn = nn.GRU(24, 32)
            self.linear = nn.Linear(32, 40)

        def forward(self, x: Any) -> Any:
            return self.linear(self.rnn(self.conv(x).permute(2, 0, 1))[0])

    found = import_module(Mixed(), (torch.zeros(40, 20, 10),), "mixed")
    assert found.tf32 and all(t.startswith(("conv", "gru")) for t in found.tf32)
    told = with_derived(Module((found.op,)), found.tf32)
    by_kernel = {
        name: {s.precision for s in statements(k.body) if isinstance(s, Dot)}
        for name, k in told.kernels.items()
    }
    assert {n: p for n, p in by_kernel.items() if "linear" in n and p} == {"mixed_linear": {"ieee"}}
    assert {p for n, ps in by_kernel.items() if "linear" not in n for p in ps} == {"tf32"}
    plain = with_derived(Module((found.op,)))
    assert {s.precision for k in plain.kernels.values() for s in statements(k.body)
            if isinstance(s, Dot)} == {"ieee"}  # fmt: skip


def _sized(rank: int) -> tuple[int, ...]:
    return (2, 20, *(9, 8, 7)[:rank])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("transposed", "kernel", "groups", "precision"), [
    (False, 1, 1, "tf32_even"), (False, 1, 4, "tf32_even"), (False, 3, 1, "tf32"),
    (False, 3, 4, "tf32"), (False, 3, 20, "tf32"), (True, 1, 1, "tf32_even"),
    (True, 3, 1, "tf32_even"), (True, 3, 4, "tf32_even"),
])  # fmt: skip
def test_convolutions_round_to_tf32_as_cudnn_does(
    rank: int, transposed: bool, kernel: int, groups: int, precision: str
) -> None:
    made = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    conv = made(20, 40, kernel, padding=kernel // 2, groups=groups)
    found = import_module(conv, (torch.zeros(_sized(rank)),), "f")
    assert found.tf32 and set(found.tf32.values()) == {precision}
    assert {p.name for p in found.op.outputs} <= set(found.tf32)


@pytest.mark.parametrize("kernel", [(1, 3), (3, 1)])
def test_a_kernel_of_one_in_some_dimensions_is_a_window(kernel: tuple[int, int]) -> None:
    found = import_module(nn.Conv2d(20, 40, kernel), (torch.zeros(_sized(2)),), "f")
    assert set(found.tf32.values()) == {"tf32"}


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_round_to_tf32_as_cudnn_does(layer: Any) -> None:
    class Mixed(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(20, 24, 3)
            self.layer = layer(24, 32)

        def forward(self, x: Any) -> Any:
            return self.layer(self.up(x).permute(2, 0, 1))[0]

    found = import_module(Mixed(), (torch.zeros(40, 20, 10),), "mixed")
    by_name = {t: p for t, p in found.tf32.items() if t.startswith("conv")}
    assert by_name and set(by_name.values()) == {"tf32_even"}
    rest = found.tf32.keys() - by_name.keys()
    assert rest and {found.tf32[t] for t in rest} == {"tf32"}
