"""The page that explains KE-IR to a model is complete, and its examples are right."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ke_ir.evaluate import evaluate_op
from ke_ir.interpret import interpret_program
from ke_ir.ir import KernelCall, Module, Once, Repeat, Temp, statements
from ke_ir.ops import REGISTRY
from ke_ir.ops.base import Piece
from ke_ir.parse_kernel import STATEMENTS
from ke_ir.parser import parse
from ke_ir.reference import FAMILIES
from ke_ir.types import DTYPES
from ke_ir.verify import check
from search.knowledge.notes import tokens
from search.llm.language import PROGRAM, example, page

SMALL = {"N": 37, "B": 5, "M": 19}


def word_choices(pieces: tuple[Piece, ...]) -> list[str]:
    found = [w for p in pieces for w in sorted(p.choices or ())]
    return found + [w for p in pieces for w in word_choices(p.group)]


def attributes(pieces: tuple[Piece, ...]) -> list[str]:
    found = [p.literal or p.field for p in pieces if p.kind in ("", "flag") and not p.group]
    return found + [w for p in pieces for w in attributes(p.group)]


@pytest.mark.parametrize("examples", [True, False])
def test_every_op_kind_and_attribute_appears(examples: bool) -> None:
    words = set(re.findall(r"\w+", page(examples)))
    for mnemonic, cls in REGISTRY.items():
        assert mnemonic in words
        assert set(word_choices(cls.pieces)) <= words
        named = {w for w in attributes(cls.pieces) if w.isidentifier()}
        assert named <= words, (mnemonic, named - words)
    assert set(DTYPES) <= words and set(STATEMENTS) <= words
    assert {"tile", "stages", "carry", "order", "grouped", "persistent", "else"} <= words
    assert {c.__name__.lower() for c in (Temp, Repeat, Once)} <= words and "call" in words


def test_the_page_is_short() -> None:
    assert tokens(page(False)) < 4000 and tokens(page(True)) < 6500


@pytest.mark.parametrize("family", [*FAMILIES, PROGRAM])
def test_examples_are_correct(family: str) -> None:
    text = example(family)
    assert text.strip() in page(True)
    module = check(parse(text))
    (op,) = module.ops.values()
    sizes = op.sizes({n: s for n, s in SMALL.items() if any(d.name == n for d in op.dims)})
    rng = np.random.default_rng(0)
    inputs = {}
    for p in op.inputs:
        shape = p.type.sizes(sizes)
        if p.type.dtype.is_int:
            inputs[p.name] = rng.integers(0, sizes["V"], shape).astype(p.type.dtype.numpy())
        else:
            inputs[p.name] = rng.standard_normal(shape).astype(p.type.dtype.numpy())
    found = interpret_program(module, module.programs[op.name], sizes, inputs)
    wanted = evaluate_op(op, sizes, inputs)
    for p in op.outputs:
        np.testing.assert_allclose(found[p.name], wanted[p.name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_examples_show_their_family(family: str) -> None:
    module = parse(example(family))
    shown = {type(s) for k in module.kernels.values() for s in statements(k.body)}
    assert {c for c in REGISTRY.values() if c.family == family} <= shown


def test_a_program_is_shown() -> None:
    module: Module = parse(example(PROGRAM))
    (program,) = (p for p in module.programs.values() if p.name not in module.kernels)
    assert {type(s) for s in program.body} == {Temp, KernelCall}
