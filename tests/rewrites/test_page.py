"""The page on rewrites names each of them as it is, and its programs run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ke_ir.hashing import structural_hash
from ke_ir.rewrites import Rewrite, all_rewrites, parse_rewrite
from ke_ir.rewrites.base import REWRITES
from tests.rewrites.support import after, examples_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rewrites.md").read_text()
ROWS = re.findall(r"^\| `(\w+)(\(.*?\))` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)


def code(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_each_rewrite_stands_on_the_page_once() -> None:
    ours = [c.name for c in all_rewrites() if c.__module__.startswith("ke_ir.")]
    assert sorted(name for name, *_ in ROWS) == ours


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r[0])
def test_a_row_says_what_the_rewrite_says_of_itself(row: tuple[str, str, str, str]) -> None:
    name, form, what, refuses = row
    cls = next(c for c in all_rewrites() if c.name == name)
    assert name + form == cls.form()
    assert cls.__doc__ is not None
    assert what == cls.__doc__.splitlines()[0]
    assert refuses


def test_the_first_program_runs() -> None:
    first = code("python")[0]
    done = subprocess.run([sys.executable, "-c", first], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "retile(@rms_norm, %b, 8)" in done.stdout
    assert "parallel %b = 0 to B tile 8" in done.stdout


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Rewrite]]:
    """The page's own rewrite, installed as the page says."""
    (tmp_path / "double_rewrite.py").write_text(code("python")[1])
    ((group, entry),) = re.findall(r'entry-points\."(\S+)"\]\n(.*)', code("toml")[0])
    info = tmp_path / "double-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: double\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    all_rewrites.cache_clear()
    yield next(c for c in all_rewrites() if c.name == "double")
    REWRITES.pop("double", None)
    sys.modules.pop("double_rewrite", None)
    all_rewrites.cache_clear()


def test_a_rewrite_is_added_as_the_page_says(double: type[Rewrite]) -> None:
    text, before, want = examples_of(double)
    assert [str(r) for r in double.applicable(before)] == [text]
    assert structural_hash(after(before, parse_rewrite(text))) == structural_hash(want)
