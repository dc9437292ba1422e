"""The client: replies, constraints, models by weight, budget, cache; the key stays secret."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from search.config import Config
from search.llm.budget import Budget, Cost, most_tokens_in
from search.llm.cache import ReplyCache, prompt_key
from search.llm.client import FILE, Client, connected
from search.llm.types import Constraint, LlmConfig, Message, Model, Prompt
from search.parts import PartError, Surroundings
from search.store import StoreError
from search.termination import Limits
from tests.llm.server import LocalServer, events, hangs, refuses, says, serving

KEY = "sk-very-secret-0123456789"


def prompt(seed: int = 0, **changes: Any) -> Prompt:
    settings = {"max_tokens": 20, "seed": seed, **changes}
    return Prompt((Message("system", "be brief"), Message("user", "hello")), **settings)


def client(
    server: LocalServer | str, budget: Budget | None = None, cache: ReplyCache | None = None,
    **changes: Any,
) -> Client:  # fmt: skip
    url = server if isinstance(server, str) else server.url
    settings = {"models": (Model("small"),), "timeout": 30.0, "retries": 2, **changes}
    config = LlmConfig(base_url=url, **settings)
    return Client(config, cache or ReplyCache(None), budget or Budget(), first_wait=0.001)


def test_a_reply_and_its_cost() -> None:
    with (
        serving(says("a short reply", tokens=(7, 3))) as server,
        client(server, models=(Model("small", price_in=1.0, price_out=10.0),)) as asked,
    ):
        (reply,) = asked.complete([prompt(5)])
    assert (reply.text, reply.model, reply.finish) == ("a short reply", "small", "stop")
    assert (reply.tokens_in, reply.tokens_out, reply.cached, reply.error) == (7, 3, False, "")
    assert reply.money == pytest.approx(37e-6) and reply.seconds > 0
    (sent,) = server.requests
    assert sent["messages"][1] == {"role": "user", "content": "hello"}
    assert (sent["model"], sent["max_tokens"], sent["seed"]) == ("small", 20, 5)
    assert sent["stream"] and sent["stream_options"] == {"include_usage": True}


SCHEMA = {"type": "object", "properties": {"pick": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("constraint", "sent"),
    [
        (
            Constraint("json_schema", SCHEMA),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
                }
            },
        ),
        (Constraint("gbnf", grammar='root ::= "a"'), {"grammar": 'root ::= "a"'}),
        (Constraint("vllm", SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
        (Constraint("none", SCHEMA, "g"), {}),
    ],
)
def test_constraints_go_with_the_request(constraint: Constraint, sent: dict[str, Any]) -> None:
    with serving(says("{}")) as server, client(server) as asked:
        asked.complete([prompt(constraint=constraint)])
    known = {"model", "messages", "max_tokens", "temperature", "seed", "stream", "stream_options"}
    assert {k: v for k, v in server.requests[0].items() if k not in known} == sent


def test_parameters_that_a_model_refuses_are_left_out() -> None:
    def refused(name: str) -> Any:
        return refuses(400, {"error": {"message": f"unsupported: {name}", "param": name}})

    answers = [refused("max_tokens"), refused("temperature"), says("well")]
    with serving(*answers) as server, client(server, retries=0) as asked:
        assert asked.complete([prompt()])[0].text == "well"
        asked.complete([prompt(1)])
    for sent in server.requests[2:]:
        assert sent["max_completion_tokens"] == 20
        assert not {"max_tokens", "temperature"} & set(sent)


def test_a_parameter_that_is_refused_again_is_an_error() -> None:
    again = refuses(400, {"error": {"message": "unsupported", "param": "seed"}})
    with serving(again) as server, client(server) as asked:
        assert "400 unsupported" in asked.complete([prompt()])[0].error
    assert len(server.requests) == 2


def test_concurrency_is_bounded() -> None:
    meet = threading.Barrier(3, timeout=30)

    def answer(handler: Any) -> None:
        meet.wait()
        says("x")(handler)

    with serving(answer) as server, client(server, concurrency=3) as asked:
        replies = asked.complete([prompt(i) for i in range(9)])
    assert not any(r.error for r in replies) and len(server.requests) == 9
    assert server.busiest == 3


def test_replies_stand_in_the_order_of_the_prompts() -> None:
    def answer(handler: Any) -> None:
        seed = handler.body["seed"]
        if seed == 0:
            handler.server.reached.wait(30)
        says(f"to {seed}")(handler)
        if seed == 3:
            handler.server.reached.set()

    with serving(answer) as server, client(server) as asked:
        replies = asked.complete([prompt(i) for i in range(4)])
    assert [r.text for r in replies] == ["to 0", "to 1", "to 2", "to 3"]


def test_budget_is_kept_to_the_token() -> None:
    most = most_tokens_in(prompt()) + 20
    budget = Budget(tokens=3 * most - 1)
    with serving(says("x", tokens=(most - 20, 20))) as server, client(server, budget) as asked:
        replies = asked.complete([prompt(i) for i in range(5)])
        assert asked.spent.startswith("the budget is spent: ")
    assert [bool(r.error) for r in replies] == [False, False, True, True, True]
    assert len(server.requests) == 2 and budget.used.tokens == 2 * most <= budget.tokens
    assert "tokens are used" in replies[2].error


def test_what_is_not_used_is_given_back() -> None:
    most = most_tokens_in(prompt()) + 20
    budget = Budget(tokens=most + 10)
    with serving(says("x", tokens=(3, 2))) as server, client(server, budget) as asked:
        replies = asked.complete([prompt(i) for i in range(5)])
        assert asked.spent
    assert [bool(r.error) for r in replies] == [False, False, False, True, True]
    assert budget.used.tokens == 15 and budget.reserved == Cost() and len(server.requests) == 3


def test_budget_of_money_and_what_was_used_before() -> None:
    most = most_tokens_in(prompt()) / 1e6 + 20 * 5e-6
    budget = Budget(money=most * 2.5, used=Cost(1000, most))
    with (
        serving(says("x", tokens=(most_tokens_in(prompt()), 20))) as server,
        client(server, budget, models=(Model("small", price_in=1.0, price_out=5.0),)) as asked,
    ):
        replies = asked.complete([prompt(i) for i in range(3)])
    assert [bool(r.error) for r in replies] == [False, True, True]
    assert "is spent, and the call may cost" in replies[1].error
    assert budget.used.money == pytest.approx(2 * most) and budget.used.money <= budget.money


def test_a_resumed_run_repeats_no_call(tmp_path: Path) -> None:
    path = tmp_path / "folder" / FILE
    with serving(says("once", tokens=(7, 3))) as server:
        with client(server, cache=ReplyCache(path)) as asked:
            first = asked.complete([prompt(0), prompt(1), prompt(1)])
        budget = Budget(tokens=10_000)
        with client(server, budget, ReplyCache(path)) as asked:
            second = asked.complete([prompt(0), prompt(1)])
            (other,) = asked.complete([prompt(0, temperature=0.1)])
    assert [r.cached for r in first] == [False, False, True]
    assert all(r.cached and r.text == "once" and r.seconds == 0 for r in second)
    assert [(r.tokens_in, r.tokens_out) for r in second] == [(7, 3)] * 2
    assert not other.cached and len(server.requests) == 3
    assert budget.used.tokens == 30


def test_a_failure_is_not_kept() -> None:
    with serving(refuses(400), says("now")) as server, client(server) as asked:
        assert asked.complete([prompt()])[0].error
        assert asked.complete([prompt()])[0].text == "now"


def test_all_of_a_prompt_tells_it_apart() -> None:
    changed: list[dict[str, Any]] = [
        {}, {"seed": 1}, {"max_tokens": 21}, {"temperature": 0.1},
        {"constraint": Constraint("json_schema", SCHEMA)},
        {"constraint": Constraint("vllm", SCHEMA)},
        {"constraint": Constraint("gbnf", None, "root")},
    ]  # fmt: skip
    keys = {prompt_key(m, prompt(**c)) for m in ("small", "large") for c in changed}
    keys.add(prompt_key("small", Prompt((Message("user", "hello"),), max_tokens=20)))
    assert len(keys) == 2 * len(changed) + 1


def test_a_damaged_cache_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be kept") as caught:
        ReplyCache(path)
    assert "remove that file" in caught.value.fix


def test_a_cache_that_fails_while_running_ends_it(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / FILE)
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("drop table replies")
    with (
        serving(says("x")) as server,
        client(server, cache=cache) as asked,
        pytest.raises(StoreError, match="no such table"),
    ):
        asked.complete([prompt()])


def test_ctrl_c_ends_all_requests() -> None:
    budget = Budget(tokens=100_000)
    with serving(hangs) as server, client(server, budget) as asked:

        def interrupt() -> None:
            server.reached.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            asked.complete([prompt(i) for i in range(3)])
        most = most_tokens_in(prompt()) + 20
        assert budget.reserved == Cost() and 0 < budget.used.tokens <= 3 * most
        server.answers = [says("after")]
        assert asked.complete([prompt(9)])[0].text == "after"


def test_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Neither in files, replies, errors, logs, nor output, though the server repeats it."""
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = events({"error": {"message": f"quota of {KEY} is used up"}})
    answers = [refuses(401, {"error": {"message": f"bad key {KEY}"}}), echo, says(f"it is {KEY}!")]
    with serving(*answers) as server:
        settings = LlmConfig(server.url, (Model("small"),), key_env="MY_KEY", retries=0)
        config = Config("p", "t", "f", ("kea.kea2",), llm=settings)
        given = Surroundings(config, lambda f, t: None, str, str(tmp_path))
        with connected(given) as asked:
            replies = asked.complete([prompt(0)]) + asked.complete([prompt(1)])
            replies += asked.complete([prompt(2)])
            server.models = (f"model {KEY}",)
            assert asked.models() == ("model [key]",)
            assert KEY not in repr(vars(asked)["config"]) + repr(asked)
    assert all(h["authorization"] == f"Bearer {KEY}" for h in server.headers)
    assert "bad key [key]" in replies[0].error and "quota of [key]" in replies[1].error
    assert replies[2].text == "it is [key]!" and not replies[2].error
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files and not any(KEY.encode() in p.read_bytes() for p in files)
    told = capfd.readouterr()
    assert "HTTP" in caplog.text
    assert KEY not in repr(replies) + str(config.to_dict()) + caplog.text + told.out + told.err


