"""Work and inputs of ops with recurrences and scans."""

from __future__ import annotations

import pytest

from ke_ir.derive import with_derived
from ke_ir.evaluate import evaluate_op
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.verify import check
from search.evaluation.inputs import integer_roles
from search.evaluation.reference import Case, is_stable, legal_inputs, make_case, meaning_bound
from search.evaluation.roofline import op_cost
from tests.ir.recurrences import CELLS, EXTRA


def op(text: str) -> OpDef:
    (o,) = check(parse(text)).ops.values()
    return o


def test_an_lstm_does_the_products_of_every_step() -> None:
    o = op(CELLS["lstm"])
    t, b, i, h = 50, 8, 32, 64
    cost = op_cost(o, {"T": t, "B": b, "I": i, "H": h})
    assert cost.matrix_flops == 2 * 4 * t * b * h * (i + h)
    weights = 4 * h * (i + h + 1)
    whole = 4 * (t * b * i + 2 * b * h + weights + t * b * h + b * h)
    assert 0.7 * whole < cost.bytes <= whole  # of `w[0, j, k]` and `w[1, j, k]` the larger counts


def test_what_a_later_equation_asks_for_is_counted() -> None:
    """``c`` is read by ``h`` alone, one step later, and defined below it."""
    o = op("""op @f(x: f32[T, B]) -> (h: f32[T, B]) dims T = 100, B = 10 {
      h[t, b] = c[t - 1, b else 0] * 2
      c[t, b] = exp(x[t, b]) + h[t, b] }""")
    assert op_cost(o, {"T": 100, "B": 10}).vector_flops == pytest.approx(3 * 100 * 10)


def test_a_value_that_may_be_zero_for_ever_ends_the_search() -> None:
    o = op("""op @f(x: f32[T, B]) -> (s: f32[T]) dims T = 100, B = 10 {
      h[t, b] = h[t - 1, b else 1] * x[t, b]
      s[t] = sum[b](h[t, b] * x[t, b]) }""")
    assert op_cost(o, {"T": 100, "B": 10}).matrix_flops == 2 * 100 * 10


def test_a_scan_costs_one_operation_for_each_element() -> None:
    o = op("""op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 4, N = 1000
    { y[b, i] = sum[j in 0 to i + 1](x[b, j]) }""")
    assert op_cost(o, {"B": 4, "N": 1000}).vector_flops == 4000


def test_chaotic_inputs_are_made_smaller() -> None:
    """Weights of magnitude 1 in a wide cell turn roundings into differences of the order of 1."""
    module = with_derived(check(parse(CELLS["rnn"])))
    sizes = {"T": 60, "B": 2, "I": 8, "H": 64}
    o, program = module.ops["rnn"], module.programs["rnn"]
    case = make_case(module, program, o, sizes, 0, "normal")
    assert case.scale < 1 and "to be within reach of the arithmetic" in case.note
    plain = legal_inputs(program, o, sizes, 0, "normal")
    wild = Case(sizes, 0, "normal", plain, evaluate_op(o, sizes, plain))
    assert is_stable(o, case) and not is_stable(o, wild)


def test_meaning_is_checked_closely_over_many_steps() -> None:
    """The bound of an error analysis grows with each step; what is allowed does not."""
    module = with_derived(check(parse(CELLS["lstm"])))
    sizes = {"T": 40, "B": 2, "I": 8, "H": 16}
    o = module.ops["lstm"]
    case = make_case(module, module.programs["lstm"], o, sizes, 0, "normal")
    assert all((b <= 1e-8).all() for b in meaning_bound(o, case).values())


def test_lengths_of_rows_stay_within_the_steps() -> None:
    roles = integer_roles(op(EXTRA["lengths"]), {"T": 9, "B": 2})
    assert (roles["n"].low, roles["n"].high) == (0, 8)


def test_an_index_through_a_recurrence_is_found() -> None:
    o = op("""op @f(x: f32[N], k: i32[T]) -> (y: f32[T]) dims T = 10, N = 7 {
      m[t] = max(m[t - 1 else 0], k[t])
      y[t] = x[m[t]] }""")
    role = integer_roles(o, {"T": 10, "N": 7})["k"]
    assert (role.low, role.high) == (0, 6)
