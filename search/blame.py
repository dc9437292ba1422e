"""Which rewrite brought each statement of a candidate."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from ke_ir.ir import Kernel, Module, Program
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.rewrites import NoMatch, RewriteTextError, apply_text

if TYPE_CHECKING:
    from search.graph import SearchGraph
    from search.store import Store


def blame_lines(store: Store, graph: SearchGraph, key: str) -> list[tuple[str, str]]:
    """(Label of the rewrite, line) for each line of the node's text.

    Lines are followed from the root down the lineage; one that only had values renamed keeps its
    origin. Raises ArtifactError.
    """
    steps: list[tuple[str, Module]] = []
    for k in graph.lineage(key):
        edge = graph.lineage_edge(k)
        module = parse(store.artifacts.text(graph.node(k).text))
        if steps:
            steps += _inner_steps(steps[-1][1], edge.label, module)
        else:
            steps.append((edge.label, module))
    label, module = steps[0]
    owners = [label] * len(print_module(module).splitlines())
    for label, new in steps[1:]:
        owners = _follow(_shapes(module), _shapes(new), owners, label)
        module = new
    return list(zip(owners, print_module(module).splitlines(), strict=True))


def _inner_steps(before: Module, label: str, after: Module) -> list[tuple[str, Module]]:
    """A step of several rewrites taken apart; as a whole where that does not give the result."""
    out: list[tuple[str, Module]] = []
    module = before
    for text in label.split("; ")[:-1]:
        try:
            new = apply_text(text, module)
        except RewriteTextError:
            return [(label, after)]
        if isinstance(new, NoMatch):
            return [(label, after)]
        module = new
        out.append((text, module))
    return [*out, (label.rpartition("; ")[2], after)]


def _shapes(module: Module) -> list[str]:
    """Lines for comparison: names of values left out, so that a renamed one is the same line."""
    known = {t for i in module.items if isinstance(i, Kernel | Program) for t in i.tensors}

    def bare(found: re.Match[str]) -> str:
        return found[0] if found[1] in known else "%"

    return [re.sub(r"%(\w+)", bare, line) for line in print_module(module).splitlines()]


def _follow(old: list[str], new: list[str], owners: list[str], label: str) -> list[str]:
    out = [label] * len(new)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for a, b, n in matcher.get_matching_blocks():
        out[b : b + n] = owners[a : a + n]
    return out
