"""Which kernels are launched without Triton's compiler, and what reaches the driver then.

There is a driver and a compiler here that only note what they are asked; between them and the
generated text is Triton's own code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ke_ir.parser import parse
from ke_ir.verify import check
from tests.lowering_triton.conftest import A100, assert_same, kernel, lowered, run_both
from tests.lowering_triton.test_structure import RNN

SCALE = kernel(
    "(%x: f32[N, 20], %w: f8e4m3[20]) -> (%y: f32[N, 20])", "N = 40",
    "parallel %i = 0 to N tile 16, %d = 0 to 20 {\n%v = load %x[%i, %d] : f32[16]\n"
    "%w8 = load %w[%d] : f8e4m3\n%w32 = cast %w8 : f32\n%s = mul %v, %w32\n"
    "store %s, %y[%i, %d]\n}",
)  # fmt: skip
STATIC_RNN = RNN.replace("T in 1..10 = 3, ", "T = 3, ").replace("B in 1..64 = 4", "B = 4")
ARGUMENTS = 9  # where a kernel's own begin among those that reach the driver's launcher


class Driver:
    """A driver of two devices."""

    device = 0

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        return 70 + device


class Machine:
    """Notes which way each launch went, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        triton = pytest.importorskip("triton")
        self.driver = Driver()
        self.compiled: list[tuple[Any, ...]] = []
        self.launched: list[tuple[Any, ...]] = []
        monkeypatch.setattr(triton.runtime.driver, "_active", self.driver)
        monkeypatch.setattr(triton.JITFunction, "run", self._compile)

    def _compile(self, *args: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        from triton.compiler.compiler import CompiledKernel

        device, made = self.driver.device, object.__new__(CompiledKernel)
        self.compiled.append((device, grid, args))
        made.module, made.function, made.packed_metadata = object(), f"on {device}", ()
        made.name, made.src = "kernel", None
        made._run = lambda *given: self.launched.append(given)
        return made


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def imported(text: str, folder: Path) -> ModuleType:
    path = folder / "generated.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scale_inputs() -> tuple[Any, Any]:
    import torch

    return torch.ones(40, 20), torch.ones(20).to(torch.float8_e4m3fn)


def test_the_second_launch_is_direct(machine: Machine, tmp_path: Path) -> None:
    """It passes what the kernel's parameters say, in their order, constants among them."""
    import torch

    made = imported(lowered(SCALE, traits=A100), tmp_path)
    made.k(*scale_inputs())
    assert len(machine.compiled) == 1 and machine.launched == []
    x, w = scale_inputs()
    y = made.k(x, w)
    assert len(machine.compiled) == 1
    given = machine.launched[0]
    assert given[:5] == (60, 1, 1, 70, "on 0")
    parameters = dict(zip(made.k_kernel.arg_names, given[ARGUMENTS:], strict=True))
    assert parameters["x"] is x and parameters["y"] is y
    assert parameters["w"].dtype == torch.uint8 and parameters["w"].data_ptr() == w.data_ptr()
    assert {n: v for n, v in parameters.items() if n not in "xwy"} == {"N": 40, "BLOCK_I": 16}


def test_each_device_compiles_its_own(machine: Machine, tmp_path: Path) -> None:
    made = imported(lowered(SCALE, traits=A100), tmp_path)
    for device in (0, 1, 0, 1):
        machine.driver.device = device
        made.k(*scale_inputs())
    assert [device for device, *_ in machine.compiled] == [0, 1]
    assert [given[3:5] for given in machine.launched] == [(70, "on 0"), (71, "on 1")]


def test_steps_of_a_recurrence_are_launched_directly(machine: Machine, tmp_path: Path) -> None:
    """With the parts of tensors that each step takes."""
    import torch

    made = imported(lowered(check(parse(STATIC_RNN))), tmp_path)
    x = torch.ones(3, 4, 32)
    made.rnn(x, torch.ones(32, 32))
    assert len(machine.compiled) == 4  # scale, start, step, copy
    steps = [given[ARGUMENTS:] for given in machine.launched]
    assert [args[0].data_ptr() for args in steps] == [x[1].data_ptr(), x[2].data_ptr()]
    assert steps[0][3].data_ptr() == steps[1][1].data_ptr()


def test_parts_that_may_be_unaligned_are_looked_at(machine: Machine, tmp_path: Path) -> None:
    """Rows of 31 elements start anywhere; the kernel without them is launched directly."""
    import torch

    made = imported(lowered(check(parse(STATIC_RNN.replace("B = 4, D = 32", "B = 1, D = 31")))),
                    tmp_path)  # fmt: skip
    for _ in range(2):
        made.rnn(torch.ones(3, 1, 31), torch.ones(31, 31))
    assert len(machine.compiled) == 1 + 2 * (1 + 3 + 1)
    assert len(machine.launched) == 1  # of `scale`


@pytest.mark.parametrize("tile", ["", "tile 8"])
def test_sizes_learnt_at_launch_are_looked_at(machine: Machine, tmp_path: Path, tile: str) -> None:
    """Without tiles the size is no argument of the kernel, but the grid varies with it."""
    import torch

    shape = "[8]" if tile else ""
    module = kernel(
        "(%x: f32[N]) -> (%y: f32[N])", "N in 1..100 = 40",
        f"parallel %i = 0 to N {tile} {{\n%v = load %x[%i] : f32{shape}\nstore %v, %y[%i]\n}}",
    )  # fmt: skip
    text = lowered(module)
    assert "_launch" not in text and "_LAUNCHES" not in text
    made = imported(text, tmp_path)
    for size in (40, 16, 16):
        made.k(torch.ones(size))
    assert len(machine.compiled) == 3 and machine.launched == []


def test_interpreted_launches_compute_the_same() -> None:
    assert "_launch(k_kernel, grid, x, " in lowered(SCALE)
    assert_same(*run_both(SCALE))
