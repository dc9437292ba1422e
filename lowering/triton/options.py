"""What a target chooses for one text, and how the lowering refuses a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lowering.triton.traits import Traits

Knob = int | str | bool


class Unsupported(Exception):
    """A valid program that this lowering cannot express.

    ``what`` is refused, ``why``, and ``fix``: what the user can do about it.
    """

    def __init__(self, what: str, why: str, fix: str = "") -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.fix = what, why, fix


@dataclass(frozen=True)
class TritonOptions:
    """``traits`` describe the architecture; the rest is chosen for this text.

    With ``interpret`` the text is for Triton's interpreter: bf16 and fp8 are carried as float32
    and rounded explicitly. ``knobs`` are compile options for every kernel (``num_warps``,
    ``waves_per_eu`` ...); ``num_stages`` among them overrides the loops' ``stages``. ``units`` is
    how many programs a persistent kernel launches (SMs or CUs), ``warp_size`` how many threads a
    warp has: without a knob that says how many warps there are, each kernel's tiles do.
    """

    traits: Traits
    interpret: bool = False
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    units: int = 132
    warp_size: int = 32
