"""What a worker does for one problem on a GPU, at the problem's own sizes.

KernelBench's check: new inputs from each of five seeds, ``torch.allclose`` with what the module
gives, at KernelBench's tolerances; by PyTorch's defaults, and again with TF32 off. Ours: the module
run in float64 on the device, every output and every buffer that it changes, on the inputs as given
and with signed normal values; outputs poisoned, inputs unchanged, nothing stored outside. Time:
interleaved with the module, eager and compiled, on new inputs with the cache flushed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ke_ir.importers.source import Problem, load_problem
from ke_ir.importers.torch_export import Argument, ImportFailure, dtype_of
from search.evaluation.compare import BENCHMARK_TOLERANCE
from search.evaluation.degenerate import trivial
from search.evaluation.verdict import FullSize, Outcome, StageResult
from search.kernelbench import eager, judge, stages
from search.kernelbench.draws import OtherDraws, as_arguments, fresh
from search.kernelbench.eager import Tensors, tensors
from search.kernelbench.stage import Stages
from targets.gpu.device_worker import (
    DEVICE,
    describe_device,
    device_shared,
    device_to_itself,
)
from targets.gpu.generated import parse
from targets.gpu.launch import Misbehaved, run_checked
from targets.gpu.load import load_text
from targets.gpu.reasons import one_line
from targets.gpu.stopwatch import time_interleaved
from targets.gpu.tensors import torch_dtype

Request = Mapping[str, Any]
Arrays = list["np.ndarray[Any, Any]"]

_TRIALS = 5
_SLACK = 0.98
"""Clocks may be a little above the figure that a peak was computed from."""
_SAMPLE = 1 << 20
"""Elements of an output that are looked at first for whether it is degenerate."""
_KINDS = ("given", "signed")
"""Inputs as the file makes them, and with signed normal values in place of every float."""
_EXPECTED = (Misbehaved, OtherDraws, RuntimeError)


def run(request: Request, progress: Any) -> None:
    """The stages that need a device, reported as they end.

    ``request``: what ``cpu_task`` replied for the target, with ``path``, ``target``, ``seconds``
    for each stage, and ``timed``, how long the timed part may last.
    """
    _Run(request, progress).run()


class _Run:
    def __init__(self, request: Request, progress: Any) -> None:
        self.request = request
        self.stages = Stages(progress, request["seconds"], _EXPECTED)
        self.stages.outcomes[stages.COMPILE, ""] = Outcome.PASSED
        self.generated = parse(request["text"])
        self.launcher: Callable[..., Any] = getattr(
            load_text(request["text"]), self.generated.program
        )
        self.arguments: Sequence[Argument] = request["arguments"]

    def run(self) -> None:
        target = self.request["target"]
        for stage, step in (
            (stages.KERNELBENCH, partial(self.trials, stages.KERNELBENCH)),
            (stages.FLOAT32, self.float32),
            (stages.NUMBERS, self.numbers),
            (stages.TIME, self.time),
        ):
            self.stages.attempt(stage, target, partial(_on_device, stage, step))

    @cached_property
    def problem(self) -> Problem:
        return load_problem(Path(self.request["path"]), seed=stages.SEED)

    @cached_property
    def module(self) -> torch.nn.Module:
        module: torch.nn.Module = self.problem.module
        return module.requires_grad_(False).to(DEVICE)

    @cached_property
    def constants(self) -> Tensors:
        found = torch.load(self.request["constants"], weights_only=True)
        return {path: tensor.to(DEVICE) for path, tensor in found.items()}

    def inputs(self, seed: int) -> Any:
        """As the file makes them, on the device."""
        with torch.device(DEVICE):
            return eager.mapped(self.problem.draw(seed), lambda x: x.to(DEVICE))

    def state(self) -> Tensors:
        """Weights, constants, and buffers as they are now, by argument."""
        state = {
            **self.constants, **dict(self.module.named_parameters()),
            **dict(self.module.named_buffers()),
        }  # fmt: skip
        return {
            a.name: state[a.path].detach().contiguous()
            for a in self.arguments
            if a.source not in ("input", "random")
        }

    @cached_property
    def random(self) -> bool:
        """Whether the module draws random numbers on the way."""
        return any(a.source == "random" for a in self.arguments)

    def draws(self, inputs: Any) -> list[torch.Tensor]:
        """What the module draws in a run of its own; it draws the same when it is run next."""
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            return eager.run(self.module, eager.mapped(inputs, torch.clone)).draws

    def bound(self, inputs: Any, draws: Sequence[torch.Tensor] | None) -> Tensors:
        """What the launcher is called with."""
        state, given = self.state(), tensors(inputs)
        drawn = as_arguments(self.arguments, self.request["draws"], draws or [])
        state |= {name: x.to(DEVICE) for name, x in drawn.items()}
        return {
            a.name: given[a.position].contiguous() if a.source == "input" else state[a.name]
            for a in self.arguments
        }

    def outputs(self, made: Any) -> list[torch.Tensor]:
        """What the launcher made, as the tensors that the module returns."""
        values = dict(zip(self.generated.outputs, _tuple(made), strict=True))
        wanted = [r for r in self.request["results"] if r.source == "output"]
        return [values[r.name] for r in sorted(wanted, key=lambda r: r.position)]

    # ---- KernelBench's check ------------------------------------------------------------------

    def float32(self) -> StageResult:
        with _no_tf32():
            return self.trials(stages.FLOAT32)

    def trials(self, stage: str) -> StageResult:
        """KernelBench's check, by what PyTorch is set to at present."""
        passed, worst = 0, 0.0
        for seed in _trial_seeds():
            inputs = self.inputs(seed)
            bound = self.bound(inputs, self.draws(inputs) if self.random else None)
            mine = self.outputs(self.launcher(*bound.values()))
            with torch.no_grad():
                theirs = tensors(self.module(*inputs))
            good = len(mine) == len(theirs)
            for x, y in zip(mine, theirs, strict=False):
                good &= x.shape == y.shape and _allclose(y, x)
                if x.shape == y.shape:
                    worst = max(worst, _distance(x, y))
            passed += good
        said = f"{passed} of {_TRIALS} trials, |difference| up to {worst:.2g}"
        outcome = Outcome.PASSED if passed == _TRIALS else Outcome.FAILED
        return StageResult(stage, outcome, said)

    # ---- ours ---------------------------------------------------------------------------------

    def numbers(self) -> StageResult:
        good, reasons, samples = True, [], []
        detail: dict[str, Any] = {}
        draws = self.draws(self.inputs(stages.SEED)) if self.random else None
        for kind in _KINDS:
            found, sample = self._judged(kind, draws)
            torch.cuda.empty_cache()
            if not found:
                reasons.append(f"not defined on {kind} inputs")
                continue
            right, text = judge.verdict(found)
            good &= right
            samples.append(sample)
            reasons.append(f"{kind}: {text}")
            detail[kind] = {name: asdict(x) for name, x in found.items()}
        detail["degenerate"] = self._trivial(samples) and self._trivial(
            [self._outputs(kind, draws) for kind in _KINDS if kind in detail]
        )
        outcome = Outcome.PASSED if good else Outcome.FAILED
        return StageResult(stages.NUMBERS, outcome, f"run: {'; '.join(reasons)}", detail=detail)

    def _of_kind(self, kind: str) -> Any:
        given = self.inputs(stages.SEED)
        return eager.signed(given) if kind == "signed" else given

    def _judged(
        self, kind: str, draws: Sequence[torch.Tensor] | None
    ) -> tuple[dict[str, FullSize], Arrays]:
        """Errors by output, and the beginning of each of the module's own outputs in float64.

        Nothing where float64 is not finite although the inputs were made here.
        """
        results, inputs = self.request["results"], self._of_kind(kind)
        exact = eager.run_float64(self.module, inputs, draws)
        if kind == "signed" and not all(bool(x.isfinite().all()) for x in tensors(exact.outputs)):
            return {}, []
        wanted = [(n, torch_dtype(s.dtype), s.shape) for n, s in self.generated.outputs.items()]
        got = run_checked(self.launcher, self.bound(inputs, draws), wanted, DEVICE)
        with _no_tf32():
            own = eager.run(self.module, inputs, draws)
        found = judge.compared(got, exact.tensors(results), own.tensors(results))
        return found, [x.flatten()[:_SAMPLE].cpu().numpy() for x in tensors(exact.outputs)]

    def _outputs(self, kind: str, draws: Sequence[torch.Tensor] | None) -> Arrays:
        """All that the module gives in float64."""
        given = eager.run_float64(self.module, self._of_kind(kind), draws)
        return [x.cpu().numpy() for x in tensors(given.outputs)]

    def _trivial(self, cases: Sequence[Arrays]) -> str:
        """Why a trivial program would give these outputs; empty if one of them needs work.

        What is not trivial in part is not so as a whole.
        """
        wanted = [r.name for r in self.request["results"] if r.source == "output"]
        reasons = [
            trivial([case[i] for case in cases], dtype_of(torch_dtype(spec.dtype)))
            for i, spec in enumerate(self.generated.outputs[name] for name in wanted)
        ]
        return "; ".join(reasons) if reasons and all(reasons) else ""

    # ---- time ---------------------------------------------------------------------------------

    def time(self) -> StageResult:
        """Warmed (and compiled) beside other problems, timed with the device to itself."""
        contestants, places = self._contestants()
        with torch.no_grad():
            with device_shared():
                failures = _warmed(contestants, self._tensors(places))
            ready = {n: f for n, f in contestants.items() if n not in failures}
            with device_to_itself():
                timings, later = time_interleaved(
                    ready, self._tensors(places),
                    self.request["flush_bytes"], self.request["timed"],
                )  # fmt: skip
        failures |= later
        if "candidate" not in timings:
            raise RuntimeError(f"timing failed: {failures['candidate']}")
        return self._timed(timings, failures)

    def _contestants(self) -> tuple[dict[str, Callable[..., Any]], list[int]]:
        """Each takes the tensors among the inputs, whose places among all are given as well."""
        flat, structure = pytree.tree_flatten(self.inputs(stages.SEED))
        places = [i for i, x in enumerate(flat) if isinstance(x, torch.Tensor)]
        others = [None if isinstance(x, torch.Tensor) else x for x in flat]
        state = self.state()

        def with_tensors(given: Sequence[torch.Tensor]) -> Any:
            leaves = list(others)
            for place, tensor in zip(places, given, strict=True):
                leaves[place] = tensor
            return pytree.tree_unflatten(leaves, structure)

        def argument(a: Argument, given: Sequence[torch.Tensor]) -> torch.Tensor:
            if a.draw is not None:  # the module draws within the time that it is given, too
                return fresh(a.draw, DEVICE)
            return given[a.position] if a.source == "input" else state[a.name]

        def candidate(*given: torch.Tensor) -> Any:
            return self.launcher(*(argument(a, given) for a in self.arguments))

        compiled = torch.compile(self.module, dynamic=False)
        return {
            "candidate": candidate,
            "eager": lambda *x: self.module(*with_tensors(x)),
            "torch.compile": lambda *x: compiled(*with_tensors(x)),
        }, places

    def _tensors(self, places: Sequence[int]) -> list[torch.Tensor]:
        flat = pytree.tree_leaves(self.inputs(stages.SEED))
        return [flat[i].contiguous() for i in places]

    def _timed(
        self, timings: Mapping[str, Mapping[str, float]], failures: Mapping[str, str]
    ) -> StageResult:
        mine, floor = timings["candidate"]["median"], float(self.request["floor_seconds"])
        detail = {
            "kind": "measured", "device": describe_device(), "timings": dict(timings),
            "failures": dict(failures), "floor_seconds": floor,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        }  # fmt: skip
        if mine < _SLACK * floor:
            reason = (
                f"measured {mine * 1e6:.2f} us is below the roofline of {floor * 1e6:.2f} us: "
                "the figure cannot be right"
            )
            return StageResult(stages.TIME, Outcome.FAILED, reason)
        others = [
            f"{name} {t['median'] * 1e6:.1f} us ({t['median'] / mine:.2f}x)"
            for name, t in timings.items()
            if name != "candidate"
        ]
        others += [f"{name}: {why}" for name, why in failures.items()]
        said = f"measured {mine * 1e6:.1f} us; {'; '.join(others)}"
        return StageResult(stages.TIME, Outcome.PASSED, said, detail=detail)


