"""Chains of rewrites on random programs: whatever applies keeps the float64 meaning."""

from __future__ import annotations

import functools
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ke_ir.derive import derive
from ke_ir.expr import Num
from ke_ir.ir import Module, OpDef
from ke_ir.rewrites import NoMatch, Rewrite, all_rewrites, applicable, unique_names
from ke_ir.rewrites.body import facts
from ke_ir.rewrites.names import defined_in
from ke_ir.verify import verify
from tests.ir.derive_check import random_inputs
from tests.ir.executable_strategies import ExecutableKernel, executable_kernels
from tests.ir.op_strategies import Sample, contractions, ops
from tests.rewrites.support import after, assert_same_meaning, example

CALM = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
STEPS = 4


def chain(data: st.DataObject, module: Module, most: int = STEPS) -> Module:
    """The module after a few of the rewrites that apply, each kind as likely as another."""
    for _ in range(data.draw(st.integers(1, most))):
        by_name: dict[str, list[Any]] = {}
        for r in applicable(module):
            by_name.setdefault(r.name, []).append(r)
        if not by_name:
            break
        kind = data.draw(st.sampled_from(sorted(by_name)))
        step = data.draw(st.sampled_from(by_name[kind]))
        data.draw(st.just(str(step)))  # so that a failure shows the path
        module = after(module, step)
    return module


def sized(sample: Sample) -> OpDef:
    """The op with its static dims at the sample's sizes: a rewrite may rely on static sizes."""
    dims = tuple(
        d if d.is_range or d.is_derived else replace(d, size=Num(sample.sizes[d.name]))
        for d in sample.op.dims
    )
    return replace(sample.op, dims=dims)


@CALM
@given(sample=ops(), data=st.data())
def test_random_ops(sample: Sample, data: st.DataObject) -> None:
    op = sized(sample)
    assume(not verify(Module((op,))))
    root = unique_names(Module((op, *derive(op))))
    assume(not verify(root))
    inputs = random_inputs(op, op.sizes(sample.sizes), limits=sample.limits)
    got = chain(data, root)
    assert_same_meaning(root, got, sample.op.name, sample.sizes, inputs)


@CALM
@given(sample=contractions(), data=st.data())
def test_random_contractions(sample: Sample, data: st.DataObject) -> None:
    op = sized(sample)
    root = unique_names(Module((op, *derive(op))))
    got = chain(data, root)
    assert_same_meaning(root, got, sample.op.name, sample.sizes)


@CALM
@given(e=executable_kernels(), data=st.data())
def test_random_kernels(e: ExecutableKernel, data: st.DataObject) -> None:
    root = unique_names(e.module)
    got = chain(data, root)
    for sizes in e.sizes():
        assert_same_meaning(root, got, e.kernel.name, sizes, e.inputs(sizes))


NAMES = ("attention", "conv1d", "embedding_sum", "layer_norm", "matmul_gelu", "softmax")
MOST = {"N": 70, "D": 40, "K": 37, "L": 50}
"""Sizes of dims of the examples, so that tiles do not divide them; of others at most 6."""


@functools.cache
def small_example(name: str) -> Module:
    """What is derived from an example at small static sizes."""
    (op,) = example(name).ops.values()
    dims = tuple(
        d if d.is_derived else replace(d, size=Num(min(op.sizes()[d.name], MOST.get(d.name, 6))))
        for d in op.dims
    )
    small = replace(op, dims=dims)
    return unique_names(Module((small, *derive(small))))


@settings(CALM, max_examples=40)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_chains_from_the_examples(name: str, data: st.DataObject) -> None:
    root = small_example(name)
    assert_same_meaning(root, chain(data, root, 8), name)


def anything(data: st.DataObject, module: Module) -> Rewrite:
    """A rewrite with names that the module has, whether it applies or not, and any numbers."""
    k = data.draw(st.sampled_from(list(module.kernels.values())))
    loops = [n for n in defined_in(k.body) if n in facts(k).loops]
    values = [n for n in defined_in(k.body) if n not in loops]
    choices: dict[str, Any] = {
        "kernel": st.sampled_from([*module.kernels, *module.programs]),
        "loop": st.sampled_from(loops),
        "value": st.sampled_from(values or loops),
        "tensor": st.sampled_from(list(k.tensors)),
        "int": st.integers(-1, 40),
    }
    cls = data.draw(st.sampled_from(all_rewrites()))
    given: dict[str, Any] = {}
    for f in fields(cls):
        kind = f.metadata["kind"]
        if f.name == "kernel":
            given[f.name] = k.name
        elif kind == "word":
            given[f.name] = data.draw(st.sampled_from(f.metadata["choices"]))
        else:
            given[f.name] = data.draw(choices[kind])
    return cls(**given)


@settings(CALM, max_examples=150)
@given(e=executable_kernels(), sample=ops() | contractions(), data=st.data())
def test_what_is_asked_for_by_name_applies_or_says_why(
    e: ExecutableKernel, sample: Sample, data: st.DataObject
) -> None:
    """A rewrite never raises, and what it gives verifies, offered or not."""
    if data.draw(st.booleans()):
        root = unique_names(e.module)
    else:
        op = sized(sample)
        assume(not verify(Module((op,))))
        root = unique_names(Module((op, *derive(op))))
        assume(not verify(root))
    for _ in range(8):
        step = anything(data, root)
        got = step.apply(root)
        if isinstance(got, NoMatch):
            assert got.reason
        else:
            after(root, step)


@pytest.mark.parametrize("name", ["rms_norm", "attention", "conv1d"])
def test_the_order_of_what_applies_is_fixed(name: str) -> None:
    assert [str(r) for r in applicable(example(name))] == [
        str(r) for r in applicable(example(name))
    ]
