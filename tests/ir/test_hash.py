"""The structural hash: what counts and what does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ke_ir.hashing import nameless_hash, normalised, structural_hash
from ke_ir.ir import Kernel, Module
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


def everything_renamed(k: Kernel) -> Kernel:
    """With other names for the kernel, its tensors, values and loop variables."""
    return parse(re.sub(r"([%@])(\w+)", r"\1n_\2", print_module(Module((k,))))).kernels[
        f"n_{k.name}"
    ]


@CALM
@given(kernels())
def test_kernels_are_the_same_by_any_name(k: Kernel) -> None:
    other = everything_renamed(k)
    assert structural_hash(other) != structural_hash(k)
    assert nameless_hash(other) == nameless_hash(k)


@CALM
@given(kernels())
def test_without_names_every_attribute_counts(k: Kernel) -> None:
    hashes = [nameless_hash(other) for other in single_changes(k)]
    assert len(hashes) > 3
    assert nameless_hash(k) not in hashes


MUL = """
kernel @mul(%a: f32[N, 32], %b: f32[32, 32], %s: f32[32]) -> (%c: f32[N, 32], %d: f32[N, 32])
dims N = 64
{
  parallel %i = 0 to N tile 16 {
    %z = full 0.0 : f32[16, 32]
    %r = for %k = 0 to 32 tile 16 stages 2 carry (%acc = %z) {
      %x = load %a[%i, %k] : f32[16, 16]
      %y = load %b[%k, 0] : f32[16, 32]
      %t = dot %x, %y, %acc precision tf32
      yield %t
    }
    store %r, %c[%i, 0]
  }
}
"""


@pytest.mark.parametrize(
    "old, new",
    [
        ("%s: f32[32]", "%s: f16[32]"),
        ("%s: f32[32]", "%s: f32[33]"),
        ("%s: f32[32]) -> (%c", "%s: f32[32], %more: f32[32]) -> (%c"),
        ("%a: f32[N, 32], %b: f32[32, 32]", "%b: f32[32, 32], %a: f32[N, 32]"),
        (", %s: f32[32]) -> (%c: f32[N, 32]", ") -> (%s: f32[32], %c: f32[N, 32]"),
        ("%c: f32[N, 32], %d: f32[N, 32]", "%d: f32[N, 32], %c: f32[N, 32]"),
        ("dims N = 64", "dims N = 65"),
        ("dims N = 64", "dims N in 1..64 = 64"),
        ("%i = 0 to N tile 16 {", "%i = 0 to N tile 16 persistent {"),
        ("stages 2", "stages 3"),
        ("precision tf32", "precision tf32x3"),
        ("full 0.0", "full -0.0"),
        ("%b[%k, 0]", "%b[%k, 1]"),
        ("load %a[%i, %k]", "load %c[%i, %k]"),
    ],
)
def test_all_but_names_counts(old: str, new: str) -> None:
    (k,) = parse(MUL).items
    (other,) = parse(MUL.replace(old, new, 1)).items
    assert isinstance(k, Kernel) and isinstance(other, Kernel) and old in MUL
    assert nameless_hash(k) != nameless_hash(other)
