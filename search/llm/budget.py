"""What a search may spend on a model's replies, kept to the token.

A call is only made when the most it can cost fits into what is left; when it has ended, what it did
cost takes that place. So concurrent calls cannot overshoot together. A call whose cost is not told
counts as the most it could have cost. A server that claims more than that is believed as far as
there is room; what goes beyond a limit is not counted, and with nothing left nothing is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from search.llm.types import Prompt

_N = TypeVar("_N", int, float)

_PER_PROMPT, _PER_MESSAGE = 64, 16
"""Tokens that a chat template may add: a system message of its own, and roles."""


@dataclass(frozen=True)
class Cost:
    """Tokens, in and out, and money."""

    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.tokens - other.tokens, self.money - other.money)


class Budget:
    """``tokens`` and ``money`` are limits, 0 for none; ``used`` was spent in earlier sessions.

    ``calls`` are under way, with ``reserved`` between them. ``uncounted`` is what servers claimed
    beyond a limit.
    """

    def __init__(self, tokens: int = 0, money: float = 0.0, used: Cost | None = None) -> None:
        self.tokens, self.money = tokens, money
        self.used = used or Cost()
        self.reserved, self.calls = Cost(), 0
        self.uncounted = Cost()

    def reserve(self, most: Cost) -> bool:
        """Keep ``most`` for a call that is about to be made; false where it does not fit."""
        total = self.used + self.reserved + most
        if (self.tokens and total.tokens > self.tokens) or (
            self.money and total.money > self.money
        ):
            return False
        self.reserved += most
        self.calls += 1
        return True

    def settle(self, most: Cost, cost: Cost) -> Cost:
        """The call for which ``most`` was reserved has ended, and has cost ``cost``.

        Gives what of it is counted: all, unless it is more than ``most`` and than what is left
        beside the calls that are still under way.
        """
        self.calls -= 1
        self.reserved = self.reserved - most if self.calls else Cost()
        taken = self.used + self.reserved
        counted = Cost(
            _within(cost.tokens, most.tokens, self.tokens, taken.tokens),
            _within(cost.money, most.money, self.money, taken.money),
        )
        self.used += counted
        self.uncounted += cost - counted
        return counted

    def refusal(self, most: Cost) -> str:
        """Why a call that may cost ``most`` is not made."""
        parts = []
        if self.tokens:
            parts.append(f"{self.used.tokens} of {self.tokens} tokens are used, "
                         f"and the call may take {most.tokens}")  # fmt: skip
        if self.money:
            parts.append(f"{self.used.money:g} of {self.money:g} is spent, "
                         f"and the call may cost {most.money:g}")  # fmt: skip
        if self.uncounted.tokens or self.uncounted.money:
            parts.append("the server claims more than it was allowed, and that is not all counted")
        return "the budget is spent: " + "; ".join(parts)


def _within(cost: _N, most: _N, limit: _N, taken: _N) -> _N:
    return min(cost, max(most, limit - taken)) if limit else cost


def most_tokens_in(prompt: Prompt) -> int:
    """No tokenizer makes more tokens than there are bytes; beside them stands what templates add.

    A schema counts, as servers may put it into the prompt.
    """
    text = sum(len(m.content.encode()) + len(m.role) + _PER_MESSAGE for m in prompt.messages)
    schema = prompt.constraint.schema
    return _PER_PROMPT + text + (len(json.dumps(schema, default=dict)) if schema else 0)
