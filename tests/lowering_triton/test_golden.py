"""Generated texts, whole. ``UPDATE_GOLDEN=1 pytest tests/lowering_triton`` writes them anew."""

from __future__ import annotations

import os

import pytest

from tests.lowering_triton.conftest import FOLDER, H100, MI300, lowered, read

CASES = ["rms_norm", "matmul_gelu", "attention", "conv1d", "embedding_sum"]


@pytest.mark.parametrize("stem", CASES)
def test_text(stem: str) -> None:
    text = lowered(read(stem))
    path = FOLDER / "golden" / f"{stem}.py"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("stem", CASES)
def test_amd_differs_in_its_traits_only(stem: str) -> None:
    nvidia, amd = (lowered(read(stem), traits=t) for t in (H100, MI300))
    assert amd == nvidia.replace("sm_90", "gfx942")


@pytest.mark.parametrize("stem", CASES)
def test_lines_are_short(stem: str) -> None:
    lines = lowered(read(stem)).splitlines()
    assert max(len(x) for x in lines) <= 100


def test_knobs_become_options() -> None:
    text = lowered(read("rms_norm"), traits=MI300, knobs={"num_warps": 8, "waves_per_eu": 2})
    assert '"options": {"num_warps": 8, "num_stages": 2, "waves_per_eu": 2},' in text
