"""Text to tokens, and the cursor with which the parser walks them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NoReturn

from ke_ir.diagnostics import IRError, Loc, Reporter, near

MAX_CHARS = 4_000_000
MAX_NUMBER_CHARS = 40
_TOKEN = re.compile(
    r"[%@]?[A-Za-z_]\w*|%\d\w*|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|->|//|<=|>=|==|!=|\.\.|#[^\n]*|\S",
    re.ASCII,
)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")
END = ""
"""The text of the token after the last one."""
_KNOWN = frozenset("()[]{}<>=+-*/%,:.") | {"->", "//", "<=", ">=", "==", "!=", ".."}


class Cursor:
    """A position in a token list; every failure becomes an IRError with its place."""

    def __init__(self, source: str, file: str = "") -> None:
        self.reporter = Reporter(source, file)
        self.source = source
        if len(source) > MAX_CHARS:
            self.reporter.source = ""
            self.reporter.error(
                "too-large",
                f"the file has {len(source):,} characters; KE-IR files are at most {MAX_CHARS:,}",
                hint="split the module, or generate fewer candidates into one file",
            )
            raise IRError(self.reporter.found)
        texts: list[str] = []
        starts: list[int] = []
        for m in _TOKEN.finditer(source):
            text = m[0]
            if text[0] != "#":
                texts.append(text)
                starts.append(m.start())
        texts.append(END)
        starts.append(len(source))
        self.texts, self.starts = texts, starts
        self.at = 0
        self.token = texts[0]

    def advance(self) -> str:
        """Step over the current token and return its text."""
        text = self.token
        self.at += 1
        self.token = self.texts[self.at]
        return text

    def next_is(self, text: str) -> bool:
        """True if the token after the current one is ``text``."""
        return self.token != END and self.texts[self.at + 1] == text

    def loc(self) -> Loc:
        """Place of the current token."""
        start = self.starts[self.at]
        return Loc(start, start + max(1, len(self.token)))

    def since(self, first: int) -> Loc:
        """Place from token number ``first`` to the last token consumed."""
        last = self.at - 1 if self.at > first else first
        return Loc(self.starts[first], self.starts[last] + len(self.texts[last]))

    def fail(
        self,
        message: str,
        expected: Iterable[str] = (),
        hint: str = "",
        code: str = "syntax",
        loc: Loc | None = None,
    ) -> NoReturn:
        raise IRError([self.reporter.make(code, message, loc or self.loc(), tuple(expected), hint)])

    def found(self) -> str:
        """The current token, as it is named in messages."""
        if self.token == END:
            return "the end of the file"
        if not self.token.isprintable():
            return repr(self.token)
        return f"`{self.token if len(self.token) <= 40 else self.token[:37] + '...'}`"

    def unexpected(self, *expected: str, known: Iterable[str] = ()) -> NoReturn:
        """Fail at the current token; ``known`` are words among which to look for a near miss."""
        ch = self.token
        if len(ch) == 1 and ch not in _KNOWN and ch not in _LETTERS and ch not in _DIGITS:
            self.fail(f"unexpected character {ch!r}", expected)
        self.fail(f"unexpected {self.found()}", expected, near(self.token, known))

    def accept(self, text: str) -> bool:
        """Step over ``text`` if it is next."""
        if self.token == text:
            self.advance()
            return True
        return False

    def expect(self, text: str) -> None:
        if self.token != text:
            self.unexpected(f"`{text}`", known=(text,))
        self.advance()

    def is_name(self) -> bool:
        return self.token[:1] in _LETTERS

    def name(self, what: str = "a name") -> str:
        if not self.is_name():
            self.unexpected(what)
        return self.advance()

    def prefixed(self, sigil: str, what: str) -> str:
        """A name written with ``%`` or ``@``; returned without it."""
        if self.token[:1] != sigil or len(self.token) < 2:
            hint = f"write `{sigil}{self.token}`" if self.is_name() else ""
            self.fail(f"unexpected {self.found()}", [f"{what}, such as `{sigil}x`"], hint)
        return self.advance()[1:]

    def is_number(self) -> bool:
        return self.token[:1] in _DIGITS

    def integer(self, what: str = "an integer") -> int:
        """An integer literal, negative allowed."""
        sign = -1 if self.accept("-") else 1
        if not (self.is_number() and self.token.isdigit()):
            self.unexpected(what)
        return sign * int(self.literal_text())

    def literal_text(self) -> str:
        if len(self.token) > MAX_NUMBER_CHARS:
            self.fail(f"a number of {len(self.token)} digits", [f"at most {MAX_NUMBER_CHARS}"])
        return self.advance()

    def number(self) -> int | float | bool:
        """A literal: a number, ``inf``, ``nan``, ``true`` or ``false``, a sign allowed."""
        if self.token in ("true", "false"):
            return self.advance() == "true"
        negative = self.accept("-")
        if self.accept("nan"):
            return math.nan
        if self.accept("inf"):
            value: int | float = math.inf
        elif self.is_number():
            value = number_value(self.literal_text())
        else:
            self.unexpected("a number")
        return -value if negative else value


def number_value(text: str) -> int | float:
    """The value of an unsigned literal."""
    return int(text) if text.isdigit() else float(text)
