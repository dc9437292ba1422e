"""Tasks that a kernel passes without doing the work; their speed-ups do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search.evaluation.compare import BENCHMARK_TOLERANCE
from search.evaluation.reference import make_case
from search.evaluation.sizes import reduce_sizes
from search.evaluation.work import FLOAT64, program_work

if TYPE_CHECKING:
    from typing import Any

    from ke_ir.types import DType
    from search.evaluation.numbers import Subject

    Array = np.ndarray[Any, Any]

_DISTRIBUTIONS = ("normal", "mixed")


def degenerate(subject: Subject) -> str:
    """Why a trivial kernel would pass this task at the benchmark's tolerance; empty if none would.

    Flagged when every output is, on all inputs tried, within tolerance of zero or of one constant,
    or does not change with the inputs.
    """
    module, program = subject.module, subject.program
    sizes = reduce_sizes(
        module, program, subject.full, lambda s: FLOAT64.affords(program_work(module, program, s))
    )
    cases = [
        make_case(module, program, subject.op, sizes, seed, distribution)
        for seed, distribution in enumerate(_DISTRIBUTIONS)
    ]
    reasons = []
    for p in program.outputs:
        values = [case.expected[p.name] for case in cases]
        if any(v.size == 0 for v in values):
            return ""
        reason = trivial(values, p.type.dtype)
        if not reason:
            return ""
        reasons.append(f"{p.name} {reason}")
    return "; ".join(reasons)


def trivial(values: list[Array], dtype: DType) -> str:
    """Why an output that took these values on different inputs needs no work; empty if it does.

    With the values of one input alone, whether it depends on them cannot be told.
    """
    numbers = [np.nan_to_num(v.astype(np.float64)) for v in values]
    tolerance = BENCHMARK_TOLERANCE.get(dtype, 0.0)
    if all(bool((np.abs(x) <= tolerance).all()) for x in numbers):
        return "is zero within tolerance"
    first = float(numbers[0].flat[0])
    allowed = tolerance + tolerance * abs(first)
    if all(x.size > 1 and bool((np.abs(x - first) <= allowed).all()) for x in numbers):
        return f"is {first:.6g} everywhere within tolerance"
    if len(numbers) > 1 and numbers[0].shape == numbers[1].shape:
        slack = tolerance + tolerance * np.abs(numbers[0])
        if bool((np.abs(numbers[0] - numbers[1]) <= slack).all()):
            return "does not depend on the inputs within tolerance"
    return ""
