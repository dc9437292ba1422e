"""Which kernels are launched without Triton's compiler, and what reaches the driver then.

Loops that only launch such kernels are hoisted: they pass addresses on.

There is a driver and a compiler here that only note what they are asked; between them and the
generated text is Triton's own code.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ke_ir.parser import parse
from ke_ir.verify import check
from lowering.triton.values import _POINTER, torch_of
from tests.lowering_triton.conftest import A100, assert_same, kernel, lowered, run_both
from tests.lowering_triton.test_structure import RNN

SCALE = kernel(
    "(%x: f32[N, 20], %w: f8e4m3[20]) -> (%y: f32[N, 20])", "N = 40",
    "parallel %i = 0 to N tile 16, %d = 0 to 20 {\n%v = load %x[%i, %d] : f32[16]\n"
    "%w8 = load %w[%d] : f8e4m3\n%w32 = cast %w8 : f32\n%s = mul %v, %w32\n"
    "store %s, %y[%i, %d]\n}",
)  # fmt: skip
STATIC_RNN = RNN.replace("T in 1..10 = 3, ", "T = 3, ").replace("B in 1..64 = 4", "B = 4")
NESTED_RNN = """
kernel @scan(%x: f8e4m3[D], %h: f32[D], %w: f32[D]) -> (%y: f32[D], %z: f8e4m3[D])
dims D = 32
{
  parallel %d = 0 to D tile 32 {
    %a = load %x[%d] : f8e4m3[32]
    %c = cast %a : f32
    %b = load %h[%d] : f32[32]
    %v = load %w[%d] : f32[32]
    %p = mul %b, %v
    %s = add %p, %c
    store %s, %y[%d]
    %r = cast %s : f8e4m3
    store %r, %z[%d]
  }
}
kernel @double(%h: f32[D]) -> (%y: f32[D])
dims D = 32
{
  parallel %d = 0 to D tile 16 {
    %a = load %h[%d] : f32[16]
    %b = mul %a, 2.0
    store %b, %y[%d]
  }
}
program @nest(%x: f8e4m3[B, T, D], %h0: f32[D], %w: f32[D])
  -> (%h: f32[B, T + 1, D], %z: f8e4m3[B, T, D])
dims B = 2, T = 3, D = 32
{
  repeat %b = 0 to B {
    call @double(%h0) -> (%h[%b, 0])
    repeat %t = 0 to T {
      call @scan(%x[%b, %t], %h[%b, %t], %w) -> (%h[%b, %t + 1], %z[%b, %t])
    }
  }
}
"""
MOST = """
kernel @most(%h: f32[D]) -> (%m: f32[1])
dims D = 32
{
  parallel %d = 0 to D tile 16 {
    %a = load %h[%d] : f32[16]
    %b = reduce max %a dim 0
    accumulate max %b, %m[0]
  }
}
"""
INITIALISING_RNN = MOST + NESTED_RNN.replace(
    "-> (%h: f32[B,", "-> (%m: f32[1], %h: f32[B,"
).replace("call @double(%h0)", "call @most(%h0) -> (%m)\n call @double(%h0)")
ARGUMENTS = 9  # where a kernel's own begin among those that reach the driver's launcher


class Driver:
    """A driver of two devices, which take tensors of the CPU."""

    device, kind = 0, "cpu"
    asked = 0  # for a stream

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        self.asked += 1
        return 70 + device

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device(self.kind, self.device)


class Machine:
    """Notes which way each launch went, and with what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        triton = pytest.importorskip("triton")
        self.driver = Driver()
        self.compiled: list[tuple[Any, ...]] = []  # (device, kernel, dtypes)
        self.looked_at = 0  # launches that went through Triton's look at every argument
        self.launched: list[tuple[Any, ...]] = []
        monkeypatch.setattr(triton.runtime.driver, "_active", self.driver)

        def run(kernel: Any, *args: Any, **given: Any) -> Any:
            return self._run(kernel.__name__, *args, **given)

        monkeypatch.setattr(triton.JITFunction, "run", run)

    def _run(self, kernel: str, *args: Any, grid: Any, warmup: bool, **constants: Any) -> Any:
        from triton.compiler.compiler import CompiledKernel

        device, made = self.driver.device, object.__new__(CompiledKernel)
        if warmup:
            self.compiled.append((device, kernel, tuple(x.dtype for x in args)))
        else:
            self.looked_at += 1
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


