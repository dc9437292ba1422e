"""Workers are reused while they behave, and cost one request when they do not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.evaluation.pool import GIB, Limits, Pool, WorkerFailed
from search.evaluation.processes import tree, tree_bytes

TASKS = "pool_tasks"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Pool(2) as made:
        yield made


def run(pool: Pool, task: str, value: int = 1, limits: Limits | None = None) -> object:
    return pool.run(f"{TASKS}:{task}", {"value": value}, limits or Limits(60))


def pid(pool: Pool) -> int:
    return pool.run(f"{TASKS}:double", {"value": 1})["pid"]  # type: ignore[no-any-return]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_behaves_is_reused(pool: Pool) -> None:
    seen: list[object] = []
    reply = pool.run(f"{TASKS}:double", {"value": 21}, Limits(60), seen.append)
    assert reply["value"] == 42
    assert seen == ["working"]
    assert pid(pool) == reply["pid"]


def test_reuse_serves_many_small_requests_a_second(pool: Pool) -> None:
    pid(pool)
    begin = time.perf_counter()
    for _ in range(50):
        pid(pool)
    assert time.perf_counter() - begin < 2.0


def test_a_crash_costs_one_request(pool: Pool) -> None:
    with pytest.raises(WorkerFailed, match="SIGABRT") as caught:
        run(pool, "crash")
    assert caught.value.cause == "crash"
    assert "about to fall over" in caught.value.log
    assert pid(pool)


def test_an_exit_is_a_crash_too(pool: Pool) -> None:
    with pytest.raises(WorkerFailed, match="exit code 3"):
        run(pool, "leave")


def test_a_hang_is_ended_with_its_children(pool: Pool) -> None:
    children: list[int] = []
    with pytest.raises(WorkerFailed, match="no result within 1 s") as caught:
        pool.run(f"{TASKS}:hang", {}, Limits(1.0), children.append)
    assert caught.value.cause == "timeout"
    for _ in range(100):
        if not alive(children[0]) or _is_zombie(children[0]):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the hanging worker's child lives on")
    assert pid(pool)


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_memory_is_limited(pool: Pool) -> None:
    with pytest.raises(WorkerFailed, match=r"limit 0\.5 GiB") as caught:
        run(pool, "hog", limits=Limits(60, GIB // 2))
    assert caught.value.cause == "memory"


def test_an_exception_keeps_the_worker(pool: Pool) -> None:
    first = pid(pool)
    with pytest.raises(WorkerFailed, match="ValueError: bad 7") as caught:
        run(pool, "fail", 7)
    assert caught.value.cause == "error"
    assert pid(pool) == first


def test_failures_do_not_disturb_others(pool: Pool) -> None:
    def attempt(i: int) -> object:
        try:
            return run(pool, "crash" if i % 3 == 0 else "double", i)
        except WorkerFailed as failure:
            return failure.cause

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(attempt, range(6)))
    assert [r if isinstance(r, str) else r["value"] for r in results] == [  # type: ignore[index]
        "crash", 2, 4, "crash", 8, 10,
    ]  # fmt: skip


def test_closing_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with Pool(2) as made, ThreadPoolExecutor(1) as threads:
        idle, children = pid(made), list[int]()
        hanging = threads.submit(made.run, f"{TASKS}:hang", {}, Limits(60), children.append)
        while not children:
            time.sleep(0.01)
        made.close()
        with pytest.raises(WorkerFailed, match="SIGKILL"):
            hanging.result()
    deadline = time.monotonic() + 10  # a killed process takes a moment to go
    while any(alive(p) and not _is_zombie(p) for p in (idle, *children)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_users_folders_do_not_shadow_ours(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("search", "targets", "ke_ir", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    found = pool.run(f"{TASKS}:modules", {})
    assert not any(str(tmp_path) in path for path in found.values())


def test_process_tree_of_this_process() -> None:
    assert tree(os.getpid())[0] == os.getpid()
    assert tree_bytes(os.getpid()) > 1 << 20
