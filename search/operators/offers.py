"""The rewrites that apply to a candidate, listed a kind at a time as they are asked for."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from functools import lru_cache

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.rewrites import NoMatch, Rewrite, all_rewrites


class RewriteFault(Exception):
    """A rewrite failed where it should have answered. It costs one candidate, and is recorded."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"rewrite {label} is at fault: {type(error).__name__}: {error}")
        self.label = label


class Offers:
    """What applies to one module. Listing a kind takes time, so each is listed once, when drawn."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._listed: dict[str, tuple[Rewrite, ...]] = {}

    def of(self, cls: type[Rewrite]) -> tuple[Rewrite, ...]:
        """Instances of one kind; a kind that cannot list its own offers nothing."""
        if cls.name not in self._listed:
            try:
                found = tuple(cls.applicable(self.module))
            except Exception:
                traceback.print_exc()  # into the worker's log
                found = ()
            self._listed[cls.name] = found
        return self._listed[cls.name]

    def left(self, without: set[str]) -> list[Rewrite]:
        """All instances but those."""
        return [r for cls in all_rewrites() for r in self.of(cls) if str(r) not in without]

    def draw(
        self, weight: Callable[[str], float], without: set[str], rng: random.Random
    ) -> Rewrite | None:
        """A kind by its weight, then one of its instances: a kind with many crowds out no other."""
        kinds: Sequence[type[Rewrite]] = all_rewrites()
        while kinds:
            (cls,) = rng.choices(kinds, [weight(c.name) for c in kinds])
            if found := [r for r in self.of(cls) if str(r) not in without]:
                return rng.choice(found)
            kinds = [c for c in kinds if c is not cls]
        return None

    def apply(self, rewrite: Rewrite, done: Sequence[str] = ()) -> Module | None:
        """The rewritten module. Raises RewriteFault; its label begins with what was ``done``."""
        try:
            new = rewrite.apply(self.module)
        except Exception as error:
            raise RewriteFault("; ".join([*done, str(rewrite)]), error) from error
        return None if isinstance(new, NoMatch) else new


@lru_cache(maxsize=256)
def offers_of(text: str) -> Offers:
    """Of a candidate's text; the last few are kept, since good candidates are expanded often."""
    return Offers(parse(text))
