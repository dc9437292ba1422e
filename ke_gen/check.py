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
    from search.evaluation.verdict import Verdict


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check(as_json: bool, files: tuple[str, ...]) -> int:
    """Parse and verify each FILE, and check its kernels' meaning against their ops in float64."""
    from search.evaluation.evaluator import Evaluator

    code, report = 0, []
    with Evaluator() as evaluator:
        for path in files:
            try:
                verdicts, diagnostics = evaluator.check(read_text(path), shown(path))
            except Fault as fault:
                fault.report()
                report.append({"file": path, "error": fault.what, "help": fault.fix})
                code = BAD_INPUT
                continue
            parsed = all(s.outcome.value != "failed" for v in verdicts for s in v.stages[:1])
            worst = _code(verdicts, parsed)
            code = max(code, worst)
            report.append(_entry(path, verdicts, diagnostics))
            if not as_json:
                _print(path, verdicts, diagnostics)
    if as_json:
        print(json.dumps(report, indent=2))
    return code


def _code(verdicts: tuple[Verdict, ...], parsed: bool) -> int:
    if not parsed:
        return BAD_INPUT
    return WRONG if any(v.failures for v in verdicts) else 0


def _entry(path: str, verdicts: tuple[Verdict, ...], diagnostics: tuple[Any, ...]) -> dict[str, Any]:
    return {
        "file": path,
        "diagnostics": [d.to_dict() for d in diagnostics],
        "kernels": [
            {
                "name": v.program,
                "degenerate": v.degenerate,
                "stages": [
                    {"stage": s.stage, "outcome": s.outcome.value, "reason": s.reason,
                     "detail": dict(s.detail)}
                    for s in v.stages
                ],
            }
            for v in verdicts
        ],
    }  # fmt: skip


def _print(path: str, verdicts: tuple[Verdict, ...], diagnostics: tuple[Any, ...]) -> None:
    for d in diagnostics:
        print(d.render(), file=sys.stderr)
    for v in verdicts:
        failed = v.failures
        if not v.program:
            print(f"{path}: {paint('bad', 'wrong')}")
            continue
        word = paint("bad", "wrong") if failed else paint("good", "ok")
        print_wrapped(f"{path}: @{v.program}: {word}{'' if failed else _meaning(v)}")
        for s in failed:
            print(f"error: @{v.program}: {s.stage}: {s.reason}", file=sys.stderr)
        if v.degenerate:
            print_wrapped(f"note: degenerate task: {v.degenerate}", "  ")


def _meaning(v: Verdict) -> str:
    said = [f"{s.stage} {s.outcome.value}: {s.reason}" for s in v.stages if s.stage == "meaning"]
    return f" ({'; '.join(said)})" if said else ""
