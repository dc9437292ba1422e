"""The universal operator, driven by a language model that writes KE-IR or picks rewrites.

For each child: prompt, reply, and where the reply cannot be used its diagnostics are sent back, a
bounded number of times. Where no reply comes, the child is drawn by ``rules``, and says so.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ke_ir.diagnostics import Diagnostic
from ke_ir.ir import Module
from ke_ir.parser import parse
from search.evaluation.pool import WorkerFailed
from search.knowledge.folders import default_folders, own_folders
from search.knowledge.index import Knowledge
from search.knowledge.kinds import op_kind
from search.knowledge.notes import Note, dumped, loaded
from search.llm.prompt import Asked, PromptTooLarge, Style, again, ask, phase_of
from search.llm.reply import MOST_CHARS, Accepted, Refused
from search.llm.types import LlmConfig, Prompt, Reply
from search.parts import Proposal, Proposals, Request, Surroundings

if TYPE_CHECKING:
    from search.config import Config

Work = Callable[[str, Mapping[str, Any]], Any]


class Completer(Protocol):
    """Answers prompts: one reply for each, in their order. Never raises for a server's faults."""

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]: ...

    @property
    def spent(self) -> str:
        """Why nothing more can be asked: which budget is used up; empty while there is some."""
        ...


@dataclass
class _Talk:
    """The conversation about one child of a request's candidate."""

    request: Request
    asked: Asked
    seed: int
    turns: list[dict[str, Any]] = field(default_factory=list)
    outcome: Accepted | Refused | None = None
    error: str = ""
    tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0

    def heard(self, reply: Reply) -> None:
        """Account for a reply, also for one that brought nothing."""
        self.tokens += reply.tokens_in + reply.tokens_out
        self.money += reply.money
        self.seconds += reply.seconds
        self.error = reply.error
        messages = [{"role": m.role, "content": m.content} for m in self.asked.prompt.messages]
        self.turns.append({
            "messages": messages, "mode": self.asked.prompt.constraint.mode,
            "seed": self.asked.prompt.seed, "reply": reply.text, "model": reply.model,
            "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "money": reply.money,
            "finish": reply.finish, "error": reply.error,
        })  # fmt: skip
        if reply.claimed:
            self.turns[-1]["claimed"] = reply.claimed

    def judged(self, outcome: Accepted | Refused) -> None:
        """What the last reply came to."""
        self.outcome = outcome
        if isinstance(outcome, Refused):
            self.turns[-1]["diagnostics"] = [d.to_dict() for d in outcome.diagnostics]
        else:
            self.turns[-1] |= {"form": outcome.kind, "label": outcome.label}

    @property
    def wrong(self) -> str:
        """Why nothing came of it, in a line."""
        if not isinstance(self.outcome, Refused):
            return self.error
        return "; ".join(f"{d.code}: {d.message}" for d in self.outcome.diagnostics[:3])

    def transcript(self) -> str:
        """All of it as JSON."""
        return json.dumps({"menu": self.asked.menu, "turns": self.turns}, indent=1)


