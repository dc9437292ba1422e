"""Recurrences in ``reference()``: a loop over the steps, each of plain PyTorch.

The op is taken apart as its kernels are: what comes before, a first step, a step, what comes after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ke_ir.derive.recurrent import Part, Steps, split
from ke_ir.expr import Expr, Num, Var, substitute, variables
from ke_ir.ranges import infer_ranges
from ke_ir.types import DType

if TYPE_CHECKING:
    from lowering.triton.reference import Reference, Tensor

_CONSTANTS = {"float": DType.F64, "int": DType.I64, "bool": DType.I1}


def with_steps(ref: Reference) -> None:
    """Write the lines of an op that has recurrences."""
    for part in split(ref.op, DType.F32, lambda _: True, peeled=True).parts:
        if isinstance(part, Part):
            _equations(ref, part, {})
        else:
            _steps(ref, part)


def _equations(ref: Reference, part: Part, names: dict[str, str]) -> None:
    ref.found = infer_ranges(part.op)
    for er in ref.found.equations:
        ref.equation(er, names.get(er.equation.target, ""))


def _steps(ref: Reference, steps: Steps) -> None:
    outputs = {p.name: ref.names.new(f"{p.name}_now") for p in steps.first.op.outputs}
    whole = {n: steps.first.view(n).tensor for n in outputs}
    var = ref.names.new(steps.var)
    count = ref.sizes.text(steps.count)
    _views(ref, steps.first, var)
    _equations(ref, steps.first, outputs)
    names = {e.target: ref.tensors[e.target].text for e in steps.first.op.equations}
    kept: dict[str, Tensor] = {}
    for name, text in outputs.items():
        kept[name] = _kept(ref, whole[name], text, ref.tensors[name], count)
        ref.lines.append(f"{kept[name].text}[{_index(ref, steps.first, name, var)}] = {text}")
    if steps.count != Num(1):
        _loop(ref, steps, var, names, kept)
    ref.tensors |= {whole[n]: t for n, t in kept.items()}


def _loop(
    ref: Reference, steps: Steps, var: str, names: dict[str, str], kept: dict[str, Tensor]
) -> None:
    """The steps after the first."""
    begin = len(ref.lines)
    ref.width -= 4
    _views(ref, steps.rest, var)
    _equations(ref, steps.rest, names)
    for name, t in kept.items():
        ref.lines.append(f"{t.text}[{_index(ref, steps.rest, name, var)}] = {names[name]}")
    ref.width += 4
    inside = [f"    {x}" for line in ref.lines[begin:] for x in line.split("\n")]
    ref.lines[begin:] = [f"for {var} in range(1, {ref.sizes.text(steps.count)}):", *inside]


def _kept(ref: Reference, name: str, value: str, now: Tensor, count: str) -> Tensor:
    """A tensor for the values of all steps."""
    from lowering.triton.reference import Tensor

    text = ref.sizes.tensors.get(name) or ref.names.new(name)
    ref.lines.append(f"{text} = {value}.new_empty(({count}, *{value}.shape))")
    ref.tensors[name] = Tensor(text, now.kind, dtype=now.dtype or _CONSTANTS[now.kind])
    return ref.tensors[name]


def _views(ref: Reference, part: Part, var: str) -> None:
    """Names for the parts of tensors that a step reads."""
    for p in part.op.inputs:
        view = part.view(p.name)
        if view.indices:
            base = ref.tensors[view.tensor]
            text = ref.names.new(p.name)
            ref.lines.append(f"{text} = {base.text}[{_index(ref, part, p.name, var)}]")
            ref.tensors[p.name] = replace(base, text=text)


def _index(ref: Reference, part: Part, name: str, var: str) -> str:
    texts = []
    for e in part.view(name).indices:
        values: dict[str, Expr] = {n: Var(var) for n in variables(e)}
        texts.append(ref.sizes.text(substitute(e, values)))
    return ", ".join(texts)
