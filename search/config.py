"""What a run is asked to do; kept with it, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from search.llm.types import LlmConfig
from search.parts import Memory
from search.termination import Limits


@dataclass(frozen=True)
class Config:
    """``text`` is the file's digest among the artifacts, ``targets`` are ``name.arch``.

    ``batch`` candidates are evaluated in a round, whatever the number of workers, so that these
    have no influence on what is found. ``drafts`` candidates are first made from the roots by
    several rewrites each. ``seconds`` and ``gib`` limit one candidate on one target. ``warm`` are
    chains of rewrites that did well in earlier runs. ``learn``: what it finds is written down as
    notes when it ends. ``llm`` is for the operator of that name.
    """

    program: str
    text: str
    file: str
    targets: tuple[str, ...]
    dims: Mapping[str, int] = field(default_factory=dict)
    policy: str = "evolutionary"
    operator: str = "rules"
    fitness: str = "geomean"
    memory: str = Memory.BOTH
    weights: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    batch: int = 8
    drafts: int = 8
    tuning: bool = True
    limits: Limits = field(default_factory=Limits)
    seconds: float = 60.0
    gib: float = 8.0
    warm: tuple[tuple[str, ...], ...] = ()
    learn: bool = True
    llm: LlmConfig = field(default_factory=LlmConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of ``to_dict``."""
        return cls(
            **{
                **data,
                "targets": tuple(data["targets"]),
                "limits": Limits(**data["limits"]),
                "warm": tuple(tuple(chain) for chain in data["warm"]),
                "llm": LlmConfig.from_dict(data["llm"]) if "llm" in data else LlmConfig(),
            }
        )
