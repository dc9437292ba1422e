"""Compares the selection policies at an equal budget: ``python bench/policies.py -o table.md``.

Each policy searches on each example from its op alone, with several seeds, for as many candidates.
Searches on one example share a store, so that a candidate is judged once, and finished searches
are kept beside it (``done.jsonl``), so that a comparison that was cut off goes on where it was.
Given are the speed-ups over the derived root, in the target's own kind of time, as mean and
standard deviation over the seeds. ``random`` is what the others must beat: a policy that does not
says so in the last column.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module
from search.config import Config
from search.evaluation.pool import Pool
from search.parts import POLICIES, part_names
from search.results import gain
from search.run import Search, start
from search.store import open_store
from search.termination import Limits

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SLOWEST = ("attention", "conv1d", "matmul_gelu")
Gains = dict[str, dict[str, list[float]]]
"""Speed-ups by policy and example, one for each seed."""


@dataclass(frozen=True)
class Task:
    """One search, in one process."""

    example: str
    policy: str
    seed: int
    candidates: int
    target: str
    store: str
    jobs: int

    @property
    def key(self) -> str:
        """What names the result of the search."""
        return (
            f"{self.example} {self.policy} seed {self.seed}, "
            f"{self.candidates} candidates on {self.target}"
        )


def measure(tasks: Sequence[Task], processes: int, done_file: Path) -> Gains:
    """Run what ``done_file`` does not hold yet, that which takes longest first."""
    done = {}
    if done_file.exists():
        done = dict(map(json.loads, done_file.read_text().splitlines()))
    found = {task: done[task.key] for task in tasks if task.key in done}
    ordered = sorted(
        (task for task in tasks if task not in found), key=lambda t: t.example not in SLOWEST
    )
    with ProcessPoolExecutor(processes) as pool, done_file.open("a") as file:
        running = {pool.submit(gain_of, task): task for task in ordered}
        for future in as_completed(running):
            task = running[future]
            found[task] = future.result()
            print(json.dumps([task.key, found[task]]), file=file, flush=True)
            said = f"{len(found)}/{len(tasks)} {task.key}: {found[task]:.3f}x"
            print(said, file=sys.stderr, flush=True)
    gains: Gains = {}
    for task in tasks:
        gains.setdefault(task.policy, {}).setdefault(task.example, []).append(found[task])
    return gains


def gain_of(task: Task) -> float:
    """The speed-up that the search finds; 1 where nothing is correct."""
    module = parse((EXAMPLES / f"{task.example}.ir").read_text())
    (op,) = module.ops.values()
    with open_store(str(Path(task.store) / task.example)) as store, Pool(task.jobs) as pool:
        text = store.artifacts.put(print_module(Module((op,))))
        config = Config(
            op.name, text, f"{task.example}.ir", (task.target,), policy=task.policy,
            seed=task.seed, limits=Limits(candidates=task.candidates),
        )  # fmt: skip
        with Search(store, start(store, config), pool=pool) as search:
            search.run()
        best = search.graph.best(task.target)
        return (gain(search.graph, best, task.target) if best else None) or 1.0


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
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--target", default="kea.kea2")
    parser.add_argument("--processes", type=int, default=2, help="searches at a time")
    parser.add_argument("--jobs", type=int, default=1, help="workers for each")
    parser.add_argument("--store", default=".ke-gen-bench")
    parser.add_argument("-o", "--output", default="")
    given = parser.parse_args()
    examples = given.examples or sorted(p.stem for p in EXAMPLES.glob("*.ir"))
    tasks = [
        Task(example, policy, seed, given.candidates, given.target, given.store, given.jobs)
        for seed in range(given.seeds)
        for example in examples
        for policy in given.policies.split(",")
    ]
    Path(given.store).mkdir(parents=True, exist_ok=True)
    gains = measure(tasks, given.processes, Path(given.store) / "done.jsonl")
    text = table(gains, given.target, given.candidates)
    print(text)
    if given.output:
        Path(given.output).write_text(text)
        Path(given.output).with_suffix(".json").write_text(json.dumps(gains, indent=1))


if __name__ == "__main__":
    main()
