"""Finding problems, and what is said when there are none."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from search.kernelbench.checkout import BadCheckout, find
from tests.kernelbench.conftest import OWN


def test_own_problems() -> None:
    """At least 60, numbered from 1 in each level, each with the three parts of the format."""
    found = find(OWN, [1, 2, 3])
    assert len(found) >= 60
    for level, count in Counter(p.level for p in found).items():
        assert [p.number for p in found if p.level == level] == list(range(1, count + 1))
    for problem in found:
        body = ast.parse(problem.path.read_text()).body
        names = {n.name for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
        assert names >= {"Model", "get_inputs", "get_init_inputs"}, problem.path


def test_layouts(tmp_path: Path) -> None:
    """The root of a checkout, and the folder that holds the levels."""
    level = tmp_path / "KernelBench" / "level1"
    level.mkdir(parents=True)
    for name in ("10_Last.py", "2_First.py", "notes.py", "__init__.py"):
        (level / name).write_text("")
    for path in (tmp_path, tmp_path / "KernelBench"):
        assert [p.key for p in find(path, [1])] == ["1/2", "1/10"]


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [("3", ["1/3", "2/3", "3/3"]), ("2/3", ["2/3"]), ("Softmax", ["1/12"]),
     ("12_Softmax", ["1/12"])],
)  # fmt: skip
def test_choice(wanted: str, keys: list[str]) -> None:
    assert [p.key for p in find(OWN, [1, 2, 3], [wanted])] == keys


def test_errors(tmp_path: Path) -> None:
    """Each says what is wrong, and what would be right."""
    with pytest.raises(BadCheckout, match="there is no folder") as missing:
        find(tmp_path / "nowhere", [1])
    assert "git clone" in missing.value.fix
    with pytest.raises(BadCheckout, match="not a checkout"):
        find(tmp_path, [1])
    with pytest.raises(BadCheckout, match="no level 7") as level:
        find(OWN, [7])
    assert "level1, level2, level3" in level.value.fix
    with pytest.raises(BadCheckout, match=r"no such problem in level 1 of .*: 999") as number:
        find(OWN, [1], ["1", "999"])
    assert "numbers are 1 to 43" in number.value.fix
    with pytest.raises(BadCheckout, match="Sotfmax") as name:
        find(OWN, [1], ["Sotfmax"])
    assert "Softmax" in name.value.fix
