"""What a model is asked: the task, the language, the candidate, what holds it back, what is known.

A prompt keeps to a budget of tokens, estimated as ``notes.tokens`` does. What does not fit is left
out from the end of a fixed order: the candidate and what it may be replied with come first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ke_ir.ir import Module
from ke_ir.printer import print_item
from ke_ir.rewrites import all_rewrites
from search.knowledge.notes import Note, quoted, tokens
from search.llm.grammar import reply_grammar, reply_schema
from search.llm.language import environment, page
from search.llm.listing import listing
from search.llm.reply import EDIT, KERNEL, REWRITE, Refused
from search.llm.types import Constraint, Message, Mode, Prompt
from search.operators.diagnosis import relevance
from search.parts import Relative, Request
from search.results import shortened
from targets.base import HardwareSpec, TargetError
from targets.registry import find_target

MOST_OFFERED = 60
"""Rewrites that one prompt lists."""
_MOST_TOLD = 12
"""Relatives of each sort that one prompt tells of."""
_REASON_CHARS = 240
_NOTES = 0.25
"""Share of the budget that notes may take."""
_OVERHEAD = 8
"""Tokens that a server adds for each message, at most."""
Retrieve = Callable[[int], Sequence[Note]]
"""Notes that fit into so many tokens."""


class PromptTooLarge(Exception):
    """Not even the candidate's rewrites fit into the budget."""


