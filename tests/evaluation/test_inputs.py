"""Inputs are legal for the op: integers by how they are used, floats by distribution."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.derive import with_derived
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.verify import verify
from search.evaluation.inputs import DISTRIBUTIONS, Role, integer_roles, make_inputs
from search.evaluation.meaning import check_meaning
from search.evaluation.reference import make_case
from search.evaluation.verdict import Outcome


def op(text: str) -> OpDef:
    return next(iter(parse(text).ops.values()))


JAGGED = op("""
op @bag(table: f32[V, D], ids: i32[T], off: i32[B + 1]) -> (y: f32[B, D])
dims V = 50, D = 4, T = 30, B = 7
{ y[b, d] = sum[t in off[b] to off[b + 1]](table[ids[t], d]) }
""")


def test_an_index_stays_in_what_it_indexes_and_offsets_cover_it() -> None:
    roles = integer_roles(JAGGED, JAGGED.sizes())
    assert roles == {"ids": Role(0, 49), "off": Role(0, 30, sorted_offsets=True)}
    x = make_inputs(JAGGED, roles, JAGGED.sizes(), 0, "normal")
    assert x["ids"].dtype == np.int32
    assert x["ids"].min() >= 0 and x["ids"].max() < 50
    assert x["off"][0] == 0 and x["off"][-1] == 30 and (np.diff(x["off"]) >= 0).all()


def test_roles_follow_the_sizes() -> None:
    sizes = JAGGED.sizes({"V": 3, "T": 5})
    roles = integer_roles(JAGGED, sizes)
    assert roles["ids"].high == 2 and roles["off"].high == 5


@pytest.mark.parametrize(
    ("subscript", "low", "high", "outside"),
    [("i[k]", 0, 9, False), ("i[k] - 1", 1, 10, False), ("i[k] + 2", -2, 7, False),
     ("i[k] else 0.0", 0, 9, True)],
)  # fmt: skip
def test_shifted_and_guarded_indices(subscript: str, low: int, high: int, outside: bool) -> None:
    made = op(f"op @g(x: f32[10], i: i64[K]) -> (y: f32[K]) dims K = 4 {{ y[k] = x[{subscript}] }}")
    assert integer_roles(made, made.sizes()) == {"i": Role(low, high, outside=outside)}


def test_an_index_made_by_an_earlier_equation() -> None:
    made = op("""
op @g(x: f32[10], i: i32[K]) -> (y: f32[K]) dims K = 4
{ j[k] = i[k]
  y[k] = x[j[k]] }
""")
    assert integer_roles(made, made.sizes()) == {"i": Role(0, 9)}


def test_what_is_compared_with_an_index_lies_in_its_range() -> None:
    made = op("""
op @scatter(x: f32[K], i: i32[K]) -> (y: f32[N]) dims K = 4, N = 6
{ y[n] = sum[k](select(i[k] == n, x[k], 0.0)) }
""")
    assert integer_roles(made, made.sizes()) == {"i": Role(0, 5)}


def test_some_indices_go_outside_where_an_else_catches_them() -> None:
    made = op("""
op @g(x: f32[10], i: i32[K]) -> (y: f32[K]) dims K = 400
{ y[k] = x[i[k] else 0.0] }
""")
    roles = integer_roles(made, made.sizes())
    drawn = make_inputs(made, roles, made.sizes(), 0, "normal")["i"]
    assert {-1, 10} <= set(drawn.tolist()) <= set(range(-1, 11))


def test_distributions_differ_and_repeat() -> None:
    made = op("op @f(x: f16[64, 64], c: i1[64], n: u8[64]) -> (y: f16[64]) "
              "{ y[i] = select(c[i], x[i, 0] * n[i], 0.0) }")  # fmt: skip
    drawn = {d: make_inputs(made, {}, made.sizes(), 1, d)["x"] for d in DISTRIBUTIONS}
    assert all(x.dtype == np.float16 for x in drawn.values())
    assert drawn["normal"].min() < 0 and drawn["uniform"].min() >= 0
    magnitudes = np.abs(drawn["mixed"][drawn["mixed"] != 0].astype(np.float64))
    assert magnitudes.max() / magnitudes.min() > 1000 and (drawn["mixed"] == 0).any()
    again = make_inputs(made, {}, made.sizes(), 1, "mixed")["x"]
    assert (again == drawn["mixed"]).all()
    assert make_inputs(made, {}, made.sizes(), 1, "normal", "positive")["x"].min() > 0
    assert make_inputs(made, {}, made.sizes(), 1, "normal")["n"].min() >= 0


def test_inputs_are_smaller_where_an_output_would_overflow() -> None:
    module = with_derived(
        parse("""
