"""Fixtures for all tests: caches of their own, and a third-party target to be found."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from targets.base import ToolchainMissing

HERE = Path(__file__).parent

# The same examples at each run: what passed here passes anywhere. `make fuzz` draws new ones.
settings.register_profile("steady", derandomize=True, database=None)
if not os.environ.get("KE_GEN_FUZZ"):
    settings.load_profile("steady")


def pytest_configure() -> None:
    """Commands under test can be interrupted even if the shell started us deaf to that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Skip what needs Triton's interpreter where that cannot run: Triton 3.6 with a new numpy."""
    try:
        return (yield)
    except ToolchainMissing as missing:
        if "interpreter cannot run" in str(missing):
            pytest.skip(str(missing))
        raise


@pytest.fixture(scope="session", autouse=True)
def plain_output() -> Iterator[None]:
    """No colour and one width, whatever terminal the tests run in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "120")
        patch.delenv("KE_GEN_TRACEBACK", raising=False)
        yield


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An installed package of somebody else's with the targets ``fake`` and ``broken``.

    It is found by this process and by those it starts. Gives the folder it is in.
    """
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(HERE / "evaluation" / "fake_target.py", folder / "fake_target.py")
    info = folder / "fake_target-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-target\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ke_gen.targets]\nfake = fake_target:FakeTarget\nbroken = no_such_module:Target\n"
    )
    registry = importlib.import_module("targets.registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        inherited = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), inherited])))
        registry.clear_cache()
        yield folder
    sys.modules.pop("fake_target", None)
    registry.clear_cache()
