"""Notes: Markdown with front matter, read strictly, because anybody may write one.

A note is text and nothing else: it is shown, quoted in a prompt and searched, never obeyed. What
it may hold is therefore limited here: known fields, known words, a bounded size, no control
characters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ke_ir.diagnostics import Diagnostic, near
from search.operators.diagnosis import BOUNDS

OPS = (
    "pointwise", "reduction", "norm", "softmax", "matmul", "attention", "conv", "gather", "jagged",
)  # fmt: skip
"""Kinds of op; ``kinds.op_kind`` tells which one an op is."""
PHASES = ("draft", "refine", "repair")
"""From a root, from a correct candidate, from one that failed."""

MAX_TITLE, MAX_LINES, MAX_CHARS, MAX_BYTES = 100, 60, 4000, 64_000
_LISTS: Mapping[str, tuple[str, ...]] = {"bounds": BOUNDS, "ops": OPS, "phase": PHASES}
FIELDS = ("id", "title", "targets", "bounds", "ops", "phase", "source")
_NEEDED = ("id", "title", "source")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_]+)?")


@dataclass(frozen=True)
class Note:
    """One note. An empty ``targets``, ``bounds``, ``ops`` or ``phase`` means any.

    ``targets`` are ``name`` or ``name.arch``. ``section`` is its folder among the notes, such as
    ``guidance``; ``own`` says that it came with ke-gen, ``file`` where it lies.
    """

    id: str
    title: str
    body: str
    targets: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    phase: tuple[str, ...] = ()
    source: str = ""
    section: str = ""
    own: bool = False
    file: str = ""

    def text(self) -> str:
        """Front matter and body, as in a file."""
        lines = [f"id: {self.id}", f"title: {self.title}"]
        for name in ("targets", "bounds", "ops", "phase"):
            if words := getattr(self, name):
                lines.append(f"{name}: {', '.join(words)}")
        return "\n".join(["---", *lines, f"source: {self.source}", "---", self.body, ""])


class NoteError(Exception):
    """A note that cannot be accepted. Holds one or more diagnostics, with file and line."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.render() for d in self.diagnostics))


