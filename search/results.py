"""What a search leaves behind: the best kernel of each target as ``.ir`` and as source."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ke_ir.parser import parse
from search.candidates import tuned_text
from targets.base import TargetError
from targets.registry import find_target, knobs_for

if TYPE_CHECKING:
    from search.config import Config
    from search.graph import Edge, Node, SearchGraph
    from search.store import Store

_LONGEST = 240


@dataclass(frozen=True)
class Best:
    """The best of one target. ``gain`` is the root's time over its time, of the same kind;
    None where the root has none. ``files`` are those written, ``fault`` why one is lacking."""

    target: str
    node: Node | None
    gain: float | None = None
    files: tuple[Path, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Reason:
    """One reason for which the candidates ``nodes`` failed."""

    text: str
    nodes: tuple[str, ...]


def reference(graph: SearchGraph) -> Node:
    """What gains are measured against: the derived root, or the file's own where there is none."""
    return graph.node(graph.roots[-1])


def gain(graph: SearchGraph, node: Node, target: str) -> float | None:
    """Time of the reference over the node's, where both have one of the same kind."""
    ref, mine = reference(graph).scores.get(target), node.scores.get(target)
    if ref is None or mine is None or ref.kind != mine.kind:
        return None
    if ref.seconds is None or mine.seconds is None:
        return None
    return ref.seconds / mine.seconds


def best_text(store: Store, config: Config, node: Node, target: str) -> str:
    """The node's KE-IR with the ``tuned`` block of one target, where that has chosen knobs."""
    text = store.artifacts.text(node.text)
    return tuned_text(text, config.program, {target: node.scores[target].knobs})


def source_text(store: Store, config: Config, node: Node, target: str) -> tuple[str, str]:
    """The node's generated source for a target, and its file suffix. Raises TargetError."""
    module = parse(best_text(store, config, node, target))
    program = module.programs[config.program]
    found = find_target(target)
    knobs = knobs_for(found, module, program)
    source = found.lower(module, program, knobs, program.sizes(config.dims))
    return source.text, source.suffix


def write_best(store: Store, config: Config, graph: SearchGraph, out: Path) -> list[Best]:
    """Write the best of each target into ``out``. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for target in config.targets:
        node = graph.best(target)
        if node is None:
            found.append(Best(target, None, fault=_why_none(graph, target)))
            continue
        path = out / f"{config.program}.{target}.ir"
        path.write_text(best_text(store, config, node, target), encoding="utf-8")
        files, fault = [path], ""
        try:
            text, suffix = source_text(store, config, node, target)
            source = out / f"{config.program}.{target}{suffix}"
            source.write_text(text, encoding="utf-8")
            files.append(source)
        except TargetError as error:
            fault = str(error)
        found.append(Best(target, node, gain(graph, node, target), tuple(files), fault))
    return found


def failures(graph: SearchGraph) -> dict[str, int]:
    """How many candidates failed on some target, by stage; most frequent first."""
    counted: Counter[str] = Counter()
    for n in graph.nodes():
        if n.status == "rejected":
            counted["rejected"] += 1
        counted.update({s.stage for s in n.scores.values() if s.stage})
    return dict(counted.most_common())


def reasons(graph: SearchGraph) -> list[Reason]:
    """Why edges failed, most frequent first.

    Reasons that differ only in their numbers, names of values, kernels and processes, or in what
    follows the first clause, are one; the first of them is shown.
    """
    found: dict[str, list[Edge]] = {}
    for e in graph.edges():
        if e.reason:
            clause = re.split(r"; | \(", e.reason, maxsplit=1)[0]
            alike = re.sub(r"(?<![\w-])\d[\w,.+-]*", "N", re.sub(r"([@%])\w+", r"\1", clause))
            found.setdefault(alike, []).append(e)
    listed = [
        Reason(shortened(edges[0].reason, _LONGEST), tuple(e.child for e in edges))
        for edges in found.values()
    ]
    return sorted(listed, key=lambda r: -len(r.nodes))


def shortened(text: str, most: int) -> str:
    """At most so many characters, cut between words where that is possible."""
    if len(text) <= most:
        return text
    cut = text[: most - 3]
    at = cut.rfind(" ")
    return f"{cut[:at] if at > most // 2 else cut}..."


def _why_none(graph: SearchGraph, target: str) -> str:
    score = reference(graph).scores.get(target)
    return score.reason if score is not None and score.reason else "no candidate was correct"
