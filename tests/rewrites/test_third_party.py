"""Rewrites of other packages, found through the entry points ``ke_gen.rewrites``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ke_ir.rewrites import NoMatch, all_rewrites, apply_text, parse_rewrite, register_rewrite
from ke_ir.rewrites.base import REWRITES, KernelRewrite
from tests.rewrites.support import example

SOURCE = '''
from dataclasses import dataclass
from ke_ir.rewrites import KernelRewrite, NoMatch, register_rewrite


@register_rewrite
@dataclass(frozen=True)
class Never(KernelRewrite):
    """Applies to nothing."""

    name = "never"

    def change(self, k):
        return NoMatch("never")

    @classmethod
    def instances(cls, k):
        return iter(())
'''


def install(folder: Path, entry: str) -> None:
    (folder / "their_rewrites.py").write_text(SOURCE)
    info = folder / "their_rewrites-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rewrites\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ke_gen.rewrites]\ntheirs = {entry}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    all_rewrites.cache_clear()
    yield tmp_path
    REWRITES.pop("never", None)
    all_rewrites.cache_clear()


def test_they_stand_beside_our_own(site: Path) -> None:
    install(site, "their_rewrites")
    assert "never" in [c.name for c in all_rewrites()]
    assert str(parse_rewrite("never(@k)")) == "never(@k)"
    assert apply_text("never(@rms_norm)", example("rms_norm")) == NoMatch("never")


def test_what_cannot_be_loaded_is_named(site: Path) -> None:
    install(site, "their_rewrites_gone")
    with pytest.raises(RuntimeError, match=r"`theirs` cannot be loaded from their_rewrites_gone"):
        all_rewrites()


def test_a_rewrite_that_is_not_well_formed_is_refused() -> None:
    class Shouting(KernelRewrite):
        """A name that is not snake case."""

        name = "SHOUT"

    with pytest.raises(TypeError, match="snake_case"):
        register_rewrite(Shouting)
