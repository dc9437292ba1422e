"""The ``run`` fixture, and problems that go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest_cli import run

__all__ = ["run"]

OWN = Path(__file__).parents[2] / "bench" / "problems"

_HEAD = "import os\nimport signal\n\nimport torch\nfrom torch import nn\n\n\n"
_INPUTS = "def get_inputs():\n    return [torch.randn(4, 8)]\n\n\n"
_NONE = "def get_init_inputs():\n    return []\n"


def model(forward: str) -> str:
    """A module with this body of ``forward``."""
    return f"class Model(nn.Module):\n    def forward(self, x):\n        {forward}\n\n\n"


BAD = {
    "1_NoInputs": _HEAD + model("return x") + _NONE,
    "2_Raises": _HEAD + model("return x") + "def get_inputs():\n    return [1 / 0]\n\n\n" + _NONE,
    "3_DependsOnData": _HEAD
    + model("return x + 1 if x.sum() > 0 else x - 1") + _INPUTS + _NONE,
    "4_Crashes": _HEAD + model("os.kill(os.getpid(), signal.SIGSEGV)") + _INPUTS + _NONE,
    "5_Unsupported": _HEAD + model("return torch.linalg.svdvals(x)") + _INPUTS + _NONE,
    "6_Hangs": _HEAD + model("while True: pass") + _INPUTS + _NONE,
    "7_NeedsPackage": "import no_such_package\n" + _HEAD + model("return x") + _INPUTS + _NONE,
}  # fmt: skip


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of problems each of which is wrong in a way of its own."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "level1").mkdir()
    for name, text in BAD.items():
        (folder / "level1" / f"{name}.py").write_text(text)
    return folder
