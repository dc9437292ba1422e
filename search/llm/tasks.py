"""What worker processes do for the operator: list legal rewrites, and read replies.

A rewrite at fault, or a reply that makes the verifier run long, costs a worker and not the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ke_ir.parser import parse
from search.llm.reply import Accepted, Refused, read_reply
from search.operators.offers import offers_of

Ignored = Callable[[Any], None]


def offers(task: Mapping[str, Any], _: Ignored) -> list[str]:
    """Text forms of the rewrites that apply to ``text``, but for those ``tried``."""
    return [str(r) for r in offers_of(task["text"]).left(set(task["tried"]))]


def read(task: Mapping[str, Any], _: Ignored) -> list[Accepted | Refused]:
    """``replies`` read as children of ``text``: each with its ``text``, ``menu`` and ``forms``."""
    parent = parse(task["text"])
    return [
        read_reply(r["text"], parent, task["program"], r["menu"], r["forms"])
        for r in task["replies"]
    ]
