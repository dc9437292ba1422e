"""The meaning stage: a kernel interpreted in float64 against its op in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ke_ir.evaluate import EvaluationError
from ke_ir.interpret import MeaningError, interpret_program
from ke_ir.ir import BindError
from search.evaluation.compare import Comparison, compare, worse
from search.evaluation.inputs import DISTRIBUTIONS
from search.evaluation.reference import Case, make_case, meaning_bound, relative_bound
from search.evaluation.sizes import Sizes, edge_sizes, reduce_sizes
from search.evaluation.verdict import Outcome, StageResult
from search.evaluation.work import FLOAT64, program_work

if TYPE_CHECKING:
    from ke_ir.ir import Module, OpDef, Program

_EDGE_SHARE = 4
"""How many times the budget of one check an edge size may take."""
_REPEAT_SHARE = 2
"""How many times the budget a check may take for it to be repeated with other kinds of input."""


class Disagrees(Exception):
    """The kernel does not mean what its op says: where, and by how much."""


_WRONG = (Disagrees, MeaningError, EvaluationError, BindError, ValueError)


def check_meaning(
    module: Module, program: Program, op: OpDef | None, given: Mapping[str, int]
) -> StageResult:
    """Compare on several seeds and at edge sizes, reduced where the full size takes too long."""
    full = program.sizes(given)
    base = reduce_sizes(module, program, full, lambda s: _affords(module, program, s))
    if op is None:
        return _check_alone(module, program, base)
    static_full = False
    try:
        worst, checked = _check_all(module, program, op, base)
    except _WRONG as first:
        static = _static_full(program, full, base)
        if static == base:
            return _failed(first, base)
        # Numbers that stand for a dim's size make a reduced size mean something else.
        try:
            worst, checked = _check_all(module, program, op, static)
        except _WRONG as second:
            return _failed(second, static)
        base, static_full = static, True
    detail = {
        "reduced": base != full,
        "static_full": static_full,
        "sizes": [dict(s) for s in checked],
        "worst_ratio": worst.worst_ratio,
        "worst_error": worst.worst_error,
    }
    return StageResult("meaning", Outcome.PASSED, _say(base, full, checked), detail=detail)


def _check_alone(module: Module, program: Program, base: Sizes) -> StageResult:
    """Without an op only this can be wrong: elements written twice or never, or undefined."""
    try:
        make_case(module, program, None, base, 0, DISTRIBUTIONS[0])
    except _WRONG as error:
        return _failed(error, base)
    reason = f"there is no op @{program.name} to compare with"
    return StageResult("meaning", Outcome.SKIPPED, reason)


def _affords(module: Module, program: Program, sizes: Sizes, share: int = 1) -> bool:
    return FLOAT64.seconds(program_work(module, program, sizes)) <= share * FLOAT64.budget_seconds


def _static_full(program: Program, full: Mapping[str, int], base: Sizes) -> Sizes:
    """``base`` with the dims that are not ranges at their full size."""
    given = {d.name: base[d.name] if d.is_range else full[d.name] for d in program.dims}
    return program.sizes(given)


def _check_all(
    module: Module, program: Program, op: OpDef, base: Sizes
) -> tuple[Comparison, list[Sizes]]:
    worst, checked = Comparison(0.0, 0.0, 0.0), [base]
    for case in _cases(module, program, op, base):
        if case.sizes not in checked:
            checked.append(dict(case.sizes))
        worst = worse(worst, _check(module, program, op, case))
    return worst, checked


def _cases(module: Module, program: Program, op: OpDef, base: Sizes) -> Iterator[Case]:
    # Which elements a kernel combines, and how, one kind of input shows as well as three.
    kinds = DISTRIBUTIONS if _affords(module, program, base, _REPEAT_SHARE) else DISTRIBUTIONS[:1]
    for seed, distribution in enumerate(kinds):
        yield make_case(module, program, op, base, seed, distribution)
    for sizes in edge_sizes(module, program, base):
        if _affords(module, program, sizes, _EDGE_SHARE):
            yield make_case(module, program, op, sizes, len(DISTRIBUTIONS), "normal")


def _check(module: Module, program: Program, op: OpDef, case: Case) -> Comparison:
    try:
        got = interpret_program(
            module, program, case.sizes, case.inputs, exact=True, check_nan=not case.partial
        )
    except MeaningError as wrong:
        raise Disagrees(f"{wrong}{_place(module, wrong)} at {_sizes(case.sizes)}") from wrong
    found = compare(program, got, case.expected, relative_bound(case))
    if not found.passed:
        # Terms may cancel. To know how much they do takes longer than all else here.
        found = compare(program, got, case.expected, meaning_bound(op, case))
    if not found.passed:
        raise Disagrees(f"{found.describe()} (float64), {case.describe()}, {_sizes(case.sizes)}")
    return found


def _place(module: Module, wrong: MeaningError) -> str:
    if wrong.loc is None or not module.source:
        return ""
    return f" (line {module.source.count(chr(10), 0, wrong.loc.start) + 1})"


def _failed(error: Exception, sizes: Sizes) -> StageResult:
    text = str(error) if isinstance(error, Disagrees) else f"{error} at {_sizes(sizes)}"
    return StageResult("meaning", Outcome.FAILED, text)


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sizes.items())


def _say(base: Sizes, full: Mapping[str, int], checked: list[Sizes]) -> str:
    size = "full size" if base == full else f"reduced size {_sizes(base)}"
    more = f" and {len(checked) - 1} edge sizes" if len(checked) > 1 else ""
    return f"equal in float64 at {size}{more}"