def kernels(machine: Machine) -> list[str]:
    """Those that were compiled, in order."""
    return [kernel for _, kernel, _ in machine.compiled]


def test_launches_are_direct(machine: Machine, tmp_path: Path) -> None:
    """They pass what the kernel's parameters say, in their order, constants among them."""
    import torch
    import triton

    made = imported(lowered(SCALE, traits=A100), tmp_path)
    made.k(*scale_inputs())
    x, w = scale_inputs()
    y = made.k(x, w)
    assert kernels(machine) == ["k_kernel"] and machine.looked_at == 0
    assert len(machine.launched) == 2
    given = machine.launched[1]
    assert given[:5] == (60, 1, 1, 70, "on 0")
    hooks = triton.knobs.runtime
    assert given[7] is hooks.launch_enter_hook and given[8] is hooks.launch_exit_hook
    parameters = dict(zip(made.k_kernel.arg_names, given[ARGUMENTS:], strict=True))
    places = {"x": x.data_ptr(), "w": w.data_ptr(), "y": y.data_ptr()}
    assert parameters == {**places, "N": 40, "BLOCK_I": 16}
    assert machine.compiled[0][2] == (torch.float32, torch.uint8, torch.float32)


def test_each_device_compiles_its_own(machine: Machine, tmp_path: Path) -> None:
    made = imported(lowered(SCALE, traits=A100), tmp_path)
    for device in (0, 1, 0, 1):
        machine.driver.device = device
        made.k(*scale_inputs())
    assert [device for device, *_ in machine.compiled] == [0, 1]
    assert [given[3:5] for given in machine.launched] == [(70, "on 0"), (71, "on 1")] * 2


def test_steps_of_a_recurrence_pass_addresses(machine: Machine, tmp_path: Path) -> None:
    import torch

    made = imported(lowered(check(parse(STATIC_RNN))), tmp_path)
    x, w = torch.ones(3, 4, 32), torch.ones(32, 32)
    (ws,) = made.prepare(x, w)
    for device in (0, 1, 0, 1):
        machine.driver.device = device
        machine.launched.clear()
        machine.driver.asked = 0
        made.rnn(x, w, prepared=(ws,))
        assert machine.driver.asked == 1
        start, *steps, copy = machine.launched
        assert [given[:5] for given in steps] == [(1, 1, 1, 70 + device, f"on {device}")] * 3
        first = start[ARGUMENTS]
        h = [first + t * 4 * 32 * 4 for t in range(4)]
        parameters = made.step_kernel.arg_names
        for t, given in enumerate(steps):
            tensors = [x[t].data_ptr(), h[t], ws.data_ptr(), h[t + 1]]
            constants = made.KERNELS["step_kernel"]["constexprs"]
            assert given[ARGUMENTS:] == (*tensors, *constants.values())
            assert len(given[ARGUMENTS:]) == len(parameters)
        assert copy[ARGUMENTS] == h[3]
    each = ["start_kernel", "step_kernel", "copy_kernel"]
    assert kernels(machine) == ["scale_kernel", *each, *each] and machine.looked_at == 0


def test_steps_within_steps_pass_addresses(machine: Machine, tmp_path: Path) -> None:
    """Of the parts that two indices take; bytes are compiled where the target has no fp8."""
    import torch

    made = imported(lowered(check(parse(NESTED_RNN)), traits=A100), tmp_path)
    x = torch.ones(2, 3, 32).to(torch.float8_e4m3fn)
    h0, w = torch.ones(32), torch.ones(32)
    h, z = made.nest(x, h0, w)
    steps = [given[ARGUMENTS:] for given in machine.launched]
    hs = [row.data_ptr() for row in h.flatten(0, 1)]
    for b in range(2):
        start, *scans = steps[4 * b : 4 * b + 4]
        assert start[:2] == (h0.data_ptr(), hs[4 * b])
        for t, given in enumerate(scans):
            before, after = hs[4 * b + t : 4 * b + t + 2]
            assert given[:5] == (
                x[b, t].data_ptr(), before, w.data_ptr(), after, z[b, t].data_ptr()
            )  # fmt: skip
    assert len(steps) == 8 and kernels(machine) == ["double_kernel", "scan_kernel"]
    assert machine.compiled[1][2] == (torch.uint8, *[torch.float32] * 3, torch.uint8)


