"""Imports generated text as a module. Used in worker processes only."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from targets.gpu.generated import text_digest


def load_text(text: str, folder: Path | None = None) -> ModuleType:
    """Import a generated text. Triton needs a file to read source from, so one is written.

    The name is the content's hash and the write is atomic: processes may do this at once. The
    module is kept in ``sys.modules``, so a second request for the same text costs nothing.
    """
    name = f"ke_gen_{text_digest(text)}"
    if name in sys.modules:
        return sys.modules[name]
    folder = folder or cache_folder()
    path = folder / f"{name}.py"
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    return load_file(path, name)


def load_file(path: Path, name: str) -> ModuleType:
    """Import one file under a name. Raises ImportError when it cannot be read as Python."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def cache_folder() -> Path:
    """Where generated modules are written: ``$KE_GEN_CACHE`` or ``~/.cache/ke-gen``."""
    base = os.environ.get("KE_GEN_CACHE") or Path.home() / ".cache" / "ke-gen"
    folder = Path(base) / "modules"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
