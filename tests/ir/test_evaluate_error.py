"""The bound on rounding errors holds for honest computations, and is of use against wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ke_ir import numerics
from ke_ir.evaluate import evaluate_op, evaluate_with_error
from ke_ir.interpret import interpret_kernel, interpret_program
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.rounding import SPREAD, Rounding, rounding_of
from ke_ir.verify import check

RNG = np.random.default_rng(3)
Array = np.ndarray[Any, Any]


def module(text: str) -> Module:
    return check(parse(text))


def bound(text: str, rounding: Rounding, **inputs: Array) -> tuple[Array, Array]:
    (o,) = module(text).ops.values()
    (found,) = evaluate_with_error(o, None, inputs, rounding).values()
    np.testing.assert_array_equal(found[0], next(iter(evaluate_op(o, None, inputs).values())))
    return found


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


SOFTMAX = """op @f(x: f32[B, D]) -> (y: f32[B, D]) dims B = 16, D = 700 {
  m[b] = max[d](x[b, d])
  e[b, d] = exp(x[b, d] - m[b])
  y[b, d] = e[b, d] / sum[k](e[b, k])
}"""
LAYER_NORM = """op @f(x: f32[B, D]) -> (y: f32[B, D]) dims B = 16, D = 700 {
  m[b] = sum[d](x[b, d]) / D
  v[b] = sum[d]((x[b, d] - m[b]) * (x[b, d] - m[b])) / D
  y[b, d] = (x[b, d] - m[b]) * rsqrt(v[b] + 1e-5)
}"""
GELU = """op @f(x: f32[B, D]) -> (y: f32[B, D]) dims B = 16, D = 700 {
  y[b, d] = 0.5 * x[b, d] * (1 + erf(x[b, d] * 0.7071067811865476))
}"""
LOGSUMEXP = """op @f(x: f32[B, D]) -> (y: f32[B]) dims B = 16, D = 700 {
  m[b] = max[d](x[b, d])
  y[b] = m[b] + log(sum[d](exp(x[b, d] - m[b])))
}"""
POINTWISE = {
    "tanh": "tanh(x[b, d])",
    "sin": "sin(x[b, d])",
    "silu": "x[b, d] * sigmoid(x[b, d])",
    "softplus": "log(1 + exp(x[b, d]))",
    "rsqrt": "rsqrt(x[b, d] * x[b, d] + 1e-3)",
    "square": "(x[b, d] - 0.3) * (x[b, d] - 0.3)",
    "pow": "pow(abs(x[b, d]) + 0.1, 2.5)",
    "atan2ish": "x[b, d] / (1 + abs(x[b, d]))",
}
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "silu": F.silu,
    "softplus": lambda x: torch.log(1 + torch.exp(x)),
    "rsqrt": lambda x: torch.rsqrt(x * x + 1e-3),
    "square": lambda x: (x - 0.3) ** 2,
    "pow": lambda x: (x.abs() + 0.1) ** 2.5,
    "atan2ish": lambda x: x / (1 + x.abs()),
}
OPS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "softmax": (SOFTMAX, lambda x: torch.softmax(x, 1)),
    "layer_norm": (LAYER_NORM, lambda x: F.layer_norm(x, (700,))),
    "gelu": (GELU, F.gelu),
    "logsumexp": (LOGSUMEXP, lambda x: torch.logsumexp(x, 1)),
    **{
        n: (GELU.replace("0.5 * x[b, d] * (1 + erf(x[b, d] * 0.7071067811865476))", e), TORCH[n])
        for n, e in POINTWISE.items()
    },
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("scale", [1.0, 8.0, 0.01])
def test_torch_in_float32_lies_within_the_bound(name: str, scale: float) -> None:
    text, fn = OPS[name]
    x = normal(16, 700) * np.float32(scale)
    value, limit = bound(text, Rounding(), x=x)
    off = np.abs(fn(torch.from_numpy(x)).numpy() - value)
    assert np.all(off <= limit)
    # And the bound is no blank cheque: within 1e-4 of the largest value.
    assert limit.max() <= 1e-4 * max(1.0, np.abs(value).max())


MATMUL = """op @f(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N]) dims M = 24, K = 1000, N = 20 {
  c[m, n] = sum[k](a[m, k] * b[k, n])
}"""


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32_even", "tf32x3", "bf16x3", "bf16x6"])
def test_matmul_at_every_precision(precision: str) -> None:
    from ke_ir.rounding import PRECISION

    a, b = normal(24, 1000), normal(1000, 20)
    value, limit = bound(MATMUL, Rounding(operand=PRECISION[precision]), a=a, b=b)
    got = numerics.dot(a, b, None, precision).astype(np.float64)
    assert np.all(np.abs(got - value) <= limit)
    dropped = a[:, 1:].astype(np.float64) @ b[1:]
    if precision in ("ieee", "bf16x6", "tf32x3", "bf16x3"):
        assert np.any(np.abs(dropped - value) > limit)


def test_summation_grows_with_the_root_of_its_length() -> None:
    r = Rounding()
    assert r.summation(10_000) == SPREAD * 100 * 2.0**-24
    assert r.summation(4) == 4 * 2.0**-24  # never more than n u


def test_outputs_are_rounded_to_their_dtype() -> None:
    text = GELU.replace("-> (y: f32", "-> (y: f16")
    x = normal(16, 700)
    value, limit = bound(text, Rounding(), x=x)
    assert np.all(np.abs(value.astype(np.float16).astype(float) - value) <= limit)
    assert np.all(limit >= 2.0**-11 * np.abs(value))


def test_a_condition_in_doubt_covers_both_branches() -> None:
    text = """op @f(x: f32[N]) -> (y: f32[N], c: i1[N], i: i32[N]) dims N = 3 {
      s[n] = x[n] * 3
      y[n] = select(s[n] > 0.3, 1, -1)
      c[n] = s[n] > 0.3
      i[n] = floor(s[n] * 10)
    }"""
    (o,) = module(text).ops.values()
    x = np.float32([0.1, 0.2, 0.0])
    got = evaluate_with_error(o, None, {"x": x}, Rounding())
    assert (got["y"][1] >= 2).tolist() == [True, False, False]
    assert (got["c"][1] > 0).tolist() == [True, False, False]
    assert (got["i"][1] > 0).tolist() == [True, True, False]


def test_an_index_in_doubt_has_no_bound() -> None:
    text = """op @f(x: f32[N], t: f32[M]) -> (a: i32[], y: f32[]) dims N = 3, M = 3 {
      s[n] = x[n] * 3
      a[] = argmax[n](s[n])
      y[] = t[argmax[n](s[n])]
    }"""
    (o,) = module(text).ops.values()
    t = np.float32([1, 2, 3])
    near = evaluate_with_error(o, None, {"x": np.float32([1, 1, 0]), "t": t}, Rounding())
    assert near["a"][1] == np.inf and near["y"][1] == np.inf
    clear = evaluate_with_error(o, None, {"x": np.float32([1, 2, 0]), "t": t}, Rounding())
    assert clear["a"][1] == 0 and clear["y"][1] < 1e-6


def test_masked_infinities_do_not_spoil_the_bound() -> None:
    text = """op @f(x: f32[N, N]) -> (y: f32[N, N]) dims N = 12 {
      s[i, j] = select(j <= i, x[i, j] * 0.3, -inf)
      m[i] = max[j](s[i, j])
      e[i, j] = exp(s[i, j] - m[i])
      y[i, j] = e[i, j] / sum[k](e[i, k])
    }"""
    value, limit = bound(text, Rounding(), x=normal(12, 12))
    assert np.isfinite(limit).all() and limit.max() < 1e-5 and value[0, 0] == 1


def test_exact_choices_stay_exact_and_doubt_reaches_any_and_all() -> None:
    text = """op @f(x: f32[B, N], w: f32[N]) -> (y: f32[B, N], a: i1[B], e: i1[B], m: f32[B])
    dims B = 2, N = 3 {
      r[n] = max(w[n], 0)
      y[b, n] = min(x[b, n], r[n])
      m[b] = max[n](x[b, n] * 3)
      a[b] = all[n](x[b, n] * 3 > 0.3)
      e[b] = any[n](x[b, n] * 3 > 0.3)
    }"""
    (o,) = module(text).ops.values()
    x = np.float32([[0.1, 1, 1], [-1, -1, -2]])
    got = evaluate_with_error(o, None, {"x": x, "w": np.float32([1, -1, 0.5])}, Rounding())
    value, limit = got["y"]
    np.testing.assert_array_equal(value, np.minimum(x, [1, 0, 0.5]))
    assert np.all(limit <= 2.0**-23)  # the output's own rounding only
    assert (got["a"][1] > 0).tolist() == [True, False]
    assert (got["e"][1] > 0).tolist() == [False, False]  # another element decides
    assert np.all((got["m"][1] > 2.0**-24) & (got["m"][1] < 1e-5))


def test_integers_have_no_error() -> None:
    text = """op @f(x: i32[N]) -> (s: i64[], m: f32[]) dims N = 9 {
      s[] = sum[n](x[n] * x[n])
      m[] = sum[n](x[n]) / N
    }"""
    (o,) = module(text).ops.values()
    got = evaluate_with_error(o, None, {"x": RNG.integers(-9, 9, 9)}, Rounding())
    assert got["s"][1] == 0 and 0 < got["m"][1] < 1e-5


RMS_NORM = """
op @rms_norm(x: f16[B, D], w: f16[D]) -> (y: f16[B, D])
dims B = 8, D = 1000
{
  ms[b] = sum[d](x[b, d] * x[b, d]) / D
  y[b, d] = x[b, d] * rsqrt(ms[b] + 1e-6) * w[d]
}
kernel @rms_norm(%x: f16[B, D], %w: f16[D]) -> (%y: f16[B, D]) {
  parallel %b = 0 to B tile 4 {
    %z = full 0.0 : f32[4]
    %s = for %d = 0 to D tile 128 carry (%acc = %z) {
      %f = cast load %x[%b, %d] : f16[4, 128] : f32
      %p = mul %f, %f
      %r = reduce sum %p dim 1
      yield add %acc, %r
    }
    %n = full D : f32
    %ms = div %s, %n
    %q = rsqrt add %ms, 1e-6
    %qe = expand %q dim 1
    for %e = 0 to D tile 128 {
      %g = cast load %x[%b, %e] : f16[4, 128] : f32
      %v = cast load %w[%e] : f16[128] : f32
      %ve = expand %v dim 0
      %o = mul %g, %qe
      %o2 = mul %o, %ve
      store cast %o2 : f16, %y[%b, %e]
    }
  }
}
"""


def _meaning(text: str, inputs: dict[str, Array]) -> float:
    """Largest relative difference of the kernel from the op, both in float64."""
    m = parse(text)
    (o,), (k,) = m.ops.values(), m.kernels.values()
    want = evaluate_op(o, None, inputs)["y"]
    got = interpret_kernel(k, None, inputs)["y"]
    return float((np.abs(got - want) / np.abs(want)).max())


def test_kernel_as_typed_lies_within_the_bound_and_means_what_the_op_says() -> None:
    m = module(RMS_NORM)
    inputs = {"x": normal(8, 1000).astype(np.float16), "w": normal(1000).astype(np.float16)}
    (program,) = m.programs.values()
    rounding = rounding_of(m, program)
    assert rounding == Rounding(2.0**-24, 0.0, 2.0**-24)
    value, limit = evaluate_with_error(m.ops["rms_norm"], None, inputs, rounding)["y"]
    typed = interpret_program(m, program, None, inputs, exact=False)["y"].astype(float)
    assert np.all(np.abs(typed - value) <= limit)
    assert np.all(limit <= 1.1 * 2.0**-11 * np.abs(value) + 2e-7)
    assert _meaning(RMS_NORM, inputs) < 1e-12


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("%d = 0 to D tile", "%d = 1 to D tile"),
        ("%d = 0 to D tile", "%d = 0 to D - 1 tile"),
        ("add %ms, 1e-6", "add %ms, 1e-5"),
        ("%z = full 0.0", "%z = full 0.001"),
        ("%v = cast load %w[%e]", "%v = cast load %w[%e + 1]"),
    ],
)
def test_a_slightly_wrong_kernel_does_not_pass_for_the_op(right: str, wrong: str) -> None:
    assert right in RMS_NORM
    inputs = {"x": normal(8, 1000).astype(np.float16), "w": normal(1000).astype(np.float16)}
    assert _meaning(RMS_NORM.replace(right, wrong), inputs) > 1e-9


def test_rounding_follows_the_kernel() -> None:
    text = """
    kernel @k(%a: f16[16, 32], %b: f16[32, 16]) -> (%c: f16[16, 16])
    dims M = 16
    {
      parallel %m = 0 to 16 tile 16, %n = 0 to 16 tile 16, %k = 0 to 32 tile 32 {
        %x = load %a[%m, %k] : f16[16, 32]
        %y = load %b[%k, %n] : f16[32, 16]
        EXTRA
        %d = dot %u, %y
        %e = cast %d : f16
        TAIL
      }
    }
    """

    def found(extra: str, tail: str = "store %e, %c[%m, %n]") -> Rounding:
        m = module(text.replace("EXTRA", extra).replace("TAIL", tail))
        return rounding_of(m, m.programs["k"])

    single, half = 2.0**-24, 2.0**-11
    plain = found("%u = reshape %x : f16[16, 32]")
    assert plain == Rounding(single, 0.0, single)
    assert found("%u = mul %x, %x") == Rounding(half, half, single)
    narrow = "%f = cast %x : f32\n%g = exp %f\n%u = cast %g : f16"
    assert found(narrow) == Rounding(single, half, single)
    late = found("%u = reshape %x : f16[16, 32]", "%h = neg %e\nstore %h, %c[%m, %n]")
    assert late.intermediate == half
    tf32 = "%f = cast %x : f32\n%g = cast %y : f32\n%u = reshape %x : f16[16, 32]\n" \
           "%t = dot %f, %g precision tf32"  # fmt: skip
    assert found(tf32).operand == 2 * half  # cut off, not rounded


def test_a_sum_that_a_loop_carries_accumulates() -> None:
    m = module("""
    kernel @k(%x: f32[8, 4]) -> (%y: f32[8]) {
      parallel %i = 0 to 8 tile 8 {
        %z = full 0.0 : f32[8]
        %s = for %j = 0 to 4 carry (%acc = %z) {
          %v = load %x[%i, %j] : f32[8]
          %a = add %acc, %v
          yield %a
        }
        store %s, %y[%i]
      }
    }
    """)
    assert rounding_of(m, m.programs["k"]).accumulation == 2.0**-24
