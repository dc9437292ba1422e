"""Derivations of recurrences: a step that is called again and again, of the meaning of the op."""

from __future__ import annotations

import pytest

from ke_ir.derive import derive
from ke_ir.evaluate import evaluate_op
from ke_ir.expr import Dim
from ke_ir.interpret import interpret_program
from ke_ir.ir import For, KernelCall, OpDef, Program, Repeat, statements
from ke_ir.ops import Dot, Store
from ke_ir.parser import parse
from ke_ir.verify import check
from tests.ir.derive_check import agree, derived, kernels
from tests.ir.recurrences import CELLS, EXTRA, inputs_of

ALL = {**CELLS, **EXTRA}
SIZES = [{}, {"T": 1, "B": 1}, {"T": 2}, {"T": 9, "B": 17, "I": 18, "H": 20, "D": 3, "N": 2}]


def op(text: str) -> OpDef:
    return next(iter(check(parse(text)).ops.values()))


def repeats(o: OpDef) -> list[Repeat]:
    program = derived(o).programs[o.name]
    return [s for s in program.body if isinstance(s, Repeat)]


@pytest.mark.parametrize("name", ALL)
def test_agrees(name: str) -> None:
    o = op(ALL[name])
    module = derived(o)
    for sizes in SIZES:
        own = {d: n for d, n in sizes.items() if d in o.sizes()}
        agree(module, own, inputs_of(o, own))


@pytest.mark.parametrize("name", CELLS)
def test_kernels_do_not_grow_with_the_steps(name: str) -> None:
    text = ALL[name]
    (step,) = repeats(op(text))
    assert len(step.body) == 1  # the products of all gates, and what follows, in one kernel
    long = op(text.replace("= 6, B", "= 4000, B"))
    assert len(kernels(derived(long))) == len(kernels(derived(op(text)))) <= 4
    first = [c for c in derived(op(text)).programs[op(text).name].body if isinstance(c, KernelCall)]
    assert step.body[0].kernel in [c.kernel for c in first]  # on what there is before


def test_a_large_cell_is_one_kernel_of_matrix_products() -> None:
    o = op(CELLS["lstm"].replace("B in 1..4096 = 3, I = 5, H = 9",
                                 "B in 1..4096 = 64, I = 128, H = 256"))  # fmt: skip
    module = derived(o)
    found = [s for s in statements(module.kernels["lstm_step_h"].body) if isinstance(s, Dot)]
    assert len(found) == 4
    agree(module, {"T": 3, "B": 16, "I": 16, "H": 16},
          inputs_of(o, {"T": 3, "B": 16, "I": 16, "H": 16}))  # fmt: skip


@pytest.mark.parametrize("name", ["state_space", "running_logsumexp"])
def test_places_that_go_their_own_way_are_one_kernel_for_all_steps(name: str) -> None:
    o = op(ALL[name])
    assert not repeats(o) and not any("step" in k.name for k in kernels(derived(o)))
    loops = [s for k in kernels(derived(o)) for s in statements(k.body) if isinstance(s, For)]
    assert any(s.carries and s.var.tile is None and s.var.hi == Dim("T") for s in loops)


def test_what_follows_from_a_state_stays_in_its_kernel() -> None:
    o = op("""op @f(x: f32[T, B], a: f32[B]) -> (y: f32[T, B], z: f16[T, B]) dims T = 50, B = 300 {
      y[t, b] = y[t - 1, b else a[b]] * 0.5 + x[t, b]
      z[t, b] = exp(y[t, b]) * a[b] }""")
    module = derived(o)
    assert len(kernels(module)) == 1
    agree(module, {"T": 5, "B": 17})


OTHER_PLACES = {
    "neighbour": "h[t, b] = h[t - 1, b - 1 else 0] + x[t, b]",
    "sum": "h[t, b] = sum[k](h[t - 1, k else 0]) + x[t, b]",
    "two starts": "h[t, b] = h[t - 1, b else 0] * h[t - 1, b else 1] + x[t, b]",
    "two widths": "c[t, b in 0 to 2] = h[t - 1, b else 0] + x[t, b]\n"
                  "h[t, b] = c[t - 1, b else 7] + x[t, b]",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_PLACES)
