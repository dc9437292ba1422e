"""From picks to candidates: asks the operator, screens what it proposes, and chooses."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.evaluation.pool import WorkerFailed
from search.operators.diagnosis import diagnose
from search.parts import (
    OPERATORS,
    Memory,
    Operator,
    Pick,
    Policy,
    Proposal,
    Proposals,
    Relative,
    Request,
    Surroundings,
    View,
    find_part,
)

if TYPE_CHECKING:
    from search.config import Config
    from search.evaluation.evaluator import Evaluator
    from search.graph import Edge, Node
    from search.store import Store

_TASKS = "search.tasks"
_UNRANKED = 0.25
"""Share of candidates that are taken without regard to the model, which may be wrong."""

_FAR = math.log(4.0)
"""How much worse (in log speed-up) the model may find one of those: judging slow ones is slow."""


@dataclass(frozen=True)
class Planned:
    """A candidate to be judged; with an ``error`` it is not valid KE-IR."""

    parent: str
    proposal: Proposal
    island: int
    key: str
    text: str
    features: Mapping[str, float] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


class Expander:
    """``exhausted`` names the parents of the last plan that have nothing more to offer.

    ``spent`` says why the operator can do no more at all; empty while it can.
    """

    def __init__(self, store: Store, evaluator: Evaluator, config: Config) -> None:
        self.store, self.evaluator, self.config = store, evaluator, config
        self.exhausted: tuple[str, ...] = ()
        self.spent = ""
        self._operator: Operator | None = None
        self._used = (0, 0.0)

    def resumed(self, tokens: int, money: float) -> None:
        """What the operator spent in earlier sessions; called before the first plan."""
        self._used = (tokens, money)

    @property
    def operator(self) -> Operator:
        """Made when it is first needed."""
        if self._operator is None:
            factory = find_part(OPERATORS, self.config.operator)
            connect = getattr(factory, "connect", None)
            self._operator = factory() if connect is None else connect(self._surroundings())
        return self._operator

    def close(self) -> None:
        """End what the operator holds open."""
        if (close := getattr(self._operator, "close", None)) is not None:
            close()

    @property
    def problems(self) -> Mapping[str, int]:
        """What the operator met with and went on, and how often."""
        found: Mapping[str, int] = getattr(self._operator, "problems", {})
        return found

    def _surroundings(self) -> Surroundings:
        def work(function: str, task: Mapping[str, Any]) -> Any:
            return self.evaluator.pool.run(function, task, self.evaluator.limits)

        return Surroundings(
            self.config, work, self.store.artifacts.put, self.store.folder, *self._used,
            read=self.store.artifacts.text,
        )  # fmt: skip

    def plan_roots(self, texts: Sequence[str], labels: Sequence[str]) -> list[Planned]:
        """The roots, screened."""
        c = self.config
        task = {"texts": texts, "program": c.program, "targets": c.targets, "dims": c.dims}
        screened = self.evaluator.pool.run(f"{_TASKS}:screen", task, self.evaluator.limits)
        return [
            _planned("", Proposal(text, label, "root"), 0, found)
            for text, label, found in zip(texts, labels, screened, strict=True)
        ]

    def plan_warm(self, root: Node) -> list[Planned]:
        """What did well in earlier runs, applied to a root."""
        self.exhausted = ()
        c, text = self.config, self.store.artifacts.text(root.text)
        task = {
            "text": text, "chains": c.warm, "program": c.program, "targets": c.targets,
            "dims": c.dims,
        }  # fmt: skip
        found = self.evaluator.pool.run(f"{_TASKS}:replay", task, self.evaluator.limits)
        return [
            _planned(root.key, proposal, 0, screened)
            for proposal, screened in zip(found["items"], found["screened"], strict=True)
        ]

    def plan(
        self, view: View, picks: Sequence[Pick], policy: Policy, rng: random.Random
    ) -> list[Planned]:
        """As many candidates as there are picks, or fewer. Equal picks are asked for at once."""
        groups: dict[Pick, int] = {}
        for p in picks:
            groups[p] = groups.get(p, 0) + 1
        seed = f"{self.config.seed}/{view.round}"
        requests = [
            (pick, n, self._request(view, pick, n * self._wanted(pick, policy), f"{seed}/{i}"))
            for i, (pick, n) in enumerate(groups.items())
        ]
        answers = self._answers([r for _, _, r in requests])
        planned: list[Planned] = []
        exhausted = []
        for (pick, n, _), answer in zip(requests, answers, strict=True):
            found = [
                _planned(pick.parent, proposal, pick.island, screened)
                for proposal, screened in zip(answer["items"], answer["screened"], strict=True)
            ]
            chosen = _choose(view, found, n, pick.guided, rng)
            planned += chosen
            if answer["exhausted"] and len(chosen) == len(found):
                exhausted.append(pick.parent)
        self.exhausted = tuple(dict.fromkeys(exhausted))
        return planned

    def _request(self, view: View, pick: Pick, count: int, seed: str) -> Request:
        node = view.graph.node(pick.parent)
        diagnosis = diagnose(node.scores)
        memory = Memory.CLEAN if pick.memory is Memory.CLEAN else Memory(self.config.memory)
        return Request(
            text=self.store.artifacts.text(node.text),
            program=self.config.program,
            targets=self.config.targets,
            count=count,
            steps=pick.steps,
            seed=seed,
            guided=pick.guided,
            tried=tuple(sorted(view.graph.tried(pick.parent))),
            bounds=diagnosis.bounds if pick.guided else {},
            descend=pick.descend,
            dims=self.config.dims,
            weights=self.config.weights,
            relatives=relatives(view, pick.parent, memory),
            diagnosis=diagnosis,
            scores=node.scores,
        )

    def _wanted(self, pick: Pick, policy: Policy) -> int:
        """Proposals for each candidate evaluated. A descent has ranked its own already, and what an
        operator outside of a worker proposes costs more than judging it."""
        return 1 if pick.descend or not self.operator.in_worker else policy.oversample

    def _answers(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """What the operator says to each request, screened."""
        together = getattr(self.operator, "propose_all", None)
        given = list(together(requests)) if together is not None else [None] * len(requests)
        with ThreadPoolExecutor(self.evaluator.pool.size) as threads:
            try:
                return list(threads.map(self._ask, requests, given))
            except BaseException:
                self.evaluator.pool.close()
                threads.shutdown(wait=True, cancel_futures=True)
                raise

    def _ask(self, request: Request, given: Proposals | None) -> dict[str, Any]:
        """The operator's answer, screened. What fails is an answer without proposals."""
        c, pool, limits = self.config, self.evaluator.pool, self.evaluator.limits
        try:
            if self.operator.in_worker:
                task = {"operator": c.operator, "request": request}
                answer: dict[str, Any] = pool.run(f"{_TASKS}:propose", task, limits)
                return answer
            found = given if given is not None else self.operator.propose(request)
            self.spent = self.spent or found.spent
            task = {
                "texts": [p.text for p in found.items], "program": c.program,
                "targets": c.targets, "dims": c.dims,
            }  # fmt: skip
            screened = pool.run(f"{_TASKS}:screen", task, limits)
            return {"items": found.items, "exhausted": found.exhausted, "screened": screened}
        except WorkerFailed as failure:
            reason = f"operator {c.operator}: {failure.cause}: {failure.reason}"
            lost = Proposal(request.text, f"({request.seed})", "failed", error=reason)
            return {"items": [lost], "exhausted": True, "screened": [{"error": reason}]}


