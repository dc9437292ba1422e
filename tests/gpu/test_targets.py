"""The two targets behind the protocol: availability, knobs, and estimates."""

from __future__ import annotations

import subprocess
import sys

import pytest

from targets.amd.target import AmdTarget
from targets.base import Kind, Presence, Target, UnknownArch
from targets.gpu import probe
from targets.gpu.target import GpuTarget
from targets.nvidia.target import NvidiaTarget

BOTH = [NvidiaTarget, AmdTarget]


@pytest.mark.parametrize("cls", BOTH)
def test_protocol(cls: type[GpuTarget]) -> None:
    for arch in cls.archs():
        target = cls(arch)
        assert isinstance(target, Target)
        assert target.spec.arch == arch and target.spec.sources
        assert target.emits == ("ttir", "ttgir", "llir", "asm")
    assert cls().arch == cls.archs()[0]


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(UnknownArch) as error:
        AmdTarget("gfx1100")
    assert "gfx942" in error.value.fix


def found(monkeypatch: pytest.MonkeyPatch, arch: str | None, torch: str | None) -> None:
    monkeypatch.setattr(probe, "nvidia_arch", lambda: arch)
    monkeypatch.setattr(probe, "torch_runtime", lambda: torch)


@pytest.mark.parametrize(
    ("arch", "torch", "presence", "words"),
    [
        (None, "cpu", Presence.COMPILE_ONLY, "no NVIDIA GPU"),
        (None, None, Presence.COMPILE_ONLY, "without torch"),
        ("sm_90", "cpu", Presence.COMPILE_ONLY, "torch is built for cpu"),
        ("sm_90", None, Presence.COMPILE_ONLY, "torch is not installed"),
        ("sm_80", "cuda", Presence.COMPILE_ONLY, "the GPU here is sm_80, not sm_90"),
        ("sm_90", "cuda", Presence.HERE, "sm_90 GPU"),
    ],
)
def test_availability(
    monkeypatch: pytest.MonkeyPatch,
    arch: str | None,
    torch: str | None,
    presence: Presence,
    words: str,
) -> None:
    found(monkeypatch, arch, torch)
    got = NvidiaTarget("sm_90").availability()
    assert got.presence is presence and words in got.reason
    assert got.fix or presence is Presence.HERE


def test_missing_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "installed", lambda module: False)
    got = NvidiaTarget().availability()
    assert got.presence is Presence.MISSING and "gpu extra" in got.fix


def test_availability_imports_no_toolchain() -> None:
    script = (
        "import sys\nfrom targets.amd.target import AmdTarget\n"
        "from targets.nvidia.target import NvidiaTarget\n"
        "for cls in (AmdTarget, NvidiaTarget):\n"
        "    for arch in cls.archs(): cls(arch).availability()\n"
        "print([m for m in ('torch', 'triton', 'mlir', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_amd_architecture_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    for node, number in enumerate((0, 90402)):
        (folder / str(node)).mkdir()
        (folder / str(node) / "properties").write_text(f"simd 4\ngfx_target_version {number}\n")
    monkeypatch.setattr(probe, "_KFD", folder)
    assert probe.amd_arch.__wrapped__() == "gfx942"
    (folder / "1" / "properties").write_text("gfx_target_version 90010\n")
    assert probe.amd_arch.__wrapped__() == "gfx90a"


def test_only_the_estimate_is_offered_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from ke_ir.parser import parse

    found(monkeypatch, None, "cpu")
    module = parse(
        "kernel @twice(%x: f32[N]) -> (%y: f32[N])\ndims N = 1048576\n{\n"
        "  parallel %n = 0 to N tile 1024 {\n    %v = load %x[%n] : f32[1024]\n"
        "    %w = add %v, %v\n    store %w, %y[%n]\n  }\n}\n"
    )
    program = module.programs["twice"]
    target = NvidiaTarget("sm_90")
    timing = target.time(module, program, {}, program.sizes())
    assert timing.kind is Kind.ESTIMATED and "H100" in timing.on
    moved = 2 * 4 * 1048576 / target.spec.dram_bytes_per_s
    assert moved < timing.seconds < 10 * moved
    knobs = target.knobs(program, module)
    assert knobs["num_warps"][0] == 0 and knobs["num_stages"][0] == 0
