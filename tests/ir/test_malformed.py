"""Malformed text of any kind gets diagnostics: no other exception, and no long wait."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ke_ir.diagnostics import Diagnostic, IRError
from ke_ir.lexer import MAX_CHARS
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.verify import verify

EXAMPLES = {p.stem: p.read_text() for p in
            sorted(Path(__file__).parents[2].joinpath("examples").glob("*.ir"))}  # fmt: skip
PROGRAM = """# Something with every kind of item in it.
kernel @copy(%a: f32[D]) -> (%b: f32[D]) dims D in 1..64 = 4 {
  parallel %i = 0 to D tile 4 order grouped(2), %j = 0 to 1 persistent {
    %g = load %a[%i // 2 else -inf] : f32[4]
    %r = scan sum %g dim 0 reverse
    store %r, %b[%i]
  }
}
program @p(%x: f32[T, 4]) -> (%y: f32[4]) dims T = 3, U = T * 2 - 1 {
  temp %t : f32[T, 4]
  once { call @copy(%x[0]) -> (%t[0]) }
  repeat %s = 0 to T { call @copy(%x[%s]) -> (%t[%s]) }
  call @copy(%t[T - 1]) -> (%y)
}
tuned @copy for nvidia.sm_90 { num_warps = 8, fast = true, order = row }
""".replace(" order grouped(2), %j = 0 to 1", ", %j = 0 to 1 order grouped(2)")
SEEDS = [*EXAMPLES.values(), PROGRAM]
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    # Processor time: another process must not fail the test.
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


def accept(text: str) -> tuple[Diagnostic, ...]:
    """Parse and verify, as a command would; checks that whatever is said can be shown."""
    with within(1.0):
        try:
            m = parse(text, "f.ir")
            found = verify(m)
        except IRError as e:
            found = e.diagnostics
            assert found
        else:
            assert parse(print_module(m)) == m
    for d in found:
        assert d.render().isprintable() or "\n" in d.render()
        json.dumps(d.to_dict())
    return found


def test_the_seeds_are_well_formed() -> None:
    for text in SEEDS:
        assert accept(text) == ()


_WORDS = (
    "( ) [ ] { } < > = + - * / % , : . -> // <= >= == != .. %x @k inf nan true 0 1 -1 3.5 1e300 "
    "99999999999999999999 for to tile carry yield load store dims else in sum f32 op kernel"
)
TOKENS = st.sampled_from([*_WORDS.split(), *"²λ\0\x1b\u2028\ud800\"'\\$#\r"])


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A well-formed text with a few tokens deleted, doubled, swapped, replaced or inserted."""
    text = draw(st.sampled_from(SEEDS))
    tokens = re.findall(r"\w+|\s+|[^\w\s]", text)
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(tokens) - 1))
        j = draw(st.integers(0, len(tokens) - 1))
        form = draw(st.sampled_from(("delete", "double", "swap", "replace", "insert", "cut")))
        if form == "delete":
            tokens[i] = ""
        elif form == "double":
            tokens[i] *= 2
        elif form == "swap":
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif form == "replace":
            tokens[i] = draw(TOKENS)
        elif form == "insert":
            tokens.insert(i, " " + draw(TOKENS) + " ")
        else:
            del tokens[i : i + 1 + j % 20]
            tokens.append("")
    return "".join(tokens)


@FUZZ
@given(mangled())
def test_mangled_texts(text: str) -> None:
    accept(text)


@FUZZ
@given(st.text(), st.sampled_from(SEEDS), st.integers(0, 10**6))
def test_any_characters(junk: str, seed: str, at: int) -> None:
    accept(junk)
    at %= len(seed)
    accept(seed[:at] + junk + seed[at:])


@settings(FUZZ, max_examples=80)
@given(st.binary(max_size=200), st.sampled_from(SEEDS), st.integers(0, 10**6))
def test_any_bytes(junk: bytes, seed: str, at: int) -> None:
    at %= len(seed)
    accept(seed[:at] + junk.decode("latin-1") + seed[at:])


@pytest.mark.parametrize("seed", [EXAMPLES["embedding_sum"], PROGRAM])
def test_truncated_at_every_place(seed: str) -> None:
    whole = [i for i in range(len(seed)) if accept(seed[:i]) == ()]
    # What is complete before its end is so between items, or within the last white space.
    ends = [m.end() for m in re.finditer(r"\}\n", seed)]
    assert all(any(e - 1 <= i for e in ends) for i in whole)


