"""Runs a search: rounds of picking, proposing, screening and judging, each a checkpoint.

A round's decisions follow from the graph at its start and from the seed and the round's number.
Nothing depends on which worker was faster, so a run that was killed and resumed ends as one that
was not.
"""

from __future__ import annotations

import bisect
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ke_ir.diff import count, diff_modules
from ke_ir.parser import parse
from search.candidates import roots, text_of
from search.config import Config
from search.evaluation.evaluator import Evaluator
from search.evaluation.pool import GIB
from search.evaluation.pool import Limits as WorkerLimits
from search.expand import Expander, Planned
from search.graph import Edge, Node, SearchGraph
from search.judge import Judge, Judgement, Stopped, Subject
from search.parts import (
    FITNESS,
    OPERATORS,
    POLICIES,
    Memory,
    Pick,
    Policy,
    Progress,
    View,
    find_part,
)
from search.store.store import FINISHED, STOPPED, Round, Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from search.evaluation.pool import Pool

_IDLE_ROUNDS = 20
"""Rounds without a new candidate after which there is taken to be none left."""
_NEAR = 0.995
"""A candidate that takes less than this times the best so far has its knobs tuned."""


class Listener(Protocol):
    """Is told how the search goes; called from the thread that runs it."""

    def candidate(self, node: Node, edge: Edge, new: bool) -> None: ...

    def round(self, search: Search) -> None: ...


class Quiet:
    """A listener that does not care."""

    def candidate(self, node: Node, edge: Edge, new: bool) -> None:
        """Nothing."""

    def round(self, search: Search) -> None:
        """Nothing."""


def start(store: Store, config: Config) -> str:
    """A new run; gives its id. Raises PartError for parts that do not exist, StoreError."""
    chosen = (POLICIES, config.policy), (OPERATORS, config.operator), (FITNESS, config.fitness)
    for group, name in chosen:
        find_part(group, name)
    prepare = getattr(find_part(OPERATORS, config.operator), "prepare", None)
    if prepare is not None:
        config = prepare(config, store.folder, store.artifacts.put)
    return store.create_run(config.to_dict(), config.program)


