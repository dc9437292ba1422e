"""Replies are data: read in any of their forms, checked against the fixed op, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_item
from ke_ir.rewrites import applicable
from search.candidates import roots
from search.llm.listing import Edit, edited, lines_of, listing
from search.llm.reply import EDIT, KERNEL, MOST_CHARS, REWRITE, Accepted, Refused, read_reply

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def derived(name: str) -> Module:
    return roots(parse((EXAMPLES / f"{name}.ir").read_text()), name)[-1]


RMS = derived("rms_norm")
MENU = [str(r) for r in applicable(RMS)]


def hand_written(name: str, menu: list[str] = MENU) -> str:
    text = (HERE / "replies" / name).read_text()
    return re.sub(r"\$\{(.*?)\}", lambda m: str(menu.index(m[1]) + 1), text)


def read(text: str) -> Accepted | Refused:
    return read_reply(text, RMS, "rms_norm", MENU)


def codes(found: Accepted | Refused) -> list[str]:
    assert isinstance(found, Refused), found
    return [d.code for d in found.diagnostics]


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        ("pick.json", REWRITE, "whole_row(@rms_norm, %d)"),
        ("picks.json", REWRITE, "whole_row(@rms_norm, %d); retile(@rms_norm, %b, 1)"),
        ("edit.json", EDIT, "edit(delete %mul_2, %mul_3)"),
        ("edit_block.json", EDIT, "edit(%d)"),
        ("whole.md", KERNEL, "write(@rms_norm)"),
    ],
)
def test_good_replies(name: str, kind: str, label: str) -> None:
    found = read(hand_written(name))
    assert isinstance(found, Accepted), found
    assert (found.kind, found.label) == (kind, label)
    assert found.rationale
    child = parse(found.text)
    assert child.ops == RMS.ops
    assert child.kernels != RMS.kernels


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("whole_wrong_type.md", "load-type", "this load gives f16[1, 4096], but f32[1, 4096]"),
        ("truncated.json", "reply-json", "not valid JSON"),
        ("truncated.md", "syntax", "f3"),
        ("other_op.md", "missing", "@rms_norm"),
        ("changed_op.md", "op-fixed", "op @rms_norm is not the one"),
        ("prose.md", "reply-form", "neither JSON nor KE-IR"),
    ],
)
def test_bad_replies_are_told_what_is_wrong(name: str, code: str, said: str) -> None:
    found = read(hand_written(name))
    assert codes(found)[0] == code
    assert said in found.render()  # type: ignore[union-attr]


def test_hostile_replies_have_no_effect() -> None:
    found = read(hand_written("hostile.json"))
    assert isinstance(found, Accepted)
    plain = read(hand_written("pick.json"))
    assert isinstance(plain, Accepted)
    assert (found.text, found.label) == (plain.text, plain.label)
    assert "\x1b" not in found.rationale


def test_a_hostile_kernel_keeps_neither_comments_nor_knobs() -> None:
    found = read(hand_written("hostile_kernel.md"))
    if isinstance(found, Refused):
        assert codes(found)
        return
    assert "os.system" not in found.text and "tolerance" not in found.text
    assert parse(found.text).ops == RMS.ops


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "reply-form"),
        ("{}", "reply-form"),
        ("[1]", "reply-form"),
        ('{"rewrites": [0]}', "rewrite"),
        ('{"rewrites": [100000]}', "rewrite"),
        ('{"rewrites": [true]}', "reply-form"),
        ('{"rewrites": "retile"}', "reply-form"),
        ('{"rewrites": [1, 1, 1, 1, 1, 1, 1]}', "reply-form"),
        ('{"rewrites": [1], "ir": "kernel"}', "reply-form"),
        ('{"action": ["rewrite"], "rewrites": []}', "reply-form"),
        ('{"ir": 3}', "reply-form"),
        ('{"edits": [{"at": "s999"}]}', "edit"),
        ('{"edits": [{"at": "%nothing"}]}', "edit"),
        ('{"edits": [{"at": 3}]}', "reply-form"),
        ('{"edits": [{"at": "s5", "do": "execute"}]}', "reply-form"),
        ('{"edits": [{"at": "s5"}, {"at": "s5"}]}', "edit"),
        ("{" * 50_000, "reply-json"),
        ('{"rewrites": ' + "[" * 50_000, "reply-json"),
        ('{"rewrites": [' + "9" * 6000 + "]}", "reply-json"),
        ("x" * (MOST_CHARS + 1), "reply-size"),
    ],
)
def test_nonsense_is_refused(text: str, code: str) -> None:
    assert codes(read(text)) == [code]


def test_a_reply_that_changes_nothing_is_refused() -> None:
    text = "\n".join(lines_of(RMS))
    assert codes(read(text)) == ["no-change"]


def test_the_arguments_cannot_be_changed() -> None:
    text = "\n".join(lines_of(RMS)).replace("%w: f16[D]", "%w: f32[D]")
    assert "op-mismatch" in codes(read(text))


def test_only_forms_that_were_asked_for() -> None:
    found = read_reply(hand_written("whole.md"), RMS, "rms_norm", MENU, allowed=(REWRITE,))
    assert codes(found) == ["reply-form"]


def test_a_kernel_of_a_program_is_replaced_alone() -> None:
    parent = derived("softmax")
    name = next(iter(parent.kernels))
    text = "\n".join(lines_of(parent))
    changed = re.sub(r"stages \d", "stages 4", text)
    found = read_reply(changed, parent, "softmax", [])
    assert isinstance(found, Accepted)
    assert f"@{name}" in found.label


def test_a_program_in_plain_text() -> None:
    """As ``gbnf`` mode has it written: its kernels, and then the program that calls them."""
    text = (Path(__file__).parents[2] / "examples" / "attention.ir").read_text()
    module = roots(parse(text), "attention")[-1]
    items = [print_item(i, module.items) for i in module.items if i.name not in module.ops]
    program = print_item(module.programs["attention"], module.items)
    written = "".join([*items, program]).replace("tile 1024", "tile 512").replace("1024]", "512]")
    found = read_reply(written, module, "attention", (), (REWRITE, EDIT, KERNEL))
    assert isinstance(found, Accepted), found
    assert found.kind == KERNEL and found.label == "write(@attention_l)"
    child = parse(found.text)
    assert print_item(child.programs["attention"], child.items) == program
    assert set(child.kernels) == set(module.kernels)
    gone = read_reply("".join(items), module, "attention", (), (KERNEL,))
    assert codes(gone) == ["no-change"]


def test_places_of_diagnostics_are_in_the_reply() -> None:
    found = read(hand_written("whole_wrong_type.md"))
    assert isinstance(found, Refused)
    first = found.diagnostics[0]
    assert (first.file, first.line) == ("reply", 3)
    assert "%v = load" in first.text


def test_names_of_statements() -> None:
    shown = listing(RMS)
    lines = lines_of(RMS)
    at = next(n for n, line in enumerate(lines, 1) if "%cast_1 = cast" in line)
    assert f"s{at} " in shown
    by_number = edited(RMS, [Edit(f"s{at}", "replace", "%cast_1 = cast %x_1 : f64")])
    by_name = edited(RMS, [Edit("%cast_1", "replace", "%cast_1 = cast %x_1 : f64")])
    with_kernel = edited(RMS, [Edit("@rms_norm %cast_1", "replace", "%cast_1 = cast %x_1 : f64")])
    assert by_number == by_name == with_kernel
    assert by_name.splitlines()[at - 1] == "%cast_1 = cast %x_1 : f64"


def test_blocks_are_edited_whole_or_by_their_head() -> None:
    deleted = edited(RMS, [Edit("%d_1", "delete")])
    assert "%d_1" not in deleted and deleted.count("{") == deleted.count("}")
    head = edited(RMS, [Edit("%d_1", "replace", "for %d_1 = 0 to D tile 1024 stages 4 {")])
    assert "stages 4" in head and "%x_2 = load" in head
    after = edited(RMS, [Edit("%ms_sum", "after", "%z = full 0.0 : f32")])
    assert after.index("yield") < after.index("%z =") < after.index("%full_2")
