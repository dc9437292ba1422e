"""Entry point: chooses the command, and turns whatever happens into text and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from ke_gen.faults import Fault, explain

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "check": "ke_gen.check:check",
    "eval": "ke_gen.evaluate:evaluate",
    "diff": "ke_gen.diff:diff",
    "bench": "ke_gen.bench:bench",
    "targets": "ke_gen.targets:targets",
    "import": "ke_gen.importing:import_",
    "search": "ke_gen.search:search",
    "resume": "ke_gen.search:resume",
    "log": "ke_gen.log:log",
    "show": "ke_gen.show:show",
    "blame": "ke_gen.blame:blame",
    "report": "ke_gen.run_report:report",
    "export-trajectories": "ke_gen.export:export",
    "knowledge": "ke_gen.knowledge:knowledge",
}
"""Subcommands. The main form, ``ke-gen --target T FILE``, has none."""

INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``ke-gen`` and exit: 0 fine, 1 the kernel is wrong, 2 bad input or usage.

    130 when interrupted and 141 when the reader of the output went away, as shells say it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except Fault as fault:
        code = fault.report()
    except click.ClickException as error:
        error.show()
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout at exit; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except Exception as error:
        code = explain(error)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return _invoke(command, arguments[1:], f"ke-gen {name}")
    if name and not name.startswith("-") and not os.path.exists(name):
        _maybe_misspelt(name)
    from ke_gen.generate import generate

    return _invoke(generate, arguments or ["--help"], "ke-gen")


def _invoke(command: click.Command, arguments: list[str], name: str) -> int:
    # Not ``command.main``: it turns a broken pipe and an interrupt into exit codes of its own.
    try:
        with command.make_context(name, arguments) as context:
            result = command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else 0


def _maybe_misspelt(name: str) -> None:
    """``ke-gen chekc x.ir`` means a command, not a file called ``chekc``."""
    from ke_ir.diagnostics import near

    hint = near(name, COMMANDS)
    if hint:
        raise Fault(
            2, f"no file and no command `{name}`", f"{hint} Commands: {', '.join(COMMANDS)}"
        )
