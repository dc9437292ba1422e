"""Memory that a run of a program takes: inputs may be weights of gigabytes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ke_ir import interpret_run
from ke_ir.derive import with_derived
from ke_ir.interpret import MeaningError, interpret_program
from ke_ir.parser import parse
from ke_ir.verify import check

_N = 1024


def _run(op: str, inputs: dict[str, Any], exact: bool = True) -> tuple[Any, int]:
    """The output and the peak of what was allocated."""
    module = with_derived(check(parse(op)))
    program = module.programs["f"]
    tracemalloc.start()
    got = interpret_program(module, program, None, inputs, exact=exact)["y"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return got, peak


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("exact", [True, False])
def test_a_large_input_is_never_wide_as_a_whole(
    dtype: Any, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {2: "bf16", 4: "f32"}[np.dtype(dtype).itemsize]
    op = f"""op @f(x: f32[4, {_N}], w: {name}[{_N}, {_N}]) -> (y: f32[4, {_N}]) {{
      y[m, n] = sum[k](x[m, k] * w[n, k])
    }}"""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, _N)).astype(np.float32)
    w = rng.standard_normal((_N, _N)).astype(dtype)
    monkeypatch.setattr(interpret_run, "AT_ONCE", 1 << 16)
    got, peak = _run(op, {"x": x, "w": w}, exact)
    want = x.astype(np.float64) @ w.astype(np.float64).T
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 if exact else 1e-3)
    assert peak < 4 * w.size / 2


def test_what_lies_outside_a_large_input_is_wide() -> None:
    """0.1 is another number in float32."""
    op = "op @f(x: f32[5]) -> (y: f32[5]) { y[i] = x[i + 1 else 0.1] }"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpret_run, "AT_ONCE", 0)
        got, _ = _run(op, {"x": np.ones(5, np.float32)})
    assert got.tolist() == [1.0, 1.0, 1.0, 1.0, 0.1]


def test_nan_in_a_large_input_is_seen() -> None:
    op = "op @f(x: bf16[3]) -> (y: f32[3]) { y[i] = x[i] * SCALE }"
    x = np.ones(3, ml_dtypes.bfloat16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpret_run, "AT_ONCE", 0)
        with pytest.raises(MeaningError, match="NaN"):
            _run(op.replace("x[i] * SCALE", "sqrt(0.0 - x[i])"), {"x": x})
        x[1] = np.nan
        got, _ = _run(op.replace("SCALE", "2.0"), {"x": x})
    assert np.isnan(got[1]) and got[0] == 2.0


def test_a_temporary_is_held_once() -> None:
    n = 1 << 20
    module = parse(f"""
kernel @twice(%x: f32[{n}]) -> (%y: f32[{n}]) {{
  parallel %i = 0 to {n} tile 4096 {{
    %a = load %x[%i] : f32[4096]
    %b = add %a, %a
    store %b, %y[%i]
  }}
}}
program @f(%x: f32[{n}]) -> (%y: f32[{n}]) {{
  temp %t : f32[{n}]
  call @twice(%x) -> (%t)
  call @twice(%t) -> (%y)
}}
""")
    x = np.ones(n, np.float32)
    tracemalloc.start()
    got = interpret_program(check(module), module.programs["f"], None, {"x": x})["y"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (got == 4).all()
    # The input or the temporary, and what is being written with a number for each element.
    assert peak < 20 * n
