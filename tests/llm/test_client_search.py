"""Searches that ask a server that misbehaves: they go on with what works, within their budget."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from search.llm.budget import Budget, most_tokens_in
from search.llm.client import FILE, Client
from search.llm.types import Constraint, LlmConfig, Message, Model, Prompt
from search.operators.llm import Llm
from search.run import Search
from search.store import Store
from search.termination import Limits
from tests.llm.server import Answer, drops, events, page, refuses, says, serving
from tests.llm.test_client import KEY
from tests.llm.test_operator import REPLIES, searched

USAGE = (3000, 60)


def replying(name: str) -> Answer:
    """A reply written by hand, which costs USAGE."""
    return says((REPLIES / name).read_text(), tokens=USAGE)


def settings(url: str, **changes: Any) -> LlmConfig:
    given: dict[str, Any] = {
        "models": (Model("small"),), "reply_tokens": 400, "prompt_tokens": 6000, "mends": 1,
        "retries": 0, "timeout": 60.0, "concurrency": 1, **changes,
    }  # fmt: skip
    return LlmConfig(url, **given)


def budget_of(search: Search) -> Budget:
    operator = search.expander.operator
    assert isinstance(operator, Llm) and isinstance(operator.completer, Client)
    return operator.completer.budget


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
    assert search.tokens == budget_of(search).used.tokens


def test_a_search_keeps_its_budget_to_the_token(store: Store) -> None:
    limit = 40_000
    with serving(replying("whole.md"), replying("edit.json"), drops("half")) as server:
        config = settings(server.url)
        limits = Limits(candidates=50, tokens=limit)
        search = searched(store, "rms_norm", 50, dims={"B": 8}, llm=config, limits=limits)
    assert 0 < search.tokens <= limit and search.tokens == budget_of(search).used.tokens
    lost = sum(asked_for(body) for body in server.requests[2:])
    assert search.tokens <= 2 * sum(USAGE) + lost <= limit
    assert "tokens" in store.run(search.id).message


def test_a_server_that_claims_too_much_ends_the_search_at_its_limit(store: Store) -> None:
    limit = 40_000
    text = (REPLIES / "whole.md").read_text()
    with serving(replying("edit.json"), says(text, tokens=(10**6, 60))) as server:
        limits = Limits(candidates=50, tokens=limit)
        config = settings(server.url)
        search = searched(store, "rms_norm", 50, dims={"B": 8}, llm=config, limits=limits)
    assert search.tokens == limit == budget_of(search).used.tokens and len(server.requests) == 2
    assert "tokens" in store.run(search.id).message
    (told,) = (p for p in search.expander.problems if "claims" in p)
    assert "small claims more tokens than a call was allowed" in told and "no room" in told
    claims = [t.get("claimed", 0) for t in transcripts(store, search)]
    assert sorted(claims) == [0, 10**6 + 60]
    with Search(store, search.id, 1) as again:
        assert again.run() and again.tokens == limit and len(server.requests) == 2


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


def test_the_key_is_not_in_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Though the server repeats it in errors, in a rationale, and in prose."""
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    pick = {"rationale": f"with {KEY}", "action": "rewrite", "rewrites": [1], "edits": [], "ir": ""}
    answers = [refuses(401, f"bad key {KEY}"), says(KEY), says(json.dumps(pick))]
    with serving(*answers) as server:
        config = settings(server.url, key_env="MY_KEY")
        search = searched(store, "rms_norm", 4, dims={"B": 8}, llm=config)
    assert all(h["authorization"] == f"Bearer {KEY}" for h in server.headers)
    assert any("[key]" in e.rationale for e in search.graph.edges())
    files = [p for p in Path(store.folder).rglob("*") if p.is_file()]
    assert len(files) > 10 and not any(KEY.encode() in p.read_bytes() for p in files)
    told = capfd.readouterr()
    assert KEY not in caplog.text + told.out + told.err + repr(search.expander.problems)


def transcripts(store: Store, search: Search) -> list[dict[str, Any]]:
    """All turns that a search's edges keep."""
    kept = [e.transcript for e in search.graph.edges() if e.transcript]
    return [t for digest in kept for t in json.loads(store.artifacts.text(digest))["turns"]]