def test_other_recurrences_go_step_by_step(name: str) -> None:
    o = op(f"op @f(x: f32[T, B]) -> (h: f32[T, B]) dims T = 5, B = 4 {{ {OTHER_PLACES[name]} }}")
    assert repeats(o)
    agree(derived(o))


def test_gates_that_are_one_product_take_no_kernel_of_their_own() -> None:
    (step,) = repeats(op(ALL["packed"]))
    assert len(step.body) == 1
    large = ALL["packed"].replace("B in 1..4096 = 3, H = 9", "B in 1..4096 = 64, H = 128")
    module = derived(op(large))
    found = [s for s in statements(module.kernels["packed_step_h"].body) if isinstance(s, Dot)]
    assert len(found) == 4


NOT_SLICES = {
    "read whole": "h[t, b] = tanh(g[t, b] + g[t, b + 4] + sum[j](g[t, j]))",
    "more than there is": "h[t, b] = tanh(g[t, b] + g[t, b + 1] + g[t, b + 4])",
    "gathered": "h[t, b] = tanh(g[t, 2 * b])",
}


@pytest.mark.parametrize("name", NOT_SLICES)
def test_what_is_no_slice_stays_whole(name: str) -> None:
    o = op(f"""op @f(x: f32[T, 8], w: f32[8, 4]) -> (h: f32[T, 4]) dims T = 5 {{
      g[t, j] = x[t, j] + sum[k](h[t - 1, k else 0.5] * w[j, k])
      {NOT_SLICES[name]} }}""")
    (step,) = repeats(o)
    assert len(step.body) > 1
    agree(derived(o))


def test_what_needs_no_earlier_step_is_computed_before() -> None:
    """Products with the inputs are one contraction over all steps, not one for each."""
    module = derived(op(CELLS["gru"]))
    (step,) = repeats(op(CELLS["gru"]))
    (call,) = step.body
    kernel = module.kernels[call.kernel]
    assert {"x", "u"}.isdisjoint(p.name for p in kernel.inputs)


def test_sizes_as_numbers() -> None:
    for steps in (1, 2, 7):
        carried = op(f"""op @f(x: f32[{steps}, 3]) -> (y: f32[{steps}, 3]) {{
          y[t, b] = y[t + 1, b else 1.0] * 0.5 + x[t, b] }}""")
        assert not repeats(carried)
        agree(derived(carried))
        o = op(f"""op @f(x: f32[{steps}, 3]) -> (y: f32[{steps}, 3]) {{
          y[t, b] = sum[k](y[t + 1, k else 1.0]) * 0.5 + x[t, b] }}""")
        assert len(repeats(o)) == (steps > 1)
        agree(derived(o))


def test_double_precision_stays() -> None:
    o = op("""op @f(x: f64[T, B]) -> (y: f64[T, B]) dims T = 30, B = 3
    { y[t, b] = y[t - 1, b else 0] * 0.9 + x[t, b] }""")
    module = derived(o)
    given = inputs_of(o, {})
    got = interpret_program(module, module.programs["f"], None, given, exact=False)
    want = evaluate_op(o, None, given)
    assert abs(got["y"] - want["y"]).max() < 1e-13


def test_halves_are_rounded_only_at_the_end() -> None:
    """An output of 16 bits does not carry its rounding from step to step."""
    o = op("""op @f(x: f32[T, B]) -> (y: f16[T, B]) dims T = 200, B = 3
    { y[t, b] = y[t - 1, b else 0] + x[t, b] * 0.001 }""")
    module = derived(o)
    given = inputs_of(o, {})
    got = interpret_program(module, module.programs["f"], None, given, exact=False)["y"]
    want = evaluate_op(o, None, given)["y"]
    assert (abs(got.astype(float) - want) <= 1e-6 + abs(want) * 2.0**-11).all()