def _on_device(stage: str, step: Callable[[], StageResult]) -> StageResult:
    """A check beside other problems, or alone where the device does not do for all.

    A device that has no memory left for the check, or takes no other process, says nothing of the
    program. How ``time`` shares the device is its own affair.
    """
    found: StageResult | str = ""
    for place in (device_shared, device_to_itself):
        with nullcontext() if stage == stages.TIME else place():
            found = _tried(step)
        if isinstance(found, StageResult):
            return found
    return StageResult(stage, Outcome.SKIPPED, f"no room on the device: {found}")


def _tried(step: Callable[[], StageResult]) -> StageResult | str:
    """The step's result, or what it said of room that was lacking, when all memory is free again.

    Whoever is on the device next would lack what is not.
    """
    try:
        return step()
    except _NO_ROOM as error:
        if not _no_room(error):
            raise
        said = one_line(error)
        error.__traceback__ = None  # its frames hold what was allocated
    gc.collect()
    torch.cuda.empty_cache()
    return said


_NO_ROOM = (RuntimeError, ImportFailure)
"""What says so: the latter where it was the user's code that asked for memory."""


def _no_room(error: Exception) -> bool:
    """Whether the device had too little memory, or too many processes: torch, its libraries and
    Triton say it each in their own way."""
    text = str(error)
    return any(words in text for words in ("out of memory", "ALLOC_FAILED", "busy or unavailable"))


