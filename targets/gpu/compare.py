"""Compares a tensor with its float64 reference, in pieces so that full sizes fit in memory.

Used in worker processes only.
"""

from __future__ import annotations

from typing import Any

import torch

_PIECE = 1 << 24
_BENCHMARK_TOLERANCE = {
    torch.float64: 1e-4,
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 1e-2,
    torch.float8_e4m3fn: 0.125,
    torch.float8_e5m2: 0.25,
}
"""KernelBench's: atol = rtol, by output dtype. It has none for fp8: there it is two units in the
last place. Integers must be equal."""


def compare(got: torch.Tensor, want: torch.Tensor) -> dict[str, Any]:
    """Errors of ``got`` against ``want`` (any dtype; compared in float64).

    Reply: ``max_abs_error``, ``relative_error`` (Frobenius norm of the difference over that of the
    reference), ``allclose`` (at the benchmark's tolerance), ``not_finite`` (elements
    where one of the two is NaN or infinite and the other is not the same), ``elements``. Raises
    ValueError when the shapes differ.
    """
    if tuple(got.shape) != tuple(want.shape):
        raise ValueError(f"shape {tuple(got.shape)}, but the reference has {tuple(want.shape)}")
    tolerance = _BENCHMARK_TOLERANCE[got.dtype] if got.dtype.is_floating_point else 0.0
    largest = squares = reference_squares = 0.0
    not_finite = 0
    close = True
    flat, flat_want = got.reshape(-1), want.reshape(-1)
    for start in range(0, got.numel(), _PIECE):
        left = flat[start : start + _PIECE].to(torch.float64)
        right = flat_want[start : start + _PIECE].to(torch.float64)
        difference = left - right
        finite = left.isfinite() & right.isfinite()
        # What overflows the output's dtype is rightly infinite there.
        rounded = right.to(got.dtype).to(torch.float64)
        same = (left == rounded) | (left.isnan() & rounded.isnan())
        not_finite += int((~finite & ~same).sum())
        difference = torch.where(finite, difference, torch.zeros_like(difference))
        right = torch.where(finite, right, torch.zeros_like(right))
        largest = max(largest, float(difference.abs().max()) if difference.numel() else 0.0)
        squares += float((difference * difference).sum())
        reference_squares += float((right * right).sum())
        close &= bool((difference.abs() <= tolerance + tolerance * right.abs()).all())
    relative = (squares / reference_squares) ** 0.5 if reference_squares else squares**0.5
    return {
        "max_abs_error": largest,
        "relative_error": relative,
        "allclose": close and not_finite == 0,
        "not_finite": not_finite,
        "elements": got.numel(),
    }