op @cube(x: f16[N], w: f16[N]) -> (y: f16[]) dims N = 4096 {
  s[] = sum[i](x[i] * 0 + 1)
  y[] = sum[i](x[i] * w[i] * s[]) / 8
}""")
    )
    program, cube = module.programs["cube"], module.ops["cube"]
    case = make_case(module, program, cube, cube.sizes(), 0, "uniform")
    assert case.scale < 1 and "within reach" in case.note
    assert 1 < case.expected["y"] < 65504


@pytest.mark.parametrize(
    ("body", "domain"),
    [
        ("x[i] * 2.0", ""),
        ("log(x[i])", "positive"),
        ("log(x[i]) + log(1.0 - x[i])", "between 0 and 1"),
        ("log(x[i] - 1.0)", "above 1"),
        ("rsqrt(sum[j](x[j] * x[j]) / 64.0 - 4.0) * x[i]", "eight times as large"),
    ],
)
def test_inputs_are_drawn_where_the_op_is_defined(body: str, domain: str) -> None:
    module = with_derived(parse(f"op @f(x: f32[64]) -> (y: f32[64]) {{ y[i] = {body} }}"))
    case = make_case(module, module.programs["f"], module.ops["f"], {}, 0, "normal")
    assert case.domain == domain
    assert not case.partial
    assert np.isfinite(case.expected["y"]).all()
    assert case.note.startswith(domain) and bool(case.note) == bool(domain)


PARTIAL = """
op @p(x: f32[64], c: i1[64]) -> (y: f32[64]) { y[i] = select(i < 4, 0.0 / 0.0, x[i]) }
kernel @p(%x: f32[64], %c: i1[64]) -> (%y: f32[64]) {
  parallel %i = 0 to 64 tile 64 {
    %v = load %x[%i] : f32[64]
    %at = iota %i : i32[64]
    %few = cmp lt %at, FEW
    %z = full 0.0 : f32[64]
    %nan = div %z, %z
    %s = select %few, %nan, %v
    store %s, %y[%i]
  }
}
"""


@pytest.mark.parametrize(("few", "right"), [(4, True), (3, False), (5, False), (64, False)])
def test_where_an_op_is_not_a_number_a_kernel_is_not_either(few: int, right: bool) -> None:
    module = parse(PARTIAL.replace("FEW", str(few)))
    assert not verify(module)
    found = check_meaning(module, module.programs["p"], module.ops["p"], {})
    assert (found.outcome is Outcome.PASSED) == right, found.reason


def test_an_op_that_is_nowhere_a_number_is_not_judged_right() -> None:
    module = with_derived(parse("op @n(x: f32[64]) -> (y: f32[64]) { y[i] = x[i] * (0.0 / 0.0) }"))
    found = check_meaning(module, module.programs["n"], module.ops["n"], {})
    assert found.outcome is Outcome.FAILED
    assert "NaN" in found.reason


def test_a_long_chain_is_followed_in_reasonable_time() -> None:
    """Each equation reads the one before twice: 2^60 ways lead to the input."""
    links = "\n".join(f"c{n}[k] = c{n - 1}[k] + min(c{n - 1}[k], 3)" for n in range(1, 61))
    made = op(f"""op @g(x: f32[10], i: i64[K]) -> (y: f32[K]) dims K = 4 {{
      c0[k] = i[k] * 2
      {links}
      y[k] = x[c60[k]] }}""")
    assert integer_roles(made, made.sizes()) == {"i": Role(0, 9)}