def test_addresses_of_another_machine_are_refused(machine: Machine, tmp_path: Path) -> None:
    """Triton would look at tensors, but not at addresses."""
    import torch

    made = imported(lowered(check(parse(STATIC_RNN))), tmp_path)
    machine.driver.kind = "cuda"
    with pytest.raises(ValueError, match="on cpu, not on cuda:0"):
        made.rnn(torch.ones(3, 4, 32), torch.ones(32, 32))
    assert machine.launched == []


@pytest.mark.parametrize("name", ["w", "y", "ws"])
def test_tensors_on_several_devices_are_refused(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    import torch

    made = imported(lowered(check(parse(STATIC_RNN))), tmp_path)
    given = {"x": torch.ones(3, 4, 32), "w": torch.ones(32, 32), "y": torch.ones(4, 32)}
    given["ws"] = torch.ones(32, 32)
    given[name] = given[name].to("meta")
    with pytest.raises(ValueError, match=f"^{name}: on meta, not on cpu$"):
        made.rnn(given["x"], given["w"], out=(given["y"],), prepared=(given["ws"],))
    with pytest.raises(ValueError, match=r"^w: on meta, not on cpu$"):
        made.prepare(given["x"], given["w"].to("meta"))
    assert machine.launched == []


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x: x.double(), "x: torch.float64 (40, 20), not torch.float32 (40, 20)"),
        (lambda x: x[:39], "x: torch.float32 (39, 20), not torch.float32 (40, 20)"),
        (lambda x: x.T.contiguous().T, "x: must be contiguous and aligned to 16 bytes"),
        (lambda x: x.new_ones(801)[1:].view(40, 20),
         "x: must be contiguous and aligned to 16 bytes"),
    ],
    ids=["dtype", "shape", "strides", "alignment"],
)  # fmt: skip
def test_what_is_wrong_with_a_tensor(
    machine: Machine, tmp_path: Path, wrong: Any, message: str
) -> None:
    made = imported(lowered(SCALE, traits=A100), tmp_path)
    x, w = scale_inputs()
    with pytest.raises(ValueError) as error:
        made.k(wrong(x), w)
    assert str(error.value) == message and machine.launched == []


@pytest.mark.parametrize("backend", ["nvidia.compiler.CUDABackend", "amd.compiler.HIPBackend"])
def test_dtypes_compile_as_aligned_tensors_do(backend: str) -> None:
    """Kernels are compiled for dtypes: Triton takes those for tensors of less than 2 GB."""
    import torch
    from triton._C.libtriton import native_specialize_impl
    from triton.runtime.jit import MockTensor

    module, _, name = backend.rpartition(".")
    compiler = getattr(importlib.import_module(f"triton.backends.{module}"), name)
    for pointer in _POINTER.values():
        dtype = getattr(torch, torch_of(f"*{pointer}").removeprefix("torch."))
        mock, tensor = MockTensor.wrap_dtype(dtype), torch.empty(64, dtype=dtype)
        found = [native_specialize_impl(compiler, x, False, True, True) for x in (mock, tensor)]
        assert found[0] == found[1]


@pytest.mark.parametrize(("rows", "direct"), [(1 << 24, True), (1 << 25, False)])
def test_tensors_of_2_gb_are_looked_at(rows: int, direct: bool) -> None:
    """On AMD, others are compiled for offsets of 32 bits."""
    module = kernel(
        f"(%x: f32[{rows}, 16]) -> (%y: f32[{rows}])", "",
        f"parallel %i = 0 to {rows} tile 64 {{\n%v = load %x[%i, 3] : f32[64]\n"
        "store %v, %y[%i]\n}",
    )  # fmt: skip
    assert ("_launch(on, k_kernel" in lowered(module)) is direct