def relatives(view: View, parent: str, memory: Memory) -> tuple[Relative, ...]:
    """The steps to a node and its children, as far as the memory mode lets an operator see them."""
    graph = view.graph
    edges: list[tuple[str, Edge]] = []
    if memory in (Memory.PARENT, Memory.BOTH):
        edges += [("path", graph.lineage_edge(k)) for k in graph.lineage(parent)[1:]]
    if memory in (Memory.SIBLINGS, Memory.BOTH):
        edges += [("child", e) for e in graph.edges_from(parent)]
    out: list[Relative] = []
    for where, e in edges:
        if e.outcome == "duplicate":
            continue
        gain = view.scores.get(e.child, -math.inf) - view.scores.get(e.parent, -math.inf)
        known = gain if math.isfinite(gain) else None
        out.append(Relative(e.label, e.kind, where, known, e.reason))
    return tuple(out)


def _planned(parent: str, p: Proposal, island: int, screened: Mapping[str, Any]) -> Planned:
    error = p.error or screened.get("error", "")
    if error:
        key = hashlib.blake2b(f"{p.text}{p.label}".encode(), digest_size=16).hexdigest()
        return Planned(parent, p, island, key, p.text, error=error)
    return Planned(
        parent, p, island, screened["key"], screened["text"], screened["features"],
        screened["estimates"],
    )  # fmt: skip


def _choose(
    view: View, found: Sequence[Planned], count: int, ranked: bool, rng: random.Random
) -> list[Planned]:
    """The most promising by the analytic model, and some at random.

    What failed or is known already costs nothing more, and is recorded beside them.
    """
    if not ranked:
        return list(found[:count])
    failed = [p for p in found if p.error]
    known = [p for p in found if not p.error and p.key in view.graph]
    left = [p for p in found if not p.error and p.key not in view.graph]
    left.sort(key=lambda p: -view.fitness.estimate(p.estimates))
    chosen: list[Planned] = []
    while left and len(chosen) < count:
        worst = view.fitness.estimate(left[0].estimates) - _FAR
        near = sum(1 for p in left if view.fitness.estimate(p.estimates) >= worst)
        at = rng.randrange(near) if rng.random() < _UNRANKED else 0
        chosen.append(left.pop(at))
    return [*failed, *chosen, *known]
