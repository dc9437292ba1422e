"""Compares what was computed with PyTorch in float64, output by output. For worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from search.evaluation.full_size import acceptable, describe
from search.evaluation.verdict import FullSize
from targets.gpu.compare import compare

Tensors = Mapping[str, torch.Tensor]

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


def same(got: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether two evaluations in float64 agree, and where they differ most."""
    worst, said = 0.0, ""
    for name, mine in got.items():
        ratio, text = _difference(_wide(mine), _wide(want[name]))
        if not said or not ratio <= worst:
            worst, said = ratio, f"{name}: {text}"
    return worst <= 1.0, said


def _wide(x: Any) -> torch.Tensor:
    """A copy in float64: arrays may be views that tensors cannot be."""
    tensor: torch.Tensor = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))
    return tensor.to(torch.float64)


def _difference(mine: torch.Tensor, want: torch.Tensor) -> tuple[float, str]:
    """The largest difference over what is allowed, and the difference in words."""
    if mine.shape != want.shape:
        return float("inf"), f"shape {list(mine.shape)} instead of {list(want.shape)}"
    if not mine.numel():
        return 0.0, "no elements"
    same = (mine == want) | (mine.isnan() & want.isnan())
    difference = torch.where(same, 0.0, (mine - want).abs())
    finite = want[want.isfinite()]
    size = float(finite.abs().max()) if finite.numel() else 0.0
    allowed = EXACT * max(size, torch.finfo(torch.float64).tiny)
    ratio = float(torch.nan_to_num(difference / allowed, nan=torch.inf, posinf=torch.inf).max())
    at = int(torch.nan_to_num(difference, nan=torch.inf).argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(at), mine.shape)]
    text = f"{float(mine.flatten()[at])!r} instead of {float(want.flatten()[at])!r} at {index}"
    return ratio, text if ratio > 1 else f"within {float(difference.max()):.2g}"
