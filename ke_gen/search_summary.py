"""What ``ke-gen search`` says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ke_gen.report import duration_text
from ke_gen.terminal import paint, print_table, print_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.graph import Score
    from search.results import Best
    from search.run import Search

_HEADER = ("target", "best", "root", "gain", "roofline", "established", "node", "knobs")


def print_summary(search: Search, reason: str, found: Sequence[Best]) -> None:
    """A table with one row a target, the way to each best, what failed, and where things are."""
    from search.results import failures, reference

    graph = search.graph
    print(paint("bold", f"{search.config.file}: @{search.config.program}: {reason}"))
    root = reference(graph)
    rows = [_row(b, root.scores.get(b.target)) for b in found]
    print_table(_HEADER, rows, ["good" if b.node else "bad" for b in found])
    for key in dict.fromkeys(b.node.key for b in found if b.node is not None):
        _print_path(search, key)
    for b in found:
        if b.fault:
            print_wrapped(f"{b.target}: {b.fault}", "  ")
    if search.degenerate:
        print_wrapped(f"degenerate task, no gain counts: {search.degenerate}", "  ")
    nodes = len(graph)
    failed = ", ".join(f"{n} at {stage}" for stage, n in failures(graph).items())
    rate = search.evaluated / max(1e-9, search.elapsed)
    print_wrapped(
        f"{nodes} candidates in {len(search.rounds)} rounds and {search.elapsed:.1f} s "
        f"({rate:.1f}/s)" + (f"; failed: {failed}" if failed else ""),
        "  ",
    )
    for path in (p for b in found for p in b.files):
        print(f"  wrote {path}")
    print(f"  read it with: ke-gen log {search.id}, ke-gen report {search.id} -o report.html")


def _row(b: Best, root: Score | None) -> tuple[str, ...]:
    before = "-"
    if root is not None and root.seconds is not None:
        before = f"{duration_text(root.seconds)} {root.kind}"
    if b.node is None:
        return (b.target, "none", before, "-", "-", "-", "-", "-")
    s = b.node.scores[b.target]
    return (
        b.target,
        f"{duration_text(s.seconds or 0.0)} {s.kind}",
        before,
        f"{b.gain:.2f}x" if b.gain else "-",
        f"{100 * s.fraction:.0f} %" if s.fraction is not None else "-",
        s.established or "-",
        b.node.key[:8],
        ", ".join(f"{k} = {v}" for k, v in s.knobs.items()) or "default",
    )


def _print_path(search: Search, key: str) -> None:
    graph = search.graph
    steps = [graph.lineage_edge(k).label for k in graph.lineage(key)]
    print_wrapped(f"{key[:8]}: {' -> '.join(steps)}", "  ")
