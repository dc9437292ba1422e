"""Fixtures: generated texts written by hand, and the workers ended after each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from targets.gpu import workers

FOLDER = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def text() -> Callable[[str], str]:
    """Reads a fixture by its stem."""
    return lambda stem: (FOLDER / f"{stem}.py").read_text()


@pytest.fixture(autouse=True, scope="module")
def _end_workers() -> Iterator[None]:
    yield
    workers.stop_all()
