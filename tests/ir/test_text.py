"""The text form: exact round trip, one canonical text, and every op kind in it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.diagnostics import IRError
from ke_ir.expr import (
    BINARY_OPERATORS,
    FUNCTIONS,
    REDUCTIONS,
    Bin,
    Call,
    Dim,
    Neg,
    Num,
    Reduce,
    Ref,
    Var,
    show,
    walk,
)
from ke_ir.hashing import structural_hash
from ke_ir.ir import Module, OpDef, statements
from ke_ir.ops import REGISTRY, Op
from ke_ir.parser import parse
from ke_ir.printer import print_module, print_op
from ke_ir.verify import verify
from tests.ir.kernel_strategies import kernels
from tests.ir.module_strategies import modules, nested_operands, op_defs, rewritten

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.ir"))
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def check_round_trip(m: Module) -> None:
    text = print_module(m)
    back = parse(text)
    assert back == m
    assert print_module(back) == text
    assert structural_hash(back) == structural_hash(m)
    assert [d.render() for d in verify(back)] == []


@SLOW
@given(modules())
def test_random_modules_round_trip_and_verify(m: Module) -> None:
    check_round_trip(m)


@pytest.mark.parametrize("mnemonic", sorted(REGISTRY))
@QUICK
@given(st.data())
def test_every_op_kind_round_trips(mnemonic: str, data: st.DataObject) -> None:
    k = data.draw(kernels(including=mnemonic))
    found = {s.mnemonic for s in statements(k.body) if isinstance(s, Op)}
    assert mnemonic in found
    check_round_trip(Module((k,)))


@SLOW
@given(modules(), st.data())
def test_white_space_and_comments_do_not_matter(m: Module, data: st.DataObject) -> None:
    text = data.draw(rewritten(print_module(m)))
    assert parse(text) == m


@SLOW
@given(kernels())
def test_an_op_may_stand_as_an_operand(k: object) -> None:
    text = print_module(Module((k,)))  # type: ignore[arg-type]
    nested = nested_operands(text)
    assume(nested != text)
    back = parse(nested)
    assert structural_hash(back) == structural_hash(parse(text))
    assert print_module(parse(print_module(back))) == print_module(back)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_round_trip_and_verify(path: Path) -> None:
    m = parse(path.read_text(), str(path))
    check_round_trip(m)


def test_nested_operands_become_statements_in_order() -> None:
    m = parse(
        "kernel @k(%x: f32[4]) -> (%y: f32[4]) {\n  parallel %0 = 0 to 4 {\n"
        "    store add load %x[%0] : f32, mul full 2.0 : f32, 3.0, %y[%0]\n  }\n}"
    )
    body = m.kernels["k"].body[0].body  # type: ignore[attr-defined]
    assert [print_op(s) for s in body] == [
        "%1 = load %x[%0] : f32",
        "%2 = full 2.0 : f32",
        "%3 = mul %2, 3.0",
        "%4 = add %1, %3",
        "store %4, %y[%0]",
    ]


X = Var("x")


@pytest.mark.parametrize(
    ("e", "text"),
    [
        (Neg(Num(1)), "-(1)"),
        (Num(-1), "-1"),
        (Neg(Num(-1)), "-(-1)"),
        (Neg(Neg(X)), "-(-x)"),
        (Bin("*", Neg(X), X), "(-x) * x"),
        (Bin("-", X, Num(-1)), "x - (-1)"),
        (Bin("-", X, Bin("-", X, X)), "x - (x - x)"),
        (Bin("-", Bin("-", X, X), X), "x - x - x"),
        (Bin("<", Bin("<", X, X), X), "(x < x) < x"),
        (Bin("//", Bin("*", X, X), Bin("%", X, X)), "x * x // (x % x)"),
        (Num(-math.inf), "-inf"),
        (Neg(Num(math.nan)), "-(nan)"),
        (Num(1e-7), "1e-07"),
        (Num(1e22), "1e+22"),
        (Num(-0.0), "-0.0"),
    ],
)
def test_expressions_print_with_the_parentheses_they_need(e: object, text: str) -> None:
    assert show(e) == text  # type: ignore[arg-type]
    source = f"op @f(a: f64[3]) -> (y: f64[3]) {{ y[x] = {text} }}"
    rhs = parse(source).ops["f"].equations[0].rhs
    assert rhs == e
    assert show(rhs) == text


def test_negative_zero_outside_is_kept() -> None:
    m = parse(
        "kernel @k(%x: f32[4]) -> (%y: f32[4]) {\n  parallel %i = 0 to 4 tile 3 {\n"
        "    store load %x[%i else -0.0] : f32[3], %y[%i]\n  }\n}"
    )
    assert "else -0.0" in print_module(m)


@pytest.mark.parametrize("word", ["true", "false", "inf", "nan", "sum", "else", "to", "and"])
def test_words_of_the_language_do_not_name_tensors_dims_or_indices(word: str) -> None:
    for text in (
        f"op @f({word}: f32[4]) -> (y: f32[4]) {{ y[i] = 1 }}",
        f"op @f(x: f32[4]) -> (y: f32[4]) dims {word} = 4 {{ y[i] = x[i] }}",
        f"op @f(x: f32[4]) -> (y: f32[4]) {{ y[{word}] = x[{word}] }}",
    ):
        with pytest.raises(IRError, match="is a word of the language"):
            parse(text)


def test_random_ops_have_every_kind_of_expression() -> None:
    seen: set[object] = set()

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(op_defs())
    def collect(op: OpDef) -> None:
        for e in (n for eq in op.equations for n in walk(eq.rhs)):
            seen.add(type(e))
            match e:
                case Bin(op=name) | Reduce(kind=name):
                    seen.add((type(e), name))
                case Ref(fill=fill) if fill is not None:
                    seen.add("else")

    collect()
    assert {Num, Dim, Var, Bin, Neg, Call, Ref, Reduce, "else"} <= seen
    assert {(Bin, o) for o in BINARY_OPERATORS} <= seen
    assert {(Reduce, r) for r in REDUCTIONS} <= seen


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_every_function_reads_back(fn: str) -> None:
    args = ("x[i] > 0", "x[i]", "1.5")[-FUNCTIONS[fn] :] if fn != "not" else ("x[i] > 0",)
    text = f"select({fn}({', '.join(args)}), 1, 0)" if fn == "not" else f"{fn}({', '.join(args)})"
    check_round_trip(parse(f"op @f(x: f64[3]) -> (y: f64[3]) {{ y[i] = {text} }}"))