def test_what_a_loop_launches_and_others_too_is_compiled_once(
    machine: Machine, tmp_path: Path
) -> None:
    import torch

    text = STATIC_RNN.replace("repeat %t = 0 to T {", """
      call @step(%x[0], %h[0], %ws) -> (%h[1])
      repeat %t = 1 to T {""")  # fmt: skip
    made = imported(lowered(check(parse(text))), tmp_path)
    made.rnn(torch.ones(3, 4, 32), torch.ones(32, 32))
    assert kernels(machine).count("step_kernel") == 1
    steps = [given[ARGUMENTS:] for given in machine.launched[2:5]]
    assert steps[0][3] == steps[1][1] and steps[1][3] == steps[2][1]


@pytest.mark.parametrize(
    "old, new",
    [
        ("B = 4", "B in 1..64 = 4"),
        ("B = 4, D = 32", "B = 1, D = 31"),
        ("store %q, %y[%b, %d]", "accumulate max %q, %y[%b, %d]"),
    ],
    ids=["sizes", "alignment", "initialisation"],
)  # fmt: skip
def test_loops_that_do_more_than_launch_take_tensors(old: str, new: str) -> None:
    assert "= _launcher(" in lowered(check(parse(STATIC_RNN)))
    module = check(parse(STATIC_RNN.replace(old, new)))
    text = lowered(module)
    assert "= _launcher(" not in text and "x_rows = x.unbind()" in text
    assert "def _rows(" not in text and "def _address(" not in text
    assert_same(*run_both(module, name="rnn"), ulps=4, terms=4)


def test_loops_that_may_launch_nothing_take_tensors() -> None:
    text = STATIC_RNN.replace("parallel %b = 0 to B tile 16,",
                              "parallel %e = 0 to D - 32, %b = 0 to B tile 16,")  # fmt: skip
    text = lowered(check(parse(text)))
    assert "if D - 32 > 0:" in text and "= _launcher(" not in text


def test_a_loop_within_one_that_does_more_is_hoisted() -> None:
    """Tensors that only the inner takes parts of are not taken apart around the outer."""
    module = check(parse(INITIALISING_RNN))
    text = lowered(module).partition("def nest(")[2]
    outer, inner = text.partition("    for b in ")[::2]
    assert "h_rows = h.unbind()" in outer and "x.unbind()" not in outer
    assert "        launch_scan = _launcher(" in inner
    assert "        x_rows = _rows(x, B * T, D)" in inner
    assert_same(*run_both(module))


@pytest.mark.parametrize("text", [STATIC_RNN, NESTED_RNN], ids=["steps", "nested"])
def test_interpreted_loops_compute_the_same(text: str) -> None:
    module = check(parse(text))
    assert "= _launcher(" in lowered(module)
    assert_same(*run_both(module, name=next(iter(module.programs))), ulps=4, terms=4)


def test_parts_that_may_be_unaligned_are_looked_at(machine: Machine, tmp_path: Path) -> None:
    """Rows of 31 elements start anywhere; the kernel without them is launched directly."""
    import torch

    made = imported(lowered(check(parse(STATIC_RNN.replace("B = 4, D = 32", "B = 1, D = 31")))),
                    tmp_path)  # fmt: skip
    for _ in range(2):
        made.rnn(torch.ones(3, 1, 31), torch.ones(31, 31))
    assert kernels(machine) == ["scale_kernel"] and len(machine.launched) == 2
    assert machine.looked_at == 2 * (1 + 3 + 1)


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
    assert machine.looked_at == 3 and machine.compiled == machine.launched == []


def test_interpreted_launches_compute_the_same() -> None:
    assert "_launch(on, k_kernel, grid, x, " in lowered(SCALE)
    assert_same(*run_both(SCALE))
