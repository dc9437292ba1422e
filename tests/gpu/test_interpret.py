"""Running generated text under Triton's interpreter: right numbers, and every misdeed named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from targets.base import RunFailed, ToolchainMissing
from targets.gpu import interpret as interpreter
from targets.gpu.generated import parse
from targets.gpu.interpret import interpret
from targets.gpu.workers import GIB, Limits

Text = Callable[[str], str]
Arrays = dict[str, np.ndarray[Any, Any]]
BF16 = np.dtype(ml_dtypes.bfloat16)


def normal(seed: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def add_inputs(n: int = 1000) -> Arrays:
    f32 = np.dtype(np.float32)
    return {"x": normal(0, (n,), f32), "y": normal(1, (n,), f32)}


def run(text: str, inputs: Arrays, **limits: Any) -> Arrays:
    outputs = parse(text).outputs
    return interpret(text, [(inputs, outputs)], Limits(**limits) if limits else None)[0]


def test_f32_is_exact(text: Text) -> None:
    inputs = add_inputs()
    got = run(text("add"), inputs)["z"]
    np.testing.assert_array_equal(got, inputs["x"] + inputs["y"])


def test_bf16_rms_norm_is_rounded_right(text: Text) -> None:
    inputs = {"x": normal(2, (37, 512), BF16), "w": normal(3, (512,), BF16)}
    got = run(text("rms_norm_bf16_interp"), inputs)["y"]
    assert got.dtype == BF16
    x, w = (inputs[name].astype(np.float64) for name in "xw")
    exact = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * w
    # Half a unit in the last place of bf16, and what float32 before it may move.
    assert (np.abs(got.astype(np.float64) - exact) <= np.abs(exact) * 2.0**-8 * 1.01).all()
    assert (got == exact.astype(BF16)).mean() > 0.99


def test_bf16_matmul_is_rounded_right(text: Text) -> None:
    inputs = {"a": normal(4, (96, 72), BF16), "b": normal(5, (72, 80), BF16)}
    got = run(text("matmul_bf16_interp"), inputs)["c"].astype(np.float64)
    exact = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
    allowed = np.abs(exact) * 2.0**-8 + 72 * 2.0**-24 * 40
    assert (np.abs(got - exact) <= allowed).all()


def test_several_cases_share_one_process(text: Text) -> None:
    cases = []
    for n in (1, 7, 257):
        inputs = add_inputs(n)
        spec = parse(text("add")).outputs["z"]
        cases.append((inputs, {"z": type(spec)("f32", (n,))}))
    for (inputs, _), outputs in zip(cases, interpret(text("add"), cases), strict=True):
        np.testing.assert_array_equal(outputs["z"], inputs["x"] + inputs["y"])


def test_unwritten_float_elements_are_nan(text: Text) -> None:
    short = text("add").replace("mask = n < N", "mask = n < N - 1")
    got = run(short, add_inputs())["z"]
    assert np.isnan(got[-1]) and not np.isnan(got[:-1]).any()


INTEGER = {'"f32"': '"i32"', "*fp32": "*i32"}


def integer_add(text: Text) -> str:
    changed = text("add")
    for old, new in INTEGER.items():
        changed = changed.replace(old, new)
    return changed


def integer_inputs() -> Arrays:
    poison = np.frombuffer(b"\xa5" * 4, np.int32)[0]
    x = np.arange(1000, dtype=np.int32)
    x[10] = poison  # a right answer that looks like poison
    return {"x": x, "y": np.zeros(1000, np.int32)}


def test_integer_that_equals_the_poison_is_accepted(text: Text) -> None:
    inputs = integer_inputs()
    np.testing.assert_array_equal(run(integer_add(text), inputs)["z"], inputs["x"])


def test_unwritten_integer_elements_are_found(text: Text) -> None:
    short = integer_add(text).replace("mask = n < N", "mask = n < N - 1")
    with pytest.raises(RunFailed, match=r"output z: 1 of 1000 elements never written.*\(999,\)"):
        run(short, integer_inputs())


def test_store_outside_an_output_is_found(text: Text) -> None:
    long = text("add").replace(
        "tl.load(y + n, mask=mask), mask=mask)", "tl.load(y + n, mask=mask), mask=n < N + 8)"
    )
    with pytest.raises(RunFailed, match="stored outside output z"):
        run(long, add_inputs())


def test_modified_input_is_found(text: Text) -> None:
    wrong = text("add").replace("tl.store(z + n", "tl.store(x + n, 0.0, mask=mask); tl.store(z + n")
    with pytest.raises(RunFailed, match="input x was modified"):
        run(wrong, add_inputs())


def test_output_that_is_not_rounded_is_refused(text: Text) -> None:
    wrong = text("rms_norm_bf16_interp").replace("round_bf16(o), mask", "o, mask")
    inputs = {"x": normal(2, (37, 512), BF16), "w": normal(3, (512,), BF16)}
    with pytest.raises(RunFailed, match="is not a bf16 value"):
        run(wrong, inputs)


@pytest.mark.parametrize(
    ("statement", "limits", "reason"),
    [
        ("import os; os.abort()", {}, "killed by SIGABRT"),
        ("import os; os._exit(3)", {}, "ended with exit code 3"),
        ("import ctypes; ctypes.string_at(0)", {}, "killed by SIGSEGV"),
        ("import time; time.sleep(60)", {"seconds": 5.0}, "no answer within 5 s"),
        ("torch.empty(1 << 40)", {"memory_bytes": 8 * GIB}, "memory"),
        ("raise ValueError('x: wrong shape')", {}, "ValueError: x: wrong shape"),
    ],
)
def test_failures_have_a_reason(
    text: Text, statement: str, limits: dict[str, Any], reason: str
) -> None:
    wrong = text("add").replace("    n = x.shape[0]\n", f"    n = x.shape[0]\n    {statement}\n")
    with pytest.raises(RunFailed, match=reason):
        run(wrong, add_inputs(), **limits)


def test_a_failure_leaves_the_next_candidate_alone(text: Text) -> None:
    wrong = text("add").replace("    n = x.shape[0]\n", "    raise MemoryError('big')\n")
    with pytest.raises(RunFailed, match="out of memory: big"):
        run(wrong, add_inputs())
    assert run(text("add"), add_inputs())["z"].shape == (1000,)


def test_versions_that_do_not_go_together_are_named(
    text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"triton": (3, 6), "numpy": (2, 5)}
    monkeypatch.setattr(interpreter, "_version", versions.__getitem__)
    with pytest.raises(ToolchainMissing, match=r"Triton 3\.6 fails with numpy 2\.4") as error:
        run(text("add"), add_inputs())
    assert "triton>=3.7" in error.value.fix
    versions["numpy"] = (2, 3)
    interpreter.check_versions()
