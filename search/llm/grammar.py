"""The form of a reply, for servers that can hold a model to it: a JSON schema, and GBNF.

The GBNF is made from the tables that the parser reads by (op formats, dtypes, operators), so that
what it lets through is KE-IR in form. Every repetition is bounded: a reply always ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ke_ir.expr import INDEX_FUNCTIONS
from ke_ir.ir import Module
from ke_ir.ops import REGISTRY
from ke_ir.ops.base import Op, Piece
from ke_ir.printer import print_signature
from ke_ir.types import DTYPES
from search.llm.listing import CHANGES
from search.llm.reply import EDIT, KERNEL, MOST_EDITS, MOST_REWRITES, REWRITE

_MOST_STATEMENTS = 60
_MOST_RATIONALE = 300
_INDEX_OPERATORS = ("+", "-", "*", "//", "%")


def reply_schema(offered: int, allowed: Sequence[str]) -> dict[str, Any]:
    """JSON schema of a reply. ``offered`` is how many rewrites the prompt lists.

    One flat object with all keys required, which is what servers of all kinds understand: keys of
    forms that are not chosen stay empty.
    """
    forms = [a for a in allowed if a != REWRITE or offered]
    properties: dict[str, Any] = {
        "rationale": {"type": "string", "maxLength": _MOST_RATIONALE},
        "action": {"type": "string", "enum": forms},
    }
    if REWRITE in forms:
        properties["rewrites"] = {
            "type": "array", "minItems": int(forms == [REWRITE]), "maxItems": MOST_REWRITES,
            "items": {"type": "integer", "minimum": 1, "maximum": offered},
        }  # fmt: skip
    if EDIT in forms:
        edit = {
            "at": {"type": "string", "maxLength": 60},
            "do": {"type": "string", "enum": list(CHANGES)},
            "text": {"type": "string"},
        }
        properties["edits"] = {
            "type": "array", "maxItems": MOST_EDITS, "items": _object(edit),
        }  # fmt: skip
    if KERNEL in forms:
        properties["ir"] = {"type": "string"}
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties),
        "additionalProperties": False,
    }  # fmt: skip


def reply_grammar(
    module: Module, program: str, offered: int, allowed: Sequence[str],
    statements: int = _MOST_STATEMENTS,
) -> str:  # fmt: skip
    """GBNF of a reply: JSON with rewrites or edits, or the text of a kernel called ``program``.

    ``statements`` is how many one of its blocks may have.
    """
    forms = [f for f in allowed if f != REWRITE or offered]
    rules = {"root": " | ".join(forms)}
    said = f'"{{" {_text(_quoted("rationale") + ": ")} string ", "'
    if forms != [KERNEL]:
        rules["string"] = _quote('"') + f" char{{0,{_MOST_RATIONALE}}} " + _quote('"')
        rules["char"] = r'[^"\\\x00-\x1f] | "\\" ["\\n]'
    if REWRITE in forms:
        rules[REWRITE] = f"{said} {_text(_quoted('rewrites') + ': [')} number{_more('number')} " + (
            '"]}"'
        )
        rules["number"] = _any(str(n) for n in range(1, offered + 1))
    if EDIT in forms:
        rules[EDIT] = f"{said} {_text(_quoted('edits') + ': [')} change{_more('change')} " + '"]}"'
        words = _any(_quoted(c) for c in CHANGES)
        rules["change"] = " ".join((
            _text("{" + _quoted("at") + ": "), 'place', _text(", " + _quoted("do") + ": "),
            f"({words})", _text(", " + _quoted("text") + ": "), "statements", '"}"',
        ))  # fmt: skip
        rules["place"] = f'{_quote(chr(34))} ("s" [1-9] [0-9]{{0,3}} | value) {_quote(chr(34))}'
        rules["statements"] = f"{_quote(chr(34))} char{{0,2000}} {_quote(chr(34))}"
        rules.setdefault("value", _VALUE)
    if KERNEL in forms:
        rules |= kernel_rules(module, program, statements)
    return "\n".join(f"{name} ::= {body}" for name, body in rules.items()) + "\n"


_VALUE = '"%" [a-z] [a-z0-9_]{0,15}'


def kernel_rules(module: Module, program: str, statements: int) -> dict[str, str]:
    """Rules for one kernel with the arguments of ``program``; ``kernel`` is the first of them."""
    entry = module.programs[program]
    inherits = program in module.ops
    head = "kernel" + re.sub(r"^\w+", "", print_signature(entry, with_dims=not inherits))
    rules = {
        "kernel": f'{_text(head)} " {{" nl parallel "}}" nl?',
        "nl": '"\\n" " "{0,12}',
        "parallel": '"parallel " loopvar (", " loopvar){0,5} (" order grouped(" size ")")? '
        f'" persistent"? " {{" nl (statement nl | loop0 nl){{1,{statements}}} "}}" nl',
        "loopvar": 'value " = " index " to " index (" tile " size)?',
        **_loops(2, statements),
        "carry": 'value " = " operand',
        "yield": '"yield " operand (", " operand){0,7}',
        "index": f"term (({_any(f' {o} ' for o in _INDEX_OPERATORS)}) term){{0,4}}",
        "term": f'atom | "(" atom ({_any(f" {o} " for o in _INDEX_OPERATORS)}) atom ")" | call',
        "atom": _any(d.name for d in entry.dims) + " | value | size | \"0\"",
        "call": " | ".join(_call(fn, arity) for fn, arity in INDEX_FUNCTIONS.items()),
        "value": _VALUE,
        "size": "[1-9] [0-9]{0,5}",
        "literal": '"-"? [0-9]{1,6} ("." [0-9]{1,17})? ("e-" [0-9]{1,2})? | "-"? "inf"',
        "operand": "value | literal",
        "dtype": _any(DTYPES),
        "tile": 'dtype ("[" size (", " size){0,4} "]")?',
        "axis": "[0-9]",
        "input": _any(f"%{p.name}" for p in entry.inputs) or "value",
        "output": _any(f"%{p.name}" for p in entry.outputs),
        "coordinates": 'index (", " index){0,7}',
    }  # fmt: skip
    named = {}
    for cls in dict.fromkeys(REGISTRY.values()):
        named[f"op-{cls.__name__.lower()}"] = _op(cls)
    rules["statement"] = " | ".join(named)
    return rules | named


def _loops(depth: int, statements: int) -> dict[str, str]:
    """``loop0`` holds ``loop1`` and so on: a grammar without recursion."""
    out = {}
    for at in range(depth):
        inner = f" | loop{at + 1} nl" if at + 1 < depth else ""
        out[f"loop{at}"] = (
            '(value (", " value){0,7} " = ")? "for " loopvar (" stages " [1-9])? '
            '(" carry (" carry (", " carry){0,7} ")")? '
            f'" {{" nl (statement nl{inner}){{1,{statements}}} (yield nl)? "}}"'
        )
    return out


def _op(cls: type[Op]) -> str:
    """One op kind, by the format that its class declares."""
    head = 'value " = " ' if cls.has_result else ""
    parts = [f"({_any(cls.mnemonics)})"]
    for p in cls.pieces:
        parts.append(_piece(p, cls))
    return head + " ".join(parts)


def _piece(p: Piece, cls: type[Op]) -> str:
    if p.group:
        return "(" + " ".join(_piece(q, cls) for q in p.group) + ")?"
    if p.literal:
        return _text("," if p.literal == "," else f" {p.literal}")
    if p.kind == "coords":
        fill = ' (" else " literal)?' if hasattr(cls, "fill") else ""
        return f'"[" coordinates{fill} "]"'
    if p.kind == "tensor":
        return f'" " {"input" if cls.has_result else "output"}'
    if p.kind == "word":
        return f'" " ({_any(sorted(p.choices or ()))})'
    if p.kind == "flag":
        return _text(f" {p.field}")
    return '" " ' + _FIELDS[p.kind]


_FIELDS = {
    "operand": "operand", "index": "value", "int": "axis", "dtype": "dtype", "tiletype": "tile",
    "ints": '"[" axis (", " axis){0,5} "]"', "value": "(literal | index)",
}  # fmt: skip


def _call(fn: str, arity: int) -> str:
    arguments = ' ", " '.join(["atom"] * arity)
    return f'{_text(fn + "(")} {arguments} ")"'


def _more(rule: str) -> str:
    return f' (", " {rule}){{0,{MOST_REWRITES - 1}}}'


def _any(words: Any) -> str:
    return " | ".join(_text(w) for w in words)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _quote(text: str) -> str:
    return json.dumps(text)


def _text(text: str) -> str:
    """A literal of GBNF, which escapes as JSON does."""
    return json.dumps(text, ensure_ascii=False)