@contextmanager
def _no_tf32() -> Iterator[None]:
    """PyTorch computes in float32 what is float32: by its default cuDNN may round to TF32."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [b.allow_tf32 for b in backends]
    try:
        for b in backends:
            b.allow_tf32 = False
        yield
    finally:
        for b, value in zip(backends, before, strict=True):
            b.allow_tf32 = value


def _warmed(
    functions: Mapping[str, Callable[..., Any]], given: Sequence[torch.Tensor]
) -> dict[str, str]:
    """Each called once, which compiles it; what failed."""
    failures = {}
    for name, function in functions.items():
        try:
            function(*given)
            torch.cuda.synchronize()
        except Exception as error:
            failures[name] = one_line(error)
    return failures


def _trial_seeds() -> list[int]:
    """As KernelBench draws them from its seed."""
    torch.manual_seed(stages.SEED)
    return [int(torch.randint(0, 2**32 - 1, (1,)).item()) for _ in range(_TRIALS)]


def _allclose(want: torch.Tensor, got: torch.Tensor) -> bool:
    tolerance = BENCHMARK_TOLERANCE.get(dtype_of(want.dtype), 0.0)
    return bool(want.dtype == got.dtype and torch.allclose(want, got, tolerance, tolerance))


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    if x.dtype is torch.bool:
        return float((x != y).any())
    return float((x - y).abs().nan_to_num().max()) if x.numel() else 0.0


def _tuple(made: Any) -> tuple[torch.Tensor, ...]:
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)
