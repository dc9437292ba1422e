"""``ke-gen knowledge``: what is known beforehand, and what searches have added to it."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ke_gen.faults import BAD_INPUT, Fault
from ke_gen.runs import opened, record_of, store_option
from ke_gen.terminal import paint, print_wrapped, width

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from search.knowledge.index import Knowledge
    from search.knowledge.notes import Note

_ITEM = re.compile(r"- |\d+\. ")
_HELP = {"help_option_names": ["-h", "--help"]}

_folders = click.option(
    "--folder", "folders", metavar="DIR", multiple=True,
    help="A folder of notes beside ke-gen's, KE_GEN_KNOWLEDGE's and the store's; repeatable.",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Structured output.")
_target = click.option("-t", "--target", default="", help="Notes for it, as kea or kea.kea2.")
_into = click.option(
    "--folder", "folder", metavar="DIR", default="", help="Where to; the store's notes if left out."
)


@click.group(context_settings=_HELP)
def knowledge() -> None:
    """Notes on constraints, guidance and hardware, and what searches have learned.

    Folders of your own: KE_GEN_KNOWLEDGE (a path list) or --folder.
    """


@knowledge.command("list", context_settings=_HELP)
@_json
@_target
@_folders
@store_option
def list_notes(as_json: bool, target: str, folders: tuple[str, ...], store_url: str) -> int:
    """List all notes by section, and what is wrong with those that cannot be read."""
    with _open(folders, store_url) as known:
        chosen = set(_retrieved(known, target, {}, "", "")) if target else set(known.notes)
        notes = sorted((n for n in known.notes if n in chosen), key=lambda n: (n.section, n.id))
        if as_json:
            _print_json(notes, known)
        else:
            _print_sections(notes)
    return _tell(known)


@knowledge.command("search", context_settings=_HELP)
@_json
@_target
@click.option("--bound", "bounds", metavar="BOUND,...", default="", help="What holds it back.")
@click.option("--op", "op_kind", metavar="KIND", default="", help="Such as matmul or norm.")
@click.option("--phase", metavar="PHASE", default="", help="draft, refine or repair.")
@click.option("--limit", metavar="N", type=click.IntRange(1), default=5, show_default=True)
@_folders
@store_option
@click.argument("words", nargs=-1)
def search_notes(
    as_json: bool, target: str, bounds: str, op_kind: str, phase: str, limit: int,
    folders: tuple[str, ...], store_url: str, words: tuple[str, ...],
) -> int:  # fmt: skip
    """Show the notes that fit best: those with WORDS, or those for what the options say.

    With both, notes with WORDS among those that fit.
    """
    held = {b.strip(): 1.0 for b in bounds.split(",") if b.strip()}
    _check_words(held, op_kind, phase)
    with _open(folders, store_url) as known:
        fitting = _retrieved(known, target, held, op_kind, phase)
        if words:
            fits = {n.id for n in fitting}
            fitting = [n for n in known.search(" ".join(words)) if n.id in fits]
        if as_json:
            _print_json(fitting[:limit], known)
        else:
            _print_notes(fitting, limit)
    return _tell(known)


@knowledge.command("add", context_settings=_HELP)
@_into
@store_option
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def add_notes(folder: str, store_url: str, files: tuple[str, ...]) -> int:
    """Check each FILE and copy it to the notes that later commands and searches read."""
    from search.knowledge.learn import add
    from search.knowledge.notes import NoteError

    wrong = False
    for file in files:
        try:
            print(f"added {add(Path(file), _destination(folder, store_url))}")
        except NoteError as error:
            print(error, file=sys.stderr)
            wrong = True
    return BAD_INPUT if wrong else 0


@knowledge.command("learn", context_settings=_HELP)
@_into
@store_option
@click.argument("run")
def learn_run(folder: str, store_url: str, run: str) -> int:
    """Write what made RUN's best (or `last`'s) faster as notes, with the evidence."""
    from search.knowledge.learn import LEAST_GAIN, learned
    from search.store import ArtifactError

    with opened(store_url) as store:
        record = record_of(store, run)
        try:
            written = learned(store, record.id, _destination(folder, store_url))
        except ArtifactError as error:
            raise Fault(BAD_INPUT, str(error)) from None
    for path in written:
        print(f"learned {path}")
    if not written:
        print_wrapped(f"nothing to learn from {record.id}: on no target is its best {LEAST_GAIN} "
                      "times as fast as its root, and faster than what is known")  # fmt: skip
    return 0


# ---- what they share ---------------------------------------------------------------------------


def _open(folders: Sequence[str], store_url: str) -> Knowledge:
    from search.knowledge.folders import VARIABLE, default_folders, named_folders
    from search.knowledge.index import Knowledge

    asked = [("--folder", Path(f)) for f in folders] + [(VARIABLE, f) for f in named_folders()]
    for by, folder in asked:
        if not folder.is_dir():
            raise Fault(BAD_INPUT, f"{by}: no such folder: {folder}", "name a folder of .md files")
    return Knowledge(default_folders([Path(f) for f in folders], store_url))


def _destination(folder: str, store_url: str) -> Path:
    from search.knowledge.folders import learned_folder

    return Path(folder) if folder else learned_folder(store_url)


def _retrieved(
    known: Knowledge, target: str, bounds: Mapping[str, float], op_kind: str, phase: str
) -> list[Note]:
    """All that fit, best first."""
    return known.retrieve(target, bounds, op_kind, phase, known.size())


def _check_words(bounds: Mapping[str, float], op_kind: str, phase: str) -> None:
    from ke_ir.diagnostics import near
    from search.knowledge.notes import OPS, PHASES
    from search.operators.diagnosis import BOUNDS

    asked: list[tuple[str, str, tuple[str, ...]]] = [("--bound", b, BOUNDS) for b in bounds]
    asked += [("--op", op_kind, OPS), ("--phase", phase, PHASES)]
    for option, word, known in asked:
        if word and word not in known:
            raise Fault(BAD_INPUT, f"{option} {word}: not known",
                        f"{near(word, known)} one of {', '.join(known)}".strip())  # fmt: skip


def _plain(note: Note) -> dict[str, Any]:
    return {
        "id": note.id, "title": note.title, "targets": list(note.targets),
        "bounds": list(note.bounds), "ops": list(note.ops), "phase": list(note.phase),
        "source": note.source, "section": note.section, "own": note.own, "file": note.file,
        "body": note.body,
    }  # fmt: skip


def _print_json(notes: Sequence[Note], known: Knowledge) -> None:
    problems = [p.to_dict() for p in known.problems]
    print(json.dumps({"notes": [_plain(n) for n in notes], "problems": problems}, indent=2))


def _print_sections(notes: Sequence[Note]) -> None:
    for section in dict.fromkeys(n.section for n in notes):
        mine = [n for n in notes if n.section == section]
        print(paint("bold", f"{section} ({len(mine)})"))
        wide = max(len(n.id) for n in mine)
        room = width() - wide - 4
        for n in mine:
            title = n.title if len(n.title) <= room else f"{n.title[: max(room, 8) - 3]}..."
            print(f"  {n.id.ljust(wide)}  {paint('dim', title)}")
    print(f"{len(notes)} notes")


def _print_notes(notes: Sequence[Note], limit: int) -> None:
    for n in notes[:limit]:
        print(paint("bold", textwrap.fill(n.title, width(), break_on_hyphens=False)))
        about = [", ".join(w) for w in (n.targets, n.bounds, n.ops, n.phase) if w]
        print_wrapped(paint("dim", " | ".join([n.id, *about])), "  ")
        _print_body(n.body)
        print_wrapped(paint("dim", f"source: {n.source}"), "  ")
        print()
    left = len(notes) - limit
    if left > 0:
        print(f"and {left} more; --limit shows them")
    elif not notes:
        print("no note fits; `ke-gen knowledge list` shows all")


def _print_body(body: str) -> None:
    """Prose is joined to paragraphs and items, and wrapped; code stands as it is."""
    waiting: list[str] = []

    def flush() -> None:
        text = " ".join(waiting)
        hang = "    " if _ITEM.match(text) else "  "
        if text:
            print(textwrap.fill(text, width(), initial_indent="  ", subsequent_indent=hang,
                                break_long_words=False, break_on_hyphens=False))  # fmt: skip
        waiting.clear()

    code = False
    for line in body.splitlines():
        fence = line.startswith("```")
        if fence or code or not line.strip() or _ITEM.match(line):
            flush()
        if fence or code:
            print(f"  {line}")
        elif line.strip():
            waiting.append(line.strip())
        code ^= fence
    flush()


def _tell(known: Knowledge) -> int:
    """What is wrong with notes, on standard error; the others were used."""
    for p in known.problems:
        print(p.render(), file=sys.stderr)
    return BAD_INPUT if known.problems else 0
