"""Every stage catches what it is there for, and says why; nothing else suffers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from search.evaluation.evaluator import Candidate, Evaluator
from search.evaluation.pool import GIB, Limits
from search.evaluation.verdict import STAGES, Established, Kind, Outcome, Verdict
from tests.evaluation.sources import ADD, ROW_SUM


@pytest.fixture(scope="module")
def evaluator(third_party: object) -> Iterator[Evaluator]:
    with Evaluator(2, Limits(20.0, 2 * GIB)) as made:
        yield made


def on(evaluator: Evaluator, arch: str, text: str = ROW_SUM) -> Verdict:
    (verdict,) = evaluator.evaluate(Candidate(text, "t.ir"), [f"fake.{arch}"])
    assert [s.stage for s in verdict.stages] == list(STAGES)
    assert all(s.reason for s in verdict.stages if s.outcome is not Outcome.PASSED)
    json.dumps(verdict.to_dict())
    return verdict


def only_failure(verdict: Verdict) -> tuple[str, str]:
    (failed,) = verdict.failures
    after = verdict.stages[STAGES.index(failed.stage) + 1 :]
    assert all(s.outcome is Outcome.SKIPPED and "failed" in s.reason for s in after)
    assert verdict.summary == "wrong" and verdict.established is None
    return failed.stage, failed.reason


def test_a_good_kernel_passes_every_stage(evaluator: Evaluator) -> None:
    v = on(evaluator, "good")
    assert [s.outcome for s in v.stages] == [Outcome.PASSED] * len(STAGES)
    assert v.correct and v.summary == "correct" and v.established is Established.SIMULATED
    assert v.numbers is not None and v.numbers.worst_ratio <= 1 and not v.numbers.reduced
    assert v.timing is not None and v.timing.kind is Kind.SIMULATED
    assert v.roofline is not None and 0 < v.roofline.fraction < 1
    assert v.resources["row_sum"].registers == 8
    assert v.degenerate == "" and v.lower_precision == () and v.baselines == ()


def test_range_dims_are_tried_at_one_a_prime_and_a_non_multiple(evaluator: Evaluator) -> None:
    numbers = on(evaluator, "good").numbers
    assert numbers is not None
    assert [s["B"] for s in numbers.sizes] == [64, 1, 11, 7]


@pytest.mark.parametrize(
    ("arch", "stage", "reason"),
    [
        ("illegal", "legal", "local memory exceeded: needs 2 MiB of 64 KiB; smaller tiles"),
        ("no-compile", "compile", "line 1: unknown mnemonic"),
        ("too-big", "compile", "shared memory 300 KiB of 227 KiB"),
        ("crash", "compile", "killed by SIGABRT"),
        ("wrong", "numbers", "y[63] is"),
        ("constant", "numbers", "y["),
        ("unwritten", "numbers", "nan instead of"),
        ("spoils", "numbers", "input x was changed"),
        ("too-fast", "time", "below the roofline"),
    ],
)
def test_what_each_stage_catches(evaluator: Evaluator, arch: str, stage: str, reason: str) -> None:
    failed, said = only_failure(on(evaluator, arch))
    assert failed == stage and reason in said


def test_a_hang_costs_its_time_limit(third_party: object) -> None:
    with Evaluator(1, Limits(4.0)) as short:
        assert only_failure(on(short, "hang")) == (
            "numbers", "timeout: no result within 4 s; stopped",
        )  # fmt: skip
        assert on(short, "good").correct


def test_memory_costs_its_limit(evaluator: Evaluator) -> None:
    stage, reason = only_failure(on(evaluator, "memory"))
    assert stage == "numbers" and "limit 2 GiB" in reason


def test_one_target_that_crashes_leaves_the_others_alone(evaluator: Evaluator) -> None:
    names = ["fake.good", "fake.crash", "fake.good", "fake.crash", "fake.missing"]
    found = evaluator.evaluate(Candidate(ROW_SUM), names)
    assert [v.summary for v in found] == ["correct", "wrong", "correct", "wrong", "unknown"]


@pytest.mark.parametrize(
    ("arch", "reason"), [("missing", "no fake here; pip install fake"),
                         ("no-tool", "fakecc is not installed; apt install fakecc")]
)  # fmt: skip
def test_what_cannot_be_tried_is_skipped_and_never_correct(
    evaluator: Evaluator, arch: str, reason: str
) -> None:
    v = on(evaluator, arch)
    assert not v.failures and not v.correct and v.summary == "unknown"
    assert v.established is None and v.timing is None
    assert next(s for s in v.stages if s.outcome is Outcome.SKIPPED).reason == reason


def test_a_wrong_kernel_fails_on_meaning_before_any_target(evaluator: Evaluator) -> None:
    wrong = ROW_SUM.replace("%zero = full 0.0", "%zero = full 1e-7")
    stage, reason = only_failure(on(evaluator, "good", wrong))
    assert stage == "meaning" and "y[" in reason and "float64" in reason


def test_an_op_alone_is_derived_and_passes(evaluator: Evaluator) -> None:
    v = on(evaluator, "good", ADD)
    assert v.correct and v.program == "add"


def test_a_kernel_without_an_op_is_checked_against_its_own_meaning(evaluator: Evaluator) -> None:
    lone = "kernel" + ROW_SUM.partition("kernel")[2]
    lone = lone.replace("-> (%y: f32[B])\n", "-> (%y: f32[B])\ndims B in 1..4096 = 64, D = 96\n")
    v = on(evaluator, "good", lone)
    meaning = next(s for s in v.stages if s.stage == "meaning")
    assert meaning.outcome is Outcome.SKIPPED and "no op @row_sum" in meaning.reason
    numbers = next(s for s in v.stages if s.stage == "numbers")
    assert v.correct and "no op" in numbers.reason and v.roofline is None


def test_what_does_not_parse_or_verify_says_where(evaluator: Evaluator) -> None:
    (v,) = evaluator.check(Candidate("op @f(x: f32[4]) -> (y: f32[4]) { y[i] = x[i] + }", "t.ir"))
    assert v.failures[0].stage == "parse" and v.failures[0].reason.startswith("line 1:")
    assert v.failures[0].detail["diagnostics"][0]["line"] == 1
    (v,) = evaluator.check(Candidate("op @f(x: f32[4]) -> (y: f32[4]) { y[i] = z[i] }"))
    assert v.failures[0].stage == "verify"
    assert [s.outcome for s in v.stages[2:]] == [Outcome.SKIPPED] * 5


def test_sizes_that_are_given_are_used(evaluator: Evaluator) -> None:
    (v,) = evaluator.evaluate(Candidate(ROW_SUM, dims={"B": 9, "D": 33}), ["fake"])
    assert v.correct and v.numbers is not None
    assert v.numbers.sizes[0] == {"B": 9, "D": 33}


def test_each_program_of_a_file_on_each_target(evaluator: Evaluator) -> None:
    found = evaluator.evaluate(Candidate(ROW_SUM + ADD), ["fake.good", "fake.wrong"])
    assert [(v.program, v.arch, v.correct) for v in found] == [
        ("row_sum", "good", True), ("row_sum", "wrong", False),
        ("add", "good", True), ("add", "wrong", False),
    ]  # fmt: skip
    (one,) = evaluator.evaluate(Candidate(ROW_SUM + ADD, programs=("add",)), ["fake.good"])
    assert one.program == "add"


def test_stages_are_announced(evaluator: Evaluator) -> None:
    heard: list[tuple[str, str, str]] = []
    evaluator.evaluate(Candidate(ADD), ["fake.good"], lambda *said: heard.append(said))
    assert heard == [("add", "", "meaning")] + [
        ("add", "fake.good", s) for s in ("legal", "compile", "numbers", "time")
    ]


def test_a_size_hidden_in_a_number_is_found_by_falling_back_to_it(evaluator: Evaluator) -> None:
    text = ROW_SUM.replace("= 64, D = 96", "= 2048, D = 65536").replace(
        "sum[d](x[b, d])", "2 * sum[d](x[b, d]) / D"
    )
    text = text.replace("store %s,", f"%k = mul %s, {2 / 65536!r}\n    store %k,")
    v = on(evaluator, "good", text)
    meaning = next(s for s in v.stages if s.stage == "meaning")
    assert v.correct and meaning.detail["static_full"] and "D=65536" in meaning.reason
    assert v.numbers is not None and v.numbers.sizes[0]["D"] == 65536
    assert v.numbers.reduced and v.numbers.sizes[0]["B"] < 2048