def test_names_that_are_taken_are_avoided() -> None:
    o = op("""op @f(step: f32[T, B], steps: f32[B]) -> (y: f16[T, B], y_steps: f32[B])
    dims T = 5, B = 3 {
      y[t, b] = y[t - 1, b else steps[b]] + step[t, b] * t
      y_now[b] = sum[t](y[t, b])
      y_steps[b] = y_now[b] * 2 }""")
    agree(derived(o), {}, inputs_of(o, {}))


def test_what_nobody_asks_for_is_left_out() -> None:
    o = op("""op @f(x: f32[T, B]) -> (y: f32[T, B]) dims T = 5, B = 3 {
      y[t, b] = y[t - 1, b else 0] + x[t, b]
      z[b] = sum[t](y[t, b]) }""")
    (kernel,) = derive(o)
    assert [p.name for p in kernel.outputs] == ["y"]
    steps = op("""op @f(x: f32[T, B]) -> (y: f32[T, B]) dims T = 5, B = 3 {
      y[t, b] = sum[k](y[t - 1, k else 0]) + x[t, b]
      z[b] = sum[t](y[t, b]) }""")
    (program,) = [i for i in derive(steps) if isinstance(i, Program)]
    assert list(program.temps) == ["y_start"]


LAST = """op @f(x: f32[B], m: f32[M]) -> (y: f32[B]) dims B = 300, M = 50 {
  mid[t in 0 to 6, b in 0 to B] = (lo[t - 1, b else 0] + hi[t - 1, b else M]) // 2
  up[t, b] = mid[t, b] < hi[t - 1, b else M] and m[min(mid[t, b], M - 1)] < x[b]
  lo[t, b] = select(up[t, b], mid[t, b] + 1, lo[t - 1, b else 0])
  hi[t, b] = select(up[t, b], hi[t - 1, b else M], mid[t, b])
  y[b] = lo[5, b] * 2 + x[b] }"""


def test_of_a_search_only_where_it_ends_is_kept() -> None:
    module = derived(op(LAST))
    (kernel,) = kernels(module)
    (loop,) = [s for s in statements(kernel.body) if isinstance(s, For)]
    assert len(loop.carries) == 2 and not any(isinstance(s, Store) for s in statements(loop.body))
    agree(module, {}, inputs_of(op(LAST), {}))


ENDS = {
    "backwards": "h[t, b] = h[t + 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[0, b] + a[b]",
    "gathered": "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[6, 4 - b] + h[6, b]",
    "outside": "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[6, b - 1 else 9]",
    "reduced": "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = sum[c](h[6, c]) * a[b]",
    "index in the middle": "h[b, t] = h[b, t - 1 else a[b]] * 0.5 + x[t, b]\ny[b] = h[b, 6]",
}


@pytest.mark.parametrize("name", ENDS)
def test_what_is_read_of_the_last_step_alone_has_no_steps(name: str) -> None:
    o = op(f"op @f(x: f32[7, 5], a: f32[5]) -> (y: f32[5]) {{ {ENDS[name]} }}")
    module = derived(o)
    assert all(len(t.shape) < 2 for p in module.programs.values() for t in p.temps.values())
    agree(module)


STEPS_ASKED_FOR = {
    "an earlier one": "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[6, b] + h[5, b]",
    "all": "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[6, b] + sum[t](h[t, b])",
    "the first of one that goes up": (
        "h[t, b] = h[t - 1, b else a[b]] * 0.5 + x[t, b]\ny[b] = h[0, b] + a[b]"
    ),
}


@pytest.mark.parametrize("name", STEPS_ASKED_FOR)
def test_steps_that_are_asked_for_are_kept(name: str) -> None:
    o = op(f"op @f(x: f32[7, 5], a: f32[5]) -> (y: f32[5]) {{ {STEPS_ASKED_FOR[name]} }}")
    module = derived(o)
    assert any(len(t.shape) == 2 for t in module.programs["f"].temps.values())
    agree(module)
