"""What a model replies, as data: it is read, checked against the fixed op, and verified.

A reply asks for legal rewrites by their numbers, or for an edit of named statements, or is a whole
kernel or program. Whatever else it says is its rationale: kept, shown, and never followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ke_ir.diagnostics import Diagnostic, IRError
from ke_ir.ir import Kernel, Module, OpDef, Program
from ke_ir.parser import parse
from ke_ir.printer import print_item
from ke_ir.rewrites import NoMatch, RewriteTextError, apply_text, unique_names
from ke_ir.verify import check
from search.candidates import key, restrict, text_of
from search.llm.listing import CHANGES, Edit, edited

MOST_CHARS = 100_000
MOST_REWRITES = 6
MOST_EDITS = 40
MOST_RATIONALE = 1000
REWRITE, EDIT, KERNEL = "rewrite", "edit", "kernel"
"""The forms that a reply may take; the edge that it makes has one of them as its kind."""


@dataclass(frozen=True)
class Decision:
    """What a reply asks for, not checked: its form, and the part that belongs to the form."""

    kind: str
    rewrites: tuple[int, ...] = ()
    edits: tuple[Edit, ...] = ()
    ir: str = ""
    rationale: str = ""


@dataclass(frozen=True)
class Accepted:
    """A verified child: canonical ``text`` with the fixed op, what was done, and in which form."""

    text: str
    label: str
    kind: str
    rationale: str = ""


@dataclass(frozen=True)
class Refused:
    """Why a reply cannot be used."""

    diagnostics: tuple[Diagnostic, ...]
    rationale: str = ""

    def render(self, most: int = 6) -> str:
        """For the model, and for people: what is wrong, where, and what was expected."""
        shown = [d.render() for d in self.diagnostics[:most]]
        if len(self.diagnostics) > most:
            shown.append(f"and {len(self.diagnostics) - most} more")
        return "\n".join(shown)


def read_reply(
    text: str, parent: Module, program: str, menu: Sequence[str], allowed: Sequence[str] = ()
) -> Accepted | Refused:
    """The child that a reply asks for, or what is wrong with it.

    ``menu`` are the text forms of the rewrites that were offered, numbered from 1; ``allowed``
    are the forms that a reply may take, all of them if empty. Ops come from ``parent`` alone.
    """
    rationale = ""
    try:
        decision = decide(text)
        rationale = decision.rationale
        if allowed and decision.kind not in allowed:
            raise _wrong(
                "reply-form",
                f"a reply of the form `{decision.kind}` was not asked for",
                expected=tuple(allowed),
            )
        if decision.kind == REWRITE:
            module, label = _rewritten(parent, decision.rewrites, menu)
        elif decision.kind == EDIT:
            module = replaced(edited(parent, decision.edits), parent, program)
            label = f"edit({', '.join(_label(e) for e in decision.edits)})"
        else:
            module = replaced(decision.ir, parent, program)
            label = f"write({', '.join(f'@{n}' for n in _changed(parent, module))})"
        if key(module) == key(parent):
            raise _wrong(
                "no-change",
                "the reply gives the candidate that there is already",
                "change what bounds it",
            )
    except IRError as error:
        return Refused(error.diagnostics, rationale)
    return Accepted(text_of(module), label, decision.kind, rationale)


# ---- the form -----------------------------------------------------------------------------------


def decide(text: str) -> Decision:
    """What a reply asks for: JSON, or KE-IR in plain text, alone or in a fence.

    Raises IRError when it is in none of the forms.
    """
    if len(text) > MOST_CHARS:
        raise _wrong(
            "reply-size", f"the reply has {len(text):,} characters", f"at most {MOST_CHARS:,}"
        )
    fences = re.findall(r"```[^\n`]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    for part in [text, *fences]:
        if part.lstrip().startswith("{"):
            return _from_json(part.strip(), text)
    for part in [*fences[::-1], text]:
        if found := re.search(r"^[ \t]*(?:kernel|program|op)\s+@", part, re.MULTILINE):
            said = plain(text.replace(part, "") if part is not text else part[: found.start()])
            return Decision(KERNEL, ir=part[found.start() :], rationale=said)
    found_at = text.find("{")
    if found_at >= 0 and "}" in text:
        return _from_json(text[found_at : text.rindex("}") + 1], text)
    raise _wrong(
        "reply-form",
        "the reply is neither JSON nor KE-IR",
        "reply with one JSON object, or with KE-IR that begins with `kernel @`",
    )


def _from_json(text: str, whole: str) -> Decision:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise _wrong(
            "reply-json",
            f"the reply is not valid JSON{where}",
            "is it cut off? keep it short, and close what is opened",
        ) from None
    if not isinstance(found, dict):
        raise _wrong("reply-form", "the reply is JSON, but not an object")
    said = found.get("rationale", "")
    rationale = plain(said if isinstance(said, str) else "")
    asked = {
        REWRITE: found.get("rewrites"),
        EDIT: found.get("edits"),
        KERNEL: found.get("ir"),
    }
    given = [k for k, v in asked.items() if v]
    named = found.get("action")
    kind = named if isinstance(named, str) and asked.get(named) else ""
    if not kind:
        if len(given) != 1:
            many = "several" if given else "none"
            raise _wrong(
                "reply-form",
                f"the reply has {many} of `rewrites`, `edits` and `ir`",
                "give one of them",
            )
        kind = given[0]
    if kind == REWRITE:
        return Decision(kind, rewrites=_numbers(asked[kind]), rationale=rationale)
    if kind == EDIT:
        return Decision(kind, edits=_edits(asked[kind]), rationale=rationale)
    if not isinstance(asked[kind], str):
        raise _wrong("reply-form", "`ir` is not a text")
    return Decision(kind, ir=_unfenced(str(asked[kind])), rationale=rationale)


def _numbers(found: Any) -> tuple[int, ...]:
    listed = found if isinstance(found, list) else [found]
    if not all(type(n) is int for n in listed):
        raise _wrong("reply-form", "`rewrites` holds something other than numbers", "such as [3]")
    if len(listed) > MOST_REWRITES:
        raise _wrong("reply-form", f"{len(listed)} rewrites at once", f"at most {MOST_REWRITES}")
    return tuple(listed)


def _edits(found: Any) -> tuple[Edit, ...]:
    listed = found if isinstance(found, list) else [found]
    if len(listed) > MOST_EDITS:
        raise _wrong("reply-form", f"{len(listed)} edits at once", f"at most {MOST_EDITS}")
    out = []
    for number, e in enumerate(listed, 1):
        fields = e if isinstance(e, dict) else {}
        at, do, text = fields.get("at"), fields.get("do", "replace"), fields.get("text", "")
        if not (isinstance(at, str) and isinstance(text, str) and do in CHANGES):
            raise _wrong(
                "reply-form",
                f"edit {number} is not one",
                '{"at": "s3", "do": "replace", "text": "%v = ..."}',
                CHANGES,
            )
        out.append(Edit(at, do, _unfenced(text)))
    return tuple(out)


def _unfenced(text: str) -> str:
    found = re.fullmatch(r"\s*```[^\n`]*\n(.*?)(?:```)?\s*", text, re.DOTALL)
    return found[1] if found else text


def plain(text: str) -> str:
    """At most ``MOST_RATIONALE`` characters that a terminal only prints."""
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return re.sub(r"\n{3,}", "\n\n", kept).strip()[:MOST_RATIONALE]


# ---- the module ---------------------------------------------------------------------------------


def _rewritten(parent: Module, numbers: Sequence[int], menu: Sequence[str]) -> tuple[Module, str]:
    module = parent
    done: list[str] = []
    for n in numbers:
        if not 1 <= n <= len(menu):
            raise _wrong("rewrite", f"there is no rewrite {n}", f"choose from 1 to {len(menu)}")
        try:
            new = apply_text(menu[n - 1], module)
        except RewriteTextError as error:
            raise _wrong("rewrite", f"rewrite {n}: {error}") from None
        if isinstance(new, NoMatch):
            after = f" after {'; '.join(done)}" if done else ""
            raise _wrong(
                "rewrite", f"rewrite {n}, {menu[n - 1]}, does not apply{after}", new.reason
            )
        module = new
        done.append(menu[n - 1])
    return check(module), "; ".join(done)


def replaced(ir: str, parent: Module, program: str) -> Module:
    """``parent`` with the kernels and programs of ``ir`` in place of those of their names.

    The op stays as it is, and so does the signature of ``program``. Raises IRError; its places
    are in ``ir``.
    """
    given = parse(ir, "reply")
    for op in given.ops.values():
        if parent.ops.get(op.name) != op:
            raise _wrong(
                "op-fixed",
                f"op @{op.name} is not the one that was asked for",
                "leave the op out: it is fixed, and only how it is computed may change",
                line=_line(ir, f"op @{op.name}"),
            )
    names = {(type(i) is OpDef, i.name) for i in given.items if isinstance(i, _NAMED)}
    kept = [
        i for i in parent.items if isinstance(i, _NAMED) and (type(i) is OpDef, i.name) not in names
    ]
    rest = "\n".join(print_item(i, parent.items) for i in kept)
    module = parse(f"{ir.rstrip()}\n\n{rest}", "reply")
    if program not in module.programs:
        raise _wrong(
            "missing",
            f"there is no kernel or program @{program}",
            f"its name stays; no program may call @{program}",
        )
    check(module)
    mine, theirs = module.programs[program], parent.programs[program]
    if (mine.inputs, mine.outputs, mine.dims) != (theirs.inputs, theirs.outputs, theirs.dims):
        raise _wrong(
            "op-mismatch",
            f"the arguments of @{program} were changed",
            "inputs, outputs and dims are fixed",
        )
    kept_module = restrict(module, program)
    written = {i.name for i in given.items if isinstance(i, Kernel | Program)}
    if written and not written & {
        i.name for i in kept_module.items if isinstance(i, Kernel | Program)
    }:
        raise _wrong(
            "missing",
            f"@{program} does not call any of {', '.join(f'@{n}' for n in sorted(written))}",
            f"what is asked for is a kernel or program @{program}",
        )
    ordered = sorted(kept_module.items, key=lambda i: not isinstance(i, OpDef))
    return unique_names(Module(tuple(ordered), file=parent.file))


_NAMED = (OpDef, Kernel, Program)


def _changed(parent: Module, module: Module) -> list[str]:
    """Names of the kernels and programs that are not the parent's."""
    before: Mapping[tuple[type, str], object] = {
        (type(i), i.name): i for i in parent.items if isinstance(i, _NAMED)
    }
    found = [
        i.name
        for i in module.items
        if isinstance(i, Kernel | Program) and before.get((type(i), i.name)) != i
    ]
    return found or ["nothing"]


def _label(e: Edit) -> str:
    """Of an edit's place, and never more than a name: labels are shown and split at semicolons."""
    place = re.sub(r"[^\w@% ]", "", e.at)[:40].strip()
    return place if e.do == "replace" else f"{e.do} {place}"


def _line(text: str, what: str) -> int:
    before, found, _ = text.partition(what)
    return before.count("\n") + 1 if found else 0


def _wrong(
    code: str, message: str, hint: str = "", expected: Sequence[str] = (), line: int = 0
) -> IRError:
    return IRError(
        [Diagnostic(code, message, line, int(bool(line)), 1, tuple(expected), hint, "", "reply")]
    )
