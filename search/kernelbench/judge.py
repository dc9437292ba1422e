"""Compares what was computed with PyTorch in float64, output by output. For worker processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
_ROUNDINGS = 64.0
"""How many times the error that PyTorch's own rounding came to another order may come to."""


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
            eager["allclose"],
        )  # fmt: skip
    return out


def verdict(found: Mapping[str, FullSize]) -> tuple[bool, str]:
    """Whether all outputs are acceptable, and the errors of the worst."""
    wrong = {n: x for n, x in found.items() if not acceptable({n: x})}
    among = wrong or found
    name = max(among, key=lambda n: among[n].relative_error)
    more = f" ({len(wrong)} of {len(found)} outputs)" if len(wrong) > 1 else ""
    return not wrong, f"{name} {describe(among[name])}{more}"


def rounding(own: Tensors, exact: Tensors) -> dict[str, float]:
    """What evaluations in float64 may differ by, from what PyTorch's ``own`` rounding came to.

    An output may be nothing but what is left when its terms cancel. How much that is in a narrower
    dtype says how much it is in float64.
    """
    wide = torch.finfo(torch.float64).eps
    out = {}
    for name, mine in own.items():
        out[name] = 0.0
        if mine.is_floating_point() and mine.numel():
            error = (mine.double() - exact[name].double()).abs().nan_to_num(posinf=0.0).max()
            out[name] = _ROUNDINGS * float(error) * wide / torch.finfo(mine.dtype).eps
    return out


def same(got: Arrays, want: Arrays, slack: Mapping[str, float] | None = None) -> tuple[bool, str]:
    """Whether two evaluations in float64 agree, and where they differ most.

    ``slack`` is allowed by output where it is more than ``EXACT``.
    """
    given = slack or {}
    found = {
        name: _difference(_wide(mine), _wide(want[name]), given.get(name, 0.0))
        for name, mine in got.items()
    }
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


def _difference(mine: torch.Tensor, want: torch.Tensor, slack: float) -> _Difference:
    if mine.shape != want.shape:
        return _Difference(math.inf, f"shape {list(mine.shape)} instead of {list(want.shape)}")
    if not mine.numel():
        return _Difference(0.0, "no elements")
    same = (mine == want) | (mine.isnan() & want.isnan())
    difference = torch.where(same, 0.0, (mine - want).abs())
    finite = want[want.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    allowed = max(EXACT * size, slack, torch.finfo(torch.float64).tiny)
    ratio = torch.nan_to_num(difference / allowed, nan=torch.inf, posinf=torch.inf)
    at = int(ratio.argmax())
    if float(ratio.flatten()[at]) <= 1:
        return _Difference(float(ratio.max()), f"within {float(difference.max()):.2g}")
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), mine.shape)]
    text = f"{float(mine.flatten()[at])!r} instead of {float(want.flatten()[at])!r} at {index}"
    return _Difference(float(ratio.max()), text)
