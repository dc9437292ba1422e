"""Values through temporaries: materialise, fission, and back again by fuse."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.ir import Module
from ke_ir.rewrites import unique_names
from ke_ir.rewrites.fission import Fission
from ke_ir.rewrites.materialise import Materialise
from ke_ir.verify import verify
from tests.ir.derive_check import agree
from tests.ir.op_strategies import Sample, contractions, ops
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    assert_verifies,
    example,
    module_of,
    only_kernel,
    refusal,
)
from tests.rewrites.test_fuse import sized

SMALL = {
    "softmax": {"B": 5, "D": 1100},
    "layer_norm": {"B": 5, "D": 1100},
    "rms_norm": {"B": 5, "D": 1100},
    "attention": {"B": 1, "H": 1, "N": 130, "D": 24},
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_all_that_is_offered_on_an_example(name: str) -> None:
    module = example(name)
    steps = [*Fission.applicable(module), *Materialise.applicable(module)]
    assert steps
    for s in steps:
        assert_same_meaning(module, after(module, s), name, SMALL[name])


def test_the_scores_of_flash_attention_go_to_memory_and_come_back() -> None:
    module = after(example("attention"), "fuse(@attention_s)", "fuse(@attention_l)")
    apart = after(module, "materialise(@attention, %select_2)")
    assert len(apart.programs["attention"].calls) == 2
    assert_same_meaning(module, apart, "attention", SMALL["attention"])
    again = after(apart, "fuse(@attention_select_2)")
    only_kernel(again)
    assert_same_meaning(module, again, "attention", SMALL["attention"])


def test_fission_and_fuse_are_inverse() -> None:
    module = example("softmax")
    apart = after(module, "fission(@softmax, %d_1)")
    again = after(apart, "fuse(@softmax_first)")
    assert only_kernel(again).name == "softmax"
    assert_same_meaning(module, again, "softmax", SMALL["softmax"])


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("fission(@softmax, %d_2)", "nothing is written after"),
        ("fission(@softmax, %b)", "no loop %b"),
        ("materialise(@softmax, %x_1)", "no value %x_1"),
        ("materialise(@softmax, %max_1)", "which is carried"),
        ("materialise(@softmax, %cmp_1)", "not a float"),
        ("materialise(@softmax, %full_1)", "the same everywhere"),
    ],
)
def test_refusals(step: str, says: str) -> None:
    assert says in refusal(example("softmax"), step)


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(sample=ops() | contractions(), data=st.data())
def test_random_values_through_memory(sample: Sample, data: st.DataObject) -> None:
    op = sized(sample)
    assume(not verify(op))
    module = unique_names(with_derived(op))
    assume(not verify(module))  # a loop that is empty at these sizes
    steps = [*Fission.applicable(module), *Materialise.applicable(module)]
    assume(steps)
    got = data.draw(st.sampled_from(steps)).apply(module)
    assert isinstance(got, Module)
    assert_verifies(got)
    agree(got, sample.sizes, limits=sample.limits)


def test_padding_that_counts_is_not_replaced_by_another() -> None:
    """Beyond %d the kernel adds cos(0) = 1 for each place; a load would give what it likes."""
    module = module_of("""
    kernel @f(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 3, D = 5
    {
      parallel %b = 0 to B {
        %zero = full 0.0 : f32
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %c = cos load %x[%b, %d] : f32[4]
          %r = reduce sum %c dim 0
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    """)
    assert "beyond the end of %d" in refusal(module, "materialise(@f, %c)")
