"""The float64 reference of an op, its error bounds, and inputs on which it is defined."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ke_ir.evaluate import Rounding, evaluate_op, evaluate_with_error
from ke_ir.interpret import interpret_program
from ke_ir.recurrence import recurrences
from ke_ir.types import DType
from search.evaluation.compare import BENCHMARK_TOLERANCE, capped
from search.evaluation.inputs import DOMAINS, integer_roles, make_inputs

if TYPE_CHECKING:
    from ke_ir.ir import Module, OpDef, Program

    Array = np.ndarray[Any, Any]

MEANING_TOLERANCE = 1e-9
"""Relative to the value: what two float64 evaluations in different order stay well within."""

_DOUBLE = Rounding(DType.F64.unit_roundoff, 0.0, DType.F64.unit_roundoff)
_REORDERING = 64.0
"""Factor on the float64 error bound, where cancellation makes it the larger allowance."""
_KEPT = 16
_BOUNDS_KEPT = 32


@dataclass(frozen=True)
class Case:
    """One set of inputs and what the op gives for it, in float64 (integers exactly).

    ``note`` says when inputs had to be of a ``domain`` for the op to be defined, or smaller (times
    ``scale``). ``partial``: it is not defined on all of them; most elements are.
    """

    sizes: Mapping[str, int]
    seed: int
    distribution: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    note: str = ""
    domain: str = ""
    scale: float = 1.0
    partial: bool = False

    def describe(self) -> str:
        """For a reason: which inputs they were."""
        made = f"{self.note}, " if self.note else ""
        return f"inputs {self.distribution} ({made}seed {self.seed})"


_cache: OrderedDict[tuple[Any, ...], Case] = OrderedDict()


def make_case(
    module: Module,
    program: Program,
    op: OpDef | None,
    sizes: Mapping[str, int],
    seed: int,
    distribution: str,
) -> Case:
    """Inputs at ``sizes`` with the reference's outputs; the last few are kept.

    Without an op the program's own float64 meaning is the reference. Raises EvaluationError when
    the op's subscripts leave its tensors at these sizes, MeaningError from the program.
    """
    key = (op or (module, program), tuple(sorted(sizes.items())), seed, distribution)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    case = _defined_case(module, program, op, sizes, seed, distribution)
    _cache[key] = case
    while len(_cache) > _KEPT:
        _cache.popitem(last=False)
    return case


def _defined_case(
    module: Module,
    program: Program,
    op: OpDef | None,
    sizes: Mapping[str, int],
    seed: int,
    distribution: str,
) -> Case:
    """Signed inputs where the op is finite on them, else those of the first domain where it is.

    If there is none, the inputs on which most elements are finite: a kernel then has to give NaN
    where the op does. Inputs are made smaller where f32 arithmetic itself could not meet the
    tolerance: terms of 1e4 that cancel leave an error that has nothing to do with the kernel. So
    they are where an output is too large for its dtype.
    """
    cases, shares = [], []
    for domain in DOMAINS:
        for scale in _SCALES:
            inputs = legal_inputs(program, op, sizes, seed, distribution, domain, scale)
            expected = _evaluate(module, program, op, sizes, inputs)
            why = [f"{domain}, since the op is not finite on others"] if domain else []
            why += [f"times {scale:g}, to be within reach of the arithmetic"] if scale != 1 else []
            note = ", ".join(why)
            case = Case(dict(sizes), seed, distribution, inputs, expected, note, domain, scale)
            share = _share(expected.values())
            if share == 1.0 and (op is None or within_reach(op, case)):
                return case
            cases.append(case)
            shares.append(share)
            if share < 1.0:
                break
    whole = [c for c, share in zip(cases, shares, strict=True) if share == 1.0]
    stepwise = op is not None and bool(recurrences(op))
    if whole:
        return whole[-1 if stepwise else 0]
    best = max(shares)
    if stepwise or best < _MOSTLY:
        return cases[0]
    return replace(cases[shares.index(best)], partial=True)


_SCALES = (1.0, 0.125, 0.125**2)
_MOSTLY = 0.5
"""Share of an op's elements that must be finite for it to be judged by them."""
_SINGLE = Rounding(DType.F32.unit_roundoff, 0.0, DType.F32.unit_roundoff)
_HARMLESS = 64 * DType.F32.unit_roundoff
"""Outputs this far below the tolerance need no analysis: cancellation cannot reach it."""


_UNSTABLE = 1 / 16
"""Share of the tolerance that inputs changed by f32's rounding may use up."""


