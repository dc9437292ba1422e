"""``ke-gen diff A.ir B.ir`` and ``ke-gen diff RUN A B``: which statements differ."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.files import read_text, shown
from ke_gen.runs import loaded, node_of, opened, store_option
from ke_gen.terminal import paint, print_wrapped

if TYPE_CHECKING:
    from search.graph import Node, SearchGraph


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@click.option("--context", default=2, show_default=True, type=click.IntRange(0, 1000),
              help="Unchanged statements to show around a change.")  # fmt: skip
@click.option("--source", metavar="T", default="",
              help="Of nodes: also the generated source for a target.")  # fmt: skip
@store_option
@click.argument("names", nargs=-1, required=True, metavar="[RUN] BEFORE AFTER")
def diff(as_json: bool, context: int, source: str, store_url: str, names: tuple[str, ...]) -> int:
    """Show which statements of BEFORE were added, removed or changed in AFTER.

    Both are files; or nodes or generations (gen:3, root, best) of RUN, with their times.
    Statements are compared, not lines: renamed values and layout make no difference. Exit code 0
    in either case, and 2 when a file cannot be read.
    """
    if len(names) == 2 and not source:
        texts = tuple(read_text(path) for path in names)
        return _structural(texts, tuple(map(shown, names)), as_json, context)
    if len(names) != 3:
        raise Fault(
            BAD_INPUT, "diff takes two files, or a run and two of its nodes",
            "such as `ke-gen diff a.ir b.ir` or `ke-gen diff RUN gen:0 best`",
        )  # fmt: skip
    return _nodes(names, as_json, context, source, store_url)


def _structural(texts: tuple[str, ...], names: tuple[str, ...], as_json: bool, context: int) -> int:
    from ke_ir.diff import count, diff_modules, render
    from ke_ir.parser import parse

    old, new = (parse(text, name) for text, name in zip(texts, names, strict=True))
    changes = diff_modules(old, new)
    totals = count(changes)
    if as_json:
        listed = [c.to_dict() for c in changes if c.touched]
        print(json.dumps({"count": totals, "changes": listed}, indent=2))
        return 0
    text = render(changes, paint, context)
    print(text or "no difference")
    if text:
        print(", ".join(f"{n} {kind}" for kind, n in totals.items()))
    return 0


def _nodes(names: tuple[str, ...], as_json: bool, context: int, source: str, store_url: str) -> int:
    from search.results import source_text
    from search.store import ArtifactError

    run, *wanted = names
    with opened(store_url) as store:
        _, config, graph = loaded(store, run)
        pair = [node_of(graph, config, name) for name in wanted]
        try:
            texts = tuple(store.artifacts.text(n.text) for n in pair)
            if not as_json:
                _print_times(pair, config.targets)
                _print_steps(graph, *pair)
                print()
            _structural(texts, (wanted[0], wanted[1]), as_json, context)
            if source and not as_json:
                target = next((t for t in config.targets if source in (t, t.split(".")[0])), "")
                if not target:
                    raise Fault(BAD_INPUT, f"the run has no target `{source}`",
                                f"targets: {', '.join(config.targets)}")  # fmt: skip
                sources = [source_text(store, config, n, target)[0] for n in pair]
                _print_lines(sources, [f"{n.key[:8]} for {target}" for n in pair])
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    return 0


def _print_times(pair: list[Node], targets: tuple[str, ...]) -> None:
    from ke_gen.report import duration_text

    for target in targets:
        said = []
        for n in pair:
            s = n.scores.get(target)
            if s is None or s.seconds is None:
                said.append(s.stage if s is not None and s.stage else "no time")
            else:
                said.append(f"{duration_text(s.seconds)} {s.kind}")
        before, after = (f"{n.key[:8]} {text}" for n, text in zip(pair, said, strict=True))
        print_wrapped(f"{target}: {before} -> {after}{_ratio(pair, target)}")


def _ratio(pair: list[Node], target: str) -> str:
    """How much faster the second is, where both have times of one kind."""
    a, b = (n.scores.get(target) for n in pair)
    if a is None or b is None or not a.seconds or not b.seconds or a.kind != b.kind:
        return ""
    return f", {a.seconds / b.seconds:.2f}x as fast"


def _print_steps(graph: SearchGraph, a: Node, b: Node) -> None:
    """The rewrites between two nodes of which one comes from the other."""
    path = graph.lineage(b.key)
    if a.key in path[:-1]:
        steps = [graph.lineage_edge(k).label for k in path[path.index(a.key) + 1 :]]
        print_wrapped(f"by {' -> '.join(steps)}")


def _print_lines(texts: list[str], names: list[str]) -> None:
    lines = [text.splitlines() for text in texts]
    for line in difflib.unified_diff(lines[0], lines[1], names[0], names[1], lineterm=""):
        kind = {"+": "added", "-": "removed"}.get(line[:1], "same")
        print(paint(kind, line))
