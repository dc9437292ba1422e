"""A candidate as a model is shown it: every statement has a name, by which an edit points at it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ke_ir.diagnostics import Diagnostic, IRError, near
from ke_ir.ir import Module, OpDef
from ke_ir.printer import print_item
from search.candidates import untuned

Change = Literal["replace", "before", "after", "delete"]
CHANGES: tuple[str, ...] = get_args(Change)


@dataclass(frozen=True)
class Edit:
    """``text`` takes the place of the statement ``at``, or stands before or after it.

    ``at`` is the name in the listing (``s12``), or the value or loop that it defines (``%acc``). A
    block is replaced whole where the text closes the braces that it opens, else only its head; it
    is deleted whole.
    """

    at: str
    do: Change
    text: str = ""


def lines_of(module: Module) -> list[str]:
    """The lines of all kernels and programs in canonical form, without ops and tuned blocks."""
    kept = untuned(module)
    items = [i for i in kept.items if not isinstance(i, OpDef)]
    return "\n".join(print_item(i, kept.items) for i in items).splitlines()


def listing(module: Module) -> str:
    """The kernels and programs with the names of their statements: ``s3:   %v = load ...``."""
    lines = lines_of(module)
    width = len(str(len(lines)))
    return "\n".join(
        f"s{n:<{width}} {line}" if line.strip() else "" for n, line in enumerate(lines, 1)
    )


def edited(module: Module, edits: Sequence[Edit]) -> str:
    """The kernels and programs with all edits made. Raises IRError, with an edit's fault.

    Names are those of the listing as it was before the first edit.
    """
    lines = lines_of(module)
    taken: dict[int, int] = {}
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    changed: dict[int, list[str]] = {}
    for number, e in enumerate(edits, 1):
        first = _find(lines, e.at, number)
        if e.do in ("before", "after"):
            last = first if _opens(e.text) else _end(lines, first)
            place = before if e.do == "before" else after
            place.setdefault(first if e.do == "before" else last, []).extend(e.text.splitlines())
            continue
        whole = e.do == "delete" or _opens(e.text) == 0
        last = _end(lines, first) if whole else first
        for at in range(first, last + 1):
            if at in taken:
                raise _fault(
                    f"edits {taken[at]} and {number} change one statement", "make one edit of them"
                )
            taken[at] = number
        changed[first] = e.text.splitlines() if e.do == "replace" else []
    out: list[str] = []
    for at, line in enumerate(lines):
        out += before.get(at, [])
        out += changed.get(at, []) if at in taken else [line]
        out += after.get(at, [])
    return "\n".join(out) + "\n"


def _opens(text: str) -> int:
    """How many more braces are opened than closed, comments left out."""
    bare = re.sub(r"#[^\n]*", "", text)
    return bare.count("{") - bare.count("}")


def _end(lines: Sequence[str], first: int) -> int:
    """The last line of the block that begins here; the line itself where none does."""
    depth = 0
    for at in range(first, len(lines)):
        depth += _opens(lines[at])
        if depth <= 0:
            return at
    return first


def _find(lines: Sequence[str], at: str, number: int) -> int:
    name = at.strip().strip("`").rstrip(":")
    if re.fullmatch(r"s\d{1,6}", name):
        found = int(name[1:]) - 1
        if 0 <= found < len(lines) and lines[found].strip() not in ("", "}", "{"):
            return found
        raise _fault(f"edit {number}: there is no statement {name}", f"s1 to s{len(lines)}")
    kernel, _, value = name.rpartition(" ")
    owner = ""
    defined: dict[str, list[int]] = {}
    for n, line in enumerate(lines):
        if head := re.match(r"(?:kernel|program) (@\w+)", line):
            owner = head[1]
            continue
        if kernel.strip() in ("", owner):
            for v in _defines(line):
                defined.setdefault(v, []).append(n)
    found_at = defined.get(value, [])
    if len(found_at) == 1:
        return found_at[0]
    if found_at:
        raise _fault(
            f"edit {number}: {value} is defined more than once",
            f"name the statement: {', '.join(f's{n + 1}' for n in found_at)}",
        )
    raise _fault(
        f"edit {number}: no statement defines `{value[:60]}`",
        near(value, defined) or "name a statement as the listing does, such as s3",
    )


def _defines(line: str) -> list[str]:
    """The values and the loop variables that a line defines."""
    text = line.strip().partition(" carry ")[0]
    if text.startswith("temp "):
        return re.findall(r"%\w+", text.partition(":")[0])
    left, equals, _ = text.partition("=")
    found = re.findall(r"%\w+", left) if text.startswith("%") and equals else []
    loops = re.search(r"(?:^|= )(?:for|parallel) .*", text)
    return found + (re.findall(r"(%\w+) = ", loops[0]) if loops else [])


def _fault(message: str, hint: str) -> IRError:
    return IRError([Diagnostic("edit", message, hint=hint)])
