"""What the interpreter refuses, and that it names the element and the statement."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.interpret import MeaningError, interpret_kernel, interpret_program
from ke_ir.parser import parse

TWO_OUTPUTS = """
kernel @k(%x: f32[D]) -> (%y: f32[D])
dims D = 10
{{
  parallel %d = 0 to D tile 4 {{
    %v = load %x[%d] : f32[4]
    {body}
  }}
}}
"""


def run(body: str, x: np.ndarray | None = None, **options: bool) -> dict[str, np.ndarray]:
    module = parse(TWO_OUTPUTS.format(body=body))
    return interpret_kernel(
        module.kernels["k"], None, {"x": np.ones(10) if x is None else x}, **options
    )


def refused(body: str, x: np.ndarray | None = None) -> MeaningError:
    with pytest.raises(MeaningError) as caught:
        run(body, x)
    return caught.value


def test_an_element_never_written() -> None:
    bad = refused("store %v, %y[%d + 1]")
    assert bad.code == "never-written" and bad.tensor == "y" and bad.index == (0,)
    assert "element [0] of %y is never written" in bad.message
    assert "store %v, %y[%d + 1]" in bad.message and bad.loc is not None


def test_an_output_that_no_statement_writes() -> None:
    bad = refused("%w = add %v, 1.0")
    assert bad.code == "never-written" and "no statement writes it" in bad.message


def test_two_stores_to_one_element() -> None:
    bad = refused("store %v, %y[%d]\n    %w = neg %v\n    store %w, %y[%d]")
    assert bad.code == "written-twice" and bad.index == (0,)
    assert "by `store %v, %y[%d]` and by `store %w, %y[%d]`" in bad.message


def test_one_store_in_two_iterations() -> None:
    bad = refused("for %t = 0 to 2 {\n      store %v, %y[%d]\n    }")
    assert bad.code == "written-twice" and "again by" in bad.message


def test_two_iterations_that_overlap_name_the_first_element() -> None:
    bad = refused("%s = reduce sum %v dim 0\n    store %s, %y[3]")
    assert bad.code == "written-twice" and bad.index == (3,)


def test_a_gathered_store_that_repeats_an_index() -> None:
    bad = refused("store %v, %y[%d // 2]")
    assert bad.code == "written-twice" and bad.index == (0,)
    assert "its coordinates name it more than once" in bad.message


def test_masked_stores_do_not_count() -> None:
    got = run("store %v, %y[%d]\n    store %v, %y[%d + 10]\n    store %v, %y[%d - 12]")
    assert got["y"].tolist() == [1.0] * 10


def test_store_and_accumulate_of_one_output() -> None:
    bad = refused("store %v, %y[%d]\n    accumulate add %v, %y[%d]")
    assert bad.code == "mixed-writes" and "accumulate add %v, %y[%d]" in bad.message


def test_two_kinds_of_accumulation() -> None:
    bad = refused("accumulate add %v, %y[%d]\n    accumulate max %v, %y[%d]")
    assert bad.code == "mixed-writes"


def test_a_kernel_that_reads_its_output() -> None:
    bad = refused("%w = load %y[%d] : f32[4]\n    store %w, %y[%d]")
    assert bad.code == "reads-output" and bad.tensor == "y"


def test_nan_out_of_numbers() -> None:
    bad = refused("%w = sqrt %v\n    store %w, %y[%d]", np.arange(10.0) - 3)
    assert bad.code == "nan" and bad.index == (0,) and "store %w, %y[%d]" in bad.message


def test_nan_is_allowed_from_nan_and_on_request() -> None:
    x = np.arange(10.0)
    x[4] = np.nan
    assert np.isnan(run("%w = sqrt %v\n    store %w, %y[%d]", x)["y"][4])
    got = run("%w = log %v\n    store %w, %y[%d]", -np.ones(10), check_nan=False)
    assert np.isnan(got["y"]).all()


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"input %x has shape \[3\], but f32\[D\] means \[10\]"):
        run("store %v, %y[%d]", np.ones(3))
    with pytest.raises(ValueError, match=r"input %x: f32\[D\] is missing"):
        interpret_kernel(parse(TWO_OUTPUTS.format(body="store %v, %y[%d]")).kernels["k"], None, {})


PROGRAM = """
kernel @half(%h: f32[B], %x: f32[B]) -> (%g: f32[B])
dims B in 1..100 = 7
{{
  parallel %b = 0 to B tile 4 {{
    %u = load %h[%b] : f32[4]
    %v = load %x[%b] : f32[4]
    %p = mul %u, 0.5
    %q = add %p, %v
    store %q, %g[%b]
  }}
}}
program @rnn(%h0: f32[B], %x: f32[T, B]) -> (%h: f32[T, B])
dims B in 1..100 = 7, T = 5
{{
  {body}
}}
"""
RNN = """call @half(%h0, %x[0]) -> (%h[0])
  repeat %t = 1 to T {
    call @half(%h[%t - 1], %x[%t]) -> (%h[%t])
  }"""


def run_program(body: str, exact: bool = True) -> dict[str, np.ndarray]:
    module = parse(PROGRAM.format(body=body))
    rng = np.random.default_rng(0)
    inputs = {"h0": rng.standard_normal(7), "x": rng.standard_normal((5, 7))}
    return interpret_program(module, module.programs["rnn"], None, inputs, exact=exact)


@pytest.mark.parametrize("exact", [True, False])
def test_a_recurrence(exact: bool) -> None:
    rng = np.random.default_rng(0)
    h, x = rng.standard_normal(7), rng.standard_normal((5, 7))
    got = run_program(RNN, exact)["h"]
    assert got.dtype == (np.float64 if exact else np.float32)
    for t in range(5):
        h = h * 0.5 + x[t]
        np.testing.assert_allclose(got[t], h, rtol=1e-13 if exact else 1e-5)


def test_temporaries_and_once() -> None:
    body = """temp %w : f32[B]
  once {
    call @half(%h0, %h0) -> (%w)
  }
  repeat %t = 0 to T {
    temp %u : f32[B]
    call @half(%w, %x[%t]) -> (%u)
    call @half(%u, %w) -> (%h[%t])
  }"""
    rng = np.random.default_rng(0)
    h, x = rng.standard_normal(7), rng.standard_normal((5, 7))
    w = 1.5 * h
    np.testing.assert_allclose(run_program(body)["h"], (0.5 * w + x) * 0.5 + w, rtol=1e-13)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("temp %u : f32[B]\n  call @half(%u, %x[0]) -> (%h[0])", "reads-unwritten", "`%u`"),
        (RNN.replace("%t - 1", "%t + 1"), "reads-unwritten", "`%h[%t + 1]`"),
        (RNN.replace("%t - 1", "%t"), "reads-unwritten", "`%h[%t]`"),
        (RNN + "\n  call @half(%h[1], %x[1]) -> (%h[1])", "reads-output", "overlap"),
        (RNN.replace("1 to T", "1 to T + 1"), "view-outside", "[5]"),
        (RNN.replace("1 to T", "2 to T"), "reads-unwritten", "`%h[%t - 1]`"),
        ("call @half(%h0, %x[0]) -> (%h[0])", "reads-unwritten", "output %h is returned"),
    ],
)
def test_programs_that_mean_nothing(body: str, code: str, says: str) -> None:
    with pytest.raises(MeaningError) as caught:
        run_program(body)
    assert caught.value.code == code and says in caught.value.message