class Llm:
    """``problems`` counts what servers failed with. Use ``connect``, or give the parts."""

    in_worker = False

    def __init__(
        self, config: LlmConfig, completer: Completer, knowledge: Knowledge, work: Work,
        keep: Callable[[str], str],
    ) -> None:  # fmt: skip
        self.config, self.completer, self.knowledge = config, completer, knowledge
        self.work, self.keep = work, keep
        self.style = style_of(config)
        self.problems: Counter[str] = Counter()

    @classmethod
    def prepare(cls, config: Config, folder: str, keep: Callable[[str], str]) -> Config:
        """Notes as they are now are the run's to its end, whatever is learned meanwhile."""
        with knowledge_of(config.llm, folder) as known:
            notes = keep(dumped([n for n in known.notes if not n.own]))
        return replace(config, llm=replace(config.llm, notes=notes))

    @classmethod
    def connect(cls, given: Surroundings) -> Llm:
        """With a client for the run's server, its cache of replies, and the notes."""
        from search.llm.client import connected

        config = given.config.llm
        completer = connected(given)
        if config.notes and given.read is not None:
            knowledge = Knowledge(own_folders(), more=loaded(given.read(config.notes)))
        else:
            knowledge = knowledge_of(config, given.folder)
        return cls(config, completer, knowledge, given.work, given.keep)

    def close(self) -> None:
        """End connections, and release the notes."""
        self.knowledge.close()
        if (close := getattr(self.completer, "close", None)) is not None:
            close()

    def propose(self, request: Request) -> Proposals:
        """One child for each conversation; what is wrong with a reply stands in its ``error``."""
        return self.propose_all([request])[0]

    def propose_all(self, requests: Sequence[Request]) -> list[Proposals]:
        """The same for a whole round, whose conversations are held at once."""
        asked = [self._begin(r) for r in requests]
        open_ = [t for talks, _ in asked for t in talks]
        for _ in range(self.config.mends + 1):
            open_ = self._turn(open_)
            if not open_:
                break
        return [
            self._answer(r, talks, fault) for r, (talks, fault) in zip(requests, asked, strict=True)
        ]

    def _begin(self, request: Request) -> tuple[list[_Talk], str]:
        """Its conversations, or why there are none."""
        task = {"text": request.text, "tried": request.tried}
        try:
            module, offered = parse(request.text), self.work("search.llm.tasks:offers", task)
            talks = []
            for at in range(request.count):
                seed = _number(f"{request.seed}/{at}")
                asked = ask_for(request, module, offered, self.knowledge, self.style, seed)
                talks.append(_Talk(request, asked, seed))
        except (PromptTooLarge, WorkerFailed) as error:
            self.problems[str(error)] += request.count
            return [], str(error)
        return talks, ""

    def _answer(self, request: Request, talks: Sequence[_Talk], fault: str) -> Proposals:
        """What came of the conversations, and children by ``rules`` where no reply came."""
        spent = self.completer.spent
        lost = [t for t in talks if t.outcome is None]
        told = [t for t in talks if t.outcome is not None or t.tokens or not spent]
        items = [self._proposal(t) for t in told]
        count = len(lost) if talks else request.count
        if spent or not count:
            return Proposals(tuple(items), spent=spent)
        wanted = replace(request, count=count, descend=False)
        task = {"operator": "rules", "request": wanted}
        try:
            answer = self.work("search.tasks:propose", task)
        except WorkerFailed as error:
            self.problems[str(error)] += 1
            return Proposals(tuple(items), exhausted=not items)
        why = fault or lost[0].error
        rationale = f"drawn by rules, for want of a reply: {why}"
        drawn = [replace(p, rationale=rationale) for p in answer["items"]]
        return Proposals((*items, *drawn), exhausted=answer["exhausted"])

    def _turn(self, talks: Sequence[_Talk]) -> list[_Talk]:
        """One prompt and reply each; gives those that are to be mended."""
        replies = self.completer.complete([t.asked.prompt for t in talks]) if talks else []
        heard: dict[int, list[tuple[_Talk, Reply]]] = {}
        for talk, reply in zip(talks, replies, strict=True):
            talk.heard(reply)
            if reply.claimed:
                self.problems[_claims(reply)] += 1
            if reply.error:
                self.problems[reply.error] += 1
            else:
                heard.setdefault(id(talk.request), []).append((talk, reply))
        left = []
        for group in heard.values():
            for (talk, reply), outcome in zip(group, self._read(group), strict=True):
                talk.judged(outcome)
                if isinstance(outcome, Refused) and self._mend(talk, reply, outcome):
                    left.append(talk)
        return left

    def _read(self, group: Sequence[tuple[_Talk, Reply]]) -> list[Accepted | Refused]:
        """The replies to one request, in a worker."""
        request = group[0][0].request
        task = {
            "text": request.text, "program": request.program,
            "replies": [
                {"text": r.text, "menu": t.asked.menu, "forms": t.asked.forms} for t, r in group
            ],
        }  # fmt: skip
        try:
            found: list[Accepted | Refused] = self.work("search.llm.tasks:read", task)
        except WorkerFailed as error:
            said = f"the reply cannot be read: {error.cause}: {error.reason}"
            return [Refused((Diagnostic("worker", said),))] * len(group)
        return found

    def _mend(self, talk: _Talk, reply: Reply, refused: Refused) -> bool:
        """Prepare the next prompt of a conversation; false where it would be too long."""
        seed = (talk.seed + len(talk.turns)) % (1 << 31)
        most = self.config.prompt_tokens + self.config.reply_tokens
        mended = again(talk.asked, reply.text, refused, seed, most)
        talk.asked = mended or talk.asked
        return mended is not None

    def _proposal(self, t: _Talk) -> Proposal:
        if isinstance(t.outcome, Accepted):
            made = Proposal(t.outcome.text, t.outcome.label, t.outcome.kind)
        else:
            label = f"reply({t.request.seed}, {t.seed})"
            made = Proposal(t.turns[-1]["reply"][:MOST_CHARS], label, "failed", error=t.wrong)
        return replace(
            made, seconds=t.seconds, tokens=t.tokens, money=t.money,
            rationale=t.outcome.rationale if t.outcome is not None else "",
            transcript=self.keep(t.transcript()),
        )  # fmt: skip


def _claims(reply: Reply) -> str:
    said = f"{reply.model} claims more tokens than a call was allowed"
    if reply.claimed > reply.tokens_in + reply.tokens_out:
        return f"{said}, and there was no room to count them all"
    return said


def style_of(config: LlmConfig) -> Style:
    """How a run's prompts are made."""
    return Style(config.mode, config.prompt_tokens, config.reply_tokens, config.temperature)


def knowledge_of(config: LlmConfig, folder: str) -> Knowledge:
    """Ke-gen's notes, the user's, and what searches in the same store have learned."""
    return Knowledge(default_folders([Path(p) for p in config.knowledge], folder))


def ask_for(
    request: Request, module: Module, offered: Sequence[str], knowledge: Knowledge, style: Style,
    seed: int,
) -> Asked:  # fmt: skip
    """The first prompt for a child, with the notes that fit. Raises PromptTooLarge."""
    op = module.ops.get(request.program)
    kind = op_kind(op) if op is not None else ""

    def notes(budget: int) -> Sequence[Note]:
        targets = ",".join(request.targets)
        return knowledge.retrieve(targets, request.bounds, kind, phase_of(request), budget)

    return ask(request, module, offered, notes, style, seed)


def _number(text: str) -> int:
    """A seed that every server takes: 31 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) >> 1