class Search:
    """One run, from wherever the store says it is. Use as a context manager.

    With ``pool`` its workers do the work and stay; else the search has ``jobs`` of its own.
    """

    def __init__(
        self, store: Store, run: str, jobs: int = 0, listener: Listener | None = None,
        pool: Pool | None = None,
    ) -> None:  # fmt: skip
        record = store.run(run)
        self.store, self.id = store, run
        self.config = Config.from_dict(record.config)
        self.listener: Listener = listener or Quiet()
        limits = WorkerLimits(self.config.seconds, int(self.config.gib * GIB))
        self.evaluator = Evaluator(jobs, limits, pool)
        c = self.config
        self.judge = Judge(store, self.evaluator, c.program, c.targets, c.dims, c.tuning)
        self.expander = Expander(store, self.evaluator, c)
        self.graph = SearchGraph()
        self.evaluated = self.stalled = self.idle = 0
        self.tokens, self.money = 0, 0.0
        self.degenerate = ""
        self.rounds: list[Round] = []
        self._earlier = record.seconds
        self._begin = time.monotonic()
        self._best = -math.inf
        self._restore()
        self.expander.resumed(self.tokens, self.money)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_: object) -> None:
        self.expander.close()
        self.evaluator.__exit__()

    @property
    def elapsed(self) -> float:
        """Wall clock of all sessions of this run, in seconds."""
        return self._earlier + time.monotonic() - self._begin

    # ---- state --------------------------------------------------------------------------------

    def _restore(self) -> None:
        """What the completed rounds left: nothing of one that was cut off is seen."""
        self.rounds = self.store.rounds(self.id)
        if not self.rounds:
            return
        self.graph = self.store.graph(self.id, len(self.rounds))
        self._begin_view()
        per_round: dict[int, list[Node]] = {}
        for n in self.graph.nodes():
            per_round.setdefault(n.round, []).append(n)
        for done in self.rounds:
            self._observe(per_round.get(done.number, []), done)

    def _begin_view(self) -> None:
        reference = self.graph.node(self.graph.roots[-1]).scores
        fitness = find_part(FITNESS, self.config.fitness)(reference, self.config.weights)
        self.view = View(self.graph, fitness)
        self.policy: Policy = find_part(POLICIES, self.config.policy)()

    def _observe(self, new: Sequence[Node], done: Round) -> None:
        """Account for a completed round."""
        view = self.view
        for n in new:
            score = view.scores[n.key] = view.fitness.score(n)
            if score > -math.inf:
                bisect.insort(view.ranked, (-score, n.seq, n.key))
            self.policy.observe(n, view)
            self.evaluated += n.status != "rejected"
            self.stalled = 0 if score > self._best else self.stalled + 1
            self._best = max(self._best, score)
        for k in done.picks:
            view.visits[k] = view.visits.get(k, 0) + 1
        view.exhausted.update(done.exhausted)
        view.round = done.number + 1
        self.tokens += int(done.counts.get("tokens", 0))
        self.money += done.counts.get("money", 0.0)
        # An operator that only babbles finds nothing new either.
        self.idle = 0 if any(n.status != "rejected" for n in new) else self.idle + 1

    def progress(self) -> Progress:
        """What termination looks at."""
        best = [self.graph.best(t) for t in self.config.targets]
        fractions = [
            (n.scores[t].fraction or 0.0) if n is not None else 0.0
            for n, t in zip(best, self.config.targets, strict=True)
        ]
        return Progress(
            self.evaluated, self.elapsed, self.stalled, min(fractions, default=0.0),
            self.tokens, self.money,
        )  # fmt: skip

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> str:
        """Until a limit is reached; gives the reason. An interrupt stops cleanly."""
        self.store.claim(self.id)
        try:
            reason = self._loop()
        except BaseException:
            self._stop()
            self.store.end(self.id, STOPPED, self.elapsed, "interrupted")
            raise
        self.store.end(self.id, FINISHED, self.elapsed, reason)
        return reason

    def _stop(self) -> None:
        self.judge.stopped = True
        self.evaluator.pool.close()

    def _loop(self) -> str:
        if not self.rounds:
            self._round(0, self._plan_roots(), ())
        while True:
            progress = self.progress()
            reason = self.config.limits.reason(progress)
            reason = reason or self.expander.spent
            if not reason and not self.view.ranked:
                reason = "no root is correct on any target"
            if not reason and self.idle >= _IDLE_ROUNDS:
                reason = "nothing new was found any more"
            if reason:
                return reason
            number = len(self.rounds)
            if number == 1 and self.config.warm:
                root = self.graph.node(self.graph.roots[-1])
                self._round(number, self.expander.plan_warm(root), ())
                continue
            rng = random.Random(f"{self.config.seed}/{number}")
            picks = self._picks(rng, self._room(progress))
            if not picks:
                return "no candidate has anything more to offer"
            self._round(number, self.expander.plan(self.view, picks, self.policy, rng), picks)

    def _room(self, progress: Progress) -> int:
        limit = self.config.limits.candidates
        left = limit - progress.candidates if limit else self.config.batch
        return min(self.config.batch, left)

    def _picks(self, rng: random.Random, room: int) -> Sequence[Pick]:
        drafts = self.config.drafts - (self.evaluated - len(self.graph.roots))
        if drafts > 0 and self.idle < 2:
            usable = [k for k in self.graph.roots if k in {n for _, _, n in self.view.ranked}]
            count = min(room, drafts)
            return [self._draft(usable[i % len(usable)], i, rng) for i in range(count)]
        return self.policy.pick(self.view, room, rng)

    def _draft(self, root: str, island: int, rng: random.Random) -> Pick:
        """Every other draft follows the analytic model; the rest find what it does not see."""
        guided = self.policy.guided
        descend = guided and island % 2 == 0
        return Pick(root, 3 + rng.randrange(6), Memory.CLEAN, island, guided, descend)

    def _plan_roots(self) -> list[Planned]:
        module = parse(self.store.artifacts.text(self.config.text))
        texts = [text_of(m) for m in roots(module, self.config.program)]
        labels = ["derived"] if len(texts) == 1 else ["file", "derived"]
        if self.config.program not in module.ops:
            labels = ["file"]
        return self.expander.plan_roots(texts, labels)

    def _round(self, number: int, planned: Sequence[Planned], picks: Sequence[Pick]) -> None:
        new = self._judge_all(number, planned)
        counts = {
            "proposed": float(len(planned)),
            "evaluated": float(len(new)),
            "tokens": float(sum(p.proposal.tokens for p in planned)),
            "money": sum(p.proposal.money for p in planned),
        }
        exhausted = self.expander.exhausted if number else ()
        done = Round(number, tuple(p.parent for p in picks), tuple(exhausted), counts)
        self.store.finish_round(self.id, done, self.elapsed)
        self.rounds.append(done)
        if number == 0:
            self._begin_view()
        self._observe(new, done)
        self.listener.round(self)

    def _judge_all(self, number: int, planned: Sequence[Planned]) -> list[Node]:
        """Judge what is new in parallel; insert in the order of the plan, each a checkpoint."""
        near = {
            t: _NEAR * seconds
            for t in self.config.targets
            if (n := self.graph.best(t)) is not None and (seconds := n.scores[t].seconds)
        }
        first: dict[str, Planned] = {}
        for p in planned:
            if not p.error and p.key not in self.graph:
                first.setdefault(p.key, p)
        inserted: list[Node] = []
        with ThreadPoolExecutor(self.evaluator.pool.size) as threads:
            try:
                running = {
                    p.key: threads.submit(self.judge.judge, self._subject(p, near))
                    for p in first.values()
                }
                for index, p in enumerate(planned):
                    judged = None
                    if first.get(p.key) is p:
                        judged = running[p.key].result()
                    if (node := self._insert(number, index, p, judged)) is not None:
                        inserted.append(node)
            except BaseException:
                self._stop()
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return inserted

    def _subject(self, p: Planned, near: Mapping[str, float]) -> Subject:
        knobs = {}
        if p.parent:
            scores = self.graph.node(p.parent).scores
            knobs = {t: s.knobs for t, s in scores.items() if s.knobs}
        return Subject(p.key, p.text, knobs, p.estimates, near)

    def _insert(self, number: int, index: int, p: Planned, judged: Judgement | None) -> Node | None:
        """One checkpoint. Gives the node if it is new."""
        q = p.proposal
        seconds = q.seconds + (judged.seconds if judged else 0.0)
        edge = Edge(
            p.parent, p.key, number, index, q.label, q.kind, "duplicate", "", seconds,
            q.tokens, q.money, self._changes(p) if p.key not in self.graph else {},
            q.rationale, q.transcript,
        )  # fmt: skip
        if p.key in self.graph:
            return self._checkpoint(None, edge)
        generation = self.graph.node(p.parent).generation + 1 if p.parent else 0
        status = judged.status if judged is not None else "rejected"
        reason = judged.reason if judged is not None else p.error
        node = Node(
            p.key, len(self.graph), number, generation, self.store.artifacts.put(p.text), status,
            p.island, dict(judged.scores) if judged else {}, p.features,
        )  # fmt: skip
        self.degenerate = self.degenerate or (judged.degenerate if judged else "")
        edge = replace(edge, outcome=status, reason=reason)
        return self._checkpoint(node, edge)

    def _changes(self, p: Planned) -> dict[str, int]:
        """How many statements were added, removed and changed against the parent."""
        if p.error or not p.parent:
            return {}
        parent = self.store.artifacts.text(self.graph.node(p.parent).text)
        return count(diff_modules(parse(parent), parse(p.text)))

    def _checkpoint(self, node: Node | None, edge: Edge) -> Node | None:
        self.store.insert(self.id, node, edge)
        known = node or self.graph.node(edge.child)
        self.graph.add(known, edge)
        self.listener.candidate(known, edge, node is not None)
        return node


__all__ = ["Listener", "Quiet", "Search", "Stopped", "start"]
