"""Compares the selection policies at an equal budget: ``python bench/policies.py -o table.md``.

Each policy runs on each example with several seeds, for as many candidates; all share one store,
so that a candidate is judged once. Given are the speed-ups over the derived root, in the target's
own kind of time, as mean and standard deviation over the seeds. ``random`` is what the others must
beat: a policy that does not says so in the last column.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from ke_ir.parser import parse
from search.config import Config
from search.parts import POLICIES, part_names
from search.results import gain
from search.run import Search, start
from search.store import Store, open_store
from search.termination import Limits

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Gains = dict[str, dict[str, list[float]]]
"""Speed-ups by policy and example, one for each seed."""


def measure(
    store: Store, examples: Sequence[Path], policies: Sequence[str], seeds: int, candidates: int,
    target: str, jobs: int,
) -> Gains:  # fmt: skip
    """Run everything; what is in the store already is not judged again."""
    found: Gains = {p: {} for p in policies}
    for path in examples:
        text = path.read_text()
        program = next(iter(parse(text).ops))
        digest = store.artifacts.put(text)
        for policy in policies:
            for seed in range(seeds):
                config = Config(
                    program, digest, path.name, (target,), policy=policy, seed=seed,
                    limits=Limits(candidates=candidates),
                )  # fmt: skip
                with Search(store, start(store, config), jobs) as search:
                    search.run()
                best = search.graph.best(target)
                value = gain(search.graph, best, target) if best is not None else None
                found[policy].setdefault(path.stem, []).append(value or 1.0)
                print(f"{path.stem} {policy} seed {seed}: {value or 1.0:.3f}x", file=sys.stderr)
    return found


def table(gains: Gains, target: str, candidates: int) -> str:
    """Markdown: one row a policy, geometric mean over the examples at the end."""
    examples = list(next(iter(gains.values())))
    seeds = len(gains[next(iter(gains))][examples[0]])
    lines = [
        f"Speed-up over the derived root on {target}, {candidates} candidates, {seeds} seeds: "
        "mean and standard deviation.",
        "",
        "| policy | " + " | ".join(examples) + " | all (geomean) | against random |",
        "|---" * (len(examples) + 3) + "|",
    ]
    overall = {p: [_mean_log(gains[p], s) for s in range(seeds)] for p in gains}
    for p, by_example in gains.items():
        cells = [_cell(by_example[e]) for e in examples]
        logs = overall[p]
        lines.append(
            f"| {p} | {' | '.join(cells)} | {_cell([math.exp(x) for x in logs])} | "
            f"{_against(logs, overall.get('random'), p)} |"
        )
    return "\n".join(lines) + "\n"


def _mean_log(by_example: dict[str, list[float]], seed: int) -> float:
    return statistics.fmean(math.log(values[seed]) for values in by_example.values())


def _cell(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ± {spread:.3f}"


def _against(logs: Sequence[float], random: Sequence[float] | None, policy: str) -> str:
    """The difference of the means against the standard error of both."""
    if random is None or policy == "random" or len(logs) < 2:
        return "-"
    difference = statistics.fmean(logs) - statistics.fmean(random)
    error = math.sqrt((statistics.variance(logs) + statistics.variance(random)) / len(logs))
    if difference <= 2 * error:
        return "no better than random" if difference > -2 * error else "worse than random"
    return f"better by {100 * (math.exp(difference) - 1):.1f} %"


def main() -> None:
    """See ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("examples", nargs="*", help="stems of files in examples/; all if none")
    parser.add_argument("--policies", default=",".join(part_names(POLICIES)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--target", default="kea.kea2")
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--store", default=".ke-gen-bench")
    parser.add_argument("-o", "--output", default="")
    given = parser.parse_args()
    paths = [EXAMPLES / f"{n}.ir" for n in given.examples] or sorted(EXAMPLES.glob("*.ir"))
    with open_store(given.store) as store:
        gains = measure(
            store, paths, given.policies.split(","), given.seeds, given.candidates, given.target,
            given.jobs,
        )  # fmt: skip
    text = table(gains, given.target, given.candidates)
    print(text)
    if given.output:
        Path(given.output).write_text(text)
        Path(given.output).with_suffix(".json").write_text(json.dumps(gains, indent=1))


if __name__ == "__main__":
    main()
