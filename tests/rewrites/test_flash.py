"""From the derived attention program to one flash kernel, each step one that is offered."""

from __future__ import annotations

import pytest

from ke_ir.expr import Call, Var
from ke_ir.ir import Module
from ke_ir.ops import Dot
from ke_ir.rewrites import applicable, parse_rewrite
from ke_ir.rewrites.body import facts
from tests.rewrites.support import (
    after,
    assert_same_meaning,
    assert_verifies,
    example,
    module_of,
    only_kernel,
    refusal,
)

STEPS = (
    "fuse(@attention_s)",
    "fuse(@attention_l)",
    "online(@attention, %j_3, %j)",
    "online(@attention, %j_3, %j_2)",
    "bound_loop_by_mask(@attention, %j_3)",
    "drop_loop(@attention, %d_4)",
    "hoist(@attention, %j_3)",
    "narrow_dot(@attention, %dot_6, f16)",
    "retile(@attention, %j_3, 64)",
)
SIZES = ((130, 64), (65, 33), (1, 8), (64, 16))


@pytest.fixture(scope="module")
def path() -> list[Module]:
    modules = [example("attention")]
    for step in STEPS:
        modules.append(after(modules[-1], step))
    return modules


@pytest.mark.parametrize("i", range(len(STEPS)), ids=STEPS)
def test_each_step_is_offered(path: list[Module], i: int) -> None:
    cls = type(parse_rewrite(STEPS[i]))
    assert STEPS[i] in [str(r) for r in cls.applicable(path[i])]


@pytest.mark.parametrize("i", range(1, len(STEPS) + 1), ids=STEPS)
def test_each_step_keeps_the_meaning(path: list[Module], i: int) -> None:
    for n, d in SIZES[: 4 if i == len(STEPS) else 2]:
        sizes = {"B": 1, "H": 1, "N": n, "D": d}
        assert_same_meaning(path[0], path[i], "attention", sizes)


def test_the_end_is_one_loop_that_reads_each_live_key_once(path: list[Module]) -> None:
    k = only_kernel(path[-1])
    f = facts(k)
    loops = [s.var for s in f.loops.values() if len(s.path) > 1]
    assert [v.name for v in loops] == ["j_3"]
    assert loops[0].hi == Call("end", (Var("i"),))
    in_loop = [s for p, s in f.statements if p[: len(f.loops["j_3"].path)] == f.loops["j_3"].path]
    assert sum(isinstance(s, Dot) for s in in_loop) == 2
    loads = [s.tensor for s in in_loop if hasattr(s, "fill")]
    assert sorted(loads) == ["k", "v"]


@pytest.mark.parametrize("target", [("kea", "kea2"), ("nvidia", "sm_90")])
def test_the_end_is_estimated_no_slower_than_the_kernel_written_by_hand(
    path: list[Module], target: tuple[str, str]
) -> None:
    from targets.registry import find_target
    from tests.rewrites.support import EXAMPLES, parse

    by_hand = parse((EXAMPLES / "attention.ir").read_text())
    found = find_target(*target)
    times = [
        found.estimate(m, m.programs["attention"], {}, m.programs["attention"].sizes()).seconds
        for m in (path[-1], by_hand)
    ]
    assert times[0] <= times[1] * 1.001


def test_a_sum_that_no_mask_guards_runs_to_the_end() -> None:
    module = module_of("""
    kernel @f(%x: f32[N]) -> (%y: f32[N])
    dims N = 12
    {
      parallel %i = 0 to N tile 4 {
        %zero = full 0.0 : f32[4]
        %rows = expand iota %i : i32[4] dim 1
        %s = for %j = 0 to N tile 2 carry (%acc = %zero) {
          %w = expand load %x[%j] : f32[2] dim 0
          %cols = expand iota %j : i32[2] dim 0
          %live = cmp le %cols, %rows
          %m = select %live, %w, 1.0
          %t = add %acc, reduce sum %m dim 1
          yield %t
        }
        store %s, %y[%i]
      }
    }
    """)
    assert "would change what is carried" in refusal(module, "bound_loop_by_mask(@f, %j)")


def test_the_other_side_of_a_comparison_is_no_bound() -> None:
    module = module_of(
        """
    kernel @f(%x: f32[N]) -> (%y: f32[N])
    dims N = 12
    {
      parallel %i = 0 to N {
        %zero = full 0.0 : f32
        %row = iota %i : i32
        %s = for %j = 0 to N tile 2 carry (%acc = %zero) {
          %w = load %x[%j] : f32[2]
          %col = iota %j : i32[2]
          %live = cmp PRED %col, %row
          %m = select %live, %w, 0.0
          %r = reduce sum %m dim 0
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%i]
      }
    }
    """.replace("PRED", "ge")
    )
    assert "nothing in the loop compares" in refusal(module, "bound_loop_by_mask(@f, %j)")


@pytest.mark.parametrize(("pred", "end"), [("lt", "%i"), ("le", "%i + 1")])
def test_one_row_at_a_time_ends_at_its_own_index(pred: str, end: str) -> None:
    from ke_ir.expr import show

    module = module_of(f"""
    kernel @f(%x: f32[N]) -> (%y: f32[N])
    dims N = 11
    {{
      parallel %i = 0 to N {{
        %low = full -inf : f32
        %row = iota %i : i32
        %s = for %j = 0 to N tile 4 carry (%acc = %low) {{
          %w = load %x[%j] : f32[4]
          %col = iota %j : i32[4]
          %live = cmp {pred} %col, %row
          %m = select %live, %w, -inf
          %r = reduce max %m dim 0
          %t = max %acc, %r
          yield %t
        }}
        store %s, %y[%i]
      }}
    }}
    """)
    got = after(module, "bound_loop_by_mask(@f, %j)")
    assert show(facts(got.kernels["f"]).loops["j"].var.hi, "%") == end
    assert_same_meaning(module, got, "f")


def test_everything_offered_on_the_way_verifies(path: list[Module]) -> None:
    names = {"fuse", "recompute", "online", "bound_loop_by_mask"}
    for m in path[:4]:
        for r in applicable(m):
            if r.name in names:
                got = r.apply(m)
                assert isinstance(got, Module)
                assert_verifies(got)
