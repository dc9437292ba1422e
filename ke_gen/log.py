"""``ke-gen log [RUN]``: the runs of a store, or one run generation by generation."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ke_gen.report import duration_text
from ke_gen.runs import loaded, opened, store_option
from ke_gen.terminal import paint, print_table, print_wrapped, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.config import Config
    from search.graph import Node, SearchGraph
    from search.store import RunRecord, Store


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="The whole graph, or all runs, as JSON.")
@click.option("--graphml", metavar="FILE", default="", help="Write the graph as GraphML.")
@store_option
@click.argument("run", required=False, default="")
def log(as_json: bool, graphml: str, store_url: str, run: str) -> int:
    """Show the generations of RUN (or `last`) with the best so far; without RUN, list the runs."""
    with opened(store_url) as store:
        if not run:
            return _runs(store, as_json)
        record, config, graph = loaded(store, run)
        if graphml:
            graph.write_graphml(graphml)
            print(f"wrote {graphml}")
        elif as_json:
            print(json.dumps({"run": _plain(record), **graph.to_json()}, indent=2))
        else:
            _print(record, config, graph)
    return 0


def _plain(r: RunRecord) -> dict[str, Any]:
    return {
        "id": r.id, "created": r.created, "state": r.state, "seconds": r.seconds,
        "message": r.message, "config": dict(r.config),
    }  # fmt: skip


def _runs(store: Store, as_json: bool) -> int:
    runs = store.runs()
    if as_json:
        print(json.dumps([_plain(r) for r in runs], indent=2))
    elif not runs:
        print("no runs yet; start one with `ke-gen search FILE`")
    else:
        rows = [
            (r.id, r.state, f"{r.seconds:.0f} s", str(r.config["policy"]),
             ",".join(r.config["targets"]), r.message)
            for r in runs
        ]  # fmt: skip
        print_table(("run", "state", "time", "policy", "targets", "ended"), rows)
    return 0


def _print(record: RunRecord, config: Config, graph: SearchGraph) -> None:
    from search.graph import generation_best
    from search.results import failures, reasons

    print(paint("bold", f"{record.id}: @{config.program} of {config.file}"))
    print_wrapped(
        f"{config.policy}, {config.operator}, seed {config.seed}; {record.state}"
        + (f": {record.message}" if record.message else "")
        + f" after {record.seconds:.1f} s; {len(graph)} candidates, "
        f"{graph.nx.number_of_edges()} edges",
        "  ",
    )
    for target in config.targets:
        print()
        if bests := generation_best(graph.nodes(), target):
            _print_generations(graph, target, bests)
        else:
            print(f"{target}: no candidate is correct")
    print()
    if failed := failures(graph):
        print_wrapped("failed: " + ", ".join(f"{n} at {stage}" for stage, n in failed.items()))
        for reason in reasons(graph)[:5]:
            print_wrapped(f"{len(reason.nodes)} x {reason.text}", "  ")
    front = graph.front()
    if len(config.targets) > 1 and front:
        print_wrapped(f"Pareto front: {', '.join(n.key[:8] for n in front)}")


def _print_generations(graph: SearchGraph, target: str, bests: Sequence[Node]) -> None:
    """One row a generation; how it was reached takes what room the other columns leave."""
    from search.results import gain

    made = Counter(n.generation for n in graph.nodes())
    correct = Counter(
        n.generation
        for n in graph.nodes()
        if target in n.scores and n.scores[target].seconds is not None
    )
    rows = []
    for generation, best in enumerate(bests):
        ratio = gain(graph, best, target)
        s = best.scores[target]
        rows.append([
            f"gen:{generation}", f"{correct[generation]} of {made[generation]}",
            f"{duration_text(s.seconds or 0.0)} {s.kind}", f"{ratio:.2f}x" if ratio else "-",
            best.key[:8],
        ])  # fmt: skip
    header = [target, "correct", "best so far", "gain", "node"]
    used = sum(max(len(r[i]) for r in (header, *rows)) + 2 for i in range(len(header)))
    for row, (generation, best) in zip(rows, enumerate(bests), strict=True):
        new = best.generation == generation
        row.append(_short(graph.lineage_edge(best.key).label, width() - used - 2) if new else "-")
    print_table([*header, "by"], rows)


def _short(label: str, room: int) -> str:
    """The rewrites in full where there is room, or their names, or the first of these."""
    names = ", ".join(step.partition("(")[0] for step in label.split("; "))
    text = label if len(label) <= room else names
    return text if len(text) <= room else f"{text[: max(room, 6) - 3]}..."
