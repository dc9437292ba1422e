"""One sample: exported, imported, and compared with PyTorch in float64."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bench.aten.samples import Called, Several, samples
from ke_ir.diagnostics import Diagnostic, IRError
from ke_ir.evaluate import evaluate_op
from ke_ir.importers.torch_export import Imported, ImportFailure, exported, import_program
from ke_ir.ir import Module
from ke_ir.printer import print_module

TOLERANCE = 1e-9
"""Relative to the element, and to 1 for elements below it."""

PASSED, SKIPPED, UNSUPPORTED, FAILED = "passed", "skipped", "unsupported", "failed"


@dataclass(frozen=True)
class Checked:
    """What became of a sample, and the overloads that were in its graph."""

    outcome: str
    reason: str = ""
    overloads: tuple[str, ...] = ()


UNDEFINED = ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty",
             "new_empty_strided")  # fmt: skip
"""Operators whose elements are whatever was there."""
UNORDERED = {"sort": 1, "argsort": 0, "topk": 1, "kthvalue": 1}
"""The output that holds places, for operators that do not say which of equal elements is first."""


def run(request: Mapping[str, Any], progress: Callable[[Any], None]) -> None:
    """Check the samples of one operator; each is reported as it begins and as it ends."""
    name = request["op"]
    for dtype in request["dtypes"]:
        progress(f"drawing samples of {dtype}")
        found = list(samples(name, dtype, request["samples"], request["backward"]))
        together = _together([s.call for s in found], progress)
        for s, done in zip(found, together or [None] * len(found), strict=True):
            progress(f"{dtype} sample {s.number}")
            done = _specified(name, s.call, done or check(s.call))
            progress({"dtype": dtype, "number": s.number, **asdict(done)})


def _specified(op: str, call: Called, done: Checked) -> Checked:
    """The outcome, but where PyTorch leaves open what differs."""
    if op in UNDEFINED:
        return Checked(SKIPPED, "elements that are not defined")
    if done.outcome == FAILED and done.reason.startswith(f"output {UNORDERED.get(op)}:"):
        x = call.tensors[0]
        if x.unique().numel() < x.numel():
            return Checked(SKIPPED, "the order of equal elements is not defined")
    return done


def text(request: Mapping[str, Any], _: Callable[[Any], None]) -> str:
    """The op of one sample, as text. It is known to be imported."""
    given = (request["op"], request["dtype"], request["samples"], request["backward"])
    for s in samples(*given):
        if s.number == request["number"]:
            program = exported(s.call.traced, s.call.tensors)
            return print_module(Module((import_program(program, request["name"]).op,)))
    raise ValueError(f"{request['op']} has no sample {request['number']}")


def _together(calls: Sequence[Called], progress: Callable[[Any], None]) -> list[Checked] | None:
    """All in one graph; None if they must be looked at one by one."""
    wants = [_wanted(c) for c in calls]
    good = [c for c, w in zip(calls, wants, strict=True) if not isinstance(w, Checked)]
    if not good:
        return [w for w in wants if isinstance(w, Checked)]
    try:
        program = exported(Several(good).traced, Several(good).tensors)
        imported = import_program(program, "f")
        got = _values(imported, Several(good).tensors)
    except Exception:
        return None
    overloads = tuple(sorted({name for name, _ in _calls(program)}))
    out, start = [], 0
    for want in wants:
        if isinstance(want, Checked):
            out.append(want)
            continue
        why = _differs(got[start : start + len(want)], want)
        out.append(Checked(FAILED if why else PASSED, why, overloads))
        start += len(want)
    return out


def _wanted(call: Called) -> list[torch.Tensor] | Checked:
    """What PyTorch gives in float64, or why the sample is skipped."""
    out = _out_of_scope(call)
    if out:
        return Checked(SKIPPED, out)
    try:
        want = expected(call)
    except Exception as bad:
        return Checked(SKIPPED, f"PyTorch does not compute it in float64: {_line(bad)}")
    out = _no_output(want)
    return Checked(SKIPPED, out) if out else want


def check(call: Called) -> Checked:
    """Skipped where no op can say it, unsupported where the importer lacks an operator."""
    want = _wanted(call)
    if isinstance(want, Checked):
        return want
    program = None
    try:
        program = exported(call.traced, call.tensors)
        imported = import_program(program, "f")
        if imported.draws:
            return Checked(SKIPPED, "random numbers")
        overloads = tuple(sorted({name for name, _ in _calls(program)}))
        why = _differs(_values(imported, call.tensors), want)
        return Checked(FAILED if why else PASSED, why, overloads)
    except ImportFailure as bad:
        return _refused(bad.diagnostics, program)
    except Exception as bad:
        if "trying to get value out of a tracing tensor" in str(bad):
            return Checked(SKIPPED, "sizes or control flow that depend on data")
        return Checked(FAILED, f"{type(bad).__name__}: {_line(bad)}")


def expected(call: Called) -> list[torch.Tensor]:
    """The tensors that PyTorch gives in float64."""
    given = [x.double() if x.is_floating_point() else x.clone() for x in call.tensors]
    with _float64(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = call.double()(*given)
    return [x for x in pytree.tree_leaves(found) if isinstance(x, torch.Tensor)]


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _out_of_scope(call: Called) -> str:
    leaves = call.leaves
    if any(isinstance(x, complex) or (isinstance(x, torch.dtype) and x.is_complex) for x in leaves):
        return "complex numbers"
    if any(isinstance(x, torch.Generator) for x in leaves):
        return "random numbers"
    for x in call.tensors:
        if x.is_complex():
            return "complex numbers"
        if x.layout is not torch.strided or x.is_nested:
            return "a layout other than strided"
        if x.numel() == 0:
            return "an empty tensor"
    return "" if call.tensors else "no tensor among its arguments"


def _no_output(found: Sequence[torch.Tensor]) -> str:
    if not found:
        return "no tensor among its results"
    if any(x.layout is not torch.strided or x.is_nested for x in found):
        return "a layout other than strided"
    if any(x.is_complex() for x in found):
        return "complex numbers"
    return "an empty result" if any(x.numel() == 0 for x in found) else ""


def _calls(program: Any) -> list[tuple[str, Any]]:
    """Name and overload of the operators in a program."""
    return [(str(n.target).removeprefix("aten."), n.target) for n in program.graph.nodes
            if n.op == "call_function" and hasattr(n.target, "_schema")]  # fmt: skip


_DATA_DEPENDENT = ("Unbacked", "data-dependent", "DataDependent", "DynamicOutputShape", "sym_size",
                   "built-in function",
                   "which is not a number", "size that depends on data")  # fmt: skip


def _refused(diagnostics: Sequence[Diagnostic], program: Any) -> Checked:
    messages = [d.message for d in diagnostics]
    first = messages[0]
    if any(sign in m for m in messages for sign in _DATA_DEPENDENT):
        return Checked(SKIPPED, "sizes or control flow that depend on data")
    if any("complex" in m for m in messages):
        return Checked(SKIPPED, "complex numbers")
    if program is None:
        return Checked(SKIPPED, f"torch.export: {first[:160]}")
    if any(torch.Tag.nondeterministic_seeded in getattr(t, "tags", ()) for _, t in _calls(program)):
        return Checked(SKIPPED, "random numbers")
    missing = sorted({m.partition(":")[0].removeprefix("aten.") if "no function" in m else m
                      for m in messages})  # fmt: skip
    return Checked(UNSUPPORTED, "; ".join(missing)[:300])


def _values(imported: Imported, tensors: Sequence[torch.Tensor]) -> list[Any]:
    """What the op means: its outputs, as far as they are tensors of the call."""
    given = {
        a.name: _array(tensors[a.position] if a.source == "input" else a.tensor)
        for a in imported.arguments
    }
    got = evaluate_op(imported.op, None, given)
    return [got[r.name] for r in imported.results if r.source == "output"]


def _differs(got: Sequence[Any], want: Sequence[torch.Tensor]) -> str:
    """How an op's meaning differs from PyTorch's; empty where it does not."""
    for k, (mine, tensor) in enumerate(zip(got, want, strict=True)):
        theirs = _array(tensor)
        if mine.shape != theirs.shape:
            return f"output {k} has shape {list(mine.shape)}, not {list(theirs.shape)}"
        same = mine == theirs
        if theirs.dtype.kind == "f":
            # What PyTorch rounded to a narrower dtype is no nearer to the truth than that.
            within = max(TOLERANCE, torch.finfo(tensor.dtype).eps)
            with np.errstate(all="ignore"):
                near = np.abs(mine - theirs) <= within * np.maximum(1.0, np.abs(theirs))
            same = same | near | (np.isnan(mine) & np.isnan(theirs))
        if not same.all():
            at = tuple(int(i) for i in np.argwhere(~same)[0])
            return (f"output {k}: {np.count_nonzero(~same)} of {same.size} differ, the first at "
                    f"{list(at)}: {mine[at]!r}, not {theirs[at]!r}")  # fmt: skip
    return ""


def _array(x: torch.Tensor) -> Any:
    x = x.detach().resolve_conj().resolve_neg()
    return (x.double() if x.is_floating_point() else x).numpy(force=True)


def _line(bad: BaseException) -> str:
    text = bad.render() if isinstance(bad, IRError) and hasattr(bad, "render") else str(bad)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(bad).__name__)[:200]
