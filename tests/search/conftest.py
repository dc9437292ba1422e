"""An installed package with the target ``toy``, and small ops to search on."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from search.config import Config
from search.evaluation.evaluator import Evaluator
from search.evaluation.pool import Limits as WorkerLimits
from search.evaluation.pool import Pool
from search.run import Search, start
from search.store import Store, open_store
from search.termination import Limits

HERE = Path(__file__).parent
OP = """op @scale(x: f32[B, D]) -> (y: f32[B, D])
dims B in 1..16 = 12, D = 64
{
  s[b] = sum[d](x[b, d])
  y[b, d] = x[b, d] * s[b]
}
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The target ``toy`` is found by this process and by those it starts."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(HERE / "toy_target.py", folder / "toy_target.py")
    info = folder / "toy_target-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-target\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ke_gen.targets]\ntoy = toy_target:ToyTarget\n")
    registry = importlib.import_module("targets.registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        inherited = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), inherited])))
        registry.clear_cache()
        yield folder
    sys.modules.pop("toy_target", None)
    registry.clear_cache()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with open_store(str(tmp_path / "store")) as found:
        yield found


def config_for(store: Store, **changes: object) -> Config:
    """A short search on the toy target."""
    settings: dict[str, object] = {
        "program": "scale", "text": store.artifacts.put(OP), "file": "scale.ir",
        "targets": ("toy.good",), "limits": Limits(candidates=20), "batch": 6, "drafts": 4,
    }  # fmt: skip
    return Config(**{**settings, **changes})  # type: ignore[arg-type]


class SharedWorkers(Evaluator):
    """Its workers outlive it, since starting them takes longer than most searches here.

    Workers see the environment that they were started with: those for another ``TOY_LOG`` are
    others.
    """

    pools: ClassVar[dict[tuple[int, str], Pool]] = {}

    def __init__(self, workers: int, limits: WorkerLimits, _: Pool | None) -> None:
        self.limits = limits
        place = (workers, os.environ.get("TOY_LOG", ""))
        self.pool = self.pools.get(place) or self.pools.setdefault(place, Pool(workers))

    def __exit__(self, *_: object) -> None:
        """The workers stay."""


@pytest.fixture(autouse=True)
def shared_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches in this process share workers, which end with it."""
    monkeypatch.setattr("search.run.Evaluator", SharedWorkers)


@pytest.fixture
def searched(toy: Path) -> Callable[..., Search]:
    """Run a search to its end; gives it, closed."""

    def go(store: Store, jobs: int = 2, **changes: object) -> Search:
        run = start(store, config_for(store, **changes))
        with Search(store, run, jobs) as search:
            search.run()
        return search

    return go
