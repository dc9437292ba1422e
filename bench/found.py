"""What a search finds from an op alone, beside a kernel written by hand, and how it got there.

``python bench/found.py -o docs/found.md`` searches for attention and for a matrix product with a
GELU, each on KEA and on an H100, evaluates the kernels written by hand in the same way, and writes
a page: both times, and the path from the derived root as IR diffs, one for each rewrite.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ke_ir.diff import diff_modules, render
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.rewrites import NoMatch, apply_text
from search.config import Config
from search.evaluation.evaluator import Candidate, Evaluator
from search.graph import Node, SearchGraph
from search.run import Search, start
from search.store import open_store
from search.store.store import Store
from search.termination import Limits

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Contest:
    """An op, where it runs, the file with the kernel written by hand, and the search's budget."""

    op: str
    target: str
    by_hand: str
    candidates: int


CONTESTS = (
    Contest("attention", "kea.kea2", "examples/attention.ir", 40),
    Contest("matmul_gelu", "kea.kea2", "bench/by_hand/matmul_gelu.kea.ir", 120),
    Contest("attention", "nvidia.sm_90", "examples/attention.ir", 24),
    Contest("matmul_gelu", "nvidia.sm_90", "bench/by_hand/matmul_gelu.nvidia.ir", 24),
)
HEAD = """# Found from the op alone

Each search began with the program derived from the op: no kernel written by hand was in reach. The
last column is a kernel that was, evaluated in the same way. KEA-2's times are simulated; an H100's
are estimated by the analytic model for compiled code that no GPU ran. This page is what
`python bench/found.py -o docs/found.md` writes; equal seeds find the same.

| op | target | derived | found | candidates | by hand |
|---|---|---|---|---|---|
"""


def run(contest: Contest, store: Store) -> tuple[str, str]:
    """A row of the table, and the path."""
    text = (ROOT / "examples" / f"{contest.op}.ir").read_text()
    op = parse(text).ops[contest.op]
    config = Config(
        op.name, store.artifacts.put(print_module(Module((op,)))), f"{contest.op}.ir",
        (contest.target,), limits=Limits(candidates=contest.candidates),
    )  # fmt: skip
    with Search(store, start(store, config)) as search:
        search.run()
        best = search.graph.best(contest.target)
        if best is None:
            raise SystemExit(f"nothing correct was found for {contest.op} on {contest.target}")
        hand = by_hand(contest, search.evaluator)
        graph = search.graph
    root = graph.node(graph.lineage(best.key)[0])
    cells = [contest.op, contest.target, time_of(root, contest), time_of(best, contest)]
    row = f"| {' | '.join([*cells, str(search.evaluated), hand])} |"
    return row, path(contest, store, graph, best)


def by_hand(contest: Contest, evaluator: Evaluator) -> str:
    """The time of the kernel that was written by hand, with its kind."""
    candidate = Candidate((ROOT / contest.by_hand).read_text(), programs=(contest.op,))
    (verdict,) = evaluator.evaluate(candidate, (contest.target,))
    if verdict.timing is None or not verdict.correct:
        return verdict.summary
    return shown(verdict.timing.seconds, verdict.timing.kind.value)


def time_of(node: Node, contest: Contest) -> str:
    """With its kind."""
    score = node.scores[contest.target]
    return shown(score.seconds or float("nan"), score.kind)


def shown(seconds: float, kind: str) -> str:
    """Such as ``864 us simulated``."""
    return f"{seconds * 1e6:,.4g} us {kind}" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms {kind}"


def path(contest: Contest, store: Store, graph: SearchGraph, best: Node) -> str:
    """Each rewrite from the root to ``best`` with the statements that it changed."""
    keys = graph.lineage(best.key)
    module = parse(store.artifacts.text(graph.node(keys[0]).text))
    out = [
        f"\n## {contest.op} on {contest.target}\n",
        "The derived root:\n",
        block(print_module(module)),
    ]
    for key in keys[1:]:
        for label in graph.lineage_edge(key).label.split("; "):
            new = apply_text(label, module)
            if isinstance(new, NoMatch):
                raise SystemExit(f"{label} does not apply again: {new.reason}")
            changes = render(diff_modules(module, new), context=1)
            out.append(f"\n`{label}`\n\n{block(changes, 'diff')}" if changes else f"\n`{label}`\n")
            module = new
        node = graph.node(key)
        if contest.target in node.scores and node.scores[contest.target].seconds:
            out.append(f"\nEvaluated here: {time_of(node, contest)}.\n")
    return "\n".join(out)


def block(text: str, language: str = "") -> str:
    """A fenced block of Markdown."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def page(contests: Sequence[Contest]) -> str:
    """The whole page."""
    with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        done = [run(c, store) for c in contests]
    return HEAD + "\n".join(row for row, _ in done) + "\n" + "\n".join(text for _, text in done)


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    text = page(CONTESTS)
    if given.output:
        given.output.write_text(text)
    print(text[: text.index("\n## ")])


if __name__ == "__main__":
    main()
