"""Where notes lie, and reading all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ke_ir.diagnostics import Diagnostic
from search.knowledge.notes import Note, NoteError, read_note

OWN = Path(__file__).parent
VARIABLE = "KE_GEN_KNOWLEDGE"
MAX_NOTES = 10_000
"""Files read from one folder; there is no use in more."""

Found = tuple[Path, Path, os.stat_result]
"""A folder, a file in it, and what the system says of the file."""


def own_folders() -> tuple[Path, ...]:
    """The folders of the notes that come with ke-gen."""
    return tuple(OWN / name for name in ("constraints", "guidance", "hardware"))


def named_folders() -> tuple[Path, ...]:
    """Those that the variable ``KE_GEN_KNOWLEDGE`` names."""
    return tuple(Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p)


def default_folders(extra: Sequence[Path] = (), store: str = "") -> tuple[Path, ...]:
    """Ke-gen's own, those of ``KE_GEN_KNOWLEDGE``, ``extra``, and what the store has learned."""
    return tuple(dict.fromkeys((*own_folders(), *named_folders(), *extra, learned_folder(store))))


def learned_folder(store: str = "") -> Path:
    """Where the notes of a store's finished searches lie."""
    from search.store.store import DEFAULT

    if store.startswith("sqlite:///"):
        return Path(store.removeprefix("sqlite:///")).parent / "knowledge"
    return Path(DEFAULT if "://" in store or not store else store) / "knowledge"


def files(folder: Path) -> Iterator[Found]:
    """Markdown files in a folder, at any depth, in order of their paths; hidden ones left out."""
    found = 0
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            if name.endswith(".md") and not name.startswith(".") and found < MAX_NOTES:
                path = Path(base, name)
                with suppress(OSError):
                    found += 1
                    yield folder, path, path.stat()


def read(found: Sequence[Found]) -> tuple[list[Note], list[Diagnostic]]:
    """All notes by id, and what is wrong with the others. The first of an id stays."""
    notes: dict[str, Note] = {}
    problems: list[Diagnostic] = []
    seen: set[Path] = set()
    for folder, path, _ in found:
        if (real := path.resolve()) in seen:  # a folder may be named twice
            continue
        seen.add(real)
        own = folder in own_folders()
        section = str(path.parent.relative_to(OWN if own else folder.parent))
        try:
            note = read_note(path, section, own)
        except NoteError as error:
            problems += error.diagnostics
            continue
        if note.id in notes:
            first = notes[note.id].file
            problems.append(Diagnostic("note-id", f"`{note.id}` is the id of {first} too", 2, 1,
                                       text=f"id: {note.id}", file=str(path)))  # fmt: skip
        else:
            notes[note.id] = note
    return [notes[i] for i in sorted(notes)], problems
