"""The example in each rewrite's docstring: what it shows before becomes what it shows after."""

from __future__ import annotations

import pytest

from ke_ir.hashing import structural_hash
from ke_ir.printer import print_module
from ke_ir.rewrites import NoMatch, Rewrite, all_rewrites, parse_rewrite
from tests.rewrites.support import assert_same_meaning, assert_verifies, examples_of


@pytest.mark.parametrize("cls", all_rewrites(), ids=lambda c: c.name)
def test_the_docstring_shows_what_happens(cls: type[Rewrite]) -> None:
    text, before, want = examples_of(cls)
    rewrite = parse_rewrite(text)
    assert type(rewrite) is cls
    assert str(rewrite) == text
    got = rewrite.apply(before)
    assert not isinstance(got, NoMatch), got.reason
    assert_verifies(got)
    assert structural_hash(got) == structural_hash(want), print_module(got)
    assert rewrite in list(cls.applicable(before))
    for name in before.programs:
        assert_same_meaning(before, got, name)


@pytest.mark.parametrize("cls", all_rewrites(), ids=lambda c: c.name)
def test_an_unknown_kernel_is_no_match(cls: type[Rewrite]) -> None:
    text, before, _ = examples_of(cls)
    rewrite = parse_rewrite(text.replace("(@", "(@no_such_", 1))
    got = rewrite.apply(before)
    assert isinstance(got, NoMatch)
    assert "no_such_" in got.reason
