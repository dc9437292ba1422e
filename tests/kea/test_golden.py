"""The emitted MLIR, as text. After an intended change: `KEA_GOLDEN=write pytest tests/kea`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from targets.kea.target import KeaTarget
from tests.kea.kea_kernels import KERNELS
from tests.kea.kea_support import program_of

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["f8", "conv", "jagged", "program"])
def test_emitted_text(name: str) -> None:
    module, program = program_of(KERNELS[name])
    text = KeaTarget("kea2").lower(module, program, {}, program.sizes()).text
    path = GOLDEN / f"{name}.mlir"
    if os.environ.get("KEA_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
