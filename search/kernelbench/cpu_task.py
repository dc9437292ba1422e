"""What a worker does for one problem on any machine: import, derive, compare in float64, compile.

On a target that is simulated, or at reduced sizes on a device, the program is run as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ke_ir.derive import with_derived
from ke_ir.evaluate import EvaluationError, evaluate_op
from ke_ir.importers.source import Problem, load_problem
from ke_ir.importers.torch_export import (
    Argument,
    Imported,
    dtype_of,
    import_module,
)
from ke_ir.interpret import MeaningError, interpret_program
from ke_ir.ir import Module, Program
from ke_ir.printer import print_module
from ke_ir.verify import check
from search.evaluation.degenerate import trivial
from search.evaluation.precision import precision_of
from search.evaluation.roofline import op_cost, roofline
from search.evaluation.verdict import Outcome, StageResult
from search.kernelbench import eager, judge, stages
from search.kernelbench.calls import Calls
from search.kernelbench.draws import OtherDraws, as_arguments
from search.kernelbench.eager import tensors
from search.kernelbench.families import families
from search.kernelbench.reduce import Case, DoesNotRun, reduced, try_without_values, without_values
from search.kernelbench.stage import Stages
from targets.base import Presence, Target
from targets.gpu.device import LEAST_FLUSH
from targets.gpu.tensors import as_array, as_tensor
from targets.registry import find_target, knobs_for

Request = Mapping[str, Any]

_EXPECTED = (DoesNotRun, EvaluationError, MeaningError, OtherDraws)


def run(request: Request, progress: Any) -> dict[str, Any]:
    """All stages that need no device. The reply has, by target, what ``device_task`` goes on with.

    ``request``: ``path``, ``name`` (of the op), ``reduced``, ``targets``, ``seconds`` (for each
    stage), ``folder`` (where the op and the generated sources are written), ``tf32`` (whether what
    PyTorch may compute in TF32 is computed so).
    """
    return _Run(request, progress).run()


@dataclass
class _Target:
    """One target with what was compiled for it; ``text`` is the generated source."""

    target: Target
    text: str = ""
    knobs: Any = None
    module: Any = None
    """The derived program as the target begins with it."""
    program: Any = None


class _Run:
    problem: Problem
    imported: Imported
    module: Module
    program: Program
    inputs: tuple[Any, ...]
    case: Case

    def __init__(self, request: Request, progress: Any) -> None:
        self.request = request
        self.path, self.folder = Path(request["path"]), Path(request["folder"])
        self.stages = Stages(progress, request["seconds"], _EXPECTED)
        self.targets = {name: _Target(find_target(name)) for name in request["targets"]}

    def run(self) -> dict[str, Any]:
        attempt, small = self.stages.attempt, bool(self.request["reduced"])
        attempt(stages.LOAD, "", self.load)
        attempt(stages.IMPORT, "", self.import_)
        attempt(stages.DERIVE, "", self.derive)
        for name, one in self.targets.items():
            attempt(stages.COMPILE, name, partial(self.compile, name, one))
        if small:
            attempt(stages.OP, "", self.op)
            attempt(stages.PROGRAM, "", self.check_program)
            for name, one in self.targets.items():
                attempt(stages.NUMBERS, name, partial(self.numbers, one))
        return {n: self.for_device(t) for n, t in self.targets.items() if t.text and not small}

    # ---- the problem --------------------------------------------------------------------------

    def load(self) -> StageResult:
        self.problem = load_problem(self.path, seed=stages.SEED)
        self.problem.module.requires_grad_(False)
        full = without_values(self.problem)
        total = sum(x.numel() * x.element_size() for x in tensors(full))
        said, self.inputs = f"inputs of {total / 1e9:.3g} GB", full
        detail: dict[str, Any] = {"sizes": [list(x.shape) for x in tensors(full)]}
        if self.request["reduced"]:
            self.case = reduced(self.problem)
            self.inputs = self.case.inputs
            detail["reduced_sizes"] = [list(x.shape) for x in tensors(self.inputs)]
            detail["degenerate"] = self.degenerate()
            small = " and ".join("x".join(map(str, n)) for n in detail["reduced_sizes"])
            said += f", reduced to {small}"
            if self.case.error:
                detail["own_error"] = self.case.error
                said += f"; PyTorch's own error is beyond tolerance: {self.case.error:.2g}"
        calls = Calls()
        with contextlib.suppress(Exception):  # what needs values, import tells of
            try_without_values(self.problem, within=calls)
        detail["families"] = families(calls.names, calls.products)
        return _passed(stages.LOAD, said, detail)

    def degenerate(self) -> str:
        """Why a trivial program would pass at these sizes; empty if none would."""
        signed = eager.signed(self.inputs)
        other = eager.run_float64(self.problem.module, signed, self.case.own.draws)
        pairs = zip(
            tensors(self.case.own.outputs), tensors(self.case.exact.outputs),
            tensors(other.outputs), strict=True,
        )  # fmt: skip
        reasons = [trivial([a.numpy(), b.numpy()], dtype_of(own.dtype)) for own, a, b in pairs]
        return "; ".join(reasons) if reasons and all(reasons) else ""

    # ---- import and derivation ----------------------------------------------------------------

    def import_(self) -> StageResult:
        self.imported = import_module(self.problem.module, self.inputs, self.request["name"])
        op = self.imported.op
        detail = {"equations": len(op.equations), "inputs": len(op.inputs)}
        return _passed(stages.IMPORT, f"{len(op.equations)} equations", detail)

    def derive(self) -> StageResult:
        op = self.imported.op
        precision = self.imported.tf32 if self.request["tf32"] else {}
        self.module = with_derived(check(Module((op,))), precision)
        self.program = self.module.programs[op.name]
        self._write("program.ir", print_module(self.module))
        for name, one in self.targets.items():
            one.module = one.target.start(self.module, self.program)
            one.program = one.module.programs[op.name]
            if one.module != self.module:
                self._write(f"{name}.ir", print_module(one.module))
        kernels = {c.kernel for c in self.program.calls}
        calls = len(self.program.calls)
        detail = {"kernels": len(kernels), "calls": calls}
        return _passed(stages.DERIVE, f"{len(kernels)} kernels, {calls} calls", detail)

    @cached_property
    def sizes(self) -> dict[str, int]:
        return self.program.sizes({})

    # ---- meaning, in float64 ------------------------------------------------------------------

    @cached_property
    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """What the op is called with, by name."""
        arguments = self.imported.arguments
        drawn = as_arguments(arguments, self.imported.draws, self.case.own.draws)
        return {a.name: as_array(self._tensor(a, drawn)) for a in arguments}

    def _tensor(self, a: Argument, drawn: eager.Tensors) -> torch.Tensor:
        if a.source == "input":
            return tensors(self.inputs)[a.position]
        found: torch.Tensor = drawn[a.name] if a.source == "random" else a.tensor
        return found

    @cached_property
    def value(self) -> dict[str, np.ndarray[Any, Any]]:
        """What the op gives in float64."""
        return evaluate_op(self.imported.op, {}, self.arrays)

    @cached_property
    def slack(self) -> dict[str, float]:
        """What two evaluations in float64 may differ by, by output, where terms cancel."""
        results = self.imported.results
        return judge.rounding(self.case.own.tensors(results), self.case.exact.tensors(results))

    def op(self) -> StageResult:
        want = self.case.exact.tensors(self.imported.results)
        good, text = judge.same(self.value, want, self.slack)
        return StageResult(stages.OP, _outcome(good), text)

    def check_program(self) -> StageResult:
        """The derived program, and each other one that a target begins with."""
        different = [self.module]
        different += [t.module for t in self.targets.values() if t.module not in different]
        for module in different:
            program = module.programs[self.program.name]
            got = interpret_program(module, program, self.sizes, self.arrays, exact=True)
            good, text = judge.same(got, self.value, self.slack)
            if not good:
                break
        return StageResult(stages.PROGRAM, _outcome(good), text)

    # ---- targets ------------------------------------------------------------------------------

    def compile(self, name: str, one: _Target) -> StageResult:
        one.knobs = knobs_for(one.target, one.module, one.program)
        compiled = one.target.compile(one.module, one.program, one.knobs, self.sizes)
        self._write(f"{name}{compiled.source.suffix}", compiled.source.text)
        broken = [f"@{k}: {w}" for k, r in compiled.resources.items() for w in r.exceeded]
        if broken:
            return StageResult(stages.COMPILE, Outcome.FAILED, "; ".join(broken))
        one.text = compiled.source.text
        lower = precision_of(one.module, one.program, self.imported.op).lower
        return _passed(stages.COMPILE, "; ".join(lower), {"lower_precision": list(lower)})

    def numbers(self, one: _Target) -> StageResult:
        found = one.target.availability()
        if found.presence is not Presence.HERE:
            return StageResult(stages.NUMBERS, Outcome.SKIPPED, f"compiled only: {found.reason}")
        result = one.target.run(one.module, one.program, one.knobs, self.sizes, self.arrays)
        results = self.imported.results
        found_errors = judge.compared(
            {r.name: as_tensor(result.outputs[r.name]) for r in results},
            self.case.exact.tensors(results),
            self.case.own.tensors(results),
        )
        good, text = judge.verdict(found_errors)
        detail = {"outputs": {n: asdict(x) for n, x in found_errors.items()}}
        said = f"{result.established.value}: {text}"
        return StageResult(stages.NUMBERS, _outcome(good), said, detail=detail)

    # ---- what a device goes on with -----------------------------------------------------------

    def for_device(self, one: _Target) -> dict[str, Any]:
        """The part of a request to ``device_task`` that comes from here."""
        constants = {a.path: a.tensor for a in self.imported.arguments if a.source == "constant"}
        torch.save(constants, self.folder / "constants.pt")
        return {
            "text": one.text,
            "floor_seconds": self._floor(one),
            "flush_bytes": max(LEAST_FLUSH, 2 * one.target.spec.cache_bytes),
            "constants": str(self.folder / "constants.pt"),
            "draws": self.imported.draws,
            "arguments": [replace(a, tensor=None) for a in self.imported.arguments],
            "results": list(self.imported.results),
        }

    def _floor(self, one: _Target) -> float:
        """The least time that the op can take on the target, in the fastest format it uses."""
        cost = op_cost(self.imported.op, self.sizes)
        formats = precision_of(one.module, one.program, self.imported.op).formats
        return min(
            roofline(cost, one.target.spec, name, parts, 1.0).floor_seconds
            for name, parts in formats or (("f32", 1),)
        )

    def _write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)


def _passed(stage: str, reason: str, detail: Mapping[str, Any] | None = None) -> StageResult:
    return StageResult(stage, Outcome.PASSED, reason, detail=detail or {})


def _outcome(good: bool) -> Outcome:
    return Outcome.PASSED if good else Outcome.FAILED
