"""``ke-gen --target T FILE``: the source that a target's lowering generates, or a later stage."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ke_gen import VERSION
from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.files import all_sizes, choose_program, load, parse_dims

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from targets.base import Target

EMITS = "ir, source, and what the target's compiler has: ttir, ttgir, llir, asm, mlir, llvm"
COMMANDS_HELP = (
    ("check FILE...", "verify, and check the meaning of kernels against their ops"),
    ("eval FILE...", "check and time on each target: a table, or --json"),
    ("diff [RUN] A B", "which statements two files, or two candidates of a run, differ in"),
    ("import FILE.py:NAME", "turn a PyTorch module or function into an op"),
    ("search FILE", "search for the fastest correct kernel on each target"),
    ("resume RUN", "carry on a search that was stopped or killed"),
    ("log [RUN]", "runs, or the generations of one with the best so far"),
    ("show RUN NODE", "a candidate: its IR, where it came from, its verdicts"),
    ("blame RUN NODE", "which rewrite brought each statement"),
    ("report RUN", "one HTML file: graph, progress, failures, Pareto front"),
    ("bench kernelbench", "KernelBench's problems, or others in its format, on each target"),
    ("targets", "what is here, what is missing, and why"),
)


class _Main(click.Command):
    """Lists the subcommands in the help of the main form."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Subcommands and exit codes, after the options."""
        with formatter.section("Commands"):
            formatter.write_dl([(f"ke-gen {name}", text) for name, text in COMMANDS_HELP])
        with formatter.section("Exit codes"):
            formatter.write_dl(
                [("0", "fine"), ("1", "the kernel is wrong"), ("2", "bad input or usage")]
            )


@click.command(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--target", "-t", metavar="T", help="Target, or target.arch: amd, amd.gfx942.")
@click.option("--arch", metavar="A", default="", help="Architecture; else the target's first.")
@click.option("--emit", metavar="STAGE", default="source", show_default=True,
              help=f"One of {EMITS}.")  # fmt: skip
@click.option("--output", "-o", metavar="OUT", help="Write to a file instead of standard output.")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Size of a dim; may be repeated.")
@click.option("--kernel", metavar="NAME", default="", help="Which one, when a file has several.")
@click.version_option(VERSION, prog_name="ke-gen")
@click.argument("file")
def generate(
    target: str | None,
    arch: str,
    emit: str,
    output: str | None,
    dim: tuple[str, ...],
    kernel: str,
    file: str,
) -> int:
    """Generate FILE's kernel for a target and print it.

    FILE is KE-IR text (- for standard input), or a PyTorch module as FILE.py:NAME. An op alone is
    enough: a first kernel is derived.
    """
    from targets.registry import find_target, target_names

    if target is None and emit != "ir":
        names = ", ".join(target_names()) or "none is installed"
        raise Fault(BAD_INPUT, "--target is missing", f"targets: {names}")
    found = find_target(target, arch) if target is not None else None
    if found is not None and emit not in ("ir", "source"):
        _check_emit(emit, ("ir", "source", *found.emits), f" of target {found.name}")
    module = load(file)
    from ke_ir.derive import with_derived

    module = with_derived(module)
    program = choose_program(module, kernel)
    dims = all_sizes(program, parse_dims(dim, program))
    write_text(_text(module, program, found, emit, dims), output)
    return 0


def _check_emit(emit: str, known: tuple[str, ...], of: str) -> None:
    from ke_ir.diagnostics import near

    if emit not in known:
        help_text = f"{near(emit, known)} stages{of}: {', '.join(known)}".strip()
        raise Fault(BAD_INPUT, f"--emit {emit}: no such stage{of}", help_text)


def _text(
    module: Module, program: Program, target: Target | None, emit: str, dims: dict[str, int]
) -> str:
    if target is None or emit == "ir":
        from ke_ir.printer import print_module

        return print_module(module)
    from targets.registry import knobs_for

    knobs = knobs_for(target, module, program)
    if emit == "source":
        return target.lower(module, program, knobs, dims).text
    from search.evaluation.emit import compiled_stage

    return compiled_stage(module.source, module.file, program.name, target, emit, dims)


def write_text(text: str, output: str | None) -> None:
    """To standard output, or to a file that is either complete or not there."""
    text = text if text.endswith("\n") else text + "\n"
    if output is None or output == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    import tempfile

    path = Path(output)
    try:
        if path.exists() and not path.is_file():
            if path.is_dir():
                raise IsADirectoryError(21, "is a directory", output)
            path.write_text(text, encoding="utf-8")  # a device or pipe cannot be replaced
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise Fault(BAD_INPUT, f"cannot write {output}: {error.strerror or error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
