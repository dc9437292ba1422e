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
from ke_ir.printer import print_dim, print_signature
from ke_ir.types import DTYPES
from search.llm.listing import CHANGES
from search.llm.reply import EDIT, KERNEL, MOST_EDITS, MOST_REWRITES, REWRITE

_MOST_STATEMENTS = 60
_MOST_KERNELS, _MOST_TEMPS, _MOST_CALLS = 6, 8, 12
"""Of a program."""
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
    statements: int = _MOST_STATEMENTS, kernels: int = _MOST_KERNELS,
) -> str:  # fmt: skip
    """GBNF of a reply: JSON with rewrites or edits, or the text of a kernel or program ``program``.

    A program comes after the kernels that it calls. ``statements`` is how many one block of a
    kernel may have, ``kernels`` how many a program.
    """
    forms = [f for f in allowed if f != REWRITE or offered]
    rules = {"root": " | ".join([*forms, *(["program"] if KERNEL in forms else [])])}
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
        rules |= program_rules(module, program, statements, kernels)
    return "\n".join(f"{name} ::= {body}" for name, body in rules.items()) + "\n"


_INDEX = " | ".join(f'" {o} "' for o in _INDEX_OPERATORS)
_VALUE = '"%" [a-z] [a-z0-9_]{0,15}'


def kernel_rules(module: Module, program: str, statements: int) -> dict[str, str]:
    """Rules for one kernel with the arguments of ``program``; ``kernel`` is the first of them."""
    entry = module.programs[program]
    dims = _any(d.name for d in entry.dims)
    rules = {
        "kernel": f'{_text(_head("kernel", module, program))} " {{" nl parallel "}}" nl?',
        "nl": '"\\n" " "{0,12}',
        "loopvar": 'value " = " index " to " index (" tile " size)?',
        "carry": 'value " = " operand',
        "yield": '"yield " operand (", " operand){0,7}',
        "index": f"term (({_INDEX}) term){{0,4}}",
        "term": f'atom | "(" atom ({_INDEX}) atom ")" | call',
        "atom": dims + " | value | size | \"0\"",
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
    return rules | _blocks("", statements, list(named)) | named


def program_rules(
    module: Module, program: str, statements: int, kernels: int
) -> dict[str, str]:  # fmt: skip
    """What a program needs beside ``kernel_rules``; ``program`` is the first of them.

    Its kernels have arguments of their own, so that any tensor may be named in them.
    """
    entry = module.programs[program]
    dims = [print_dim(d) for d in entry.dims]
    names = _any(d.name for d in entry.dims)
    several = f"(kernel-call nl){{1,{_MOST_CALLS}}}"
    rules = {
        "program": f'(part){{1,{kernels}}} {_text(_head("program", module, program))} '
        f'" {{" nl (temp nl){{0,{_MOST_TEMPS}}} (step nl){{1,{_MOST_CALLS}}} "}}" nl?',
        "part": '"kernel @" name "(" parameters? ") -> (" parameters ")" '
        + (f'("\\ndims " dim (", " dim){{0,{len(dims) - 1}}})? ' if dims else "")
        + '" "? "\\n"? "{" nl part-parallel "}" nl',
        "name": "[a-z] [a-z0-9_]{0,31}",
        "parameters": 'parameter (", " parameter){0,11}',
        "parameter": 'value ": " tensor',
        "tensor": 'dtype "[" (extent (", " extent){0,5})? "]"',
        "extent": f"measure (({_INDEX}) measure){{0,2}}",
        "measure": " | ".join(filter(None, (names, "size"))),
        "temp": '"temp " value " : " tensor',
        "step": f'kernel-call | "once {{" nl {several} "}}" | '
        f'"repeat " value " = " index " to " index " {{" nl {several} "}}"',
        "kernel-call": '"call @" name "(" views? ") -> (" views ")"',
        "views": 'view (", " view){0,11}',
        "view": 'value ("[" index (", " index){0,3} "]")?',
    }  # fmt: skip
    if dims:
        rules["dim"] = _any(dims)
    named = {}
    for cls in dict.fromkeys(REGISTRY.values()):
        name = f"op-{cls.__name__.lower()}"
        own = _op(cls, "value")
        if own != _op(cls):
            named[f"part-{name}"] = own
        else:
            named[name] = own
    return rules | _blocks("part-", statements, list(named)) | named


def _head(word: str, module: Module, program: str) -> str:
    """The header of a kernel or program with the arguments that are asked for."""
    inherits = program in module.ops
    signature = print_signature(module.programs[program], with_dims=not inherits)
    return word + re.sub(r"^\w+", "", signature)


def _blocks(prefix: str, statements: int, ops: Sequence[str], depth: int = 2) -> dict[str, str]:
    """A kernel's body. ``loop0`` holds ``loop1`` and so on: a grammar without recursion."""
    line = f"{prefix}statement nl"
    out = {
        f"{prefix}parallel": '"parallel " loopvar (", " loopvar){0,5} '
        '(" order grouped(" size ")")? '
        f'" persistent"? " {{" nl ({line} | {prefix}loop0 nl){{1,{statements}}} "}}" nl',
        f"{prefix}statement": " | ".join(ops),
    }  # fmt: skip
    for at in range(depth):
        inner = f" | {prefix}loop{at + 1} nl" if at + 1 < depth else ""
        out[f"{prefix}loop{at}"] = (
            '(value (", " value){0,7} " = ")? "for " loopvar (" stages " [1-9])? '
            '(" carry (" carry (", " carry){0,7} ")")? '
            f'" {{" nl ({line}{inner}){{1,{statements}}} (yield nl)? "}}"'
        )
    return out


def _op(cls: type[Op], tensor: str = "") -> str:
    """One op kind, by the format that its class declares. ``tensor`` is the rule of a tensor, else
    it is the op's input or output."""
    head = 'value " = " ' if cls.has_result else ""
    parts = [f"({_any(cls.mnemonics)})"]
    tensor = tensor or ("input" if cls.has_result else "output")
    return head + " ".join([*parts, *(_piece(p, cls, tensor) for p in cls.pieces)])


def _piece(p: Piece, cls: type[Op], tensor: str) -> str:
    if p.group:
        return "(" + " ".join(_piece(q, cls, tensor) for q in p.group) + ")?"
    if p.literal:
        return _text("," if p.literal == "," else f" {p.literal}")
    if p.kind == "coords":
        fill = ' (" else " literal)?' if hasattr(cls, "fill") else ""
        return f'"[" coordinates{fill} "]"'
    if p.kind == "tensor":
        return f'" " {tensor}'
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
