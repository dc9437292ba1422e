"""Compares what was computed with PyTorch in float64, output by output. For worker processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from search.evaluation.full_size import acceptable, describe
from search.evaluation.verdict import FullSize
from targets.gpu.compare import compare

Tensors = Mapping[str, torch.Tensor]
Arrays = Mapping[str, Any]
"""Arrays or tensors by name."""

EXACT = 1e-9
"""What two float64 evaluations in different order may differ by, relative to the element or, where
terms cancel, to the largest element of the output."""


def compared(got: Tensors, want: Tensors, own: Tensors) -> dict[str, FullSize]:
    """Errors of ``got`` by output, beside those of PyTorch in its ``own`` dtypes.

    Raises ValueError when shapes differ.
    """
    out = {}
    for name, mine in got.items():
        found, eager = compare(mine, want[name]), compare(own[name], want[name])
        out[name] = FullSize(
            found["max_abs_error"], found["relative_error"], found["allclose"],
            found["not_finite"], eager["max_abs_error"], eager["relative_error"],
        )  # fmt: skip
    return out


def verdict(found: Mapping[str, FullSize]) -> tuple[bool, str]:
    """Whether all outputs are acceptable, and the errors of the worst."""
    wrong = {n: x for n, x in found.items() if not acceptable({n: x})}
    among = wrong or found
    name = max(among, key=lambda n: among[n].relative_error)
    more = f" ({len(wrong)} of {len(found)} outputs)" if len(wrong) > 1 else ""
    return not wrong, f"{name} {describe(among[name])}{more}"


def same(got: Arrays, want: Arrays, bounds: Callable[[], Arrays] | None = None) -> tuple[bool, str]:
    """Whether two evaluations in float64 agree, and where they differ most.

    ``bounds``: what rounding may come to by output and element, asked for only where they differ
    by more than ``EXACT``: an output may be nothing but what is left when its terms cancel.
    """
    found = {name: _difference(_wide(mine), _wide(want[name])) for name, mine in got.items()}
    apart = [name for name, difference in found.items() if difference.worst > 1.0]
    if apart and bounds is not None:
        allowed = bounds()
        for name in apart:
            found[name] = _difference(_wide(got[name]), _wide(want[name]), _wide(allowed[name]))
    name = max(found, key=lambda n: found[n].worst)
    return found[name].worst <= 1.0, f"{name}: {found[name].text}"


def _wide(x: Any) -> torch.Tensor:
    """A copy in float64: arrays may be views that tensors cannot be."""
    tensor: torch.Tensor = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))
    return tensor.to(torch.float64)


@dataclass(frozen=True)
class _Difference:
    """The largest over what is allowed, and the difference in words."""

    worst: float
    text: str


def _difference(
    mine: torch.Tensor, want: torch.Tensor, bound: torch.Tensor | None = None
) -> _Difference:
    if mine.shape != want.shape:
        return _Difference(math.inf, f"shape {list(mine.shape)} instead of {list(want.shape)}")
    if not mine.numel():
        return _Difference(0.0, "no elements")
    same = (mine == want) | (mine.isnan() & want.isnan())
    difference = torch.where(same, 0.0, (mine - want).abs())
    finite = want[want.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    allowed = torch.full_like(want, EXACT * max(size, torch.finfo(torch.float64).tiny))
    if bound is not None:
        allowed = torch.maximum(allowed, bound.nan_to_num(posinf=0.0))
    ratio = torch.nan_to_num(difference / allowed, nan=torch.inf, posinf=torch.inf)
    at = int(ratio.argmax())
    if float(ratio.flatten()[at]) <= 1:
        return _Difference(float(ratio.max()), f"within {float(difference.max()):.2g}")
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), mine.shape)]
    text = f"{float(mine.flatten()[at])!r} instead of {float(want.flatten()[at])!r} at {index}"
    return _Difference(float(ratio.max()), text)
