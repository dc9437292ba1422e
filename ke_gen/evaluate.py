"""``ke-gen eval FILE...``: verdict, time and resources on each target."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ke_gen.faults import BAD_INPUT, WRONG, Fault, explain
from ke_gen.files import read_text, shown

if TYPE_CHECKING:
    from search.evaluation.evaluator import Candidate
    from search.evaluation.verdict import Verdict


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--targets", "-t", metavar="T,...", default="",
              help="Targets, as amd or amd.gfx942; all installed ones if left out.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Structured output.")
@click.option("--baseline", metavar="PY", default="",
              help="Python file with a function `baseline`, timed on a real device; "
                   "<stem>.py beside the file if left out.")  # fmt: skip
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dim; may be repeated.")
@click.option("--kernel", metavar="NAME", default="", help="Which one, when a file has several.")
@click.option("--seconds", default=600.0, show_default=True, type=click.FloatRange(1),
              help="Wall-clock limit for one kernel on one target.")  # fmt: skip
@click.option("--memory", default=12.0, show_default=True, type=click.FloatRange(0.1),
              help="Memory limit for it, in GiB.")  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def evaluate(
    targets: str,
    as_json: bool,
    baseline: str,
    dim: tuple[str, ...],
    kernel: str,
    seconds: float,
    memory: float,
    files: tuple[str, ...],
) -> int:
    """Check and time the kernels of each FILE on each target.

    The table says how each verdict was established (run, simulated, emulated, interpreted) and of
    what kind each time is (measured, simulated, estimated).
    """
    from ke_gen.report import print_file
    from search.evaluation.evaluator import Evaluator
    from search.evaluation.pool import GIB, Limits

    names = chosen_targets(targets)
    code = 0
    report: list[dict[str, Any]] = []
    with Evaluator(limits=Limits(seconds, int(memory * GIB))) as evaluator, _Progress() as progress:
        for path in files:
            try:
                candidate = _candidate(path, baseline, dim, kernel)
            except Fault as fault:
                progress.clear()
                fault.report()
                report.append({"file": path, "error": fault.what, "help": fault.fix})
                code = _worse(code, fault.code)
                continue
            progress.file = shown(path)
            verdicts = evaluator.evaluate(candidate, names, progress.show)
            progress.clear()
            code = _worse(code, _code(verdicts))
            report += [v.to_dict() for v in verdicts]
            if not as_json:
                print_file(shown(path), verdicts)
    if as_json:
        print(json.dumps(report, indent=2))
    return code


def chosen_targets(given: str) -> tuple[str, ...]:
    """Names with their architecture. Raises TargetError for unknown ones before any work.

    Of all installed, those whose package is broken are left out and named on standard error.
    """
    from targets.registry import BrokenTarget, find_target, target_names

    asked = [n.strip() for n in given.split(",") if n.strip()]
    found = []
    for name in asked or target_names():
        try:
            found.append(find_target(name))
        except BrokenTarget as broken:
            if asked:
                raise
            explain(broken)
    if not found:
        raise Fault(BAD_INPUT, "no targets are installed", "reinstall ke-gen")
    return tuple(dict.fromkeys(f"{t.name}.{t.arch}" for t in found))


def _candidate(path: str, baseline: str, dim: tuple[str, ...], kernel: str) -> Candidate:
    from search.evaluation.evaluator import Candidate

    text = read_text(path)
    dims, programs = _selection(text, path, dim, kernel)
    return Candidate(text, shown(path), dims, programs, _baseline(path, baseline))


def _selection(
    text: str, path: str, dim: tuple[str, ...], kernel: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Sizes and programs that the options name. What does not parse is left to evaluation."""
    if not dim and not kernel:
        return {}, ()
    from ke_gen.files import all_sizes, choose_program, parse_dims
    from ke_ir.derive import with_derived
    from ke_ir.diagnostics import IRError
    from ke_ir.parser import parse
    from ke_ir.verify import check

    try:
        program = choose_program(with_derived(check(parse(text, shown(path)))), kernel)
    except IRError:
        return {}, ()
    sizes = parse_dims(dim, program)
    all_sizes(program, sizes)
    return sizes, (program.name,)


def _baseline(path: str, given: str) -> str:
    if given:
        if not Path(given).is_file():
            raise Fault(BAD_INPUT, f"no such baseline file: {given}")
        return str(Path(given).resolve())
    beside = Path(path).with_suffix(".py") if path != "-" else None
    return str(beside.resolve()) if beside is not None and beside.is_file() else ""


def _code(verdicts: tuple[Verdict, ...]) -> int:
    """1 when one is wrong, else 2 when one could not be judged."""
    if any(s.stage == "parse" for v in verdicts for s in v.failures):
        return BAD_INPUT
    if any(v.failures for v in verdicts):
        return WRONG
    return 0 if all(v.correct for v in verdicts) else BAD_INPUT


def _worse(a: int, b: int) -> int:
    """A wrong kernel is what must not be missed; then bad input."""
    return WRONG if WRONG in (a, b) else max(a, b)


class _Progress:
    """One line on standard error that says what is being done; only on a terminal."""

    def __init__(self) -> None:
        self.file = ""
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, program: str, target: str, stage: str) -> None:
        """Replace the line."""
        if self._shown:
            on = f" on {target}" if target else ""
            text = f"{self.file}: @{program}: {stage}{on} ..."
            sys.stderr.write(f"\r\x1b[K{text[:78]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Erase the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
