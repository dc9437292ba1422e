"""A real model: SmolLM2 behind llama.cpp's own server. Mechanics only: it is too small to judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from search.llm.budget import Budget, most_tokens_in
from search.llm.cache import ReplyCache
from search.llm.client import Client
from search.llm.types import Constraint, LlmConfig, Message, Model, Prompt
from tests.llm.conftest import MODEL


@pytest.fixture
def small(base_url: str) -> Iterator[Client]:
    """A client of it, with an empty cache. The server drops a connection now and then."""
    config = LlmConfig(base_url, (Model(MODEL),), timeout=120.0, concurrency=2, retries=4)
    with Client(config, ReplyCache(None), Budget()) as found:
        yield found


def ask(constraint: Constraint, text: str = "Pick a number.", **changes: Any) -> Prompt:
    settings = {"max_tokens": 24, "temperature": 1.0, **changes}
    return Prompt((Message("user", text),), constraint, **settings)


def test_models(small: Client) -> None:
    assert small.models() == (MODEL,)


def test_a_streamed_reply_and_its_usage(small: Client) -> None:
    prompt = ask(Constraint(), "Say hello.", max_tokens=12)
    (reply,) = small.complete([prompt])
    assert not reply.error and reply.text and reply.finish in ("stop", "length")
    assert 0 < reply.tokens_out <= 12 and reply.seconds > 0
    assert 0 < reply.tokens_in <= most_tokens_in(prompt)
    assert small.budget.used.tokens == reply.tokens_in + reply.tokens_out


def test_a_pick_by_schema(small: Client) -> None:
    pick = {"type": "integer", "enum": [3, 14, 27]}
    schema = {"type": "object", "properties": {"pick": pick}, "required": ["pick"]}
    constraint = Constraint("json_schema", {**schema, "additionalProperties": False})
    replies = small.complete([ask(constraint, seed=i) for i in range(4)])
    assert not [r.error for r in replies if r.error]
    assert all(json.loads(r.text)["pick"] in (3, 14, 27) for r in replies)


def test_a_pick_by_grammar(small: Client) -> None:
    constraint = Constraint("gbnf", grammar='root ::= "rewrite " [1-5] ("," [1-5]){0,2}')
    replies = small.complete([ask(constraint, seed=i) for i in range(4)])
    assert not [r.error for r in replies if r.error]
    for reply in replies:
        head, _, numbers = reply.text.partition(" ")
        assert head == "rewrite" and set(numbers.split(",")) <= set("12345")


def test_a_bad_grammar_is_refused(small: Client) -> None:
    bad, good = (
        Constraint("gbnf", grammar="root ::= ((("),
        Constraint("gbnf", grammar='root ::= "a"'),
    )
    first, second = small.complete([ask(bad), ask(good)])
    assert "refuses: 400" in first.error and not first.text
    assert second.text == "a"


def test_the_same_seed_gives_the_same_reply(base_url: str) -> None:
    config = LlmConfig(base_url, (Model(MODEL),), timeout=120.0, concurrency=1)
    texts = []
    for seed in (5, 5, 6):
        with Client(config, ReplyCache(None), Budget()) as fresh:
            (reply,) = fresh.complete([ask(Constraint(), "Tell a story.", seed=seed)])
            texts.append(reply.text)
    assert texts[0] == texts[1] != texts[2]


def test_a_budget_holds_with_its_own_tokens(base_url: str) -> None:
    prompt = ask(Constraint(), "Tell a story.")
    budget = Budget(tokens=2 * (most_tokens_in(prompt) + prompt.max_tokens))
    config = LlmConfig(base_url, (Model(MODEL),), timeout=120.0)
    with Client(config, ReplyCache(None), budget) as asked:
        replies = asked.complete([replace(prompt, seed=i) for i in range(12)])
    assert 0 < budget.used.tokens <= budget.tokens
    assert budget.used.tokens == sum(r.tokens_in + r.tokens_out for r in replies)
    assert replies[-1].error.startswith("the budget is spent")
