"""The structural hash: what counts and what does not."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ke_ir.hashing import normalised, structural_hash
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.printer import print_module
from tests.ir.edits import renamed, single_changes
from tests.ir.kernel_strategies import kernels
from tests.ir.module_strategies import modules, program_pairs, rewritten

CALM = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@CALM
@given(modules(), st.data())
def test_names_do_not_count(m: Module, data: st.DataObject) -> None:
    shuffled = renamed(m, lambda old: data.draw(st.permutations(old)))
    fresh = renamed(m, lambda old: [f"n{i}" for i in range(len(old))])
    assert structural_hash(shuffled) == structural_hash(m) == structural_hash(fresh)


@CALM
@given(modules(), st.data())
def test_formatting_does_not_count(m: Module, data: st.DataObject) -> None:
    text = data.draw(rewritten(print_module(m)))
    assert structural_hash(parse(text)) == structural_hash(m)


@CALM
@given(kernels())
def test_every_attribute_counts(k: object) -> None:
    m = Module((k,))  # type: ignore[arg-type]
    hashes = [structural_hash(other) for other in single_changes(m.items[0])]  # type: ignore[arg-type]
    assert len(hashes) > 3
    assert structural_hash(m.items[0]) not in hashes


@CALM
@given(st.one_of(kernels(), program_pairs().map(lambda items: items[-1])))
def test_the_normal_form_is_its_own_normal_form(item: object) -> None:
    once = normalised(item)  # type: ignore[arg-type]
    assert normalised(once) == once
    assert structural_hash(once) == structural_hash(item)  # type: ignore[arg-type]


COPY = """
kernel @copy(%a: f32[4]) -> (%b: f32[4]) {
  parallel %i = 0 to 4 tile 4 {
    store load %a[%i] : f32[4], %b[%i]
  }
}
program @p(%0: f32[2, 4], %1: f32[2, 4]) -> (%y: f32[2, 4]) {
"""


def program(body: str) -> str:
    return structural_hash(parse(COPY + body + "}").items[1])


def test_a_temporary_is_not_taken_for_an_argument() -> None:
    a = "temp %t : f32[2, 4] repeat %s = 0 to 2 { call @copy(%0[%s]) -> (%t[%s]) }"
    through = a + "repeat %s = 0 to 2 { call @copy(%t[%s]) -> (%y[%s]) }"
    around = a + "repeat %s = 0 to 2 { call @copy(%0[%s]) -> (%y[%s]) }"
    assert program(through) != program(around)


def test_one_step_name_twice_is_two_names() -> None:
    body = "repeat %s = 0 to 2 {{ call @copy(%0[%s]) -> (%y[%s]) }} temp %t : f32[4] repeat %{0} \
        = 0 to 2 {{ call @copy(%1[%{0}]) -> (%t) }}"
    assert program(body.format("s")) == program(body.format("u"))


def test_order_and_arguments_count() -> None:
    first, second = "call @copy(%0[0]) -> (%y[0])", "call @copy(%0[1]) -> (%y[1])"
    swapped = first.replace("%0", "%1")
    assert len({program(first + second), program(second + first), program(swapped + second)}) == 3
