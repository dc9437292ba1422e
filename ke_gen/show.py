"""``ke-gen show RUN NODE``: one candidate: its IR, where it came from, and its verdicts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.report import duration_text
from ke_gen.runs import loaded, node_of, opened, store_option
from ke_gen.terminal import paint, print_wrapped

if TYPE_CHECKING:
    from search.graph import Node, Score, SearchGraph


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--ir", "only_ir", is_flag=True, help="The KE-IR text alone.")
@click.option("--source", metavar="T", default="", help="The generated source for a target alone.")
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@store_option
@click.argument("run")
@click.argument("node")
def show(
    only_ir: bool, source: str, as_json: bool, store_url: str, run: str, node: str
) -> int:  # fmt: skip
    """Show NODE of RUN: the beginning of its key, `gen:3`, `root`, `best` or `best:TARGET`."""
    from search.results import source_text
    from search.store import ArtifactError

    with opened(store_url) as store:
        _, config, graph = loaded(store, run)
        found = node_of(graph, config, node)
        try:
            text = store.artifacts.text(found.text)
            if source:
                target = next((t for t in config.targets if source in (t, t.split(".")[0])), "")
                if not target:
                    raise Fault(BAD_INPUT, f"the run has no target `{source}`",
                                f"targets: {', '.join(config.targets)}")  # fmt: skip
                text, only_ir = source_text(store, config, found, target)[0], True
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    if as_json:
        edge = graph.lineage_edge(found.key).to_dict()
        print(json.dumps({**found.to_dict(), "edge": edge, "ir": text}, indent=2))
    elif only_ir:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        _print(graph, found, text)
    return 0


def _print(graph: SearchGraph, node: Node, text: str) -> None:
    print(paint("bold", f"{node.key}: generation {node.generation}, {node.status}"))
    edge = graph.lineage_edge(node.key)
    came = f"from {edge.parent[:8]} by {edge.label}" if edge.parent else f"a root: {edge.label}"
    print_wrapped(came, "  ")
    if edge.reason:
        print_wrapped(edge.reason, "  ")
    if edge.rationale:
        print_wrapped(f"said: {' '.join(edge.rationale.split())}", "  ")
    for target, score in node.scores.items():
        print_wrapped(f"{target}: {_score(score)}", "  ")
    path = [graph.lineage_edge(k).label for k in graph.lineage(node.key)]
    print_wrapped(f"path: {' -> '.join(path)}", "  ")
    children = graph.children(node.key)
    if children:
        print_wrapped(f"children: {', '.join(k[:8] for k in children)}", "  ")
    print()
    print(text.rstrip())


def _score(s: Score) -> str:
    if s.seconds is None:
        return f"{s.stage or 'not judged'}: {s.reason}"
    parts = [f"{duration_text(s.seconds)} {s.kind} on {s.on}"]
    if s.fraction is not None:
        parts.append(f"{100 * s.fraction:.0f} % of the roofline")
    if s.estimate is not None:
        parts.append(f"{duration_text(s.estimate)} by the analytic model before it was run")
    if s.knobs:
        parts.append(", ".join(f"{k} = {v}" for k, v in s.knobs.items()))
    return "; ".join([*parts, f"numbers {s.reason}" if s.reason else "numbers correct"])
