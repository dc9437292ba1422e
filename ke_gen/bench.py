"""``ke-gen bench kernelbench``: judges the problems of a checkout, and tells how they fared."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ke_gen.faults import BAD_INPUT, WRONG, Fault
from ke_gen.terminal import paint, print_wrapped

if TYPE_CHECKING:
    from search.kernelbench.checkout import ProblemFile
    from search.kernelbench.results import Line, Results
    from search.kernelbench.stages import Plan

_CONTEXT = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_CONTEXT)
def bench() -> None:
    """Run a benchmark from a checkout of it."""


@bench.command(context_settings=_CONTEXT)
@click.option("--path", required=True, metavar="CHECKOUT", type=click.Path(path_type=Path),
              help="Folder of KernelBench, or one with level<N>/<number>_<Name>.py.")  # fmt: skip
@click.option("--level", default="1,2,3", show_default=True, metavar="N,...", help="Which levels.")
@click.option("--problems", default="", metavar="P,...",
              help="Only these: a number (17, in each level), 2/17, or a name.")  # fmt: skip
@click.option("--target", "-t", "targets", default="", metavar="T,...",
              help="Targets, as amd or amd.gfx942; all installed ones if left out.")  # fmt: skip
@click.option("--reduced", is_flag=True,
              help="At sizes that a CPU can check in float64; weights as they are.")  # fmt: skip
@click.option("--out", default="kernelbench-results", show_default=True, metavar="DIR",
              type=click.Path(path_type=Path),
              help="results.jsonl, a summary, and all that is generated.")  # fmt: skip
@click.option("--again", is_flag=False, flag_value="all", default="",
              type=click.Choice(["", "all", "failed"]), metavar="[all|failed]",
              help="Do problems again that DIR has: all, or those with a failure.")  # fmt: skip
@click.option("--jobs", default=0, metavar="N", type=click.IntRange(0),
              help="Problems at a time; as many as there are cores if left out.")  # fmt: skip
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(1),
              help="Wall-clock limit for one stage of one problem.")  # fmt: skip
@click.option("--memory", default=0.0, metavar="GIB", type=click.FloatRange(0),
              help="Memory limit for one problem; an equal share of all if 0.")  # fmt: skip
@click.option("--timed", default=3.0, show_default=True, type=click.FloatRange(0.1),
              help="Seconds to spend on timing one problem.")  # fmt: skip
@click.option("--tf32", is_flag=True,
              help="Convolutions and recurrent layers in TF32, as PyTorch has them by default "
                   "on a GPU; in float32 otherwise.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print counts as JSON, not one line each.")
def kernelbench(
    path: Path,
    level: str,
    problems: str,
    targets: str,
    reduced: bool,
    out: Path,
    again: str,
    jobs: int,
    seconds: float,
    memory: float,
    timed: float,
    tf32: bool,
    as_json: bool,
) -> int:
    """Judge KernelBench's problems, or others in its format, on each target.

    With --reduced, everything that needs no GPU: import, derivation, float64 meaning against
    PyTorch, compilation, and a run where the target is simulated. Without, at full size on a
    device: KernelBench's check, ours, and times beside PyTorch. A run that was stopped goes on.
    """
    from ke_gen.evaluate import chosen_targets
    from search.evaluation.pool import GIB
    from search.kernelbench.results import Results
    from search.kernelbench.runner import Runner, Settings
    from search.kernelbench.stages import Plan

    chosen = _problems(path, level, problems)
    plan = Plan(reduced, chosen_targets(targets), tf32)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise Fault(BAD_INPUT, f"{out} is a file", "name a folder with --out") from None
    results = Results(out / "results.jsonl")
    todo = [p for p in chosen if not results.done(p, plan, again)]
    shown = _Shown(len(todo), as_json)
    if len(todo) < len(chosen):
        shown.say(f"{len(chosen) - len(todo)} of {len(chosen)} problems are done already")
    settings = Settings(out, jobs, seconds, int(memory * GIB), timed)
    try:
        if todo:
            results.begin(_run_record(plan))
            Runner(results, plan, settings, shown.problem).run(todo)
    finally:
        page = _write_summary(results, plan, out)
    return _end(results, plan, chosen, page, as_json)


def _problems(path: Path, level: str, wanted: str) -> list[ProblemFile]:
    from search.kernelbench.checkout import BadCheckout, find

    levels = [n.strip() for n in level.split(",") if n.strip()]
    if not levels or not all(n.isdigit() for n in levels):
        raise Fault(BAD_INPUT, f"`--level {level}` is not a list of numbers", "such as --level 1,2")
    names = [w.strip() for w in wanted.split(",") if w.strip()]
    try:
        return find(path, [int(n) for n in dict.fromkeys(levels)], names)
    except BadCheckout as bad:
        raise Fault(BAD_INPUT, bad.what, bad.fix) from None


def _run_record(plan: Plan) -> dict[str, Any]:
    import platform
    import time

    from search.toolchain import versions

    return {
        "mode": plan.mode,
        "targets": list(plan.targets),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.machine()} {platform.system()}",
        "versions": versions(),
    }


def _write_summary(results: Results, plan: Plan, out: Path) -> Path:
    from search.kernelbench.summary import summary

    page = out / f"summary-{plan.mode}.md"
    page.write_text(summary(results, plan))
    return page


class _Shown:
    """One line for each problem as it is done."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet, self.count = total, quiet, 0

    def problem(self, problem: ProblemFile, lines: Sequence[Line]) -> None:
        """The problem, and what failed of it, or what it came to."""
        self.count += 1
        failed = [x for x in lines if x.failed]
        passed = sum(x.passed for x in lines)
        verdict = paint("bad", "failed") if failed else paint("good", "ok")
        head = f"[{self.count}/{self.total}] {problem.key} {problem.name}: {verdict}"
        if not failed:
            self.say(f"{head}, {passed} of {len(lines)} stages passed")
            return
        self.say(head)
        for one in failed:
            self.say(f"{f'{one.stage} {one.target}'.strip()}: {one.reason}", "  ")

    def say(self, text: str, indent: str = "") -> None:
        """To standard output, unless that is for JSON."""
        if not self.quiet:
            print_wrapped(text, indent)
            sys.stdout.flush()


def _end(
    results: Results, plan: Plan, chosen: Sequence[ProblemFile], page: Path, as_json: bool
) -> int:
    """Counts and the exit code: 1 when something is wrong, else 2 when it could not be judged."""
    from search.kernelbench.stages import IMPORT, LOAD
    from search.kernelbench.summary import figures

    found = figures(results, plan)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for stage, passed in found["passed"].items():
            print(f"{stage}: {passed} of {found['problems']} passed")
        print_wrapped(f"written: {page}, {results.path}")
    keys = {p.key for p in chosen}
    failed = {x.stage for x in results.lines.values()
              if x.failed and x.mode == plan.mode and x.problem in keys
              and x.target in ("", *plan.targets)}  # fmt: skip
    if failed - {LOAD, IMPORT}:
        return WRONG
    return BAD_INPUT if failed else 0
