"""Whole searches on the toy target: what they find, and that they do so again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.rewrites import apply_text
from search.candidates import key, roots, text_of
from search.evaluation.evaluator import Evaluator
from search.evaluation.pool import GIB
from search.evaluation.pool import Limits as WorkerLimits
from search.judge import Judge, Subject
from search.parts import OPERATORS, POLICIES, PartError, find_part, part_names
from search.run import Search, start
from search.store import Store, open_store
from search.termination import Limits
from tests.search.conftest import OP, config_for
from tests.search.toy_target import CRASHES, HANGS, HOGS, ILLEGAL

Searched = Callable[..., Search]


def shape(search: Search) -> str:
    """The graph without what depends on the clock."""
    data = search.graph.to_json()
    for e in data["edges"]:
        e["seconds"] = 0
    return json.dumps(data)


@pytest.mark.parametrize("policy", ["beam", "evolutionary", "greedy", "mcts", "random"])
def test_policies_gain_and_repeat(
    policy: str, searched: Searched, store: Store, tmp_path: Path
) -> None:
    one = searched(store, jobs=1, policy=policy, limits=Limits(candidates=18))
    with open_store(str(tmp_path / "again")) as other:
        two = searched(other, jobs=2, policy=policy, limits=Limits(candidates=18))
    assert one.evaluated == 18
    assert shape(one) == shape(two)
    best, root = one.graph.best("toy.good"), one.graph.node(one.graph.roots[0])
    assert best is not None
    assert (best.scores["toy.good"].seconds or 9) < (root.scores["toy.good"].seconds or 0)


def test_other_seeds_find_other_things(searched: Searched, store: Store) -> None:
    assert shape(searched(store, seed=1)) != shape(searched(store, seed=2))


def test_knobs_are_tuned_and_kept(searched: Searched, store: Store) -> None:
    search = searched(store)
    best = search.graph.best("toy.good")
    assert best is not None and best.scores["toy.good"].knobs == {"speed": 2}


def test_a_second_run_is_answered_from_the_store(
    searched: Searched, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "times"
    monkeypatch.setenv("TOY_LOG", str(log))
    one = searched(store)
    timed, kept = log.read_text(), store.count_evaluations()
    assert timed
    two = searched(store)
    assert log.read_text() == timed and store.count_evaluations() == kept
    assert shape(one) == shape(two)


def test_several_targets_and_their_front(searched: Searched, store: Store) -> None:
    search = searched(
        store, targets=("toy.good", "toy.other"), fitness="pareto", limits=Limits(candidates=40)
    )
    good, other = search.graph.best("toy.good"), search.graph.best("toy.other")
    assert good is not None and other is not None and good.key != other.key
    assert {good.key, other.key} <= {n.key for n in search.graph.front()}


def test_the_op_is_never_touched(searched: Searched, store: Store) -> None:
    search = searched(store)
    texts = [store.artifacts.text(n.text) for n in search.graph.nodes()]
    assert len({t.partition("kernel")[0] for t in texts}) == 1


def test_a_bad_candidate_costs_itself_only(toy: Path, store: Store) -> None:
    """Crash, hang, memory and an illegal one, each on one target; the other target goes on."""
    derived = text_of(roots(parse(OP), "scale")[0])
    with Evaluator(2, WorkerLimits(4.0, int(0.5 * GIB))) as evaluator:
        judge = Judge(store, evaluator, "scale", ("toy.faulty", "toy.good"), {}, tuning=False)
        reasons = {}
        for tile in (CRASHES, HANGS, HOGS, ILLEGAL, 8):
            module = apply_text(f"retile(@scale, %d, {tile})", parse(derived))
            assert isinstance(module, Module)
            module = parse(text_of(module))
            judged = judge.judge(Subject(key(module), text_of(module)))
            assert judged.scores["toy.good"].seconds is not None
            reasons[tile] = judged.reason
        assert store.count_evaluations() == 10
    assert "crash" in reasons[CRASHES] and "SIGABRT" in reasons[CRASHES]
    assert "timeout" in reasons[HANGS] and "memory" in reasons[HOGS]
    assert "legal: tiles of 2" in reasons[ILLEGAL] and reasons[8] == ""


def test_a_search_goes_on_past_bad_candidates(searched: Searched, store: Store) -> None:
    search = searched(store, targets=("toy.faulty",), seconds=4.0, limits=Limits(candidates=12))
    assert 6 <= search.evaluated <= 12  # its good candidates may have nothing more to offer
    failed = [n for n in search.graph.nodes() if n.status == "wrong"]
    assert failed and all(search.graph.lineage_edge(n.key).reason for n in failed)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(candidates=7), "7 candidates evaluated"),
        (Limits(candidates=500, stall=8), "no gain in"),
        (Limits(roofline=1e-9), "of the roofline reached"),
        (Limits(seconds=0.01), "s are over"),
    ],
)
def test_termination(toy: Path, store: Store, limits: Limits, reason: str) -> None:
    run = start(store, config_for(store, limits=limits))
    with Search(store, run, 2) as search:
        assert reason in search.run()
    if limits.candidates == 7:
        assert search.evaluated == 7
    assert store.run(run).state == "finished"


def test_more_candidates_may_be_asked_for_later(
    searched: Searched, store: Store, tmp_path: Path
) -> None:
    short = searched(store, limits=Limits(candidates=16))
    config = config_for(store, limits=Limits(candidates=28)).to_dict()
    store.reconfigure(short.id, config)
    with Search(store, short.id, 2) as search:
        assert search.evaluated == 16
        search.run()
    assert search.evaluated == 28


def test_a_warm_start_begins_with_what_did_well(searched: Searched, store: Store) -> None:
    from search.warm import similar_chains

    first = searched(store, limits=Limits(candidates=40))
    module = parse(OP.replace("D = 64", "D = 32"))
    chains = similar_chains(store, module, "scale", ("toy.good",))
    assert chains
    warm = searched(store, limits=Limits(candidates=4), warm=chains, drafts=0)
    best, before = warm.graph.best("toy.good"), first.graph.best("toy.good")
    assert best is not None and before is not None and best.key == before.key
    other = parse(OP.replace("x[b, d] * s[b]", "x[b, d] + s[b]"))
    assert similar_chains(store, other, "scale", ("toy.good",)) == ()


def test_a_root_that_never_works_is_said(toy: Path, store: Store) -> None:
    text = "op @scale(x: f32[B]) -> (y: f32[B])\ndims B = 8\n{\n  y[b] = x[b]\n}\n"
    kernel = (
        "\nkernel @scale(%x: f32[B]) -> (%y: f32[B]) {\n  parallel %b = 0 to B tile 2 {\n"
        "    %v = load %x[%b] : f32[2]\n    store %v, %y[%b]\n  }\n}\n"
    )
    config = config_for(store, text=store.artifacts.put(text + kernel), targets=("toy.faulty",))
    with Search(store, start(store, config), 1) as search:
        search.run()
    own = search.graph.node(search.graph.roots[0])
    assert own.status == "wrong" and own.scores["toy.faulty"].stage == "legal"
    assert len(search.graph.roots) == 2 and search.graph.best("toy.faulty") is not None


def test_parts_are_entry_points() -> None:
    assert set(part_names(POLICIES)) >= {"beam", "evolutionary", "greedy", "mcts", "random"}
    assert "rules" in part_names(OPERATORS)
    with pytest.raises(PartError) as caught:
        find_part(POLICIES, "gredy")
    assert "greedy" in caught.value.fix


def test_rejected_replies_are_kept_with_their_reason(
    toy: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator says is data: text that is not KE-IR is an edge with a reason."""
    from search.parts import Proposal, Proposals

    class Babbler:
        in_worker = False

        def propose(self, request: Any) -> Proposals:
            return Proposals((Proposal("no IR", f"edit {request.seed}", "edit", 0.1, 7, 0.5),))

    monkeypatch.setattr("search.expand.find_part", lambda *_: Babbler)
    run = start(store, config_for(store, limits=Limits(tokens=20), drafts=0))
    with Search(store, run, 1) as search:
        assert "tokens used" in search.run()
    rejected = [n for n in search.graph.nodes() if n.status == "rejected"]
    assert len(rejected) >= 3 and search.money >= 1.5
    edge = search.graph.lineage_edge(rejected[0].key)
    assert edge.kind == "edit" and edge.tokens == 7 and "expected" in edge.reason
    assert os.path.isdir(store.artifacts.url)


def test_a_faulty_rewrite_costs_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    from ke_ir.rewrites.retile import Retile
    from search.operators.offers import offers_of
    from search.operators.rules import Rules
    from search.parts import Request

    def broken(*_: object) -> None:
        raise KeyError("a fault of the rewrite's own")

    monkeypatch.setattr(Retile, "apply", broken)
    offers_of.cache_clear()
    text = text_of(roots(parse(OP), "scale")[0])
    found = Rules().propose(Request(text, "scale", ("toy.good",), 8, 1, "0", True))
    failed = [p for p in found.items if p.error]
    assert failed and all("retile(" in p.label and "at fault" in p.error for p in failed)
    assert any(not p.error for p in found.items)
