"""`multiply`: products without a matrix unit."""

from __future__ import annotations

import pytest

from ke_ir.ir import Module
from ke_ir.ops import Dot, Reduce
from ke_ir.parser import parse
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.multiply import MOST, Multiply
from ke_ir.verify import check
from tests.rewrites.support import assert_same_meaning


def product(
    dtype: str = "f32", rows: int = 4, columns: int = 2, terms: int = 8, *, acc: bool = False,
    across: bool = False, precision: str = "",
) -> Module:  # fmt: skip
    """``y = a b``, where ``b`` lies along the terms, or ``across``."""
    out = {"f16": "f32", "bf16": "f32", "i8": "i32"}.get(dtype, dtype)
    b, at, shape = ("[20, 6]", "%k, %n", (terms, columns)) if across else (
        "[6, 20]", "%n, %k", (columns, terms))  # fmt: skip
    turn = "%v" if across else "%w"
    permute = "" if across else "%w = permute %v [1, 0]\n"
    inner = (
        f"%u = load %a[%m, %k] : {dtype}[{rows}, {terms}]\n"
        f"%v = load %b[{at}] : {dtype}[{shape[0]}, {shape[1]}]\n{permute}"
        f"%p = dot %u, {turn}{', %s' if acc else ''}{precision}\n"
    )
    if acc:
        zero = "0" if out == "i32" else "0.0"
        body = (
            f"%z = full {zero} : {out}[{rows}, {columns}]\n"
            f"%r = for %k = 0 to 20 tile {terms} carry (%s = %z) {{\n{inner}yield %p\n}}\n"
            "store %r, %y[%m, %n]\n"
        )
        loops = f"parallel %m = 0 to 5 tile {rows}, %n = 0 to 6 tile {columns}"
    else:
        body = f"{inner}store %p, %y[%m, %n]\n"
        loops = (f"parallel %m = 0 to 5 tile {rows}, %n = 0 to 6 tile {columns}, "
                 f"%k = 0 to 20 tile {terms}")  # fmt: skip
    return check(parse(
        f"kernel @mm(%a: {dtype}[5, 20], %b: {dtype}{b}) -> (%y: {out}[5, 6]) {{\n"
        f"{loops} {{\n{body}}}\n}}"
    ))  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i8"])
@pytest.mark.parametrize("acc", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_it_keeps_the_meaning(dtype: str, acc: bool, across: bool) -> None:
    terms = 8 if acc else 20
    module = product(dtype, terms=terms, acc=acc, across=across)
    made = Multiply("mm", "p").apply(module)
    assert not isinstance(made, NoMatch)
    kinds = {type(op) for op in facts(made.kernels["mm"]).definitions.values()}
    assert Dot not in kinds and Reduce in kinds
    assert_same_meaning(module, check(made), "mm")


def test_what_a_matrix_unit_is_for_stays() -> None:
    module = product(rows=64, columns=64, terms=8, acc=True)
    got = Multiply("mm", "p").apply(module)
    assert isinstance(got, NoMatch) and str(MOST) in got.reason
    assert not list(Multiply.applicable(module))
    assert not list(Multiply.applicable(product(rows=32, columns=32, acc=True)))


def test_a_lower_precision_stays() -> None:
    got = Multiply("mm", "p").apply(product(terms=20, precision=" precision tf32"))
    assert isinstance(got, NoMatch) and "tf32" in got.reason


def test_it_is_offered_for_few_rows() -> None:
    assert [str(r) for r in Multiply.applicable(product(terms=20))] == ["multiply(@mm, %p)"]
