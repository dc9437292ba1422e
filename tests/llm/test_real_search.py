"""Short searches with a real model: every step is legal, and equal seeds give equal runs.

Mechanics only. What it picks is no better than chance, and is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ke_ir.parser import parse
from ke_ir.printer import print_item
from ke_ir.rewrites import NoMatch, apply_text
from search.candidates import key
from search.config import Config
from search.llm.budget import Budget
from search.llm.cache import ReplyCache
from search.llm.client import Client
from search.llm.grammar import reply_grammar
from search.llm.reply import KERNEL
from search.llm.types import Constraint, LlmConfig, Message, Model, Prompt
from search.run import Search, start
from search.store import Store, open_store
from search.termination import Limits
from tests.llm.conftest import EXAMPLES, MODEL, derived, small_server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "store")) as found:
        yield found


def searched(store: Store, base_url: str, count: int) -> Search:
    llm = LlmConfig(
        base_url,
        (Model(MODEL),),
        "gbnf",
        prompt_tokens=900,
        reply_tokens=200,
        mends=0,
        concurrency=1,
    )
    config = Config(
        program="add_relu", text=store.artifacts.put((EXAMPLES / "add_relu.ir").read_text()),
        file="add_relu.ir", targets=("kea.kea2",), operator="llm", policy="greedy", drafts=0,
        dims={"B": 16}, batch=2, tuning=False, limits=Limits(candidates=count), llm=llm,
    )  # fmt: skip
    with Search(store, start(store, config), 1) as search:
        search.run()
    return search


def test_every_step_is_legal_and_a_seed_repeats(store: Store, tmp_path: Path) -> None:
    with small_server() as url:
        search = searched(store, url, 3)
    steps = [e for e in search.graph.edges() if e.outcome != "rejected"]
    assert steps and search.tokens > 0
    for e in steps:
        module = parse(store.artifacts.text(search.graph.node(e.parent).text))
        for text in e.label.split("; "):
            new = apply_text(text, module)
            assert not isinstance(new, NoMatch)
            module = new
        assert key(module) == e.child
        (*_, last) = json.loads(store.artifacts.text(e.transcript))["turns"]
        assert last["model"] == MODEL and json.loads(last["reply"])["rewrites"]
    with open_store(str(tmp_path / "other")) as other, small_server() as url:
        (again,) = searched(other, url, 2).graph.edges()
    first = next(search.graph.edges())
    assert (again.label, again.child, again.tokens) == (first.label, first.child, first.tokens)


@pytest.mark.parametrize("form", ["kernel", "program"])
def test_a_bounded_kernel_is_written(form: str) -> None:
    """By GBNF: it ends by itself, and has the form of KE-IR. A program brings its kernel."""
    module = derived("rms_norm")
    grammar = reply_grammar(module, "rms_norm", 0, (KERNEL,), statements=1, kernels=1)
    grammar = grammar.replace("root ::= kernel | program", f"root ::= {form}")
    prompt = Prompt(
        (Message("user", "Write a kernel."),), Constraint("gbnf", None, grammar), 1000, 0.7, 3
    )
    with small_server() as url:
        config = LlmConfig(url, (Model(MODEL),), timeout=120.0)
        with Client(config, ReplyCache(None), Budget()) as client:
            (reply,) = client.complete([prompt])
    assert not reply.error and reply.finish == "stop", reply
    found = parse(reply.text + print_item(module.ops["rms_norm"]))
    assert found.kernels and ("rms_norm" in found.kernels) == (form == "kernel")
    assert "rms_norm" in found.programs
