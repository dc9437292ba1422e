"""Calls a generated launcher on guarded tensors and checks that it behaved.

Used in worker processes only, by the interpreter and the device alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from targets.gpu.guarded import Guarded, guarded_copy, guarded_output


class Misbehaved(Exception):
    """The kernel broke a rule that no number shows: what it did, in one line."""


def run_checked(
    launcher: Callable[..., Any],
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[tuple[str, torch.dtype, tuple[int, ...]]],
    device: str,
) -> dict[str, torch.Tensor]:
    """Run once on poisoned outputs; run again with another poison where the first cannot tell.

    An integer or boolean output may rightly hold the poison's value. Then a second run with
    another poison shows whether the element was written. Raises Misbehaved.
    """
    first = _run_once(launcher, inputs, outputs, device, 0)
    doubtful = [
        name
        for name, output in first.items()
        if not output.tensor.dtype.is_floating_point and bool(output.poisoned().any())
    ]
    if doubtful:
        second = _run_once(launcher, inputs, outputs, device, 1)
        for name in doubtful:
            missed = first[name].poisoned() & second[name].poisoned()
            if bool(missed.any()):
                raise Misbehaved(
                    f"output {name}: {int(missed.sum())} of {missed.numel()} elements "
                    f"never written, first at {_first(missed)}"
                )
    return {name: output.tensor for name, output in first.items()}


def _run_once(
    launcher: Callable[..., Any],
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[tuple[str, torch.dtype, tuple[int, ...]]],
    device: str,
    number: int,
) -> dict[str, Guarded]:
    given = {name: guarded_copy(tensor, device) for name, tensor in inputs.items()}
    filled = {name: guarded_output(dtype, shape, device, number) for name, dtype, shape in outputs}
    launcher(
        *(copy.tensor for copy in given.values()),
        out=tuple(output.tensor for output in filled.values()),
    )
    if device != "cpu":
        torch.cuda.synchronize()
    for name, copy in given.items():
        if not _same_bits(copy.tensor, inputs[name]):
            raise Misbehaved(f"input {name} was modified")
        if not copy.guards_intact():
            raise Misbehaved(f"stored outside input {name}")
    for name, output in filled.items():
        if not output.guards_intact():
            raise Misbehaved(f"stored outside output {name}")
    return filled


def _same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    flat = (side.contiguous().reshape(-1).view(torch.uint8) for side in (left, right))
    one, other = flat
    return bool(torch.equal(one, other.to(one.device)))


def _first(mask: torch.Tensor) -> tuple[int, ...]:
    return tuple(int(index) for index in mask.nonzero()[0])
