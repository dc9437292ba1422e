"""Prompts to replies, by any OpenAI-compatible server: many at once, within a budget, from a cache.

A server's faults never raise. What may pass is tried again, as late as the server asks; what does
not is told in the reply's ``error``. The key is read from the environment when the connection is
made; it is kept nowhere else, and cut out of whatever the server sends.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search.llm.budget import Budget, Cost, most_tokens_in
from search.llm.cache import ReplyCache, prompt_key
from search.llm.exchange import Outcome, connect, exchange, request_of
from search.llm.types import LlmConfig, Model, Prompt, Reply
from search.parts import PartError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from search.parts import Surroundings

FILE = "replies.sqlite"
"""The cache of replies in the store's folder."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_NO_KEY = "none"
_SHORTEST_KEY = 6
"""A shorter word is no secret, and to cut it out would spoil replies."""


def connected(given: Surroundings) -> Client:
    """The client of a run: its server, its budget with what is spent of it, its cache."""
    limits = given.config.limits
    budget = Budget(limits.tokens, limits.money, Cost(given.tokens, given.money))
    cache = ReplyCache(Path(given.folder) / FILE if given.folder else None)
    return Client(given.config.llm, cache, budget)


class Client:
    """Used from one thread. ``first_wait`` is before the first repetition, and then doubles."""

    def __init__(
        self, config: LlmConfig, cache: ReplyCache, budget: Budget, first_wait: float = _FIRST_WAIT
    ) -> None:
        if find_spec("openai") is None:
            raise PartError("the package `openai` is not installed", "pip install ke-gen[llm]")
        _check_url(config.base_url)
        self.config, self.cache, self.budget = config, cache, budget
        self.spent = ""
        self._first_wait = first_wait
        self._key = os.environ.get(config.key_env, "").strip()
        if not (self._key or config.base_url or os.environ.get("OPENAI_BASE_URL")):
            raise PartError(
                "no server of language models is named, and there is no key for OpenAI's",
                f"give --base-url, or set {config.key_env}",
            )
        self._runner = asyncio.Runner()
        self._server: AsyncOpenAI | None = None
        self._slots = asyncio.Semaphore(config.concurrency)
        self._turn, self._settled = asyncio.Lock(), asyncio.Event()
        self._dropped: dict[str, set[str]] = defaultdict(set)

    def complete(self, prompts: Sequence[Prompt]) -> list[Reply]:
        """A reply to each prompt, in their order. Ctrl-C ends all requests, then raises."""
        return self._runner.run(self._all(prompts))

    def models(self) -> tuple[str, ...]:
        """Names of the models that the server has. Raises PartError where it does not tell."""
        return self._runner.run(self._models())

    def close(self) -> None:
        """End the connections and close the cache."""
        if self._server is not None:
            self._runner.run(self._server.close())
        self._runner.close()
        self.cache.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connection(self) -> AsyncOpenAI:
        if self._server is None:
            key = self._key or _NO_KEY
            self._server = connect(self.config.base_url, key, self.config.timeout)
        return self._server

    async def _models(self) -> tuple[str, ...]:
        import openai

        try:
            async with asyncio.timeout(self.config.timeout):
                page = await self._connection().models.list()
                return tuple(self._redacted(str(model.id)) for model in page.data)
        except (TimeoutError, openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
            what = self._redacted(str(error) or type(error).__name__)
            where = self.config.base_url or "OpenAI"
            raise PartError(f"{where} does not list its models: {what}", "see --base-url") from None

    async def _all(self, prompts: Sequence[Prompt]) -> list[Reply]:
        if not self.config.models:
            raise PartError("no language model is named", "give --model NAME")
        alone: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(prompt, alone)) for prompt in prompts]
        except ExceptionGroup as group_of_errors:  # of the cache: a full disk, a damaged file
            raise group_of_errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _one(self, prompt: Prompt, alone: dict[str, asyncio.Lock]) -> Reply:
        """From the cache, or asked for; equal prompts wait for one another, and are asked once."""
        model = choose_model(self.config.models, prompt.phase, prompt.seed)
        most = Most(prompt, _cost(model, most_tokens_in(prompt), prompt.max_tokens))
        async with self._slots, alone[prompt_key(model.name, prompt)]:
            found = self.cache.get(model.name, prompt)
            if found is None:
                return await self._asked(model, most)
            if not await self._reserve(most.cost):
                return Reply(model=model.name, error=self.spent)
            return _counted(found, self._settle(most.cost, _cost_of(found)))

    async def _asked(self, model: Model, most: Most) -> Reply:
        """What came in the end, with the cost of all attempts.

        The cache keeps all that the server claims: another budget may have room for it.
        """
        begun, total, attempt = monotonic(), Reply(model=model.name), 0
        counted = Cost()
        dropped = self._dropped[model.name]
        while True:
            if not await self._reserve(most.cost):
                why = "; ".join(filter(None, (total.error, self.spent)))
                return _counted(replace(total, error=why), counted)
            out, reply, cost = await self._attempt(model, most)
            counted += cost
            total = _added(total, reply, monotonic() - begun)
            if not out.error:
                self.cache.put(model.name, most.prompt, total)
                return _counted(total, counted)
            if out.refused and out.refused not in dropped:
                dropped.add(out.refused)
                continue
            wait = self._wait(out, attempt)
            if wait is None:
                tries = f" (after {attempt + 1} attempts)" if attempt else ""
                return _counted(replace(total, error=total.error + tries), counted)
            attempt += 1
            await asyncio.sleep(wait)

    async def _attempt(self, model: Model, most: Most) -> tuple[Outcome, Reply, Cost]:
        """One call; whatever ends it, its cost takes the place of what was reserved.

        Gives the reply with what the server claims, and what of it is counted.
        """
        out = Outcome()
        request = request_of(model.name, most.prompt, self._dropped[model.name])
        tokens, cost = (0, 0), most.cost
        try:
            limit = most.prompt.max_tokens
            await exchange(self._connection(), request, self.config.timeout, limit, out)
            tokens = most.used(out)
            cost = _cost(model, *tokens)
        finally:
            counted = self._settle(most.cost, cost)
        text, finish = self._redacted(out.text), self._redacted(out.finish)
        error = self._redacted(out.error)
        reply = Reply(
            text, model.name, *tokens, money=cost.money, finish=finish, error=error,
            claimed=sum(tokens) if most.passed(*tokens) else 0,
        )  # fmt: skip
        return out, reply, counted

    def _wait(self, out: Outcome, attempt: int) -> float | None:
        """Seconds until another attempt; ``None`` when there is to be none."""
        if not out.again or attempt >= self.config.retries:
            return None
        if out.wait is not None:
            return out.wait if out.wait <= self.config.timeout else None
        return min(self._first_wait * 2.0**attempt, _LONGEST_WAIT)

    async def _reserve(self, most: Cost) -> bool:
        """In the order of the prompts. What does not fit now may, once those under way have ended.

        So what is refused does not depend on how fast the server is.
        """
        async with self._turn:
            while not self.budget.reserve(most):
                if not self.budget.calls:
                    self.spent = self.budget.refusal(most)
                    return False
                self._settled.clear()
                await self._settled.wait()
            return True

    def _settle(self, most: Cost, cost: Cost) -> Cost:
        counted = self.budget.settle(most, cost)
        self._settled.set()
        return counted

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_KEY else text


