"""The recommendation-model kernels: inputs that a model would give them, and what they mean.

The reference is the PyTorch function beside each op, in float64, or a plain loop where that says
more than PyTorch does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ke_ir.derive import with_derived
from ke_ir.ir import Module, OpDef
from ke_ir.parser import parse
from tests.importers.agree import double

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Sizes = dict[str, int]

EXAMPLES = Path(__file__).parents[2] / "examples"


def file_of(name: str) -> Path:
    """The convolution of the same paper is among the general examples."""
    return (
        EXAMPLES / f"{name}.ir" if name == "conv1d" else EXAMPLES / "recommendation" / f"{name}.ir"
    )


@cache
def shipped(name: str) -> Module:
    """The file, with a derivation where it has no kernel of its own."""
    return with_derived(parse(file_of(name).read_text()))


@cache
def derived(name: str) -> Module:
    """The op alone, and what is derived from it."""
    (op,) = shipped(name).ops.values()
    return with_derived(Module((op,)))


def op_of(name: str) -> OpDef:
    return shipped(name).ops[name]


def meant(name: str, inputs: Arrays, sizes: Sizes) -> Arrays:
    """What the op should give, in float64, by the reference of its case."""
    return CASES[name].reference(name, inputs, sizes)


def by_pytorch(name: str, inputs: Arrays, _: Sizes) -> Arrays:
    """By the PyTorch function in the file beside the op."""
    path = file_of(name).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(f"baseline_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.no_grad():
        found = module.baseline(*(double(torch.from_numpy(x)) for x in inputs.values()))
    results = found if isinstance(found, tuple) else (found,)
    return {p.name: x.numpy() for p, x in zip(op_of(name).outputs, results, strict=True)}


# Inputs


def floats(name: str, sizes: Sizes, seed: int, **given: Array) -> Arrays:
    """Signed normal numbers in the declared dtypes, but for what is given."""
    rng = np.random.default_rng(seed)
    out = {}
    for p in op_of(name).inputs:
        drawn = rng.standard_normal(p.type.sizes(sizes)).astype(p.type.dtype.numpy())
        out[p.name] = given.get(p.name, drawn)
    return out


def ends(rng: np.random.Generator, rows: int, total: int) -> Array:
    """Offsets of jagged rows of which some are empty."""
    inner = np.sort(rng.integers(0, total + 1, rows - 1))
    return np.concatenate([[0], inner, [total]]).astype(np.int32)


def map_id_inputs(name: str, sizes: Sizes, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    known = np.sort(rng.choice(10 * sizes["M"] + 10, sizes["M"], replace=False)) - 5
    ids = rng.integers(-9, 10 * sizes["M"] + 9, sizes["N"])
    some = rng.random(sizes["N"]) < 0.5
    ids[some] = rng.choice(known, int(some.sum()))
    return {"ids": ids, "map": known}


def mbdt_inputs(name: str, sizes: Sizes, seed: int) -> Arrays:
    """Every third value stands on a border, and the last feature has one border less."""
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.standard_normal((sizes["F"], sizes["K"])).astype(np.float32), axis=1)
    x = rng.standard_normal((sizes["F"], sizes["B"])).astype(np.float32)
    on = rng.integers(0, sizes["K"], x.shape)
    x[:, ::3] = np.take_along_axis(borders, on, axis=1)[:, ::3]
    borders[-1, -1] = np.inf
    offsets = np.arange(sizes["F"], dtype=np.int32) * (sizes["K"] + 1)
    return {"x": x, "borders": borders, "offsets": offsets}


def truncate_inputs(name: str, sizes: Sizes, seed: int) -> Arrays:
    """Rows and events are empty here and there; some limits are 0, some cut nothing."""
    rng = np.random.default_rng(seed)
    rows = sizes["F"] * sizes["B"]
    outer = np.diff(ends(rng, rows, sizes["E"])).reshape(sizes["F"], sizes["B"])
    inner = np.diff(ends(rng, sizes["E"], sizes["V"]))
    limit = rng.integers(0, 2 * sizes["E"] // rows + 2, sizes["F"]).astype(np.int32)
    return {
        "limit": limit,
        "outer": outer,
        "inner": inner,
        "values": rng.integers(1, 99, sizes["V"]),
    }


def jagged_inputs(name: str, sizes: Sizes, seed: int) -> Arrays:
    offsets = ends(np.random.default_rng(seed), sizes["B"], sizes["T"])
    return floats(name, sizes, seed, offsets=offsets)


def index_inputs(name: str, sizes: Sizes, seed: int) -> Arrays:
    """Each posting list holds a document once; a query may hold a term twice."""
    rng = np.random.default_rng(seed)
    lists = [np.sort(rng.choice(sizes["D"], rng.integers(0, sizes["D"] + 1), replace=False))
             for _ in range(sizes["V"])]  # fmt: skip
    lengths = [0, *np.cumsum([len(x) for x in lists])]
    docs = np.zeros(sizes["T"], np.int32)
    used = min(lengths[-1], sizes["T"])
    docs[:used] = np.concatenate(lists)[:used]
    return floats(
        name, sizes, seed, docs=docs,
        terms=rng.integers(0, sizes["V"], (sizes["B"], sizes["Q"])).astype(np.int32),
        offsets=np.minimum(lengths, used).astype(np.int32),
    )  # fmt: skip


# References that are no PyTorch function


def truncated(name: str, inputs: Arrays, sizes: Sizes) -> Arrays:
    """Row by row and event by event, cut to the room that there is or filled up with zeros."""
    limit, outer, inner, values = (x.tolist() for x in inputs.values())
    events: list[int] = []
    kept: list[int] = []
    event = value = 0
    for f, rows in enumerate(outer):
        for count in rows:
            for place in range(count):
                if place < limit[f]:
                    events.append(inner[event])
                    kept += values[value : value + inner[event]]
                value += inner[event]
                event += 1
    lengths = np.minimum(inputs["outer"], inputs["limit"][:, None])
    return {
        "outer_out": lengths,
        "inner_out": np.array((events + [0] * sizes["P"])[: sizes["P"]]),
        "values_out": np.array((kept + [0] * sizes["Q"])[: sizes["Q"]]),
    }


def scores(name: str, inputs: Arrays, sizes: Sizes) -> Arrays:
    """Term by term."""
    out = np.zeros((sizes["B"], sizes["D"]))
    offsets = inputs["offsets"]
    for b, (terms, query) in enumerate(zip(inputs["terms"], inputs["query"], strict=True)):
        for term, times in zip(terms, query, strict=True):
            for t in range(offsets[term], offsets[term + 1]):
                out[b, inputs["docs"][t]] += float(times) * float(inputs["weights"][t])
    return {"score": out}


@dataclass(frozen=True)
class Case:
    """Sizes to check an op at, the first of them also on every target."""

    sizes: tuple[Sizes, ...]
    inputs: Callable[[str, Sizes, int], Arrays] = floats
    reference: Callable[[str, Arrays, Sizes], Arrays] = by_pytorch


def _sizes(names: str, *rows: tuple[int, ...]) -> tuple[Sizes, ...]:
    return tuple(dict(zip(names.split(), row, strict=True)) for row in rows)


CASES: Mapping[str, Case] = {
    "map_id": Case(_sizes("N M", (131, 37), (1, 1), (257, 1024), (7, 65536)), map_id_inputs),
    "mbdt": Case(_sizes("F B K", (3, 67, 5), (1, 1, 1), (2, 64, 2), (7, 131, 16)), mbdt_inputs),
    "batch_event_truncate": Case(
        _sizes("F B E V P Q", (3, 5, 41, 97, 41, 97), (1, 1, 1, 1, 1, 1), (1, 7, 3, 5, 3, 5),
               (2, 11, 131, 67, 13, 17), (7, 3, 89, 1, 131, 37)),
        truncate_inputs, truncated,
    ),
    "wukong_fm": Case(_sizes("B N D K", (2, 24, 72, 37), (1, 1, 1, 1), (3, 37, 131, 13))),
    "pffn": Case(_sizes("B L D H", (2, 67, 72, 70), (1, 1, 1, 1), (3, 7, 131, 37))),
    "conv1d": Case(_sizes("B C O L", (2, 24, 16, 21), (1, 1, 1, 1), (3, 7, 13, 37))),
    "rms_norm_backward": Case(_sizes("B D", (37, 131), (1, 1), (7, 1031))),
    "sdpa_mlp": Case(
        _sizes("B S H G E F", (1, 37, 4, 2, 16, 48), (1, 1, 1, 1, 1, 1), (2, 67, 6, 2, 13, 37))
    ),
    "jagged_sum": Case(_sizes("T D B", (131, 37, 13), (1, 1, 1), (3, 130, 7)), jagged_inputs),
    "jagged_mean": Case(_sizes("T D B", (131, 37, 13), (1, 1, 1), (3, 130, 7)), jagged_inputs),
    "sparse_inverted_index": Case(
        _sizes("B Q V T D", (3, 5, 11, 300, 37), (1, 1, 1, 1, 1), (2, 7, 5, 13, 3)),
        index_inputs, scores,
    ),
}  # fmt: skip
