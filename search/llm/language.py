"""KE-IR on one page, for a model: generated from the registry, with example kernels."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ke_ir.expr import INDEX_FUNCTIONS
from ke_ir.ops import REGISTRY
from ke_ir.ops.base import Op, Piece
from ke_ir.reference import FAMILIES, syntax
from ke_ir.types import DTYPES

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parents[2] / "templates" / "prompts"
EXAMPLES = TEMPLATES / "examples"
PROGRAM = "program"
"""The example that is not of a family of op kinds."""


@cache
def environment() -> Environment:
    """Templates of prompts. What is filled in is text, and is never taken for a template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip


def example(family: str) -> str:
    """The op and the kernel that show the op kinds of a family, or (``program``) a program."""
    return (EXAMPLES / f"{family}.ir").read_text(encoding="utf-8")


@cache
def page(examples: bool = True) -> str:
    """All that may stand in a kernel or program: statements, every op kind, rules, examples."""
    families = [
        (title, [_kind(c) for c in dict.fromkeys(REGISTRY.values()) if c.family == family])
        for family, title in FAMILIES.items()
    ]
    shown = [example(family) for family in (*FAMILIES, PROGRAM)] if examples else []
    return (
        environment()
        .get_template("language.md.j2")
        .render(
            families=families, dtypes=list(DTYPES), index_functions=list(INDEX_FUNCTIONS),
            examples=shown,
        )
    )  # fmt: skip


def _kind(cls: type[Op]) -> dict[str, Any]:
    words = {p.field.upper(): sorted(p.choices or ()) for p in _with_words(cls.pieces)}
    if len(cls.mnemonics) > 1:
        words["FN"] = list(cls.mnemonics)
    said = inspect.cleandoc(cls.__doc__ or "").replace("``", "`")
    return {"form": syntax(cls), "words": words, "doc": " ".join(said.split())}


def _with_words(pieces: tuple[Piece, ...]) -> list[Piece]:
    found = [p for p in pieces if p.kind == "word"]
    return found + [q for p in pieces for q in _with_words(p.group)]