EQUATION = "op @f(x: f32[4]) -> (y: f32[4]) {{ y[i] = {} }}"
KERNEL = "kernel @k(%x: f32[4]) -> (%y: f32[4]) {{\n parallel %i = 0 to 4 {{ {} }} }}"
N = 30_000
DEEP = {
    "parentheses": EQUATION.format("(" * N + "1" + ")" * N),
    "open parentheses": EQUATION.format("(" * N),
    "unary minus": EQUATION.format("-" * N + "1"),
    "minus and parentheses": EQUATION.format("-(" * N + "1" + ")" * N),
    "sum": EQUATION.format("1" + " + 1" * N),
    "right powers": EQUATION.format("1 - (" * N),
    "mixed levels": EQUATION.format("1 or 1 and 1 < 1 + 1 * " * N + "1"),
    "calls": EQUATION.format("exp(" * N),
    "subscripts": EQUATION.format("x[" * N),
    "else": EQUATION.format("x[0 else " * N),
    "reductions": EQUATION.format("sum[k](" * N),
    "bounds": EQUATION.format("sum[k in " * N),
    "select of ==": EQUATION.format("select(" * 40 + "x[i]" + " == 0, 1, 0)" * 40),
    "loops": KERNEL.format("for %k = 0 to 1 { " * N),
    "loops with carries": KERNEL.format("%r = for %k = 0 to 1 carry (%c = " * N),
    "operands": KERNEL.format("%v = " + "exp " * N),
    "operand lists": KERNEL.format("%v = " + "add 1, " * N),
    "dots": KERNEL.format("%v = " + "dot " * N),
    "coordinates": KERNEL.format("%v = load %x[" + "(" * N),
    "once": "program @p() -> () {" + "once {" * N,
    "repeat": "program @p() -> () {" + "repeat %t = 0 to 1 {" * N,
    "items": "kernel " * N,
    "names": "op @f(" + "x" * (3 * N) + ": f32[4",
    "digits": "op @f(x: f32[" + "9" * (3 * N),
    "braces": "{" * N,
    "comment": "#" * (3 * N),
}


@pytest.mark.parametrize("name", DEEP)
def test_depth_and_length(name: str) -> None:
    found = accept(DEEP[name])
    if name != "select of ==":
        assert len(found) == 1


def test_a_file_of_ten_megabytes_is_refused_at_once() -> None:
    unit = EXAMPLES["softmax"]
    text = unit * (10_000_000 // len(unit))
    (d,) = accept(text)
    assert d.code == "too-large" and f"{MAX_CHARS:,}" in d.message and d.hint


def test_many_errors_are_found_at_once() -> None:
    lines = "\n".join(f"%value{i} = add %valeu{i}, %value{i}x" for i in range(3000))
    found = accept(KERNEL.format(lines))
    assert len(found) == 100


def test_many_wrong_equations() -> None:
    lines = "\n".join(f"t{i}[i] = u{i}[i] + x[j]" for i in range(3000))
    found = accept(f"op @f(x: f32[4]) -> (y: f32[4]) {{ {lines} }}")
    assert len(found) == 100


@pytest.mark.parametrize(
    "number",
    ["9" * 39, "9" * 5000, "1e999", "1e-999", "0" * 39, "1.5e40", "1e99999", "4_000", "0x10", "1."],
)
@pytest.mark.parametrize(
    "text",
    [
        "op @f(x: f32[{0}]) -> (y: f32[4]) {{ y[i] = x[i] }}",
        "op @f(x: f32[D]) -> (y: f32[4]) dims D = {0} {{ y[i] = x[i] }}",
        "op @f(x: f32[D]) -> (y: f32[D]) dims D in 1..{0} = 4 {{ y[i] = x[i] }}",
        "op @f(x: f32[4]) -> (y: f32[4]) {{ y[i] = x[i % {0} else {0}] * {0} }}",
        "op @f(x: f32[4]) -> (y: f32[4]) {{ z[i in 0 to {0} * {0}] = 1 y[i] = z[i] }}",
        "kernel @k(%x: f32[4]) -> (%y: f32[4]) {{ parallel %i = 0 to {0} tile {0} {{ "
        "%v = load %x[%i + {0} * {0} else {0}] : f32[{0}] store {0}, %y[%i - {0}] }} }}",
        "kernel @k() -> (%y: f32[4]) {{ parallel %i = 0 to {0} * {0} {{ "
        "for %j = 0 to {0} * {0} stages {0} {{ store 1, %y[%j] }} }} }}",
        "kernel @k() -> (%y: f32[4]) {{ parallel %i = 0 to 4 {{ %v = full {0} * {0} : i8 "
        "%w = full {0} : u8 %u = permute %w [{0}, -{0}] store {0}, %y[%i] }} }}",
        "program @p() -> (%y: f32[4]) {{ temp %t : f32[{0} * {0}] repeat %s = 0 to {0} {{ "
        "call @k(%t[{0}]) -> (%y[%s * {0}]) }} }}",
        "tuned @k for a.b {{ x = {0} }}",
    ],
)
def test_numbers_of_any_size(text: str, number: str) -> None:
    accept(text.format(number))


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", " \n\t", "\r\n # note\r\n"])
@pytest.mark.parametrize("seed", SEEDS)
def test_line_endings(seed: str, ending: str) -> None:
    assert parse(seed.replace("\n", ending)) == parse(seed)
    assert parse(seed.rstrip("\n")) == parse(seed)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "\0", "\ufeff" + PROGRAM, "%", "@", "%%", "@@ @", "%²", "op", "op @", "kernel @k",
     "# only a note", "\ud800", "}"],
)  # fmt: skip
def test_next_to_nothing(text: str) -> None:
    (d,) = accept(text)
    assert d.code == "syntax"
