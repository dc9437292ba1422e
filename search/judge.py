"""Judges candidates on the targets of a search, and remembers every verdict in the store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.candidates import tuned_text
from search.evaluation.evaluator import Candidate, Evaluator
from search.evaluation.pool import WorkerFailed
from search.evaluation.verdict import Outcome
from search.graph import Score
from search.toolchain import fingerprint
from targets.base import Kind

if TYPE_CHECKING:
    from search.evaluation.verdict import Verdict
    from search.store import Store

Knobs = Mapping[str, int | str | bool]
_GAIN = 0.999
"""A tuned setting replaces the one there was only if it takes less than this fraction."""


class Stopped(Exception):
    """The search was interrupted while a candidate was judged; its verdict means nothing."""


@dataclass(frozen=True)
class Subject:
    """A candidate to judge: canonical ``text`` of hash ``key``, and knobs to begin with.

    ``near``: seconds by target; a candidate that is at least as fast has its knobs tuned.
    """

    key: str
    text: str
    knobs: Mapping[str, Knobs] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)
    near: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """Scores by target. ``degenerate`` says why a trivial kernel would pass this task, if so."""

    scores: Mapping[str, Score]
    seconds: float
    evaluated: int
    degenerate: str = ""

    @property
    def status(self) -> str:
        """``correct`` on at least one target, else ``wrong`` or ``unknown``."""
        if any(s.seconds is not None for s in self.scores.values()):
            return "correct"
        return "wrong" if any(s.stage for s in self.scores.values()) else "unknown"

    @property
    def reason(self) -> str:
        """Where and why it failed first."""
        failed = next((s for s in self.scores.values() if s.stage), None)
        return f"{failed.stage}: {failed.reason}" if failed else ""


class Judge:
    """Safe to use from several threads, each of which waits for a worker."""

    def __init__(
        self, store: Store, evaluator: Evaluator, program: str, targets: tuple[str, ...],
        dims: Mapping[str, int], tuning: bool = True,
    ) -> None:  # fmt: skip
        self.store, self.evaluator = store, evaluator
        self.program, self.targets, self.dims, self.tuning = program, targets, dims, tuning
        self.stopped = False

    def judge(self, s: Subject) -> Judgement:
        """All stages on all targets; then, where it is promising, its knobs are tuned.

        Raises Stopped, StoreError.
        """
        begin = time.perf_counter()
        found, fresh = self._verdicts(s, self.targets, s.knobs)
        for target, record in list(found.items()) if self.tuning else ():
            limit = s.near.get(target)
            seconds = record["score"]["seconds"]
            if seconds is None or (limit is not None and seconds > limit):
                continue
            if record["score"]["kind"] == Kind.ESTIMATED:
                continue  # the analytic models say nothing of knobs
            better, trials = self._tuned(s, target, record)
            fresh += trials
            if better is not None:
                found[target] = better
        scores = {
            t: Score(**{**r["score"], "estimate": s.estimates.get(t)}) for t, r in found.items()
        }
        degenerate = next((r["degenerate"] for r in found.values() if r["degenerate"]), "")
        return Judgement(scores, time.perf_counter() - begin, fresh, degenerate)

    def cached(self, s: Subject) -> bool:
        """Whether the first verdicts are all there already."""
        return all(
            self.store.evaluation(self._key(s.key, t, dict(s.knobs.get(t, {})))) is not None
            for t in self.targets
        )

    def _key(self, program: str, target: str, knobs: Any) -> str:
        dims = dict(sorted(self.dims.items()))
        parts = [program, self.program, target, knobs, dims, fingerprint(target)]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    def _verdicts(
        self, s: Subject, targets: tuple[str, ...], knobs: Mapping[str, Knobs]
    ) -> tuple[dict[str, dict[str, Any]], int]:
        """Records by target, from the store where it has them; and how many are new."""
        keys = {t: self._key(s.key, t, dict(knobs.get(t, {}))) for t in targets}
        found = {t: r for t in targets if (r := self.store.evaluation(keys[t])) is not None}
        lacking = [t for t in targets if t not in found]
        if lacking:
            text = tuned_text(s.text, self.program, {t: knobs.get(t, {}) for t in lacking})
            candidate = Candidate(text, "", self.dims, (self.program,))
            for verdict in self.evaluator.evaluate(candidate, lacking):
                if self.stopped:
                    raise Stopped
                for target in [f"{verdict.target}.{verdict.arch}"] if verdict.target else lacking:
                    chosen = dict(knobs.get(target, {}))
                    record = _record(verdict, chosen)
                    self.store.add_evaluation(keys[target], s.key, target, chosen, record)
                    found[target] = record
        return {t: found[t] for t in targets}, len(lacking)

    def _tuned(
        self, s: Subject, target: str, record: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | None, int]:
        """The record with the best knobs if they are better; and how many verdicts are new."""
        key = self._key(s.key, target, "tune")
        found = self.store.evaluation(key)
        fresh = 0
        if found is None:
            task = {"text": s.text, "program": self.program, "target": target, "dims": self.dims}
            try:
                pool, limits = self.evaluator.pool, self.evaluator.limits
                found = pool.run("search.tasks:tune", task, limits)
            except WorkerFailed as failure:
                found = {"knobs": None, "reason": f"{failure.cause}: {failure.reason}"}
            if self.stopped:
                raise Stopped
            self.store.add_evaluation(key, s.key, target, {"tune": True}, found)
            fresh = 1
        score = record["score"]
        knobs = found.get("knobs")
        if knobs is None or found["kind"] != score["kind"] or knobs == score["knobs"]:
            return None, fresh
        if found["seconds"] >= _GAIN * score["seconds"]:
            return None, fresh
        again, new = self._verdicts(s, (target,), {target: knobs})
        tuned = again[target]
        seconds = tuned["score"]["seconds"]
        better = seconds is not None and seconds < score["seconds"]
        return (tuned if better else None), fresh + new


def _record(v: Verdict, knobs: Knobs) -> dict[str, Any]:
    """What is kept of a verdict: the score's fields, the stages, and remarks."""
    timing = v.timing if v.correct else None
    failed = v.failures[0] if v.failures else None
    said = {s.stage: s.reason for s in v.stages}
    skipped = next((s for s in v.stages if s.outcome is Outcome.SKIPPED), None)
    if failed is not None:
        reason = failed.reason
    elif timing is None and skipped is not None:
        reason = f"{skipped.stage} skipped: {skipped.reason}"
    else:
        reason = said.get("numbers", "")
    plain = v.to_dict()
    return {
        "score": {
            "seconds": timing.seconds if timing else None,
            "kind": timing.kind.value if timing else "",
            "on": timing.on if timing else "",
            "knobs": dict(knobs),
            "detail": dict(timing.detail) if timing else {},
            "fraction": v.roofline.fraction if timing and v.roofline else None,
            "established": v.established.value if v.established else "",
            "stage": failed.stage if failed else "",
            "reason": reason,
            "resources": _resources(plain["resources"]),
        },
        "degenerate": v.degenerate,
        "lower_precision": list(v.lower_precision),
        "stages": plain["stages"],
        "resources": plain["resources"],
        "baselines": plain["baselines"],
    }


def _resources(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without what the toolchain does not report, and the limits broken, which are the reason."""
    return {
        name: {k: v for k, v in used.items() if v is not None and k != "exceeded"}
        for name, used in found.items()
    }
