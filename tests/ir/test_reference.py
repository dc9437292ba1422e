"""The language page holds the reference that the registry gives."""

from pathlib import Path

from ke_ir.ops import REGISTRY
from ke_ir.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "ke-ir.md"


def test_page_holds_the_generated_reference() -> None:
    # To mend: replace what follows "## Op kinds" by `python -m ke_ir.reference`.
    assert reference().strip() in PAGE.read_text()


def test_every_op_kind_is_in_the_reference() -> None:
    text = reference()
    for word in REGISTRY:
        assert f"`{word}" in text or f" {word} " in text, word
