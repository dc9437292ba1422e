"""``--model``, ``--price-in`` and ``--price-out``: which models are asked when, at what cost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ke_gen.faults import BAD_INPUT, Fault
from ke_ir.diagnostics import near

if TYPE_CHECKING:
    from search.llm.types import Model

_EXAMPLE = "write draft=cheap:3,refine+repair=strong"


def models_of(text: str, price_in: str, price_out: str) -> tuple[Model, ...]:
    """All that are named, with their prices. Raises Fault."""
    found = [_model(part) for part in _parts(text)]
    seen = set()
    for m in found:
        for phase in m.phases or ("",):
            if (m.name, phase) in seen:
                of = f" for the phase {phase}" if phase else ""
                raise Fault(BAD_INPUT, f"--model names {m.name} twice{of}", "give it one weight")
            seen.add((m.name, phase))
    names = [m.name for m in found]
    paid_in = _prices("--price-in", price_in, names)
    paid_out = _prices("--price-out", price_out, names)
    return tuple(
        replace(m, price_in=paid_in.get(m.name, 0.0), price_out=paid_out.get(m.name, 0.0))
        for m in found
    )


def check_money(models: tuple[Model, ...], price_in: str, price_out: str) -> None:
    """A limit of money holds only for what has a price, which may be 0. Raises Fault."""
    names = [m.name for m in models]
    for option, text in (("--price-in", price_in), ("--price-out", price_out)):
        lacking = [n for n in names if n not in _prices(option, text, names)]
        if lacking:
            raise Fault(
                BAD_INPUT,
                f"--money: {lacking[0]} has no price",
                f"give {option} {lacking[0]}=PRICE",
            )


def _model(text: str) -> Model:
    """``[PHASE+...=]NAME[:WEIGHT]``; names may have colons of their own, as in ``qwen3:8b``."""
    from search.knowledge.notes import PHASES
    from search.llm.types import Model

    listed, equals, named = text.rpartition("=")
    phases = tuple(p.strip() for p in listed.split("+")) if equals else ()
    for phase in phases:
        if phase not in PHASES:
            known = f"phases are {', '.join(PHASES)}; {_EXAMPLE}"
            raise Fault(BAD_INPUT, f"--model {text}: `{phase}` is no phase of a search",
                        f"{near(phase, PHASES)} {known}".strip())  # fmt: skip
    named = named.strip()
    if named.rpartition("@")[2] in PHASES:
        raise Fault(BAD_INPUT, f"--model {text}: the phase stands before the name", _EXAMPLE)
    name, colon, tail = named.rpartition(":")
    weight = _number(tail) if colon else None
    if weight is None:
        name, weight = named, 1.0
    if not name or not 0 < weight < float("inf"):
        raise Fault(BAD_INPUT, f"--model {text}: not a name and its weight", _EXAMPLE)
    return Model(name, weight, tuple(dict.fromkeys(phases)))


def _prices(option: str, text: str, names: list[str]) -> dict[str, float]:
    """By name, from ``NAME=P,...``; a price without a name is that of all others."""
    given: dict[str, float] = {}
    for part in _parts(text):
        name, _, value = (x.strip() for x in part.rpartition("="))
        price = _number(value)
        if price is None or not 0 <= price < float("inf"):
            raise Fault(
                BAD_INPUT, f"{option} {part}: not a price", "write 2.5, or strong=3,cheap=0.2"
            )
        if name and name not in names:
            named = f"named are: {', '.join(names) or 'none'}"
            raise Fault(BAD_INPUT, f"{option} {part}: no --model is called {name}",
                        f"{near(name, names)} {named}".strip())  # fmt: skip
        if name in given:
            raise Fault(BAD_INPUT, f"{option} {part}: the price is given twice", "give one of them")
        given[name] = price
    rest = dict.fromkeys(names, given[""]) if "" in given else {}
    return rest | {n: p for n, p in given.items() if n}


def _parts(text: str) -> list[str]:
    return [p.strip() for p in text.split(",") if p.strip()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
