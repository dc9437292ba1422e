"""Notes by target, bound, op kind and phase, within a budget; and by their words (SQLite FTS5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from search.knowledge.database import opened
from search.knowledge.folders import files
from search.knowledge.notes import Note, quoted, tokens

_TEXT_WEIGHT = 0.5
"""Of how well the words fit, beside what the front matter says."""


class Knowledge:
    """All notes of some folders, in the order of their ids.

    A note that cannot be read is left out and told of in ``problems``. ``database`` is a file that
    keeps the index between processes; without it, and where it cannot be used, the index is in
    memory. Folders that do not exist hold no notes. ``more`` are notes that lie in none.
    """

    def __init__(
        self, folders: Sequence[Path], database: Path | None = None, more: Sequence[Note] = ()
    ) -> None:  # fmt: skip
        self.folders = tuple(folders)
        found = [x for f in self.folders for x in files(f)]
        self._db, self.notes, self.problems = opened(found, database, more)
        self._by_id = {n.id: n for n in self.notes}

    def __enter__(self) -> Knowledge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the index."""
        self._db.close()

    def get(self, id: str) -> Note | None:
        """The note of this id."""
        return self._by_id.get(id)

    def size(self) -> int:
        """A budget that all notes fit into, in tokens."""
        return 2 * sum(tokens(quoted(n)) + 1 for n in self.notes)

    def search(self, text: str) -> list[Note]:
        """Notes that hold any of the words, best first (BM25; titles count three times)."""
        return [self._by_id[i] for i, _ in self._ranked(text)]

    def retrieve(
        self, target: str, bounds: Mapping[str, float], op_kind: str, phase: str,
        budget_tokens: int,
    ) -> list[Note]:  # fmt: skip
        """What helps a candidate, best first, of at most ``budget_tokens`` (``notes.tokens``).

        ``target`` is ``name.arch``, or several with commas; ``bounds`` gives shares (0..1) of what
        holds it back. Notes for other targets, op kinds or phases are left out; an empty argument
        leaves out nothing. Notes that did not come with ke-gen take at most half of the budget. The
        same arguments and notes give the same list.
        """
        words = [*re.split(r"[,.]", target), op_kind, *(b for b, s in bounds.items() if s >= 0.5)]
        ranked = self._ranked(" ".join(words))
        best = max((s for _, s in ranked), default=0.0)
        text = {i: _TEXT_WEIGHT * s / best for i, s in ranked} if best > 0 else {}
        scored = []
        for n in self.notes:
            fit = _fit(n, target, bounds, op_kind, phase)
            if fit is not None:
                scored.append((-round(fit + text.get(n.id, 0.0), 9), n.id))
        return list(self._within(sorted(scored), budget_tokens))

    def _within(self, scored: Sequence[tuple[float, str]], budget: int) -> Iterator[Note]:
        left, others = budget, budget // 2
        for _, id in scored:
            note = self._by_id[id]
            cost = tokens(quoted(note)) + 1  # and the line between two notes
            if cost <= left and (note.own or cost <= others):
                left -= cost
                others -= 0 if note.own else cost
                yield note

    def _ranked(self, text: str) -> list[tuple[str, float]]:
        """Ids with how well they fit, best first. Words are quoted: FTS5 has a language of its own,
        and nobody's text is to be taken for it."""
        words = list(dict.fromkeys(re.findall(r"\w+", text.lower())))[:64]
        if not words:
            return []
        asked = " OR ".join(f'"{w}"' for w in words)
        rows = self._db.execute(
            "SELECT id, bm25(notes, 0, 3, 1, 2) AS score FROM notes WHERE notes MATCH ? "
            "ORDER BY score, id", (asked,),
        )  # fmt: skip
        return [(str(i), -float(score)) for i, score in rows]


def _fit(
    note: Note, target: str, bounds: Mapping[str, float], op_kind: str, phase: str
) -> float | None:
    """How well a note fits by its front matter; None where it is for something else."""
    parts = [
        _target_fit(note, target),
        _one(note.ops, op_kind, 1.25),
        _one(note.phase, phase, 0.75),
    ]
    fits = [p for p in parts if p is not None]
    if len(fits) < len(parts):
        return None
    held = max((bounds.get(b, 0.0) for b in note.bounds), default=0.0)
    general = 0.3 if not note.bounds else 0.0
    return sum(fits) + 2.0 * min(1.0, held) + general


def _one(words: tuple[str, ...], asked: str, weight: float) -> float | None:
    """Full weight for a note that names what is asked, a third for one that is for all."""
    if words and asked:
        return weight if asked in words else None
    return weight / 3


def _target_fit(note: Note, target: str) -> float | None:
    """More than the kind of op counts: what is known of a chip is what a reader lacks most."""
    if not note.targets or not target:
        return 0.5
    asked = [t.strip() for t in target.split(",")]
    if any(t in note.targets for t in asked if "." in t):
        return 2.0
    names = {t.partition(".")[0] for t in asked}
    # A note for one architecture of a target that is asked for as a whole fits, too.
    whole = {t for t in asked if "." not in t}
    fits = names & set(note.targets) or whole & {t.partition(".")[0] for t in note.targets}
    return 1.75 if fits else None
