"""The text form of rewrites, and the names they address."""

from __future__ import annotations

import pytest

from ke_ir.hashing import structural_hash
from ke_ir.parser import parse
from ke_ir.rewrites import RewriteTextError, applicable, parse_rewrite, unique_names
from ke_ir.rewrites.names import defined_in
from tests.rewrites.support import example

REPEATED = """
kernel @k(%x: f32[N]) -> (%y: f32[N], %z: f32[N])
dims N = 8
{
  parallel %p = 0 to 1 {
    for %i = 0 to N tile 4 {
      %v = load %x[%i] : f32[4]
      store %v, %y[%i]
    }
    for %i = 0 to N tile 2 {
      %v = load %x[%i] : f32[2]
      %v_1 = add %v, 0.0
      store %v_1, %z[%i]
    }
  }
}
"""


def test_every_applicable_rewrite_reads_back_from_its_text() -> None:
    found = list(applicable(example("rms_norm")))
    assert len(found) > 3
    for r in found:
        assert parse_rewrite(str(r)) == r


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("retile", "is not a rewrite"),
        ("retyle(@k, %d, 4)", "did you mean `retile`"),
        ("retile(@k, %d)", "write `retile(@kernel, %loop, tile)`"),
        ("retile(k, %d, 4)", "write `@NAME`"),
        ("retile(@k, %d, four)", "is not an integer"),
        ("retile(@k, %d, 4) x", "is not a rewrite"),
    ],
)
def test_bad_text_says_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(RewriteTextError, match=says.replace("(", r"\(").replace(")", r"\)")):
        parse_rewrite(text)


def test_names_become_unique_and_nothing_else_changes() -> None:
    module = parse(REPEATED)
    got = unique_names(module)
    names = list(defined_in(got.kernels["k"].body))
    assert sorted(names) == sorted(["p", "i", "v", "i_1", "v_2", "v_1"])
    assert structural_hash(got) == structural_hash(module)
    assert unique_names(got) is got
