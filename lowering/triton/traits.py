"""What the lowering may know of the architecture it lowers for. The targets supply it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Traits:
    """Facts that change the generated text.

    ``fp8_types`` holds the KE-IR fp8 dtypes for which Triton accepts its own type on this
    architecture; others are passed as bytes and decoded by the text. ``dot_precisions`` holds the
    ``input_precision`` words that Triton accepts for a float32 ``tl.dot``. ``pad_dot`` is the
    smallest (M, N, K) of a ``tl.dot``.
    """

    backend: Literal["cuda", "hip"]
    arch: str
    fp8_types: frozenset[str]
    dot_precisions: frozenset[str]
    pad_dot: tuple[int, int, int] = (16, 16, 16)
