"""Reads a KE-IR file for a command, and picks what in it the command is about."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ke_gen.faults import BAD_INPUT, Fault, Rejected
from ke_ir.diagnostics import IRError, near
from ke_ir.ir import Module, Program
from ke_ir.lexer import MAX_CHARS

_MAX_BYTES = 4 * MAX_CHARS  # UTF-8 takes at most four bytes a character


def read_text(path: str) -> str:
    """Text of a file, or of standard input for ``-``; for ``FILE.py:NAME``, what it is imported to.

    Raises Fault for what is not UTF-8 text.
    """
    from ke_gen.importing import imported_text, python_source

    source = python_source(path)
    if source is not None:
        return imported_text(*source)
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise Fault(BAD_INPUT, f"no such file: {path}", _nearby(path)) from None
    except IsADirectoryError:
        raise Fault(BAD_INPUT, f"{path} is a directory", "name a .ir file in it") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise Fault(BAD_INPUT, f"cannot read {path}: {said}") from None
    if len(data) > _MAX_BYTES:
        raise Fault(BAD_INPUT, f"{path} is larger than {_MAX_BYTES:,} bytes", "split the module")
    if b"\0" in data:
        raise Fault(BAD_INPUT, f"{path} is a binary file, not KE-IR text")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Fault(
            BAD_INPUT, f"{path} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        ) from None


def _nearby(path: str) -> str:
    folder = Path(path).parent
    try:
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    except OSError:
        names = []
    return near(Path(path).name, names)


def load(path: str) -> Module:
    """Parse and verify. Raises Fault (unreadable), IRError (not KE-IR), Rejected (not valid)."""
    from ke_ir.parser import parse
    from ke_ir.verify import check

    module = parse(read_text(path), shown(path))
    try:
        return check(module)
    except IRError as wrong:
        raise Rejected(str(wrong)) from None


def shown(path: str) -> str:
    """The name of a file as diagnostics show it."""
    return "<stdin>" if path == "-" else path


def choose_program(module: Module, name: str) -> Program:
    """The program called ``name``, or the only one. Raises Fault naming the choices."""
    programs = module.programs
    listed = f"the file has: {', '.join(programs)}"
    if name:
        bare = name.removeprefix("@")
        if bare not in programs:
            raise Fault(
                BAD_INPUT, f"no kernel or op `{bare}`", f"{near(bare, programs)} {listed}".strip()
            )
        return programs[bare]
    if len(programs) > 1:
        raise Fault(BAD_INPUT, "several kernels in one file", f"choose with --kernel; {listed}")
    return next(iter(programs.values()))


def parse_dims(given: Sequence[str], program: Program) -> dict[str, int]:
    """Sizes from ``NAME=SIZE`` options. Raises Fault for unknown names and sizes out of range."""
    declared = {d.name: d for d in program.dims}
    sizes: dict[str, int] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value.strip().isdecimal():
            raise Fault(BAD_INPUT, f"--dim {text}: not of the form NAME=SIZE", "such as --dim B=4")
        if name not in declared:
            known = f"{near(name, declared)} dims: {', '.join(declared)}".strip()
            raise Fault(BAD_INPUT, f"--dim {text}: no dim `{name}`", known)
        dim, size = declared[name], int(value)
        if dim.is_derived:
            raise Fault(BAD_INPUT, f"--dim {text}: `{name}` follows from other dims")
        low, high = (dim.low or 1, dim.high) if dim.high is not None else (1, None)
        if size < low or (high is not None and size > high):
            limits = f"{low} to {high}" if high is not None else f"{low} or more"
            raise Fault(BAD_INPUT, f"--dim {text}: out of range", f"`{name}` may be {limits}")
        sizes[name] = size
    return sizes


def all_sizes(program: Program, given: Mapping[str, int]) -> dict[str, int]:
    """Sizes of all dims of a program. Raises Fault when a derived one is not positive."""
    try:
        sizes = program.sizes(given)
    except (ValueError, KeyError, OverflowError) as error:
        raise Fault(BAD_INPUT, f"these dims give no sizes: {error}") from None
    bad = [f"{name} = {size}" for name, size in sizes.items() if size < 1]
    if bad:
        raise Fault(BAD_INPUT, f"these dims give no size to compute: {', '.join(bad)}")
    return sizes
