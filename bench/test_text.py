"""How long a module of 1,000 lines takes to read, verify and print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ke_ir.diff import diff_modules
from ke_ir.hashing import structural_hash
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.verify import verify

ROOT = Path(__file__).parents[1]
LINES = 1000


def thousand_lines() -> str:
    """The kernel of the attention example, under other names, until there are 1,000 lines."""
    text = (ROOT / "examples" / "attention.ir").read_text()
    op, kernel = text[: text.index("kernel @")], text[text.index("kernel @") :]
    dims = op.split("dims ")[1].split("\n")[0]
    kernel = kernel.replace(" {\n", f"\ndims {dims}\n{{\n", 1)
    copies = -(-LINES // kernel.count("\n"))
    all_lines = "".join(kernel.replace("@attention", f"@a{i}") for i in range(copies))
    return "\n".join(all_lines.split("\n")[: LINES + 40]).rsplit("kernel @", 1)[0]


TEXT = thousand_lines()


def test_the_text_is_as_long_as_said() -> None:
    assert LINES * 0.97 <= TEXT.count("\n") <= LINES * 1.03
    assert verify(parse(TEXT)) == ()


def read_verify_print(text: str) -> str:
    m = parse(text)
    assert not verify(m)
    return print_module(m)


def test_read_verify_print(benchmark: Any) -> None:
    assert benchmark(read_verify_print, TEXT)


@pytest.mark.parametrize("step", [verify, print_module, structural_hash], ids=lambda f: f.__name__)
def test_step(benchmark: Any, step: Any) -> None:
    benchmark(step, parse(TEXT))


def test_parse(benchmark: Any) -> None:
    assert isinstance(benchmark(parse, TEXT), Module)


def test_diff_of_a_changed_module(benchmark: Any) -> None:
    other = parse(TEXT.replace("tile 64", "tile 32").replace("exp2", "exp"))
    assert benchmark(diff_modules, parse(TEXT), other)
