"""Compiling for GPUs that are not here: stages, resources, limits, and reasons for failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.amd.specs import SPECS as AMD
from targets.base import CompileFailed, Source, ToolchainMissing
from targets.gpu import probe, workers
from targets.gpu.compile import compile_source
from targets.gpu.spec import GpuSpec, Usage
from targets.gpu.workers import GIB, Limits
from targets.nvidia.specs import SPECS as NVIDIA

Text = Callable[[str], str]
ALL = {**NVIDIA, **AMD}


def source(text: str) -> Source:
    return Source(text, "python", ".py")


@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("stem", ["add", "matmul_bf16"])
def test_every_architecture_compiles(text: Text, stem: str, arch: str) -> None:
    compiled = compile_source(source(text(stem)), ALL[arch])
    (name,) = compiled.resources
    used = compiled.resources[name]
    assert used.registers and used.spills == 0 and not used.exceeded
    assert used.occupancy and 0 < used.occupancy <= 1
    assert compiled.binary[name].startswith(b"\x7fELF")
    assert "tt.func" in compiled.stages["ttir"] and "ttg." in compiled.stages["ttgir"]
    assert "define" in compiled.stages["llir"]
    marker = ".visible .entry" if arch in NVIDIA else f"amdgcn-amd-amdhsa--{arch}"
    assert marker in compiled.stages["asm"]


def test_bf16_products_use_the_matrix_unit(text: Text) -> None:
    asm = {a: compile_source(source(text("matmul_bf16")), ALL[a]).stages["asm"] for a in ALL}
    assert "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16" in asm["sm_90"]
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in asm["sm_80"]
    assert "v_mfma_f32_" in asm["gfx942"] and "bf16" in asm["gfx942"]


def test_exceeded_shared_memory_is_reported(text: Text) -> None:
    """Triton compiles it all the same; the limit is ours to check."""
    big = text("matmul_bf16").replace('"BM": 64, "BN": 64', '"BM": 256, "BN": 256')
    big = big.replace('"BK": 32', '"BK": 128')
    big = big.replace('"divisible": ["a", "b", "c"]', '"divisible": ["a", "b", "c", "N", "K"]')
    big = big.replace('"num_warps": 4', '"num_warps": 8')
    for arch, name in (("sm_90", "shared memory"), ("gfx942", "LDS")):
        used = compile_source(source(big), ALL[arch]).resources["matmul_kernel"]
        limit = ALL[arch].shared_per_group
        assert used.shared_bytes and used.shared_bytes > limit
        assert list(used.exceeded) == [f"{name} {used.shared_bytes} B of {limit} B"]


def test_spills_are_counted(text: Text) -> None:
    tight = text("matmul_bf16").replace('"num_warps": 4,', '"num_warps": 4, "maxnreg": 64,')
    used = compile_source(source(tight), NVIDIA["sm_80"]).resources["matmul_kernel"]
    assert used.spills and used.spills > 0
    assert used.registers == 64


def test_the_assembler_is_quoted(text: Text) -> None:
    tight = text("matmul_bf16").replace('"num_warps": 4,', '"num_warps": 4, "maxnreg": 32,')
    with pytest.raises(CompileFailed, match=r"ptxas fatal.*Insufficient registers"):
        compile_source(source(tight), NVIDIA["sm_90"])


def test_overrides_replace_declared_options(text: Text) -> None:
    one = compile_source(source(text("add")), NVIDIA["sm_90"], {"num_warps": 1})
    assert one.handle["add_kernel"].threads == 32


def test_compiler_errors_are_one_line_with_a_log(text: Text) -> None:
    wrong = text("add").replace("tl.load(y + n, mask=mask)", "tl.load(no_such_name)")
    with pytest.raises(CompileFailed) as error:
        compile_source(source(wrong), NVIDIA["sm_90"])
    assert "no_such_name is not defined" in error.value.why
    assert "\n" not in str(error.value)
    assert any("Traceback" in note for note in error.value.__notes__)


def test_missing_triton_is_named(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "installed", lambda module: False)
    with pytest.raises(ToolchainMissing, match="triton is not installed") as error:
        compile_source(source(text("add")), NVIDIA["sm_90"])
    assert "pip install triton" in error.value.fix


def test_triton_that_a_worker_cannot_import_is_named(
    text: Text, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "triton.py").write_text("import no_such_driver\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ToolchainMissing, match="no_such_driver is not installed"):
        compile_source(source(text("add")), NVIDIA["sm_90"])


def test_a_users_folder_does_not_shadow_ours(
    text: Text, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "__init__.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workers.stop_all()
    assert compile_source(source(text("add")), NVIDIA["sm_90"]).resources


def test_memory_limit_ends_the_compile_with_a_reason(text: Text) -> None:
    with pytest.raises(CompileFailed) as error:
        compile_source(source(text("add")), NVIDIA["sm_90"], limits=Limits(60, GIB // 8))
    assert error.value.why


@pytest.mark.parametrize(
    ("arch", "usage", "groups", "occupancy"),
    [
        # 128 registers x 128 threads: 65536 / 16384 = 4 blocks of 4 warps, of 64 warps.
        ("sm_90", Usage(128, 0, 0, 128), 4, 0.25),
        # 64 KiB and the reserved 1 KiB: 3 blocks in 228 KiB.
        ("sm_90", Usage(32, 0, 64 << 10, 256), 3, 0.375),
        # 36 registers round up to 1280 a warp: 12 in a quarter of the file.
        ("sm_80", Usage(36, 0, 0, 128), 12, 0.75),
        ("sm_100", Usage(32, 0, 0, 128, tmem=256), 2, 0.125),
        # 66 registers round up to 72: 7 waves a SIMD, 28 a unit, 7 groups of 4 waves.
        ("gfx942", Usage(66, 0, 4096, 256), 7, 0.875),
        ("gfx942", Usage(32, 0, 32 << 10, 256), 2, 0.25),
        ("gfx950", Usage(32, 0, 32 << 10, 256), 5, 0.625),
        ("gfx90a", Usage(512, 0, 0, 256), 1, 0.125),
    ],
)
def test_occupancy(arch: str, usage: Usage, groups: int, occupancy: float) -> None:
    spec: GpuSpec = ALL[arch]
    assert spec.groups_per_unit(usage) == groups
    assert spec.occupancy(usage) == occupancy


def many(text: str, count: int) -> str:
    """A file with one kernel, with so many of it under other names."""
    entry = text[text.index('    "add_kernel": {') : text.index("}\n\n\n@triton.jit")]
    body = text[text.index("@triton.jit") : text.index("def add(x, y")]
    entries, bodies = (
        "".join(part.replace("add_kernel", f"add_{i}") for i in range(count))
        for part in (entry, body)
    )
    return text.replace(entry, entries).replace(body, bodies).replace("add_kernel[", "add_0[")


def test_many_kernels_are_compiled_by_several_workers(
    text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its part; the results are in the file's order, and what fails says its name."""
    from targets.gpu import compile as compiling

    asked: list[list[str]] = []

    def call(kind: workers.WorkerKind, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        asked.append(list(request["names"]))
        return workers.call(kind, request, limits)

    monkeypatch.setattr(compiling, "call", call)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    full = many(text("add"), 19)
    compiled = compile_source(source(full), NVIDIA["sm_90"])
    assert list(compiled.resources) == [f"add_{i}" for i in range(19)]
    assert sorted(map(len, asked)) == [6, 6, 7]
    assert len({name for part in asked for name in part}) == 19
    broken = full.replace("def add_17(x, y, z, N", "def add_17(x, y, z, M")
    with pytest.raises(CompileFailed, match="add_17"):
        compile_source(source(broken), NVIDIA["sm_90"])
