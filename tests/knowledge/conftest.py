"""Notes to be read, and the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest_cli import run

__all__ = ["run", "write"]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(id, body, **fields)``: a note in the folder ``notes``; gives its path."""

    def go(id: str, body: str = "Something to know.", **fields: str) -> Path:
        folder = tmp_path / "notes"
        folder.mkdir(exist_ok=True)
        head = {"id": id, "title": f"About {id}", "source": "a test", **fields}
        lines = [f"{name}: {value}" for name, value in head.items()]
        path = folder / f"{id}.md"
        path.write_text("\n".join(["---", *lines, "---", body, ""]), encoding="utf-8")
        return path

    return go
