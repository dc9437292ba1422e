"""Searches that ask a server that misbehaves: they go on with what works, within their budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search.llm.budget import most_tokens_in
from search.llm.client import FILE
from search.llm.types import Constraint, LlmConfig, Message, Prompt
from search.run import Search
from search.store import Store
from search.termination import Limits
from tests.llm.server import Answer, drops, events, page, refuses, says, serving
from tests.llm.test_operator import REPLIES, searched

USAGE = (3000, 60)


def replying(name: str) -> Answer:
    """A reply written by hand, which costs USAGE."""
    return says((REPLIES / name).read_text(), tokens=USAGE)


def settings(url: str, **changes: Any) -> LlmConfig:
    return LlmConfig(
        url, (("small", 1.0),), reply_tokens=400, prompt_tokens=6000, mends=1, retries=0,
        timeout=60.0, concurrency=1, **changes,
    )  # fmt: skip


def asked_for(body: dict[str, Any]) -> int:
    """The most that a request can cost, from what the server was sent."""
    messages = tuple(Message(m["role"], m["content"]) for m in body["messages"])
    schema = body["response_format"]["json_schema"]["schema"]
    prompt = Prompt(messages, Constraint("json_schema", schema))
    return most_tokens_in(prompt) + int(body["max_tokens"])


def test_a_search_goes_on_with_what_works(store: Store) -> None:
    answers = [
        refuses(500), page("<html>"), drops("half"), events({"choices": 5}),
        says("word " * 500), replying("truncated.json"), replying("other_op.md"),
        replying("prose.md"), replying("whole.md"), replying("edit.json"),
    ]  # fmt: skip
    with serving(*answers) as server:
        search = searched(store, "rms_norm", 8, dims={"B": 8}, llm=settings(server.url))
    assert len(server.requests) >= len(answers)
    problems = " | ".join(search.expander.problems)
    for told in ("500 not now", "is the base URL right", "connection broke", "cut off"):
        assert told in problems
    kinds = {e.kind for e in search.graph.edges()}
    assert "kernel" in kinds and "rewrite" in kinds
    assert search.graph.best("kea.kea2") is not None


def test_a_search_keeps_its_budget_to_the_token(store: Store) -> None:
    limit = 40_000
    with serving(replying("whole.md"), replying("edit.json"), drops("half")) as server:
        config = settings(server.url)
        limits = Limits(candidates=50, tokens=limit)
        search = searched(store, "rms_norm", 50, dims={"B": 8}, llm=config, limits=limits)
    assert 0 < search.tokens <= limit
    lost = sum(asked_for(body) for body in server.requests[2:])
    assert search.tokens <= 2 * sum(USAGE) + lost <= limit
    assert "tokens" in store.run(search.id).message


def test_a_search_carried_on_asks_nothing_again(store: Store) -> None:
    with serving(*[replying(n) for n in ("whole.md", "edit.json", "pick.json")]) as server:
        config = settings(server.url)
        first = searched(store, "rms_norm", 3, dims={"B": 8}, llm=config)
        asked = len(server.requests)
        second = searched(store, "rms_norm", 3, dims={"B": 8}, llm=config)
        assert len(server.requests) == asked > 0
    assert (Path(store.folder) / FILE).exists()
    assert [e.label for e in first.graph.edges()] == [e.label for e in second.graph.edges()]
    assert first.tokens == second.tokens > 0
    turns = transcripts(store, second)
    assert turns and all(t["tokens_in"] == USAGE[0] for t in turns)


def transcripts(store: Store, search: Search) -> list[dict[str, Any]]:
    """All turns that a search's edges keep."""
    kept = [e.transcript for e in search.graph.edges() if e.transcript]
    return [t for digest in kept for t in json.loads(store.artifacts.text(digest))["turns"]]
