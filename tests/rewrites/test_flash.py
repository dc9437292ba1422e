"""From the derived attention program to one flash kernel, each step one that is offered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ke_ir.derive import with_derived
from ke_ir.expr import Call, Var
from ke_ir.hashing import structural_hash
from ke_ir.ir import Module, statements
from ke_ir.ops import Dot, Load
from ke_ir.rewrites import applicable, parse_rewrite, unique_names
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.flash import Flash, maxima
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


def test_one_step_does_what_the_single_ones_do(path: list[Module]) -> None:
    """All but the dtype and the tile, which are choices of their own."""
    assert [str(r) for r in Flash.applicable(path[0])] == ["flash(@attention)"]
    got = after(path[0], "flash(@attention)")
    assert structural_hash(got) == structural_hash(path[7])
    assert not list(Flash.applicable(got))
    assert structural_hash(after(got, *STEPS[7:])) == structural_hash(path[-1])


SOFTMAX_MATMUL = """
op @f(x: f32[B, D], w: f32[D, P]) -> (y: f32[B, P])
dims B in 1..4096 = 300, D = 200, P = 50
{
  m[b] = max[d](x[b, d])
  e[b, d] = exp(x[b, d] - m[b])
  s[b] = sum[d](e[b, d])
  y[b, p] = sum[d](e[b, d] / s[b] * w[d, p])
}
"""
LINEAR_CROSS_ENTROPY = """
op @f(h: f16[B, K], w: f16[K, D], t: i32[B]) -> (y: f32[B])
dims B in 1..4096 = 300, D = 150, K = 40
{
  z[b, d] = sum[k](h[b, k] * w[k, d])
  m[b] = max[d](z[b, d])
  s[b] = sum[d](exp(z[b, d] - m[b]))
  y[b] = log(s[b]) + m[b] - sum[k](h[b, k] * w[k, t[b]])
}
"""
SCALED_LOGSUMEXP = """
op @f(h: f32[B, K], w: f32[K, D]) -> (y: f32[B], z: f32[B])
dims B in 1..4096 = 300, D = 150, K = 40
{
  a[b, d] = sum[k](h[b, k] * w[k, d]) * 0.5
  m[b] = max[d](a[b, d])
  s[b] = sum[d](exp((a[b, d] - m[b]) * 2))
  y[b] = log(s[b]) / 2 + m[b]
  z[b] = m[b]
}
"""


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        (SOFTMAX_MATMUL, {"x": 1, "w": 1}),
        (LINEAR_CROSS_ENTROPY, {"h": 1, "w": 1}),
        (SCALED_LOGSUMEXP, {"h": 1, "w": 1}),
    ],
    ids=["softmax_matmul", "linear_cross_entropy", "scaled_logsumexp"],
)
def test_other_programs_with_a_maximum(text: str, loads: dict[str, int]) -> None:
    module = unique_names(with_derived(module_of(text)))
    got = after(module, "flash(@f)")
    for b in (1, 5, 67):
        assert_same_meaning(module, got, "f", {"B": b})
    kernels = {k.name: k for k in got.kernels.values()}
    (k,) = [k for k in kernels.values() if any(True for _ in maxima(k))]
    (site, _), *_ = maxima(k)
    inside = list(statements(site.loop.body))
    for t, n in loads.items():
        assert sum(isinstance(s, Load) and s.tensor == t for s in inside) == n
    assert all(len(t.shape) < 2 for t in got.programs["f"].temps.values())


BLOCK = """
op @f(x: f16[N, D], w: f16[D, D], k: f16[N, D], v: f16[N, D]) -> (o: f16[N, D])
dims N in 1..4096 = 2048, D = 64
{
  q[i, e] = sum[d](x[i, d] * w[d, e])
  s[i, j] = sum[d](q[i, d] * k[j, d]) * rsqrt(D)
  m[i] = max[j](s[i, j])
  p[i, j] = exp(s[i, j] - m[i])
  l[i] = sum[j](p[i, j])
  z[i, d] = sum[j](p[i, j] * v[j, d]) / l[i]
  o[i, e] = sum[d](z[i, d] * w[d, e])
}
"""


def test_products_before_and_after_keep_their_kernels() -> None:
    module = unique_names(with_derived(module_of(BLOCK)))
    got = after(module, "flash(@f)")
    assert sorted(got.kernels) == ["f_o", "f_q", "f_z"]
    assert sorted(got.programs["f"].temps) == ["q", "z"]
    assert_same_meaning(module, got, "f", {"N": 70})


@pytest.mark.parametrize(
    ("name", "says"),
    [("softmax", "one `online` does all"), ("rms_norm", "carries a maximum")],
)
def test_what_has_no_flash_form_says_why(name: str, says: str) -> None:
    module = example(name)
    assert says in refusal(module, f"flash(@{name})")
    assert not list(Flash.applicable(module))


def test_a_maximum_that_scales_no_sum() -> None:
    module = unique_names(with_derived(module_of("""
    op @f(h: f32[B, K], w: f32[K, D]) -> (y: f32[B])
    dims B = 20, D = 50, K = 40
    {
      z[b, d] = sum[k](h[b, k] * w[k, d])
      m[b] = max[d](z[b, d])
      y[b] = m[b] + sum[d](z[b, d])
    }
    """)))  # fmt: skip
    assert "sum" in refusal(module, "flash(@f)")


@st.composite
def scores(draw: st.DrawFn) -> str:
    """An op whose sums are scaled by the exponential of a maximum, in one of several ways."""
    score = draw(st.sampled_from([
        "x[b, d]", "x[b, d] * g[d]", "sum[k](h[b, k] * w[k, d])", "tanh(x[b, d]) * 3",
        "select(d <= b, x[b, d], -inf)", "select(d <= b, sum[k](h[b, k] * w[k, d]), -inf)",
    ]))  # fmt: skip
    weight = draw(st.sampled_from(["", " * u[d, p]", " * u[d, p] * g[d]"]))
    p, of = ("[b, p]", ", p") if weight else ("[b]", "")
    last = draw(st.sampled_from([f"r{p} / l[b]", f"r{p} * exp(m[b])", f"log(l[b]) + m[b] + r{p}"]))
    shape = "f32[B, P]" if of else "f32[B]"
    dims = [draw(st.integers(1, 40)) for _ in range(3)]
    return f"""
    op @f(x: f32[B, D], h: f32[B, K], w: f32[K, D], u: f32[D, P], g: f32[D]) -> (y: {shape})
    dims B = {dims[0]}, D = {dims[1]}, K = 7, P = {dims[2]}
    {{
      z[b, d] = {score}
      m[b] = max[d](z[b, d])
      e[b, d] = exp(z[b, d] - m[b])
      l[b] = sum[d](e[b, d])
      r[b{of}] = sum[d](e[b, d]{weight})
      y[b{of}] = {last}
    }}
    """


@settings(max_examples=40, deadline=None)
@given(text=scores())
def test_random_scores_keep_their_meaning(text: str) -> None:
    module = unique_names(with_derived(module_of(text)))
    for step in Flash.applicable(module):
        assert_same_meaning(module, after(module, step), "f")
