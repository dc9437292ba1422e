"""Finds the problems of a checkout: ``level<N>/<number>_<Name>.py``, as KernelBench has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ke_ir.diagnostics import near

LEVELS = (1, 2, 3)
"""Levels that are run unless others are asked for. KernelBench's fourth needs a network."""
_FILE = re.compile(r"(\d+)_(\w+)\.py")
_LEVEL = re.compile(r"level(\d+)")


class BadCheckout(Exception):
    """What is wrong with the path or the choice of problems, and what to do (``fix``)."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class ProblemFile:
    """One problem. ``key`` names it in results: ``2/17``, the level and the number."""

    level: int
    number: int
    name: str
    path: Path

    @property
    def key(self) -> str:
        return f"{self.level}/{self.number}"


def find(path: Path, levels: Sequence[int], wanted: Sequence[str] = ()) -> list[ProblemFile]:
    """The problems of these levels in order; of those, the ``wanted`` ones where any are named.

    ``wanted`` holds numbers (``17``, in each level), keys (``2/17``) or names. Raises BadCheckout.
    """
    folder = _folder(path)
    found = [p for level in levels for p in _level(folder, level)]
    if not wanted:
        return found
    unknown = [w for w in wanted if not any(_is(p, w) for p in found)]
    if unknown:
        among = ", ".join(map(str, levels))
        raise BadCheckout(
            f"no such problem in level {among} of {path}: {', '.join(unknown)}",
            _hint(unknown[0], found),
        )
    return [p for p in found if any(_is(p, w) for w in wanted)]


def _folder(path: Path) -> Path:
    """Where the level folders are: the path itself, or ``KernelBench`` in it."""
    if not path.exists():
        raise BadCheckout(
            f"there is no folder {path}",
            "git clone https://github.com/ScalingIntelligence/KernelBench and name its folder",
        )
    for folder in (path / "KernelBench", path):
        if folder.is_dir() and any(_LEVEL.fullmatch(f.name) for f in folder.iterdir()):
            return folder
    raise BadCheckout(
        f"{path} is not a checkout of KernelBench: it holds no folder level1",
        "name the folder of the checkout, or one with level<N>/<number>_<Name>.py in it",
    )


def _level(folder: Path, level: int) -> list[ProblemFile]:
    place = folder / f"level{level}"
    if not place.is_dir():
        have = sorted(f.name for f in folder.iterdir() if _LEVEL.fullmatch(f.name))
        raise BadCheckout(f"{folder} has no level {level}", f"it has {', '.join(have)}")
    found = []
    for file in place.glob("*.py"):
        if match := _FILE.fullmatch(file.name):
            found.append(ProblemFile(level, int(match[1]), match[2], file))
    return sorted(found, key=lambda p: p.number)


def _is(problem: ProblemFile, wanted: str) -> bool:
    return wanted in (str(problem.number), problem.key, problem.name, problem.path.stem)


def _hint(word: str, found: Iterable[ProblemFile]) -> str:
    problems = list(found)
    numbers = [p.number for p in problems]
    hint = near(word, [p.name for p in problems])
    span = f"numbers are {min(numbers)} to {max(numbers)}" if numbers else "there are none"
    return f"{hint} {span}; a problem is named 17, 2/17 or by its name".strip()
