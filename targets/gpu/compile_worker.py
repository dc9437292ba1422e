"""Compiles the kernels of a generated file with Triton. Runs in a worker process only.

No GPU and no torch are needed. Compiled kernels are cached by Triton (``TRITON_CACHE_DIR``), so a
repeated compile costs the read.
"""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from targets.gpu.generated import KernelSpec, kernels_only, parse
from targets.gpu.load import load_text
from targets.gpu.reasons import Explained

_PTXAS_SPILLS = re.compile(r"(\d+) bytes spill stores")
_AMD_FIELD = r"^\s*(?:- )?\.%s:\s+(\d+)\s*$"


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Compile the kernels ``names`` of ``text`` for ``arch`` with option ``overrides``.

    Reply: ``kernels`` name -> {stages, binary (base64), registers, spills, shared, threads, tmem}.
    """
    text, arch = request["text"], request["arch"]
    specs = parse(text).kernels
    module = load_text(kernels_only(text, specs.keys() - request["names"]))
    kernels = {}
    for name in request["names"]:
        spec = specs[name]
        options = {**spec.options, **request["overrides"]}
        try:
            compiled = _compile(getattr(module, name), spec, _target(arch), options)
        except Exception as error:
            raise Explained(f"@{name}: {_reason(error)}") from error
        kernels[name] = _describe(compiled, arch)
    return {"kernels": kernels, "triton": triton.__version__}


def _reason(error: BaseException) -> str:
    """The line that says what is wrong: the assembler's verdict, or the end of Triton's message.

    Triton puts the place in the source first and the reason last; ptxas follows a header.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    assembler = [line for line in lines if re.match(r"ptxas (fatal|error)|.*: error:", line)]
    return (assembler or lines[-1:] or [type(error).__name__])[0]


def _target(arch: str) -> GPUTarget:
    if arch.startswith("sm_"):
        return GPUTarget("cuda", int(arch[3:]), 32)
    return GPUTarget("hip", arch, 64)


def _compile(function: Any, spec: KernelSpec, target: GPUTarget, options: dict[str, Any]) -> Any:
    signature = {
        name: "constexpr" if name in spec.constexprs else spec.signature[name]
        for name in function.arg_names
    }
    attributes = {
        (function.arg_names.index(name),): [["tt.divisibility", 16]] for name in spec.divisible
    }
    source = ASTSource(function, signature, dict(spec.constexprs), attributes)
    return triton.compile(source, target=target, options=options)


def _describe(compiled: Any, arch: str) -> dict[str, Any]:
    asm_name = "ptx" if arch.startswith("sm_") else "amdgcn"
    stages = {name: compiled.asm[name] for name in ("ttir", "ttgir", "llir")}
    stages["asm"] = compiled.asm[asm_name]
    metadata = compiled.metadata
    reply = {
        "stages": stages,
        "binary": base64.b64encode(compiled.kernel).decode(),
        "shared": metadata.shared,
        "threads": metadata.num_warps * metadata.warp_size,
        "tmem": getattr(metadata, "tmem_size", None) or 0,
    }
    describe = _nvidia_usage if arch.startswith("sm_") else _amd_usage
    return {**reply, **describe(stages["asm"], compiled.kernel, arch)}


def _nvidia_usage(ptx: str, cubin: bytes, arch: str) -> dict[str, int]:
    """Registers of the cubin; spills only when there is a stack frame, since ptxas is slower."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output([knobs.nvidia.cuobjdump.path, "-res-usage", file.name])
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage)
    if match is None:
        raise RuntimeError(f"cuobjdump -res-usage printed no register count: {usage[:200]!r}")
    registers, stack, reserved = (int(group) for group in match.groups())
    spills = _ptxas_spills(ptx, arch) if stack else 0
    return {"registers": registers, "spills": spills, "reserved_shared": reserved}


def _ptxas_spills(ptx: str, arch: str) -> int:
    """Bytes of spill stores per thread."""
    number = int(arch[3:])
    tool = knobs.nvidia.ptxas_blackwell if number >= 100 else knobs.nvidia.ptxas
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        name = f"sm_{number}a" if number >= 90 else f"sm_{number}"
        command = [tool.path, "-v", f"--gpu-name={name}", str(source)]
        log = _output([*command, "-o", str(Path(folder) / "kernel.cubin")])
    return sum(int(count) for count in _PTXAS_SPILLS.findall(log))


def _amd_usage(assembly: str, _binary: bytes, _arch: str) -> dict[str, int]:
    """Registers (vector and accumulation together, as they share one file) and spilled registers.

    LDS is taken from Triton's metadata: the group segment in the assembly reads 0.
    """
    registers, vector, scalar, private = (
        int(match.group(1)) if (match := re.search(_AMD_FIELD % name, assembly, re.M)) else 0
        for name in (
            "vgpr_count",
            "vgpr_spill_count",
            "sgpr_spill_count",
            "private_segment_fixed_size",
        )
    )
    return {"registers": registers, "spills": vector + scalar, "private_bytes": private}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()[:200]}")
    return done.stdout + done.stderr
