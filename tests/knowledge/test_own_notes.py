"""The notes that come with ke-gen: their form, and that what they name exists."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from ke_ir.derive import with_derived
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.rewrites import NoMatch, all_rewrites, apply_text, parse_rewrite, unique_names
from search.knowledge.folders import own_folders
from search.knowledge.index import Knowledge
from search.knowledge.notes import FIELDS, OPS, PHASES, Note
from search.operators.diagnosis import BOUNDS
from targets.registry import find_target

KNOWN = Knowledge(own_folders())
NAMES = {r.name for r in all_rewrites()}
ROOT = Path(__file__).parents[2]
EXAMPLES = {f.stem for f in (ROOT / "examples").glob("*.ir")}
_REWRITE = re.compile(r"`(\w+\([^`]*[@%][^`]*\))`")
_PATH = re.compile(r"\b(?:docs|examples|targets|search|lowering|ke_ir)/[\w./-]*\w")


def test_there_are_enough_and_all_can_be_read() -> None:
    assert KNOWN.problems == []
    assert len(KNOWN.notes) >= 60
    sections = {n.section for n in KNOWN.notes}
    assert sections == {
        "constraints",
        "guidance",
        "hardware/amd",
        "hardware/kea",
        "hardware/nvidia",
    }
    assert len({n.title for n in KNOWN.notes}) == len(KNOWN.notes)


def test_they_lie_in_the_package() -> None:
    package = files("search.knowledge")
    for section in ("constraints", "guidance", "hardware/kea"):
        assert any(f.name.endswith(".md") for f in package.joinpath(section).iterdir())


@pytest.mark.parametrize("note", KNOWN.notes, ids=lambda n: n.id)
def test_one_note(note: Note) -> None:
    assert Path(note.file).stem == note.id
    assert 5 <= len(note.body.splitlines()) <= 25
    assert all(len(line) <= 100 for line in note.body.splitlines())
    for target in note.targets:
        find_target(target)
    if note.section.startswith("hardware/"):
        assert {t.partition(".")[0] for t in note.targets} == {note.section.partition("/")[2]}
    for text in _REWRITE.findall(note.body):
        if "@" in text or text.partition("(")[0] in NAMES:
            assert str(parse_rewrite(text)) == text
    for path in _PATH.findall(note.source):
        assert (ROOT / path).exists(), path


def test_gains_say_their_kind() -> None:
    """A time or a factor stands beside the word for how it was come by."""
    said = re.compile(r"simulated|estimated|measured|modelled|ISCA", re.I)
    for n in KNOWN.notes:
        if re.search(r"\d(\.\d+)?x\b|\d us\b", n.body):
            assert said.search(n.body + n.source), n.id


def test_every_rewrite_and_word_has_a_note() -> None:
    bodies = " ".join(n.body for n in KNOWN.notes)
    assert {name for name in NAMES if name not in bodies} == set()
    assert {w for n in KNOWN.notes for w in n.bounds} == set(BOUNDS)
    assert {w for n in KNOWN.notes for w in n.ops} == set(OPS)
    assert {w for n in KNOWN.notes for w in n.phase} == set(PHASES)


def test_the_page_lists_all_words() -> None:
    page = (ROOT / "docs" / "knowledge.md").read_text("utf-8")
    for words in (BOUNDS, OPS):
        assert f"`{' '.join(words)}`" in page
    assert all(f"`{w}`" in page for w in (*PHASES, *FIELDS))


def test_figures_of_kea_are_those_of_the_simulator() -> None:
    from targets.kea.archs import load

    spec, c = load("kea2").spec, load("kea2").config
    text = "\n".join(n.body for n in KNOWN.notes if n.section == "hardware/kea")
    for said in (
        f"{spec.dram_bytes_per_s / 1e9:.1f} GB/s",
        f"{c['sram_bytes'] / 2**20:.0f} MB",
        f"{c['local_bytes'] / 1024:.0f} KB a PE",
        f"{c['issue_cycles']:.0f} cycles each on KEA-2",
        f"{c['lpddr_latency']:.0f} from LPDDR",
        f"{c['sram_latency']:.0f} cycles from SRAM",
        f"{c['local_rate']:.0f} bytes a cycle",
        f"{spec.matrix_flops['f16'] / 1e12:.0f} TFLOP/s",
    ):
        assert said in text.replace("\n", " "), said


@cache
def derived(name: str) -> Module:
    text = (ROOT / "examples" / f"{name}.ir").read_text("utf-8")
    return unique_names(with_derived(Module((parse(text).ops[name],))))


@pytest.mark.parametrize("note", KNOWN.notes, ids=lambda n: n.id)
def test_steps_on_examples_apply(note: Note) -> None:
    """To the program that is derived from the example, or to what the note's steps made of it."""
    now: dict[str, Module] = {}
    for text in _REWRITE.findall(note.body):
        kernel = text.partition("@")[2].partition(",")[0].rstrip(")")
        if kernel not in EXAMPLES:
            continue
        answers = [apply_text(text, m) for m in (now.get(kernel, derived(kernel)), derived(kernel))]
        changed = [m for m in answers if not isinstance(m, NoMatch)]
        assert changed, f"{text}: {answers}"
        now[kernel] = changed[0]


def test_codes_of_the_verifier_exist() -> None:
    code = "".join(p.read_text("utf-8") for p in (ROOT / "ke_ir").rglob("*.py"))
    named = [re.search(r"verifier codes? ([\w, -]+)", n.source) for n in KNOWN.notes]
    codes = {c.strip() for found in named if found for c in found[1].split(",")}
    assert len(codes) >= 20
    assert {c for c in codes if f'"{c}"' not in code} == set()
