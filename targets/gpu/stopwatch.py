"""Times functions on a GPU, interleaved, so that they see the same clocks and temperatures.

Used in worker processes only. What is timed is device time: while the cache is being flushed the
host queues the launches, so that the launch latency of neither contestant is in the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from targets.gpu.reasons import one_line

Function = Callable[..., Any]

_WARM_UP = 5
_FEWEST, _MOST = 20, 300
_FEWEST_SLOW, _SLOW_S = 5, 0.25
"""Rounds that do where one takes so long."""
_LONGEST_COVER_S = 5e-3
_INPUT_SETS = 4


def time_interleaved(
    functions: Mapping[str, Function],
    inputs: Sequence[torch.Tensor],
    flush_bytes: int,
    seconds: float,
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Time each function on ``inputs`` (on the device); all of it takes about ``seconds``.

    Every round calls each function once, in an order that turns with the rounds, on the next set
    of inputs, after writing ``flush_bytes`` (more than the cache). Returns (figures by name,
    failures by name). Figures: ``median``, ``p10``, ``p90``, ``fastest`` in seconds of device time,
    ``repeats``, ``host_launch_seconds`` (median time the host took to launch).
    """
    sets = _input_sets(inputs)
    flush = torch.empty(flush_bytes // 4, dtype=torch.int32, device=inputs[0].device)
    launches, failures = _warm_up(functions, sets)
    ready = {name: function for name, function in functions.items() if name not in failures}
    if not ready:
        return {}, failures
    covers = _covers(flush, max(launches.values()))
    estimate = sum(_one(ready[name], sets[0], flush, covers) for name in ready)
    overhead = len(ready) * covers * _flush_seconds(flush)
    round_seconds = max(estimate + overhead, 1e-6)
    fewest = _FEWEST if round_seconds < _SLOW_S else _FEWEST_SLOW
    rounds = max(fewest, min(_MOST, int(seconds / round_seconds)))
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in ready}
    names = list(ready)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            events[name].append(_queued(ready[name], sets[number % len(sets)], flush, covers))
        torch.cuda.synchronize()
    return {
        name: _figures([start.elapsed_time(end) / 1e3 for start, end in pairs], launches[name])
        for name, pairs in events.items()
    }, failures


def _input_sets(inputs: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Copies in other memory, with floats rotated; integers may be indices and stay as they are."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in inputs) or 1
    free, _ = torch.cuda.mem_get_info()
    count = max(1, min(_INPUT_SETS, int(free // 4 // size)))
    sets = [list(inputs)]
    for shift in range(1, count):
        sets.append(
            [
                tensor.roll(shift).contiguous()
                if tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
                else tensor.clone()
                for tensor in inputs
            ]
        )
    return sets


def _warm_up(
    functions: Mapping[str, Function], sets: Sequence[Sequence[torch.Tensor]]
) -> tuple[dict[str, float], dict[str, str]]:
    """Compile and warm every function; the median host time of a launch, and what failed."""
    launches: dict[str, float] = {}
    failures: dict[str, str] = {}
    for name, function in functions.items():
        try:
            function(*sets[0])
            torch.cuda.synchronize()
            spent = []
            for number in range(_WARM_UP):
                torch.cuda.synchronize()
                begin = time.perf_counter()
                function(*sets[number % len(sets)])
                spent.append(time.perf_counter() - begin)
            torch.cuda.synchronize()
            launches[name] = statistics.median(spent)
        except Exception as error:
            failures[name] = one_line(error)
    return launches, failures


def _covers(flush: torch.Tensor, launch_seconds: float) -> int:
    """How many flushes keep the device busy until the slowest launch is queued."""
    wanted = min(1.5 * launch_seconds, _LONGEST_COVER_S)
    return 1 + int(wanted / _flush_seconds(flush))


def _flush_seconds(flush: torch.Tensor) -> float:
    start, end = _event(), _event()
    flush.zero_()
    start.record()
    for _ in range(3):
        flush.zero_()
    end.record()
    torch.cuda.synchronize()
    return max(float(start.elapsed_time(end)) / 3e3, 1e-6)


def _queued(
    function: Function, inputs: Sequence[torch.Tensor], flush: torch.Tensor, covers: int
) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, end = _event(), _event()
    for _ in range(covers):
        flush.zero_()
    start.record()
    function(*inputs)
    end.record()
    return start, end


def _one(
    function: Function, inputs: Sequence[torch.Tensor], flush: torch.Tensor, covers: int
) -> float:
    start, end = _queued(function, inputs, flush, covers)
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def _figures(seconds: Sequence[float], launch_seconds: float) -> dict[str, float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "median": statistics.median(ordered),
        "p10": ordered[round(0.1 * last)],
        "p90": ordered[round(0.9 * last)],
        "fastest": ordered[0],
        "repeats": float(len(ordered)),
        "host_launch_seconds": launch_seconds,
    }
