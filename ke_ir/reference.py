"""The reference of op kinds, generated from the registry: ``python -m ke_ir.reference``."""

from __future__ import annotations

import inspect

from ke_ir.ops import REGISTRY
from ke_ir.ops.base import Op, Piece

FAMILIES = {
    "memory": "Tensor memory",
    "create": "Making tiles",
    "elementwise": "Element by element",
    "combine": "Combining elements",
    "shape": "Moving dimensions",
}


def syntax(cls: type[Op]) -> str:
    """The form of an op, such as ``%r = reduce KIND %x dim INT``."""
    head = "%r = " if cls.has_result else ""
    word = cls.mnemonics[0] if len(cls.mnemonics) == 1 else "FN"
    text = " ".join([word, *(_show(p) for p in cls.pieces)]).replace(" ,", ",")
    if not hasattr(cls, "fill"):
        text = text.replace(" else NUMBER]", "]")
    return head + text.replace("%tensor [", "%tensor[")


def _show(p: Piece) -> str:
    if p.literal:
        return p.literal
    if p.group:
        return f"[ {' '.join(_show(q) for q in p.group)} ]"
    named = {
        "operand": f"%{p.field}",
        "tensor": "%tensor",
        "index": "%index",
        "coords": "[COORDINATES else NUMBER]",
        "int": "INT",
        "ints": "[INT, ...]",
        "value": "VALUE",
        "dtype": "DTYPE",
        "tiletype": "TYPE",
        "flag": p.field,
        "word": p.field.upper(),
    }
    return named[p.kind]


def reference() -> str:
    """Markdown: every op kind with its form, its words and its meaning, by family."""
    out: list[str] = []
    classes = list(dict.fromkeys(REGISTRY.values()))
    for family, title in FAMILIES.items():
        out.append(f"### {title}\n")
        for cls in (c for c in classes if c.family == family):
            out.append(f"`{syntax(cls)}`\n")
            if len(cls.mnemonics) > 1:
                out.append(f"FN is one of {_words(cls.mnemonics)}.\n")
            for p in _word_fields(cls.pieces):
                out.append(f"{p.field.upper()} is one of {_words(sorted(p.choices or ()))}.\n")
            out.append(inspect.cleandoc(cls.__doc__ or "").replace("``", "`") + "\n")
    return "\n".join(out)


def _word_fields(pieces: tuple[Piece, ...]) -> list[Piece]:
    found = [p for p in pieces if p.kind == "word"]
    return found + [q for p in pieces for q in _word_fields(p.group)]


def _words(words: tuple[str, ...] | list[str]) -> str:
    return " ".join(f"`{w}`" for w in words)


if __name__ == "__main__":
    print(reference())
