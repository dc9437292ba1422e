"""Servers that misbehave: the reply says what failed, what works goes on, and budgets hold."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from search.llm import exchange
from search.llm.budget import Budget, Cost, most_tokens_in
from search.llm.cache import ReplyCache
from search.llm.exchange import retry_after
from search.llm.types import Model, Reply
from search.parts import PartError
from tests.llm.server import (
    Answer,
    chunk,
    drops,
    endless,
    events,
    hangs,
    page,
    refuses,
    says,
    serving,
    usage,
)
from tests.llm.test_client import client, prompt

MOST_IN = most_tokens_in(prompt())
MOST = MOST_IN + 20


def one(*answers: Answer, **changes: Any) -> tuple[Reply, int, Budget]:
    """The reply to one prompt, how often the server was asked, and the budget."""
    budget = Budget(tokens=20 * MOST)
    with serving(*answers) as server, client(server, budget, **changes) as asked:
        (reply,) = asked.complete([prompt()])
    assert budget.reserved == Cost() and budget.calls == 0
    assert budget.used.tokens == reply.tokens_in + reply.tokens_out
    return reply, len(server.requests), budget


def test_down() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        budget = Budget(tokens=MOST)
        with client(url, budget) as asked:
            replies = asked.complete([prompt(0), prompt(1)])
            with pytest.raises(PartError, match="does not list its models"):
                asked.models()
    assert all("no connection" in r.error and "after 3 attempts" in r.error for r in replies)
    assert budget.used == Cost() and not asked.spent


def test_slow() -> None:
    reply, asked, _ = one(hangs, says("in time"), timeout=3.0)
    assert reply.text == "in time" and asked == 2
    assert (reply.tokens_in, reply.tokens_out) == (MOST_IN + 5, 20 + 2)
    reply, asked, _ = one(hangs, timeout=0.2, retries=1)
    assert "no complete reply within 0.2 s (after 2 attempts)" in reply.error and asked == 2


def test_dropped_in_the_middle() -> None:
    reply, asked, budget = one(drops("half of"), says("all of it"))
    assert reply.text == "all of it" and asked == 2
    assert budget.used.tokens == MOST + 7
    reply, asked, budget = one(drops("half of"), retries=1)
    assert "connection broke" in reply.error and asked == 2
    assert budget.used.tokens == 2 * MOST


def test_ended_without_an_end() -> None:
    reply, asked, _ = one(events(chunk("half of")), says("all of it"))
    assert reply.text == "all of it" and asked == 2


def test_retry_after_is_kept() -> None:
    begun = monotonic()
    reply, asked, budget = one(refuses(429, Retry_After="0.3"), says("later"))
    assert monotonic() - begun >= 0.3
    assert reply.text == "later" and asked == 2 and budget.used.tokens == 7


def test_retry_after_that_is_too_long() -> None:
    reply, asked, _ = one(refuses(429, Retry_After="3600"))
    assert "429 not now" in reply.error and "3600 s" in reply.error and asked == 1


def test_retry_after_in_all_its_forms() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert retry_after("7") == 7 and retry_after("-1") == 0
    assert 0 < (retry_after(format_datetime(soon, usegmt=True)) or 0) <= 100
    assert [retry_after(t) for t in ("", "soon", "nan", "inf")] == [None] * 4


def test_errors_of_the_server() -> None:
    reply, asked, _ = one(refuses(500), refuses(503, "<html>busy</html>"), says("works"))
    assert reply.text == "works" and asked == 3
    reply, asked, budget = one(refuses(500))
    assert reply.error == "the server refuses: 500 not now (after 3 attempts)" and asked == 3
    assert budget.used == Cost()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    reply, asked, _ = one(refuses(status))
    assert f"refuses: {status}" in reply.error and asked == 1


def test_an_error_in_the_stream() -> None:
    broken = events(chunk("a"), {"error": {"message": "out of memory", "code": 500}})
    reply, asked, _ = one(broken, says("works"))
    assert reply.text == "works" and asked == 2
    assert "out of memory" in one(broken, retries=0)[0].error


def not_compressed(handler: Any) -> None:
    handler.whole(200, "no gzip", {"Content-Encoding": "gzip"})


def not_text(handler: Any) -> None:
    handler.begin()
    data = b"data: \xff\xfe\xfd\n\n"
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.end()


def not_http(handler: Any) -> None:
    handler.wfile.write(b"\x00\x01 rubbish\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    "answer",
    [
        page("<html>welcome</html>"),
        page(""),
        page("data: <html>\n\n"),
        page('{"choices": [{"message": {"content": "not a stream"}}]}'),
        events("{not json"),
        events(chunk("a"), "{not json"),
        not_compressed,
        not_text,
        not_http,
    ],
)
def test_garbage(answer: Answer) -> None:
    reply, asked, budget = one(answer, retries=1)
    assert reply.error and asked <= 2
    assert budget.used.tokens <= 2 * MOST


WRONG: list[Any] = [
    {}, [], [1, 2], 7, "null", "true", '"text"', {"hello": 1}, {"choices": None}, {"choices": "x"},
    {"choices": 5}, {"choices": [None]}, {"choices": [7]}, {"choices": [{}]}, {"choices": {"a": 1}},
    {"choices": [{"delta": None}]}, {"choices": [{"delta": "x"}]}, {"choices": [{"delta": {}}]},
    {"choices": [{"delta": {"content": 5}}]}, {"choices": [{"delta": {"content": ["x"]}}]},
    {"choices": [{"delta": {"content": {"a": "b"}}, "finish_reason": 3}]},
    {"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]},
    {"error": None}, {"error": "text"}, {"error": {"message": 5}}, {"error": [1]},
]  # fmt: skip


@pytest.mark.parametrize("event", WRONG, ids=str)
def test_wrong_json(event: Any) -> None:
    reply, _, budget = one(events(event), retries=0)
    assert reply.error and not reply.text
    assert budget.used.tokens <= MOST


def test_an_empty_reply() -> None:
    reply, asked, _ = one(events(chunk("", "stop"), usage(5, 0)))
    assert reply.error == "the reply is empty" and asked == 1 and reply.tokens_in == 5


@pytest.mark.parametrize(
    "told", [None, (None, None), ("5", "2"), (-5, 2), (True, 2), (5.5, 2), (10**30, 2)]
)
def test_usage_missing(told: Any) -> None:
    reply, asked, budget = one(says("a few words", tokens=told))
    assert reply.text == "a few words" and asked == 1
    assert (reply.tokens_in, reply.tokens_out) == (MOST_IN, len("a few words"))
    reply, _, budget = one(says("many words of a reply that is long", tokens=told))
    assert budget.used.tokens == MOST


@pytest.mark.parametrize("after", [[], [chunk("", "stop")]], ids=["goes on", "ended before"])
def test_what_is_told_before_the_end_does_not_count(after: list[Any]) -> None:
    early = [usage(0, 0), *after, *[chunk("word ")] * 30]
    assert one(events(*early))[2].used.tokens == MOST
    assert one(events(usage(0, 0), chunk("half")), retries=0)[2].used.tokens == MOST


def test_an_endless_reply_is_cut_off() -> None:
    reply, asked, budget = one(events(*[chunk("word ")] * 500))
    assert "cut off" in reply.error and asked == 1
    assert reply.text == "word " * 21 and budget.used.tokens == MOST


@pytest.mark.parametrize(
    "piece",
    [
        'data: {"choices":[{"index":0,"delta":{"content":"more"},"finish_reason":null}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{"content":"' + "x" * 5000 + '"}}]}\n\n',
        'data: {"choices":[{"index":0,"delta":{}}]}\n\n' * 100,
        ": keep waiting\n\n" * 100,
        "x" * 10_000,
    ],
    ids=["words", "thoughts", "long", "nothing", "comments", "one line"],
)
def test_endless(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_BYTES", 1 << 20)
    reply, asked, budget = one(endless(piece), retries=0)
    assert reply.error and asked == 1 and budget.used.tokens == MOST


def test_an_endless_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_BYTES", 1 << 20)

    def answer(handler: Any) -> None:
        handler.send_response(500)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while not handler.server.released.is_set():
            handler.piece("x" * 10_000)

    reply, asked, _ = one(answer, retries=0)
    assert reply.error and asked == 1


def test_a_reply_that_is_cut_by_its_length_is_one() -> None:
    reply, _, _ = one(says("all that fits", finish="length", tokens=(5, 20)))
    assert reply.text == "all that fits" and reply.finish == "length" and not reply.error


def test_attempts_stay_within_the_budget() -> None:
    budget = Budget(tokens=2 * MOST + 5)
    with serving(drops("x")) as server, client(server, budget, retries=5) as asked:
        replies = asked.complete([prompt(0), prompt(1)])
        assert asked.spent
    assert budget.used.tokens == 2 * MOST <= budget.tokens
    assert len(server.requests) == 2
    assert all("the budget is spent" in r.error for r in replies)


def claiming(tokens: tuple[int, int], room: int, count: int = 3) -> tuple[list[Reply], int, Budget]:
    """Replies of a server that claims so much, how often it was asked, and the budget."""
    budget = Budget(tokens=room)
    with serving(says("x", tokens=tokens)) as server, client(server, budget) as asked:
        replies = asked.complete([prompt(i) for i in range(count)])
    assert budget.reserved == Cost() and budget.calls == 0
    assert budget.used.tokens == sum(r.tokens_in + r.tokens_out for r in replies)
    return replies, len(server.requests), budget


@pytest.mark.parametrize("tokens", [(MOST_IN + 1, 20), (MOST_IN, 21), (5, 900), (9000, 0)])
def test_what_is_claimed_beyond_what_was_allowed_is_counted(tokens: tuple[int, int]) -> None:
    replies, asked, budget = claiming(tokens, 0)
    assert asked == 3 and budget.used.tokens == 3 * sum(tokens)
    assert all(r.text == "x" and not r.error and r.claimed == sum(tokens) for r in replies)
    replies, asked, budget = claiming((MOST_IN, 20), 0)
    assert budget.used.tokens == 3 * MOST and not any(r.claimed for r in replies)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_claim_does_not_pass_the_limit(concurrency: int) -> None:
    """What was reserved for others stays theirs, and with nothing left nothing is asked."""
    room = 3 * MOST + 5
    budget = Budget(tokens=room)
    with (
        serving(says("x", tokens=(10 * MOST, 7))) as server,
        client(server, budget, concurrency=concurrency) as asked,
    ):
        replies = asked.complete([prompt(i) for i in range(5)])
        later = asked.complete([prompt(9)])[0]
        assert "claims more than it was allowed" in asked.spent
    assert budget.used.tokens == room == sum(r.tokens_in + r.tokens_out for r in replies)
    assert budget.uncounted.tokens == len(server.requests) * (10 * MOST + 7) - room
    assert len(server.requests) == concurrency
    good = [r for r in replies if not r.error]
    assert len(good) == concurrency and all(r.claimed == 10 * MOST + 7 for r in good)
    assert all(r.tokens_in + r.tokens_out >= MOST for r in good)
    assert later.error.startswith("the budget is spent")


def test_a_claim_does_not_pass_a_limit_of_money() -> None:
    model = Model("small", price_in=1.0, price_out=5.0)
    room = 1.5 * model.cost(MOST_IN, 20)
    budget = Budget(money=room)
    with (
        serving(says("x", tokens=(5, 10_000))) as server,
        client(server, budget, models=(model,)) as asked,
    ):
        replies = asked.complete([prompt(0), prompt(1)])
    assert len(server.requests) == 1 and replies[1].error.startswith("the budget is spent")
    assert replies[0].money == pytest.approx(room) == pytest.approx(budget.used.money)
    assert replies[0].claimed == 10_005


def test_a_claim_is_kept_with_the_reply(tmp_path: Path) -> None:
    """Made again with the same budget, the same is counted; with more room, more."""
    counted = []
    with serving(says("x", tokens=(5, 10 * MOST))) as server:
        for room in (2 * MOST, 2 * MOST, 20 * MOST):
            budget = Budget(tokens=room)
            with client(server, budget, ReplyCache(tmp_path / "replies")) as asked:
                asked.complete([prompt()])
            counted.append(budget.used.tokens)
    assert counted == [2 * MOST, 2 * MOST, 10 * MOST + 5] and len(server.requests) == 1


def test_attempts_that_were_kept_do_not_pass_a_smaller_limit(tmp_path: Path) -> None:
    budgets = [Budget(tokens=4 * MOST), Budget(tokens=MOST + 3)]
    with serving(drops("half"), says("x", tokens=(5, 2))) as server:
        for budget in budgets:
            with client(server, budget, ReplyCache(tmp_path / "replies")) as asked:
                assert asked.complete([prompt()])[0].text == "x"
    assert [b.used.tokens for b in budgets] == [MOST + 7, MOST + 3]


def test_what_works_goes_on() -> None:
    """Every third request fails for good; the others are answered."""

    def answer(handler: Any) -> None:
        fault = handler.body["seed"] % 3 == 0
        (refuses(400) if fault else says("fine"))(handler)

    with serving(answer) as server, client(server) as asked:
        replies = asked.complete([prompt(i) for i in range(9)])
    assert [bool(r.error) for r in replies] == [i % 3 == 0 for i in range(9)]
