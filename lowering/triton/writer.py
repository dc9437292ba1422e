"""Python text under construction: lines that may turn out not to be needed, and names."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

WIDTH = 100
_TAKEN = {"torch", "triton", "tl", "pid", "out", *keyword.kwlist, *dir(builtins)}


@dataclass
class Line:
    """One statement; left out of the text unless ``needed``."""

    text: str
    depth: int
    needed: bool = True


class Writer:
    """Collects statements at a depth of indentation."""

    def __init__(self, depth: int = 1) -> None:
        self.lines: list[Line] = []
        self.depth = depth

    def line(self, text: str, needed: bool = True) -> Line:
        """Append a statement; text of several lines is indented as a whole."""
        made = Line(text, self.depth, needed)
        self.lines.append(made)
        return made

    @contextmanager
    def indented(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    def render(self) -> str:
        out = []
        for x in self.lines:
            if x.needed:
                pad = "    " * x.depth
                out += [pad + part if part else "" for part in x.text.split("\n")]
        return "\n".join(out)


class Names:
    """Python names of a function. A name is free again when the loop that defined it ends."""

    def __init__(self, reserved: set[str]) -> None:
        self.scopes = [_TAKEN | reserved]

    def new(self, base: str) -> str:
        """A free name like ``base``, taken from now on."""
        base = re.sub(r"\W", "_", base)
        name, n = base, 1
        while any(name in s for s in self.scopes):
            n += 1
            name = f"{base}_{n}"
        self.scopes[-1].add(name)
        return name

    @contextmanager
    def scope(self) -> Iterator[None]:
        self.scopes.append(set())
        yield
        self.scopes.pop()


def call(fn: str, args: list[str], width: int = WIDTH) -> str:
    """A call on one line, or with one argument to a line when that is longer than ``width``."""
    short = f"{fn}({', '.join(args)})"
    if len(short) <= width and "\n" not in short:
        return short
    inner = "".join(f"    {a},\n" for a in args)
    return f"{fn}(\n{inner})"


def _closes_at_end(text: str) -> bool:
    """Whether the text's first bracket is closed by its last character."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and c in ")]}":
            return i == len(text) - 1
    return False


def bare(text: str) -> str:
    """An expression without parentheses around the whole of it."""
    return text[1:-1] if text.startswith("(") and _closes_at_end(text) else text


def atom(text: str) -> str:
    """An expression that anything may be appended to: in parentheses unless it needs none."""
    depth = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == " " and depth == 0:
            return f"({text})"
    return f"({text})" if text[0] in "-~" else text


def tuple_text(parts: Sequence[str]) -> str:
    """A tuple as Python text."""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def assignment(name: str, text: str, width: int = WIDTH) -> str:
    """``name = text``; where that is longer than ``width``, with a line for each term of the sum,
    or for each argument of the call."""
    short = f"{name} = {text}"
    if len(short) <= width:
        return short
    terms = _cut(text, (" + ", " - "))
    if len(terms) > 1:
        return f"{name} = (\n" + "".join(f"    {t}\n" for t in terms) + ")"
    fn, _, rest = text.partition("(")
    if fn.replace(".", "").isidentifier() and _closes_at_end(text[len(fn) :]):
        return f"{name} = {call(fn, [a.removeprefix(', ') for a in _cut(rest[:-1], (', ',))], 0)}"
    return short


def _cut(text: str, marks: tuple[str, ...]) -> list[str]:
    """The text cut before every mark that stands outside brackets."""
    out, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and text.startswith(marks, i):
            out.append(text[start:i])
            start = i + (text[i + 1] != " " and text[i] == " ")
    return [*out, text[start:]]
