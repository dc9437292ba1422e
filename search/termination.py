"""When a search ends: the first of its limits that is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.parts import Progress


@dataclass(frozen=True)
class Limits:
    """Zero means no limit. ``seconds`` of wall clock over all sessions of a run, ``candidates``
    evaluated, ``stall`` candidates without a gain, ``roofline`` the fraction that is good enough
    on every target, ``tokens`` and ``money`` spent by the operator.
    """

    seconds: float = 0.0
    candidates: int = 0
    stall: int = 0
    roofline: float = 0.0
    tokens: int = 0
    money: float = 0.0

    def reason(self, progress: Progress) -> str:
        """Why to stop now; empty to go on."""
        p = progress
        checks = (
            (self.candidates and p.candidates >= self.candidates,
             f"{p.candidates} candidates evaluated"),
            (self.seconds and p.seconds >= self.seconds, f"{self.seconds:g} s are over"),
            (self.stall and p.stalled >= self.stall, f"no gain in {p.stalled} candidates"),
            (self.roofline and p.fraction >= self.roofline,
             f"{100 * p.fraction:.0f} % of the roofline reached"),
            (self.tokens and p.tokens >= self.tokens, f"{p.tokens} tokens used"),
            (self.money and p.money >= self.money, f"{p.money:g} spent"),
        )  # fmt: skip
        return next((text for reached, text in checks if reached), "")
