"""A wrong kernel, or a wrong lowering of a right one, is caught; each test says by which stage.

Kernels are mutated in their IR. Lowerings are mutated in what they generate, text of Triton or of
MLIR: an index, a mask, the start of an accumulator, a loop bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import lowering.mlir.lower
import lowering.triton
from search.evaluation.tasks import common, target
from search.evaluation.verdict import Outcome, StageResult, Verdict
from tests.evaluation.sources import ROW_SUM

pytestmark = pytest.mark.usefixtures("toolchains")


@pytest.fixture(scope="module")
def toolchains() -> None:
    for name in ("triton", "torch", "mlir"):
        pytest.importorskip(name)


def request(text: str, on: str = "") -> dict[str, Any]:
    # D is no multiple of the tile, so that the mask along it matters.
    return {
        "text": text, "file": "", "program": "row_sum", "dims": {"D": 90}, "baseline": "",
        "target": on, "static_full": False,
    }  # fmt: skip


def meaning(text: str) -> StageResult:
    found = common(request(text), lambda _: None)["stage"]
    assert isinstance(found, StageResult)
    return found


def verdict(on: str) -> Verdict:
    return target(request(ROW_SUM, on), lambda _: None)


def mutated(text: str, pattern: str, new: str) -> str:
    changed, count = re.subn(pattern, new, text)
    assert count, f"{pattern!r} is not in:\n{text}"
    return changed


def test_the_kernel_as_it_is_means_its_op() -> None:
    assert meaning(ROW_SUM).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("name", "pattern", "new"),
    [
        ("index", r"load %x\[%b, %d\]", "load %x[%b, %d + 1]"),
        ("other index", r"load %x\[%b, %d\]", "load %x[%b // 2, %d]"),
        ("accumulator", r"full 0\.0", "full 1e-6"),
        ("lower bound", "for %d = 0 to D", "for %d = 32 to D"),
        ("upper bound", "for %d = 0 to D", "for %d = 0 to D - 1"),
        ("fill", r"%x\[%b, %d\] :", "%x[%b, %d else 1.0] :"),
        ("reduction", "reduce sum", "reduce max"),
        ("carry", "yield %n", "yield %r"),
        ("rounding is no excuse", r"store %s, %y", "%k = mul %s, 1.0000001\n    store %k, %y"),
    ],
)
def test_a_wrong_kernel_is_caught_by_its_meaning(name: str, pattern: str, new: str) -> None:
    found = meaning(mutated(ROW_SUM, pattern, new))
    assert found.outcome is Outcome.FAILED
    assert "y[" in found.reason


GPU = {
    "index": (r"offs_b\[:, None\] \* D", "offs_b[:, None] * (D + 1)"),
    "mask of a load": (r"offs_d < D", "offs_d < D + 1"),
    "no mask of a load": (r"offs_d < D", "offs_d >= 0"),
    "no mask of a store": (r"(tl\.store\(\s*y \+ offs_b,\s*\w+,)\s*mask=mask_b,?", r"\1"),
    "accumulator": (r"acc = tl\.zeros\(\(BLOCK_B,\), dtype=tl\.float32\)",
                    "acc = tl.full((BLOCK_B,), 1e-3, dtype=tl.float32)"),
    "lower bound": (r"range\(0, D,", "range(BLOCK_D, D,"),
    "fill": (r"other=0\.0", "other=1.0"),
    "store twice as far": (r"(tl\.store\(\s*y \+ offs_b),", r"\1 * 2,"),
}  # fmt: skip


def patch_triton(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    original = lowering.triton.lower
    monkeypatch.setattr(lowering.triton, "lower", lambda *args: change(original(*args)))


@pytest.mark.parametrize("name", GPU)
def test_a_wrong_triton_lowering_is_caught_by_its_numbers(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    patch_triton(monkeypatch, lambda text: mutated(text, *GPU[name]))
    found = verdict("amd")
    (failed,) = found.failures
    assert failed.stage == "numbers", failed
    assert "interpreted" in failed.reason or "stored outside" in failed.reason


def test_triton_that_does_not_compile_is_caught_there(monkeypatch: pytest.MonkeyPatch) -> None:
    patch_triton(monkeypatch, lambda text: mutated(text, "tl.sum", "tl.no_such_function"))
    (failed,) = verdict("nvidia").failures
    assert failed.stage == "compile" and "no_such_function" in failed.reason


KEA = {
    "index": (r'"kea\.load"\(%v, %x, (%\w+), %d,', r'"kea.load"(%v, %x, %d, \1,'),
    # Too tight: a looser one changes nothing here, since the simulator knows the tensor's bounds.
    "mask of a load": (r"arith\.subi %D, %d :", "arith.subi %c32, %d :"),
    "mask of a store": (r'("kea\.store"\(%\w+, %y, %\w+), %\w+\)', r"\1, %c1)"),
    "accumulator": (r"value = 0\.0 : f64", "value = 1.0e-3 : f64"),
    "lower bound": (r"scf\.for %d = %c0", "scf.for %d = %c32"),
    "fill": (r"pad = 0\.0", "pad = 1.0"),
    "reduction": (r'fn = "sum"', 'fn = "max"'),
}


def patch_mlir(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    original = lowering.mlir.lower.lower_program

    def changed(*args: Any) -> Any:
        lowered = original(*args)
        return replace(lowered, text=change(lowered.text))

    monkeypatch.setattr(lowering.mlir.lower, "lower_program", changed)


@pytest.mark.parametrize("name", KEA)
def test_a_wrong_mlir_lowering_is_caught_by_its_numbers(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    patch_mlir(monkeypatch, lambda text: mutated(text, *KEA[name]))
    found = verdict("kea")
    (failed,) = found.failures
    assert failed.stage == "numbers", failed


def test_mlir_that_does_not_verify_is_caught_by_compiling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patch_mlir(monkeypatch, lambda text: mutated(text, r'"kea\.reduce"\(%r, %v\)',
                                                 '"kea.reduce"(%v, %r)'))  # fmt: skip
    (failed,) = verdict("kea").failures
    assert failed.stage == "compile"


@pytest.mark.parametrize("on", ["amd", "nvidia", "kea"])
def test_the_lowerings_as_they_are_pass(on: str) -> None:
    found = verdict(on)
    assert found.failures == () and found.correct, found