@dataclass(frozen=True)
class Asked:
    """A prompt, and what a reply to it is read by: the numbered rewrites, and the forms allowed."""

    prompt: Prompt
    menu: tuple[str, ...]
    forms: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Estimated size of the prompt."""
        return size(self.prompt.messages)


@dataclass(frozen=True)
class Style:
    """How prompts are made: budgets in tokens for the prompt and for its reply, and the mode."""

    mode: Mode = "json_schema"
    budget: int = 12_000
    reply: int = 4_000
    temperature: float = 0.7


def size(messages: Sequence[Message]) -> int:
    """Estimated tokens of a chat."""
    return sum(tokens(m.content) + _OVERHEAD for m in messages)


def phase_of(request: Request) -> str:
    """``repair`` a candidate that fails somewhere, ``draft`` by several steps, or ``refine``."""
    if request.diagnosis is not None and request.diagnosis.failures:
        return "repair"
    return "draft" if request.steps > 1 else "refine"


def ask(
    request: Request, module: Module, offered: Sequence[str], retrieve: Retrieve, style: Style,
    seed: int,
) -> Asked:  # fmt: skip
    """The prompt for one child of the candidate. Raises PromptTooLarge."""
    rng = random.Random(seed)
    ranked = _ranked(offered, request.bounds, rng)
    levels: tuple[tuple[tuple[str, ...], str], ...] = (
        ((REWRITE, EDIT, KERNEL), page(True)),
        ((REWRITE, EDIT, KERNEL), page(False)),
        ((REWRITE,), ""),
    )
    for forms, language in levels:
        parts = _Parts(request, module, forms, language, style.mode)
        most = style.budget if not language else style.budget * 3 // 4
        menu = parts.fill(ranked, most)
        if menu is None:
            continue
        parts.add_relatives(style.budget)
        left = min(style.budget - parts.size(), int(_NOTES * style.budget))
        parts.add_notes(retrieve(left) if left > 0 else (), style.budget)
        forms = tuple(f for f in forms if f != REWRITE or menu)
        constraint = _constraint(style.mode, module, request.program, len(menu), forms)
        prompt = Prompt(
            parts.messages(), constraint, style.reply, style.temperature, seed, phase_of(request)
        )
        return Asked(prompt, menu, forms)
    raise PromptTooLarge(f"a prompt does not fit into {style.budget} tokens")


def again(asked: Asked, reply: str, refused: Refused, seed: int, budget: int) -> Asked | None:
    """The prompt after a reply that could not be used, with what is wrong; None if it is too long.

    It is of the same phase of the search. Only the last reply is shown: what an earlier one did
    wrong does not help.
    """
    first = asked.prompt.messages[:2]
    told = _render("retry.md.j2", wrong=refused.render())
    room = budget - size(first) - tokens(told) - 2 * _OVERHEAD
    if room < 100:
        return None
    shown = reply if tokens(reply) <= room else reply[: 2 * room]
    messages = (*first, Message("assistant", shown), Message("user", told))
    p = asked.prompt
    prompt = replace(p, messages=messages, seed=seed)
    return Asked(prompt, asked.menu, asked.forms)


class _Parts:
    """The parts of a prompt as they are filled in."""

    def __init__(
        self, request: Request, module: Module, forms: Sequence[str], language: str, mode: Mode
    ) -> None:
        self.system = _render("system.md.j2", language=language, forms=forms)
        op = module.ops.get(request.program)
        self.request = request
        self.values: dict[str, Any] = {
            "program": request.program,
            "phase": phase_of(request),
            "op": print_item(op).strip() if op is not None else "",
            "candidate": listing(module),
            "targets": [_target(name, request) for name in request.targets],
            "dims": dict(request.dims),
            "diagnosis": request.diagnosis,
            "forms": tuple(forms),
            "mode": mode,
            "menu": [],
            "path": [],
            "children": [],
            "notes": [],
        }

    def messages(self) -> tuple[Message, ...]:
        user = _render("task.md.j2", **self.values)
        return Message("system", self.system), Message("user", user)

    def size(self) -> int:
        return size(self.messages())

    def fill(self, ranked: Sequence[str], most: int) -> tuple[str, ...] | None:
        """List as many rewrites as fit into ``most`` tokens; None where there is too little room.

        At least one is listed where nothing but rewrites may be replied with.
        """
        needed = min(len(ranked), 8)
        for count in (MOST_OFFERED, 40, 24, 16, 8, 4, 2, 1):
            menu = sorted(ranked[:count])
            self.values["menu"] = _menu(menu)
            if count < needed and EDIT in self.values["forms"]:
                return None
            if self.size() <= most and (menu or EDIT in self.values["forms"]):
                return tuple(menu)
        return None

    def add_relatives(self, most: int) -> None:
        """What was tried, the latest last, as far as there is room."""
        found: dict[str, list[str]] = {"path": [], "children": []}
        for r in self.request.relatives:
            found["path" if r.where == "path" else "children"].append(_told(r))
        for name, lines in found.items():
            for count in (_MOST_TOLD, 6, 3, 1, 0):
                self.values[name] = lines[-count:] if count else []
                if self.size() <= most:
                    break

    def add_notes(self, notes: Sequence[Note], most: int) -> None:
        """Notes in the order given, as far as there is room."""
        for note in notes:
            self.values["notes"].append(quoted(note))
            if self.size() > most:
                self.values["notes"].pop()
                return


def _ranked(offered: Sequence[str], bounds: Mapping[str, float], rng: random.Random) -> list[str]:
    """Kinds that help most first, one instance of each kind in turn; equal ones at random."""
    kinds: dict[str, list[str]] = {}
    for text in offered:
        kinds.setdefault(text.partition("(")[0], []).append(text)
    order = sorted(kinds, key=lambda k: (-relevance(k, bounds), k))
    for listed in kinds.values():
        rng.shuffle(listed)
    most = max((len(x) for x in kinds.values()), default=0)
    return [kinds[k][at] for at in range(most) for k in order if at < len(kinds[k])]


def _menu(menu: Sequence[str]) -> list[dict[str, Any]]:
    """By kind, with what the kind does. Numbers count through all kinds, from 1."""
    out: list[dict[str, Any]] = []
    for number, text in enumerate(menu, 1):
        name = text.partition("(")[0]
        if not out or out[-1]["name"] != name:
            out.append({"name": name, "does": _does(name), "instances": []})
        out[-1]["instances"].append((number, text))
    return out


def _does(name: str) -> str:
    found = {c.name: c for c in all_rewrites()}.get(name)
    lines = (found.__doc__ or "").strip().splitlines() if found is not None else []
    return lines[0].replace("``", "`") if lines else ""


def _told(r: Relative) -> str:
    if r.gain is None:
        reason = shortened(" ".join(r.reason.split()), _REASON_CHARS)
        return f"{r.label}: failed: {reason}" if reason else f"{r.label}: failed"
    factor = math.exp(r.gain)
    change = "no faster" if abs(r.gain) < 0.005 else f"{factor:.2f}x the speed"
    return f"{r.label}: {change}"


def _target(name: str, request: Request) -> dict[str, str]:
    """What the hardware is, and how the candidate does on it."""
    score = request.scores.get(name)
    done = ""
    if score is not None and score.seconds is not None:
        done = f"{1e6 * score.seconds:.4g} us, {score.kind} on {score.on}"
        if score.fraction is not None:
            done += f", {100 * score.fraction:.0f} % of the roofline"
    try:
        hardware = _hardware(find_target(name).spec)
    except TargetError:
        hardware = ""
    return {"name": name, "hardware": hardware, "done": done}


def _hardware(spec: HardwareSpec) -> str:
    peaks = ", ".join(f"{k} {v / 1e12:.4g}" for k, v in spec.matrix_flops.items())
    vector = ", ".join(f"{k} {v / 1e12:.4g}" for k, v in spec.vector_flops.items())
    return (
        f"{spec.name}: {spec.units} units at {spec.clock_hz / 1e9:.3g} GHz, "
        f"{spec.local_bytes // 1024} KiB of local memory each; TFLOP/s of the matrix unit: "
        f"{peaks}; vector: {vector}; off-chip {spec.dram_bytes_per_s / 1e9:.4g} GB/s, on-chip "
        f"{spec.cache_bytes_per_s / 1e9:.4g} GB/s over {spec.cache_bytes >> 20} MiB; "
        f"a launch takes {1e6 * spec.launch_seconds:.2g} us"
    )


def _constraint(
    mode: Mode, module: Module, program: str, offered: int, forms: Sequence[str]
) -> Constraint:
    if mode in ("json_schema", "vllm"):
        return Constraint(mode, reply_schema(offered, forms))
    if mode == "gbnf":
        return Constraint(mode, None, reply_grammar(module, program, offered, forms))
    return Constraint()


def _render(template: str, **values: Any) -> str:
    return environment().get_template(template).render(**values).strip() + "\n"
