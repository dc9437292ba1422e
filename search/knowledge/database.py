"""The index: an SQLite database with a full-text table, in memory or in a file."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ke_ir.diagnostics import Diagnostic
from search.knowledge.folders import Found, read
from search.knowledge.notes import Note, from_json

_FORMAT = 1
"""Of the tables; a file of another one is made anew."""
_TABLES = """
CREATE TABLE about (fingerprint TEXT NOT NULL, problems TEXT NOT NULL);
CREATE TABLE kept (id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE VIRTUAL TABLE notes USING fts5(id UNINDEXED, title, body, words);
"""

Opened = tuple[sqlite3.Connection, list[Note], list[Diagnostic]]


def opened(found: Sequence[Found], file: Path | None, more: Sequence[Note] = ()) -> Opened:
    """The index of these files, their notes by id, and what is wrong with others.

    ``more`` are notes that lie in no file; of those with one id, a file's stays. With ``file``
    (and no ``more``), what it holds is taken where it was made of the same files as they are now;
    else it is written anew. A file that cannot be used is done without.
    """
    mark = _fingerprint(found)
    file = None if more else file
    if file is not None and (kept := _kept(file, mark)) is not None:
        return kept
    notes, problems = read(found)
    notes = sorted({n.id: n for n in (*more, *notes)}.values(), key=lambda n: n.id)
    if file is not None:
        with suppress(OSError, sqlite3.Error):
            _write(file, mark, notes, problems)
    db = sqlite3.connect(":memory:", check_same_thread=False)
    _fill(db, mark, notes, problems)
    return db, notes, problems


def _fingerprint(found: Sequence[Found]) -> str:
    """Changes when a file is added, removed or written; and with what reads them."""
    lines = [f"{_FORMAT}", *(f"{p}\0{s.st_size}\0{s.st_mtime_ns}" for _, p, s in found)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _kept(file: Path, mark: str) -> Opened | None:
    """What a file holds, if it is what is wanted."""
    if not file.is_file():
        return None
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(
            f"{file.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False
        )
        wanted, problems = db.execute("SELECT fingerprint, problems FROM about").fetchone()
        if wanted == mark:
            rows = db.execute("SELECT data FROM kept ORDER BY id")
            notes = [from_json(json.loads(data)) for (data,) in rows]
            return db, notes, [Diagnostic(**_tuples(d)) for d in json.loads(problems)]
    except (OSError, sqlite3.Error, ValueError, TypeError):
        pass  # not ours, damaged, or of another version: it is written anew
    if db is not None:
        db.close()
    return None


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}


def _write(
    file: Path, mark: str, notes: Sequence[Note], problems: Sequence[Diagnostic]
) -> None:  # fmt: skip
    """Into a file beside it, which then takes its place: two processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(beside)) as db:
            _fill(db, mark, notes, problems)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _fill(
    db: sqlite3.Connection, mark: str, notes: Sequence[Note], problems: Sequence[Diagnostic]
) -> None:
    db.executescript(_TABLES)
    told = json.dumps([asdict(p) for p in problems])
    db.execute("INSERT INTO about VALUES (?, ?)", (mark, told))
    for n in notes:
        words = " ".join((*n.targets, *n.bounds, *n.ops, *n.phase, n.id))
        db.execute("INSERT INTO kept VALUES (?, ?)", (n.id, json.dumps(asdict(n))))
        db.execute("INSERT INTO notes VALUES (?, ?, ?, ?)", (n.id, n.title, n.body, words))
    db.commit()
