"""``ke-gen check FILE...``: is it KE-IR, is it well formed, and do kernels mean their ops?"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ke_gen.faults import BAD_INPUT, WRONG, Fault
from ke_gen.files import read_text, shown
from ke_gen.terminal import paint, print_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.evaluation.verdict import StageResult, Verdict


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check(as_json: bool, files: tuple[str, ...]) -> int:
    """Parse and verify each FILE, and check its kernels' meaning against their ops in float64."""
    from search.evaluation.evaluator import Candidate, Evaluator

    codes, report = [0], []
    with Evaluator() as evaluator:
        for path in files:
            try:
                text = read_text(path)
            except Fault as fault:
                codes.append(fault.report())
                report.append({"file": path, "error": fault.what, "help": fault.fix})
                continue
            verdicts = evaluator.check(Candidate(text, shown(path)))
            codes.append(_code(verdicts))
            report.append(_entry(path, verdicts))
            if not as_json:
                _print(shown(path), verdicts)
    if as_json:
        print(json.dumps(report, indent=2))
    return WRONG if WRONG in codes else max(codes)


def _code(verdicts: Sequence[Verdict]) -> int:
    failed = {s.stage for v in verdicts for s in v.failures}
    return BAD_INPUT if "parse" in failed else WRONG if failed else 0


def _entry(path: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    kernels = [v.to_dict() for v in verdicts]
    return {
        "file": path,
        "kernels": [
            {key: k[key] for key in ("program", "stages", "lower_precision", "degenerate")}
            for k in kernels
        ],
    }


def _print(file: str, verdicts: Sequence[Verdict]) -> None:
    for v in verdicts:
        name = f"{file}: @{v.program}" if v.program else file
        if not v.failures:
            print_wrapped(f"{name}: {paint('good', 'ok')}: {_meaning(v)}")
        else:
            print_wrapped(f"{name}: {paint('bad', 'wrong')}")
        for s in v.failures:
            _print_failure(v, s)
        if v.degenerate:
            print_wrapped(f"note: degenerate task: {v.degenerate}", "  ")


def _print_failure(v: Verdict, s: StageResult) -> None:
    from ke_gen.report import rendered

    texts = rendered(s) or [f"error: @{v.program}: {s.stage}: {s.reason}"]
    sys.stdout.flush()
    for text in texts:
        print(text, file=sys.stderr)


def _meaning(v: Verdict) -> str:
    stage = v.stages[-1]
    passed = stage.outcome.value == "passed"
    return stage.reason if passed else f"meaning not checked: {stage.reason}"
