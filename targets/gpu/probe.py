"""Which GPUs and toolchain this machine has, found quickly and without importing torch."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_KFD = Path("/sys/class/kfd/kfd/topology/nodes")


@cache
def installed(module: str) -> bool:
    """Whether a Python module can be found; it is not imported."""
    return find_spec(module) is not None


@cache
def nvidia_arch() -> str | None:
    """Architecture (``sm_90``) of the first visible NVIDIA GPU, asked of the driver; else None."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"sm_{major.value}{minor.value}"


@cache
def amd_arch() -> str | None:
    """Architecture (``gfx942``) of the first AMD GPU that the kernel driver lists; else None."""
    for properties in sorted(_KFD.glob("*/properties")):
        try:
            match = re.search(r"^gfx_target_version (\d+)$", properties.read_text(), re.M)
        except OSError:
            continue
        if match and int(match[1]):
            number = int(match[1])
            major, minor, step = number // 10000, number // 100 % 100, number % 100
            return f"gfx{major}{minor:x}{step:x}"
    return None


@cache
def torch_runtime() -> str | None:
    """``cuda``, ``hip`` or ``cpu``: what the installed torch was built for; None without torch.

    Read from its ``version.py``, since importing torch takes seconds.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return "cpu"
    for runtime in ("hip", "cuda"):
        if re.search(rf"^{runtime}\b[^=\n]*= *['\"]", text, re.M):
            return runtime
    return "cpu"