def within_reach(op: OpDef, case: Case) -> bool:
    """True if arithmetic in f32 throughout is sure to meet the benchmark's tolerance."""
    if not all(_fits(p.type.dtype, case.expected[p.name]) for p in op.outputs):
        return False
    if recurrences(op):
        return is_stable(op, case)
    floats = [p for p in op.outputs if p.type.dtype.is_float]
    largest = {p.name: float(np.abs(case.expected[p.name].astype(float)).max()) for p in floats}
    if all(_HARMLESS * largest[p.name] <= BENCHMARK_TOLERANCE[p.type.dtype] for p in floats):
        return True
    bounds = error_bounds(op, case, _SINGLE)
    for p in floats:
        # Where rounding may move an index the bound is infinite, at any scale.
        bound = bounds[p.name][np.isfinite(bounds[p.name])]
        want = case.expected[p.name][np.isfinite(bounds[p.name])]
        if (bound > capped(np.full(want.shape, np.inf), want, p.type.dtype)).any():
            return False
    return True


def _fits(d: DType, x: Array) -> bool:
    """False if a number is too large for the dtype that it will be rounded to."""
    if not d.is_float:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return _share([x.astype(d.numpy())]) == 1.0


def is_stable(op: OpDef, case: Case) -> bool:
    """True if rounding the inputs of a recurrence does not change what it gives.

    Over many steps with large weights it may, as in chaos; no precision of a kernel would do.
    """
    rng = np.random.default_rng(case.seed)
    changed = dict(case.inputs)
    for p in op.inputs:
        if p.type.dtype.is_float:
            x = np.asarray(case.inputs[p.name]).astype(np.float64)
            changed[p.name] = x * (1 + DType.F32.unit_roundoff * rng.choice([-1.0, 1.0], x.shape))
    found = evaluate_op(op, case.sizes, changed)
    for p in op.outputs:
        if p.type.dtype.is_float:
            want = case.expected[p.name].astype(np.float64)
            allowed = capped(np.full(want.shape, np.inf), want, p.type.dtype)
            if not (np.abs(found[p.name] - want) <= _UNSTABLE * allowed).all():
                return False
    return True


def legal_inputs(
    program: Program,
    op: OpDef | None,
    sizes: Mapping[str, int],
    seed: int,
    distribution: str,
    domain: str = "",
    scale: float = 1.0,
) -> dict[str, Array]:
    """Inputs by name in their declared dtypes; integers as the op's use of them allows."""
    roles = integer_roles(op, sizes) if op is not None else {}
    return make_inputs(program, roles, sizes, seed, distribution, domain, scale)


def relative_bound(case: Case) -> dict[str, Array]:
    """1e-9 of each output element: less than ``meaning_bound``, or as much."""
    return {n: MEANING_TOLERANCE * np.abs(x.astype(np.float64)) for n, x in case.expected.items()}


def meaning_bound(op: OpDef, case: Case) -> dict[str, Array]:
    """What two float64 evaluations may differ by, for each output element.

    1e-9 of the value; where terms cancel, a multiple of the float64 rounding error of their sum.
    """
    wide = replace(
        op,
        outputs=tuple(
            replace(p, type=replace(p.type, dtype=DType.F64)) if p.type.dtype.is_float else p
            for p in op.outputs
        ),
    )
    found = evaluate_with_error(wide, case.sizes, case.inputs, _DOUBLE)
    out = {}
    for name, (value, bound) in found.items():
        size, allowed = np.abs(value.astype(np.float64)), _REORDERING * bound
        if recurrences(op):
            # Bounds of many steps grow without end, while inputs were chosen so that errors do not.
            allowed = np.minimum(allowed, MEANING_TOLERANCE * max(1.0, size.max(initial=0)))
        out[name] = np.maximum(MEANING_TOLERANCE * size, allowed)
    return out


def error_bounds(op: OpDef, case: Case, rounding: Rounding) -> dict[str, Array]:
    """Bounds on the absolute error of a kernel that rounds like this, for each output element.

    The last few are kept: candidates of one search differ in how they round only now and then.
    """
    made = (tuple(sorted(case.sizes.items())), case.seed, case.distribution, case.scale)
    key = (op, *made, case.domain, rounding)
    if key not in _bounds:
        found = evaluate_with_error(op, case.sizes, case.inputs, rounding)
        _bounds[key] = {name: bound for name, (_, bound) in found.items()}
        while len(_bounds) > _BOUNDS_KEPT:
            _bounds.popitem(last=False)
    _bounds.move_to_end(key)
    return _bounds[key]


_bounds: OrderedDict[tuple[Any, ...], dict[str, Array]] = OrderedDict()


def _evaluate(
    module: Module,
    program: Program,
    op: OpDef | None,
    sizes: Mapping[str, int],
    inputs: Mapping[str, Array],
) -> dict[str, Array]:
    if op is None:
        return interpret_program(module, program, sizes, inputs, exact=True)
    return evaluate_op(op, sizes, inputs)


def _share(outputs: Iterable[Array]) -> float:
    """The share of finite elements, of the output where it is least."""
    floats = (x for x in outputs if x.dtype.kind in "fV" and x.size)
    return min((float(np.isfinite(x.astype(np.float64)).mean()) for x in floats), default=1.0)
