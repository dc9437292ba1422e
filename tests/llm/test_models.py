"""Several models share a search: by weight, by phase, each at its own price."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ke_gen.faults import Fault
from ke_gen.llm_options import llm_config
from search.llm.budget import Budget, most_tokens_in
from search.llm.client import choose_model
from search.llm.types import LlmConfig, Model
from search.operators.diagnosis import Diagnosis, Failure
from search.operators.llm import Llm
from search.store import Store
from search.termination import Limits
from tests.llm.conftest import Played
from tests.llm.server import Handler, says, serving
from tests.llm.test_client import client, prompt
from tests.llm.test_client_search import budget_of, replying, settings, transcripts
from tests.llm.test_operator import request, searched

CHEAP, STRONG = Model("cheap", 3.0, ("draft",), 1.0, 2.0), Model("strong", 1.0, (), 10.0, 50.0)


def config(
    models: str, *, money: float = 0.0, price_in: str = "", price_out: str = ""
) -> LlmConfig:
    return llm_config("llm", money, models, price_in, price_out, ())


def test_models_share_by_weight_and_seed() -> None:
    models = (Model("small", 3.0), Model("large"))
    chosen = [choose_model(models, "refine", seed).name for seed in range(2000)]
    assert chosen == [choose_model(models, "", seed).name for seed in range(2000)]
    assert 0.7 < Counter(chosen)["small"] / 2000 < 0.8
    with serving(says("x")) as server, client(server, models=models) as asked:
        replies = asked.complete([prompt(seed) for seed in range(8)])
        assert asked.models() == ("small", "large")
    assert [r.model for r in replies] == chosen[:8] and len(set(chosen[:8])) == 2


@pytest.mark.parametrize(
    ("models", "draft", "refine", "repair"),
    [
        ("a,b", "ab", "ab", "ab"),
        ("draft=a,b", "a", "b", "b"),
        ("draft=a,refine=b", "a", "b", "ab"),
        ("draft=a,refine+repair=b", "a", "b", "b"),
        ("draft=a,draft=b,refine=b,c", "ab", "b", "c"),
    ],
)
def test_each_phase_has_its_models(models: str, draft: str, refine: str, repair: str) -> None:
    named = config(models).models
    for phase, expected in (("draft", draft), ("refine", refine), ("repair", repair)):
        asked = {choose_model(named, phase, seed).name for seed in range(60)}
        assert asked == set(expected), phase


def test_a_prompt_knows_its_phase(operator: Any) -> None:
    played = Played("prose.md", "pick.json")
    llm: Llm = operator(played, mends=1)
    failed = Diagnosis((), (Failure("kea.kea2", "meaning", "wrong"),))
    for changes in ({"steps": 4}, {}, {"diagnosis": failed, "steps": 4}):
        llm.propose(request(**changes))
    # Each first reply is sent back, and the second of its conversation is of the same phase.
    assert [p.phase for p in played.prompts] == ["draft"] * 2 + ["refine"] * 2 + ["repair"] * 2


def test_each_reply_costs_what_its_model_does() -> None:
    with (
        serving(says("x", tokens=(1000, 20))) as server,
        client(server, models=(CHEAP, STRONG), concurrency=1) as asked,
    ):
        cheap, strong = asked.complete([prompt(1, phase="draft"), prompt(1, phase="refine")])
        assert asked.budget.used.money == pytest.approx(cheap.money + strong.money)
    assert (cheap.model, strong.model) == ("cheap", "strong")
    assert cheap.money == pytest.approx((1000 * 1 + 20 * 2) / 1e6)
    assert strong.money == pytest.approx((1000 * 10 + 20 * 50) / 1e6)
    assert [b["model"] for b in server.requests] == ["cheap", "strong"]


def test_what_is_reserved_is_at_the_model_s_price() -> None:
    """A budget that the strong one does not fit into still has room for the cheap one."""
    most = STRONG.cost(most_tokens_in(prompt()), 20)
    with (
        serving(says("x", tokens=(10, 5))) as server,
        client(server, Budget(money=0.9 * most), models=(CHEAP, STRONG)) as asked,
    ):
        strong, cheap = asked.complete([prompt(1, phase="refine"), prompt(1, phase="draft")])
    assert "the budget is spent" in strong.error and not cheap.error
    assert [b["model"] for b in server.requests] == ["cheap"]


def test_a_search_drafts_with_one_and_refines_with_another(store: Store) -> None:
    def answer(handler: Handler) -> None:
        refines = handler.body["model"] == "strong"
        replying("whole.md" if refines else "edit.json")(handler)

    with serving(answer) as server:
        llm = settings(server.url, models=(CHEAP, STRONG))
        limits = Limits(candidates=6, money=1.0)
        search = searched(store, "rms_norm", 6, drafts=3, dims={"B": 8}, llm=llm, limits=limits)
        assert search.config.llm.models == (CHEAP, STRONG)
    turns = transcripts(store, search)
    drafting = {(t["model"], "This is a first draft" in t["messages"][1]["content"]) for t in turns}
    money = {m.name: m.cost(3000, 60) for m in (CHEAP, STRONG)}
    assert drafting == {("cheap", True), ("strong", False)}
    assert all(t["money"] == pytest.approx(money[t["model"]]) for t in turns)
    assert search.money == pytest.approx(sum(money[b["model"]] for b in server.requests))
    assert search.money == pytest.approx(budget_of(search).used.money) and search.money <= 1.0


def test_options() -> None:
    found = config(
        "draft=cheap:3, refine+repair=qwen3:8b", price_in="3,cheap=0.2", price_out="cheap=0.5"
    )
    assert found.models == (
        Model("cheap", 3.0, ("draft",), 0.2, 0.5), Model("qwen3:8b", 1.0, ("refine", "repair"), 3.0)
    )  # fmt: skip
    assert config("a@20240620:2").models == (Model("a@20240620", 2.0),)
    assert LlmConfig.from_dict(json.loads(json.dumps(asdict(found)))) == found


def test_runs_of_earlier_versions_have_one_price() -> None:
    data = asdict(LlmConfig()) | {"models": [["a", 2.0]], "price_in": 1.0, "price_out": 4.0}
    assert LlmConfig.from_dict(data).models == (Model("a", 2.0, (), 1.0, 4.0),)


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ({"models": "refin=a"}, "`refin` is no phase", "did you mean `refine`"),
        ({"models": "draft+=a"}, "`` is no phase", "draft, refine, repair"),
        ({"models": "=a"}, "`` is no phase", "draft=cheap:3"),
        ({"models": "draft="}, "not a name and its weight", "draft=cheap:3"),
        ({"models": "draft=a:0"}, "not a name and its weight", "draft=cheap:3"),
        ({"models": "a:nan"}, "not a name and its weight", "draft=cheap:3"),
        ({"models": "a:1@refine"}, "the phase stands before the name", "draft=cheap:3"),
        ({"models": "a,b,a:2"}, "names a twice", "one weight"),
        ({"models": "draft=a,draft+refine=a"}, "names a twice for the phase draft", "one weight"),
        ({"models": "a", "price_in": "x"}, "--price-in x: not a price", "strong=3"),
        ({"models": "a", "price_out": "a=-1"}, "--price-out a=-1: not a price", "strong=3"),
        ({"models": "strong", "price_in": "strng=1"}, "no --model is called strng", "`strong`"),
        ({"models": "a", "price_in": "a=1,a=2"}, "given twice", "one of them"),
        ({"models": "a,b", "money": 1.0, "price_in": "1", "price_out": "a=2"}, "b has no price",
         "--price-out b=PRICE"),
    ],
)  # fmt: skip
def test_bad_spelling(given: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(Fault) as caught:
        config(**given)
    assert what in str(caught.value) + caught.value.what and fix in caught.value.fix


def test_what_is_free_may_be_limited() -> None:
    assert config("a", money=1.0, price_in="0", price_out="0").models == (Model("a"),)


def test_the_phase_is_no_part_of_what_is_kept(tmp_path: Path) -> None:
    from search.llm.cache import prompt_key

    assert prompt_key("a", prompt(phase="draft")) == prompt_key("a", prompt())