def tokens(text: str) -> int:
    """Estimated tokens of a text: a third of its bytes, rounded up.

    Tokenizers of current models give about one for four bytes of English and one for three of code.
    """
    return -(-len(text.encode("utf-8")) // 3)


def quoted(note: Note) -> str:
    """The note as a prompt shows it: every line is marked as quoted, so that nothing in a note
    can be taken for a part of the prompt."""
    head = f"{note.title} [{note.id}; source: {note.source}]"
    return "\n".join(f"> {line}".rstrip() for line in (head, *note.body.splitlines()))


def dumped(notes: Sequence[Note]) -> str:
    """Notes as JSON, without the places where they lie."""
    return json.dumps([asdict(replace(n, file="")) for n in notes], indent=1)


def loaded(text: str) -> list[Note]:
    """The inverse of ``dumped``."""
    return [from_json(data) for data in json.loads(text)]


def from_json(data: Mapping[str, Any]) -> Note:
    """One note, from plain JSON types."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Note(**plain)


def read_note(path: Path, section: str = "", own: bool = False) -> Note:
    """Read one file. Raises NoteError; for what the system refuses, too."""
    shown = str(path)
    try:
        if not path.is_file():
            raise NoteError([Diagnostic("note-file", "not a regular file", file=shown)])
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise NoteError([Diagnostic("note-file", f"cannot be read: {said}", file=shown)]) from None
    if len(data) > MAX_BYTES:
        raise NoteError([Diagnostic("note-size", f"larger than {MAX_BYTES:,} bytes", file=shown,
                                    hint="a note is one thing to know; split it")])  # fmt: skip
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NoteError([Diagnostic("note-text", f"byte 0x{data[error.start]:02x} is not UTF-8",
                                    line, 1, file=shown)]) from None  # fmt: skip
    return parse_note(text, shown, section, own)


def parse_note(text: str, file: str = "", section: str = "", own: bool = False) -> Note:
    """A note from its text. Raises NoteError with everything that is wrong."""
    return _Reader(text.replace("\r\n", "\n"), file).note(section, own)


class _Reader:
    """Reads one note and collects what is wrong with it."""

    def __init__(self, text: str, file: str) -> None:
        self.lines, self.file = text.split("\n"), file
        self.found: list[Diagnostic] = []

    def wrong(
        self, code: str, message: str, at: int = 0, expected: Sequence[str] = (), hint: str = "",
        column: int = 1, length: int = 1,
    ) -> None:  # fmt: skip
        """Line numbers count from 1; 0 is the note as a whole."""
        text = self.lines[at - 1] if at else ""
        self.found.append(Diagnostic(code, message, at, column, length, tuple(expected), hint,
                                     text, self.file))  # fmt: skip

    def note(self, section: str, own: bool) -> Note:
        self._characters()
        end = self._end()
        fields = self._fields(end) if end else {}
        body = "\n".join(self.lines[end:]).strip("\n")
        if not self.found:
            self._body(body, end)
        if self.found:
            raise NoteError(self.found)
        lists = {n: _words(fields.get(n, ("", 0))[0]) for n in ("targets", *_LISTS)}
        plain = {n: fields[n][0] for n in _NEEDED}
        return Note(**plain, body=body, **lists, section=section, own=own, file=self.file)  # type: ignore[arg-type]

    def _characters(self) -> None:
        """No control or format characters: terminals and readers obey them."""
        for number, line in enumerate(self.lines, 1):
            for column, c in enumerate(line, 1):
                if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c != "\t":
                    self.wrong("note-text", f"character U+{ord(c):04X} does not print", number,
                               column=column, hint="remove it")  # fmt: skip
                    return

    def _end(self) -> int:
        """Number of the line that ends the front matter; 0 if there is none."""
        if self.lines[0].strip() != "---":
            self.wrong("note-head", "a note begins with front matter", 1, ["---"],
                       f"write `---`, the fields {', '.join(FIELDS)}, and `---`")  # fmt: skip
            return 0
        for number, line in enumerate(self.lines[1:], 2):
            if line.strip() == "---":
                return number
        self.wrong("note-head", "the front matter has no end", 1, ["a second line `---`"])
        return 0

    def _fields(self, end: int) -> dict[str, tuple[str, int]]:
        """Values and their lines, by name."""
        found: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(self.lines[1 : end - 1], 2):
            if not line.strip():
                continue
            name, colon, value = (part.strip() for part in line.partition(":"))
            if not colon or name not in FIELDS:
                self.wrong("note-field", f"`{name}` is no field of a note", number, FIELDS,
                           near(name, FIELDS), length=len(name))  # fmt: skip
            elif name in found:
                self.wrong("note-field", f"`{name}` is given twice", number)
            else:
                found[name] = (value, number)
                self._value(name, value, number)
        for name in _NEEDED:
            if not found.get(name, ("", 0))[0]:
                self.wrong("note-field", f"the front matter gives no `{name}`", 1)
        return found

    def _value(self, name: str, value: str, at: int) -> None:
        if name == "id" and value and not _ID.fullmatch(value):
            self.wrong("note-id", f"`{value}` is no id", at, ["words of a-z and 0-9, joined by -"])
        if name in ("id", "title", "source") and len(value) > MAX_TITLE * (1 + (name == "source")):
            self.wrong("note-size", f"the {name} is {len(value)} characters long", at,
                       [f"at most {MAX_TITLE * (1 + (name == 'source'))}"])  # fmt: skip
        for word in _words(value) if name == "targets" else ():
            if not _TARGET.fullmatch(word):
                self.wrong("note-word", f"`{word}` is no target", at, ["kea", "kea.kea2"])
        for word in _words(value) if name in _LISTS else ():
            if word not in _LISTS[name]:
                column = self.lines[at - 1].find(word) + 1
                self.wrong("note-word", f"`{word}` is none of the {name}", at, _LISTS[name],
                           near(word, _LISTS[name]), column, len(word))  # fmt: skip

    def _body(self, body: str, end: int) -> None:
        if not body.strip():
            self.wrong("note-body", "the note says nothing", end, ["text after the front matter"])
        if len(body) > MAX_CHARS or body.count("\n") >= MAX_LINES:
            self.wrong("note-size", f"the text has {body.count(chr(10)) + 1} lines, {len(body):,} "
                       "characters", end + 1, [f"at most {MAX_LINES} and {MAX_CHARS:,}"],
                       "a note is one thing to know; split it")  # fmt: skip


def _words(value: str) -> tuple[str, ...]:
    """``a, b`` or ``[a, b]`` as words, each once."""
    inner = value.removeprefix("[").removesuffix("]")
    return tuple(dict.fromkeys(w for w in (part.strip() for part in inner.split(",")) if w))
