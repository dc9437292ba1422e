"""What finished searches found, written back as notes with their evidence."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ke_ir.diagnostics import Diagnostic, IRError
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.printer import print_item
from ke_ir.rewrites import RewriteTextError, parse_rewrite
from search.config import Config
from search.knowledge.kinds import op_kind
from search.knowledge.notes import MAX_LINES, Note, NoteError, parse_note, read_note
from search.operators.diagnosis import diagnose
from search.results import gain, reference

if TYPE_CHECKING:
    from search.graph import Edge, Node, SearchGraph
    from search.store import RunRecord, Store

LEAST_GAIN = 1.05
"""A strategy is worth a note when it made the root so many times faster."""
_LEAST_SHARE = 0.5
_GAIN = re.compile(r"(\d+\.\d+)x faster on ")
"""As the title of a learned note gives it."""
_MOST_STEPS, _MOST_OP_LINES = 24, 20


def add(file: Path, folder: Path) -> Path:
    """Check a note and copy it into a folder; gives its path there.

    Raises NoteError, also when the folder has another note of this id; OSError.
    """
    note = read_note(file)
    return _write(note, folder, replace=False)


def learned(
    store: Store, run: str, folder: Path, graph: SearchGraph | None = None
) -> list[Path]:  # fmt: skip
    """Write one note for each target on which a run's best is faster than its root.

    The note holds the run, op, target, gain with its kind, what bound the root, and the rewrites on
    the path with their diff counts. Edits by a model are counted and not quoted: their words are
    the model's. An op at its sizes has one note for a target and a kind of time, that of the
    largest gain: where there is one of another run that is as good, it stays, and is not given.
    Learning the same run again writes the same notes. ``graph`` is the run's, where it is at hand.
    Raises StoreError, NoteError, OSError.
    """
    record = store.run(run)
    config = Config.from_dict(record.config)
    graph = store.graph(run) if graph is None else graph
    if not len(graph):
        return []
    op = _op(store, config)
    notes = [_note(record, config, graph, op, target) for target in config.targets]
    return [
        _write(n, folder, replace=True)
        for n in notes
        if n is not None and not _surpassed(n, folder / f"{n.id}.md")
    ]


def _surpassed(note: Note, path: Path) -> bool:
    """Whether the file has what another run learned of this, and that is as good."""
    if not path.exists():
        return False
    try:
        known = read_note(path)
    except NoteError:
        return False
    mine, theirs = _GAIN.search(note.title), _GAIN.search(known.title)
    if known.source == note.source or mine is None or theirs is None:
        return False
    return float(theirs[1]) >= float(mine[1])


def _op(store: Store, config: Config) -> OpDef | None:
    try:
        return parse(store.artifacts.text(config.text)).ops.get(config.program)
    except IRError:
        return None


def _note(
    record: RunRecord, config: Config, graph: SearchGraph, op: OpDef | None, target: str
) -> Note | None:
    best = graph.best(target)
    ratio = None if best is None else gain(graph, best, target)
    if best is None or ratio is None or ratio < LEAST_GAIN:
        return None
    score, root = best.scores[target], reference(graph).scores[target]
    found = diagnose({target: root}).findings
    pressing = [f for f in found if f.share >= _LEAST_SHARE and f.bound != "numerics"]
    bounds = tuple(dict.fromkeys(f.bound for f in pressing))
    kind = op_kind(op) if op is not None else ""
    sizes = ", ".join(f"{n} = {s}" for n, s in config.dims.items())
    lines = [
        f"On {target}, @{config.program} became {ratio:.2f}x faster ({score.kind}): "
        f"{_time(root.seconds)} to {_time(score.seconds)}, on {_plain(score.on)}"
        + (f", at {sizes}" if sizes else "") + ".",
        f"Evidence: run {record.id}, node {best.key[:12]}, numbers checked: "
        f"{score.established or 'no'}; {len(graph)} candidates, policy {config.policy}, "
        f"seed {config.seed}.",
        *(f"The root was held back by {f.bound}: {_plain(f.evidence)}." for f in pressing[:3]),
        "",
        f"What led there{_start(graph, best)}, with statements added, removed and changed:",
        *_path(graph, best),
        *_op_lines(op),
    ]  # fmt: skip
    return Note(
        id=_id("learned", config.program, target, _task(config, op, score.kind)),
        title=f"What made @{config.program} {ratio:.2f}x faster on {target}",
        body="\n".join(lines[:MAX_LINES]),
        targets=(target,),
        bounds=bounds,
        ops=(kind,) if kind else (),
        source=f"search {record.id}",
    )


def _task(config: Config, op: OpDef | None, kind: str) -> str:
    """Eight hex digits, equal for searches whose gains can be compared."""
    text = config.text if op is None else print_item(op)
    data = f"{text}\0{sorted(config.dims.items())}\0{kind}"
    return hashlib.blake2b(data.encode(), digest_size=4).hexdigest()


def _start(graph: SearchGraph, best: Node) -> str:
    """Said where the path does not begin at what the gain is measured against."""
    own = graph.lineage(best.key)[0] != reference(graph).key
    return " from the file's own kernel" if own else ""


def _path(graph: SearchGraph, best: Node) -> list[str]:
    edges = [graph.lineage_edge(k) for k in graph.lineage(best.key)[1:]]
    lines = [line for e in edges for line in _step(e)]
    more = len(lines) - _MOST_STEPS
    return lines[:_MOST_STEPS] + ([f"- and {more} more"] if more > 0 else [])


def _step(e: Edge) -> list[str]:
    """A line for each rewrite; the counts are those of the whole edge and stand at its last."""
    counts = ", ".join(f"{n} {what}" for what, n in sorted(e.changes.items()) if n)
    names = [_rewrite(part) for part in e.label.split("; ")] if e.label else []
    if not names or None in names:
        names = [f"an edit of kind `{_plain(e.kind)}`"]
    lines = [f"- {name}" for name in names]
    lines[-1] += f" ({counts or 'nothing counted'})"
    return lines


def _rewrite(text: str) -> str | None:
    """The text form of a rewrite, read and printed again; None for anything else."""
    try:
        return f"`{parse_rewrite(text)}`"
    except RewriteTextError:
        return None


def _op_lines(op: OpDef | None) -> list[str]:
    """The op as it is printed: names, numbers and operators."""
    if op is None:
        return []
    lines = print_item(op).splitlines()
    shown = lines[:_MOST_OP_LINES] + (["..."] if len(lines) > _MOST_OP_LINES else [])
    return ["", "The op:", "```", *(line[:200] for line in shown), "```"]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.4g} us"


def _plain(text: str) -> str:
    """One short line of letters, digits and simple punctuation."""
    return re.sub(r"[^\w .,:+()%-]", "", text)[:80]


def _id(*parts: str) -> str:
    words = re.findall(r"[a-z0-9]+", "-".join(parts).lower())
    return "-".join(words)[:100].strip("-")


def _write(note: Note, folder: Path, replace: bool) -> Path:
    """Into a file beside it first, so that nobody reads half a note."""
    text = note.text()
    parse_note(text, note.file)  # what is written can be read again
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{note.id}.md"
    if path.exists() and not replace:
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return path
        raise NoteError([Diagnostic("note-id", f"{folder} has another note `{note.id}`",
                                    file=note.file, hint="choose another id")])  # fmt: skip
    beside = folder / f".{note.id}.{os.getpid()}"
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path
