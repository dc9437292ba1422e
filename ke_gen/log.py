"""``ke-gen log [RUN]``: the runs of a store, or one run generation by generation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ke_gen.report import duration_text
from ke_gen.runs import loaded, opened, store_option
from ke_gen.terminal import paint, print_table, print_wrapped, width

if TYPE_CHECKING:
    from search.config import Config
    from search.graph import SearchGraph
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
    from search.results import failures, gain, reasons

    print(paint("bold", f"{record.id}: @{config.program} of {config.file}"))
    print_wrapped(
        f"{config.policy}, {config.operator}, seed {config.seed}; {record.state}"
        + (f": {record.message}" if record.message else "")
        + f" after {record.seconds:.1f} s; {len(graph)} candidates, "
        f"{graph.nx.number_of_edges()} edges",
        "  ",
    )
    counts: dict[int, list[int]] = {}
    for n in graph.nodes():
        of = counts.setdefault(n.generation, [0, 0])
        of[0] += 1
        of[1] += n.status == "correct"
    for target in config.targets:
        bests = generation_best(graph.nodes(), target)
        rows = []
        for generation, best in enumerate(bests):
            s = best.scores[target]
            ratio = gain(graph, best, target)
            made, correct = counts.get(generation, [0, 0])
            label = graph.lineage_edge(best.key).label if best.generation == generation else "-"
            rows.append((
                f"gen:{generation}", str(made), str(correct),
                f"{duration_text(s.seconds or 0.0)} {s.kind}",
                f"{ratio:.2f}x" if ratio else "-", best.key[:8], _short(label),
            ))  # fmt: skip
        print()
        if rows:
            header = (target, "made", "correct", "best so far", "gain", "node", "by")
            print_table(header, rows)
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


def _short(label: str) -> str:
    room = max(20, width() - 76)
    return label if len(label) <= room else f"{label[: room - 3]}..."
