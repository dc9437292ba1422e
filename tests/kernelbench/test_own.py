"""Our own problems through all that needs no GPU: every fifth of them, of all levels.

``ke-gen bench kernelbench --path bench/problems --reduced`` does the same with all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from search.kernelbench.checkout import find
from tests.cli.conftest_cli import Run
from tests.kernelbench.conftest import OWN


def test_every_fifth(run: Run, tmp_path: Path) -> None:
    keys = [p.key for p in find(OWN, [1, 2, 3])][2::5]
    assert {key[0] for key in keys} == {"1", "2", "3"}
    done = run("bench", "kernelbench", "--path", OWN, "--reduced", "--target", "kea",
               "--problems", ",".join(keys), "--jobs", 1, "--out", tmp_path / "out")  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert f"numbers kea.kea2: {len(keys)} of {len(keys)} passed" in done.out
