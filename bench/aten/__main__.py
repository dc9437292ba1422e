"""``python -m bench.aten [--ops A,B] [--targets T,...] [--results FILE] [--table FILE]``."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.aten.table import table
from search.evaluation.pool import Limits, Pool, WorkerFailed

if TYPE_CHECKING:
    from search.evaluation.verdict import Verdict

Record = dict[str, Any]


class Results:
    """JSON lines, one for each operator; what is there already is not done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.records: dict[str, Record] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.records[record["op"]] = record

    def add(self, record: Record) -> None:
        with self.lock:
            self.records[record["op"]] = record
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def meaning(pool: Pool, name: str, given: argparse.Namespace) -> Record:
    """All samples of one operator, in a process of its own."""
    done: list[Record] = []
    at = [""]

    def progress(message: Any) -> None:
        if isinstance(message, str):
            at[0] = message
        else:
            done.append(message)

    request = {"op": name, "dtypes": given.dtypes.split(","), "samples": given.samples,
               "backward": given.backward}  # fmt: skip
    begin = time.monotonic()
    try:
        pool.run("bench.aten.check:run", request, Limits(given.seconds), progress)
    except WorkerFailed as failed:
        dtype, _, number = at[0].partition(" sample ")
        done.append({"dtype": dtype, "number": int(number or 0), "outcome": "failed",
                     "reason": f"{failed.cause}: {failed.reason}", "overloads": []})  # fmt: skip
    return {"op": name, "samples": done, "seconds": round(time.monotonic() - begin, 1)}


def on_targets(pool: Pool, record: Record, targets: list[str], given: argparse.Namespace) -> None:
    """Verdicts of some of the samples that passed, added to the record."""
    from search.evaluation.evaluator import Candidate, Evaluator

    passed = [s for s in record["samples"]
              if s["outcome"] == "passed" and s["dtype"] == "float32"]  # fmt: skip
    count = min(given.on_target, len(passed))
    verdicts = record.setdefault("targets", {})
    for target in targets:
        verdicts[target] = []
    evaluator = Evaluator(limits=Limits(given.seconds), pool=pool)
    for s in (passed[(2 * k + 1) * len(passed) // (2 * count)] for k in range(count)):
        request = {"op": record["op"], "name": _identifier(record["op"]),
                   "samples": given.samples, "backward": given.backward, **s}  # fmt: skip
        text = pool.run("bench.aten.check:text", request, Limits(given.seconds), lambda _: None)
        for v in evaluator.evaluate(Candidate(text), targets):
            for target in [f"{v.target}.{v.arch}"] if v.target else targets:
                verdicts[target].append({"number": s["number"], **_said(v)})


def _said(v: Verdict) -> Record:
    if v.correct:
        return {"outcome": "passed", "established": v.established, "reason": ""}
    failed = v.failures[0] if v.failures else None
    why = failed or next(s for s in v.stages if s.outcome.value == "skipped")
    return {"outcome": "failed" if failed else "skipped", "established": "",
            "reason": f"{why.stage}: {why.reason}"[:300]}  # fmt: skip


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.aten", description=__doc__)
    parser.add_argument("--ops", default="", help="OpInfo names; all of them if left out")
    parser.add_argument("--backward", action="store_true", help="gradients instead of results")
    parser.add_argument("--dtypes", default="float32,float64,int64,bool")
    parser.add_argument("--samples", type=int, default=0,
                        help="at most so many of each dtype, spread evenly; 0 is all")  # fmt: skip
    parser.add_argument("--targets", default="", help="such as nvidia,amd,kea: run some there too")
    parser.add_argument("--on-target", type=int, default=1, help="samples of each op on targets")
    parser.add_argument("--seconds", type=float, default=120.0,
                        help="limit for an operator, and for a kernel on a target")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, default=Path("aten.jsonl"),
                        help="JSON lines; operators that it holds are not done again")  # fmt: skip
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    given = parser.parse_args()
    results = Results(given.results)
    with Pool(given.jobs) as pool, ThreadPoolExecutor(given.jobs) as threads:
        known = _all_names(pool, given)
        names = given.ops.split(",") if given.ops else known
        if unknown := sorted({*names} - {*known}):
            parser.error(f"not in OpInfo: {', '.join(unknown)}")
        list(threads.map(lambda n: _one(pool, results, n, given), names))
    if given.table:
        given.table.write_text(table([results.records[n] for n in names], _command(given)))


def _command(given: argparse.Namespace) -> str:
    """What asks for the same again, without where it leaves its files."""
    said = [
        "python -m bench.aten", "--backward" * given.backward, f"--dtypes {given.dtypes}",
        f"--samples {given.samples}", f"--targets {given.targets}" * bool(given.targets),
    ]  # fmt: skip
    return " ".join(filter(None, said))


def _all_names(pool: Pool, given: argparse.Namespace) -> list[str]:
    names: list[str] = pool.run(
        "bench.aten.samples:names", {}, Limits(given.seconds), lambda _: None
    )
    return names


def _one(pool: Pool, results: Results, name: str, given: argparse.Namespace) -> None:
    from targets.registry import find_target

    record = results.records.get(name)
    asked = [f"{t.name}.{t.arch}" for t in map(find_target, filter(None, given.targets.split(",")))]
    missing = [t for t in asked if record is None or t not in record.get("targets", {})]
    if record is not None and not missing:
        return
    if record is None:
        record = meaning(pool, name, given)
    if missing:
        on_targets(pool, record, missing, given)
    results.add(record)
    count: dict[str, int] = {}
    for s in record["samples"]:
        count[s["outcome"]] = count.get(s["outcome"], 0) + 1
    said = ", ".join(f"{n} {o}" for o, n in sorted(count.items()))
    print(f"{name}: {said} ({record['seconds']} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
