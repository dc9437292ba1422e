"""What is said when KE-IR is wrong: one structure for people and for programs."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple

MAX_ERRORS = 100
"""A reporter stops the work after so many diagnostics."""


class Loc(NamedTuple):
    """A range of the source text, in characters from its start."""

    start: int
    end: int


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong, where, what was expected, and what to do.

    ``line`` and ``column`` count from 1 and are 0 when the place is not known (a program that was
    built, not parsed). ``code`` is stable and short, for programs that read diagnostics.
    """

    code: str
    message: str
    line: int = 0
    column: int = 0
    length: int = 1
    expected: tuple[str, ...] = ()
    hint: str = ""
    text: str = ""
    file: str = ""

    def render(self) -> str:
        """The form for people: message, place, the line with a caret, expectation and help."""
        out = [f"error[{self.code}]: {self.message}"]
        if self.line:
            gutter = len(str(self.line))
            shown, at = _clip(self.text, self.column)
            carets = "^" * max(1, min(self.length, len(shown) - at + 1))
            out.append(f"{' ' * gutter}--> {self.file or '<input>'}:{self.line}:{self.column}")
            out.append(f"{self.line} | {shown}")
            out.append(f"{' ' * gutter} | {' ' * (at - 1)}{carets}")
        elif self.file:
            out.append(f" --> {self.file}")
        if self.expected:
            out.append(f"  = expected: {', '.join(self.expected)}")
        if self.hint:
            out.append(f"  = help: {self.hint}")
        return "\n".join(out)

    def to_dict(self) -> dict[str, object]:
        """The structured form: plain JSON types only."""
        return {
            "code": self.code, "message": self.message, "file": self.file, "line": self.line,
            "column": self.column, "length": self.length, "expected": list(self.expected),
            "hint": self.hint, "text": self.text,
        }  # fmt: skip


def _clip(text: str, column: int, width: int = 100) -> tuple[str, int]:
    """A long line is cut around the column; returns the text and the column in it."""
    start = max(0, column - width // 2) if len(text) > width else 0
    prefix = "..." if start else ""
    shown = "".join(c if c.isprintable() else _stand_in(c) for c in text[start : start + width])
    return prefix + shown, column - start + len(prefix)


def _stand_in(c: str) -> str:
    """What shows for a character that would move the caret, or that a terminal obeys."""
    return " " if c == "\t" else "\N{REPLACEMENT CHARACTER}"


class IRError(Exception):
    """KE-IR that cannot be accepted. Holds one or more diagnostics."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.render() for d in self.diagnostics))


class TooManyErrors(Exception):
    """Raised by a reporter that has found ``MAX_ERRORS``."""


@dataclass
class Reporter:
    """Makes diagnostics for one source text and collects those that need not stop the work."""

    source: str = ""
    file: str = ""
    found: list[Diagnostic] = field(default_factory=list)

    def make(
        self,
        code: str,
        message: str,
        loc: Loc | None = None,
        expected: Iterable[str] = (),
        hint: str = "",
    ) -> Diagnostic:
        if loc is None or not self.source:
            return Diagnostic(code, message, expected=tuple(expected), hint=hint, file=self.file)
        start = min(loc.start, len(self.source))
        line = bisect_right(self._lines, start)
        begin = self._lines[line - 1]
        stop = self.source.find("\n", begin)
        text = self.source[begin : stop if stop >= 0 else len(self.source)].removesuffix("\r")
        length = max(1, min(loc.end, begin + len(text)) - start)
        return Diagnostic(
            code, message, line, start - begin + 1, length, tuple(expected), hint, text, self.file
        )

    def error(
        self,
        code: str,
        message: str,
        loc: Loc | None = None,
        expected: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        self.found.append(self.make(code, message, loc, expected, hint))
        if len(self.found) >= MAX_ERRORS:
            raise TooManyErrors

    @cached_property
    def _lines(self) -> list[int]:
        """Where each line of the source begins."""
        return [0, *(m.end() for m in re.finditer("\n", self.source))]

    def raise_if_any(self) -> None:
        if self.found:
            raise IRError(self.found)


def near(word: str, known: Iterable[str]) -> str:
    """``did you mean ...?`` for the closest known word, or an empty string."""
    # No match differs much in length; without the bounds, a big file would be slow to refuse.
    like = (k for k in known if 0.4 <= len(k) / max(len(word), 1) <= 2.5)
    close = difflib.get_close_matches(word, list(islice(like, 200)), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""
