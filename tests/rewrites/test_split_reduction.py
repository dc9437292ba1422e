"""Parts of a reduction side by side: sums, maxima, products, contractions, their epilogues."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.ir import Module, Program
from ke_ir.rewrites import NoMatch, unique_names
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.split_reduction import SplitAccumulate, SplitReduction, split_of
from ke_ir.verify import verify
from tests.ir.derive_check import agree
from tests.ir.op_strategies import Sample, contractions, ops
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    assert_verifies,
    example,
    module_of,
    refusal,
)
from tests.rewrites.test_fuse import sized


def derived(text: str) -> Module:
    return unique_names(with_derived(module_of(text)))


GEMM = """
op @f(x: f16[M, K], w: f16[K, N], c: f16[N]) -> (y: {out}[M, N])
dims M in 1..500 = 20, N = 40, K = 1000
{{
  y[m, n] = sum[k](x[m, k] * w[k, n]){epilogue}
}}
"""


@pytest.mark.parametrize("parts", [2, 3, 16])
@pytest.mark.parametrize("m", [1, 33])
def test_split_k_by_accumulate(parts: int, m: int) -> None:
    module = derived(GEMM.format(out="f32", epilogue=""))
    got = after(module, f"split_accumulate(@f, %k, {parts})")
    assert_same_meaning(module, got, "f", {"M": m})


@pytest.mark.parametrize("parts", [2, 3, 16])
@pytest.mark.parametrize("m", [1, 33])
def test_split_k_with_an_epilogue(parts: int, m: int) -> None:
    module = derived(GEMM.format(out="f16", epilogue=" + c[n]"))
    got = after(module, f"split_reduction(@f, %k, {parts})")
    assert isinstance(got.programs["f"], Program)
    assert len(got.programs["f"].calls) == 2
    assert_same_meaning(module, got, "f", {"M": m})
    assert "not stored as it is" in refusal(module, "split_accumulate(@f, %k, 2)")


@pytest.mark.parametrize(("kind", "init"), [("max", "-inf"), ("min", "inf"), ("prod", "1.0")])
def test_other_reductions(kind: str, init: str) -> None:
    op = {"prod": "mul"}.get(kind, kind)
    module = module_of(f"""
    kernel @f(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 22
    {{
      parallel %b = 0 to B tile 2 {{
        %low = full {init} : f32[2]
        %s = for %d = 0 to D tile 4 carry (%a = %low) {{
          %v = load %x[%b, %d else {init}] : f32[2, 4]
          %t = {op} %a, reduce {kind} %v dim 1
          yield %t
        }}
        store %s, %y[%b]
      }}
    }}
    """)
    steps = [*SplitReduction.applicable(module), *SplitAccumulate.applicable(module)]
    assert {type(s).name for s in steps} == (
        {"split_reduction"} if kind == "prod" else {"split_reduction", "split_accumulate"}
    )
    for s in steps:
        assert_same_meaning(module, after(module, s), "f")
    # More parts than tiles: some have nothing to do.
    assert_same_meaning(module, after(module, "split_reduction(@f, %d, 16)"), "f")


def test_a_start_that_is_not_neutral_counts_once() -> None:
    module = module_of("""
    kernel @f(%x: f32[D]) -> (%y: f32[1])
    dims D = 22
    {
      parallel %o = 0 to 1 {
        %three = full 3.0 : f32
        %s = for %d = 0 to D tile 4 carry (%a = %three) {
          %t = add %a, reduce sum load %x[%d] : f32[4] dim 0
          yield %t
        }
        store %s, %y[%o]
      }
    }
    """)
    assert_same_meaning(module, after(module, "split_reduction(@f, %d, 3)"), "f")
    assert "does not start from the neutral" in refusal(module, "split_accumulate(@f, %d, 3)")


def test_a_kernel_of_a_program_is_split_in_its_place() -> None:
    module = example("attention")
    got = after(module, "split_reduction(@attention_o, %j, 2)")
    assert len(got.programs["attention"].calls) == 4
    assert_same_meaning(module, got, "attention", {"B": 1, "H": 2, "N": 130, "D": 24})


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("split_reduction(@softmax, %d, 1)", "1 parts"),
        ("split_reduction(@softmax, %b, 2)", "no sequential loop %b"),
        ("split_reduction(@softmax, %d_2, 2)", "does not carry"),
        ("split_reduction(@soft, %d, 2)", "no kernel @soft"),
    ],
)
def test_refusals(step: str, says: str) -> None:
    assert says in refusal(example("softmax"), step)


def test_a_kernel_with_programs_enough_is_not_offered_parts() -> None:
    module = example("matmul_gelu")
    assert not list(SplitReduction.applicable(module))
    assert not isinstance(split_of(module.kernels["matmul_gelu"], "k", 2), NoMatch)


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(sample=ops() | contractions(), parts=st.sampled_from((2, 3, 5)), data=st.data())
def test_random_reductions_in_parts(sample: Sample, parts: int, data: st.DataObject) -> None:
    op = sized(sample)
    assume(not verify(op))
    module = unique_names(with_derived(op))
    assume(not verify(module))  # a loop that is empty at these sizes
    found = []
    for k in module.kernels.values():
        for name in facts(k).loops:
            steps = SplitReduction(k.name, name, parts), SplitAccumulate(k.name, name, parts)
            found += [s for s in steps if not isinstance(s.apply(module), NoMatch)]
    assume(found)
    got = data.draw(st.sampled_from(found)).apply(module)
    assert isinstance(got, Module)
    assert_verifies(got)
    agree(got, sample.sizes, limits=sample.limits)