def test_a_run_has_its_budget_and_cache(tmp_path: Path) -> None:
    with serving(says("x")) as server:
        settings = LlmConfig(server.url, (Model("small"),))
        limits = Limits(tokens=900, money=2.0)
        config = Config("p", "t", "f", ("kea.kea2",), llm=settings, limits=limits)
        given = Surroundings(config, lambda f, t: None, str, str(tmp_path), 890, 1.5)
        with connected(given) as asked:
            assert (asked.budget.tokens, asked.budget.money) == (900, 2.0)
            (reply,) = asked.complete([prompt()])
    assert "890 of 900 tokens are used" in reply.error and not server.requests
    assert (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "url", ["http://me:secret@host/v1", "https://host/v1?key=secret", "host:80", "ftp://host", "[x"]
)
def test_a_base_url_holds_no_secret(url: str) -> None:
    with pytest.raises(PartError, match="plain http") as caught:
        client(url)
    assert "secret" not in caught.value.what + caught.value.fix


def test_neither_server_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(PartError, match="no server") as caught:
        client("")
    assert "--base-url" in caught.value.fix


def test_no_model_is_named() -> None:
    with (
        serving(says("x")) as server,
        client(server, models=()) as asked,
        pytest.raises(PartError, match="no language model"),
    ):
        asked.complete([prompt()])


def test_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.llm.client.find_spec", lambda name: None)
    with pytest.raises(PartError, match="not installed") as caught:
        client("http://127.0.0.1:1/v1")
    assert "ke-gen[llm]" in caught.value.fix