@dataclass(frozen=True)
class Most:
    """A prompt, and what a call with it can cost."""

    prompt: Prompt
    cost: Cost

    def used(self, out: Outcome) -> tuple[int, int]:
        """Tokens in and out, as the server tells or else the most that it can have been.

        A reply has no more tokens than bytes; one that broke may have gone on unseen.
        """
        if not out.worked:
            return 0, 0
        if out.finish and out.tokens_in is not None and out.tokens_out is not None:
            return out.tokens_in, out.tokens_out
        seen = len(out.text.encode()) + out.hidden
        most = self.prompt.max_tokens
        return most_tokens_in(self.prompt), most if out.error else min(seen, most)

    def passed(self, tokens_in: int, tokens_out: int) -> bool:
        """Whether that is more than a call was allowed."""
        return tokens_in > most_tokens_in(self.prompt) or tokens_out > self.prompt.max_tokens


def _cost_of(reply: Reply) -> Cost:
    return Cost(reply.tokens_in + reply.tokens_out, reply.money)


def _added(total: Reply, reply: Reply, seconds: float) -> Reply:
    """The latest reply, with what all attempts have cost, as the server claims."""
    tokens_in, tokens_out = total.tokens_in + reply.tokens_in, total.tokens_out + reply.tokens_out
    passed = total.claimed or reply.claimed
    return replace(
        reply, tokens_in=tokens_in, tokens_out=tokens_out, money=total.money + reply.money,
        seconds=seconds, claimed=tokens_in + tokens_out if passed else 0,
    )  # fmt: skip


def _counted(reply: Reply, cost: Cost) -> Reply:
    """With what of its cost is counted."""
    tokens_in = min(reply.tokens_in, cost.tokens)
    return replace(reply, tokens_in=tokens_in, tokens_out=cost.tokens - tokens_in, money=cost.money)


def _cost(model: Model, tokens_in: int, tokens_out: int) -> Cost:
    return Cost(tokens_in + tokens_out, model.cost(tokens_in, tokens_out))


def choose_model(models: Sequence[Model], phase: str, seed: int) -> Model:
    """By weight, among those named for the phase; the same seed chooses the same.

    Where none is named for it, those named for no phase share it, and where there are none, all.
    """
    able = [m for m in models if phase in m.phases] or [m for m in models if not m.phases]
    able = able or list(models)
    return random.Random(seed).choices(able, [m.weight for m in able])[0]


def _check_url(url: str) -> None:
    """A base URL is kept with the run, so it may hold no secret."""
    try:
        parts = urlsplit(url)
        secret = bool(parts.username or parts.password or parts.query)
    except ValueError:
        secret = True
    if url and (secret or parts.scheme not in ("http", "https") or not parts.hostname):
        raise PartError(
            "--base-url is not the plain http(s) URL of a server",
            "as in http://127.0.0.1:8080/v1; keys go into the environment (--key-env)",
        )
