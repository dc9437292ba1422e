"""Temporaries that share one piece of memory: how it is planned, and what launches are given."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from ke_ir.ir import KernelCall
from ke_ir.parser import parse
from ke_ir.verify import check
from lowering.triton.temporaries import ALIGNMENT, Lifetime, Plan, lifetimes, plan
from tests.lowering_triton.conftest import A100, assert_same, lowered, run_both
from tests.lowering_triton.test_launch import (
    ARGUMENTS,
    INITIALISING_RNN,
    MOST,
    STATIC_RNN,
    Machine,
    imported,
    machine,
)

__all__ = ["machine"]

UNARY = """
kernel @{name}(%x: {read}[{n}]) -> (%y: {written}[{n}]) {{
  parallel %i = 0 to {n} tile 16 {{
    %v = load %x[%i] : {read}[16]
    {body}
    store %w, %y[%i]
  }}
}}
"""


def unary(name: str, n: int, body: str, read: str = "f32", written: str = "f32") -> str:
    return UNARY.format(name=name, n=n, body=body, read=read, written=written)


DOUBLE = unary("double", 100, "%w = mul %v, 2.0")
ADD = """
kernel @sum(%x: f32[100], %y: f32[100]) -> (%z: f32[100]) {
  parallel %i = 0 to 100 tile 16 {
    %v = load %x[%i] : f32[16]
    %w = load %y[%i] : f32[16]
    %s = add %v, %w
    store %s, %z[%i]
  }
}
"""
RESIDUAL = DOUBLE + ADD + """
program @net(%x: f32[100]) -> (%y: f32[100]) {
  temp %a : f32[100]
  temp %b : f32[100]
  temp %c : f32[100]
  temp %d : f32[100]
  temp %e : f32[100]
  call @double(%x) -> (%a)
  call @double(%a) -> (%b)
  call @double(%b) -> (%c)
  call @sum(%a, %c) -> (%d)
  call @double(%d) -> (%e)
  call @sum(%e, %d) -> (%y)
}
"""  # fmt: skip


def least(temporaries: dict[str, Lifetime]) -> int:
    """What any plan needs: that of the step that uses most."""
    steps = range(1 + max(t.last for t in temporaries.values()))
    return max(sum(t.padded for t in temporaries.values() if t.first <= i <= t.last) for i in steps)


def assert_sound(temporaries: dict[str, Lifetime], got: Plan) -> None:
    """By every pair of bytes and of steps, not by the planner's own comparison."""
    assert got.offsets.keys() == temporaries.keys()
    for name, t in temporaries.items():
        assert got.offsets[name] % ALIGNMENT == 0 and got.offsets[name] >= 0
        assert got.offsets[name] + t.bytes <= got.bytes
    for (a, s), (b, t) in combinations(temporaries.items(), 2):
        steps = set(range(s.first, s.last + 1)) & set(range(t.first, t.last + 1))
        taken = [range(got.offsets[n], got.offsets[n] + x.bytes) for n, x in ((a, s), (b, t))]
        apart = taken[0].stop <= taken[1].start or taken[1].stop <= taken[0].start
        assert not steps or apart or not s.bytes or not t.bytes, (a, b)


@pytest.mark.parametrize("seed", range(40))
def test_those_of_one_time_lie_apart(seed: int) -> None:
    rng = random.Random(seed)
    temporaries = {}
    for i in range(rng.randint(1, 60)):
        first = rng.randrange(30)
        size = rng.choice([0, 1, 255, 256, 257, rng.randrange(100_000)])
        temporaries[f"t{i}"] = Lifetime(size, first, first + rng.choice([0, 1, 1, 2, 10]))
    got = plan(temporaries)
    assert_sound(temporaries, got)
    assert least(temporaries) <= got.bytes <= 1.3 * least(temporaries)


@pytest.mark.parametrize("seed", range(10))
def test_layers_one_after_the_other_take_little_more_than_the_largest(seed: int) -> None:
    """Each result is used by the next layer, some by a later one too."""
    rng = random.Random(seed)
    temporaries = {
        f"t{i}": Lifetime(rng.randrange(1, 1 << 24), i, i + rng.choice([1, 1, 1, 5]))
        for i in range(150)
    }
    got = plan(temporaries)
    assert_sound(temporaries, got)
    assert got.bytes <= 1.3 * least(temporaries)


def test_nothing_takes_no_memory() -> None:
    assert plan({}) == Plan({}, 0)


def test_lifetimes_are_from_the_first_step_to_the_last() -> None:
    got = lifetimes([["x", "a"], ["a", "b"], ["x", "b"], ["a", "y"]], {"a": 8, "b": 300, "c": 1})
    assert got == {"a": Lifetime(8, 0, 3), "b": Lifetime(300, 1, 2)}
    assert got["b"].padded == 512


def test_temporaries_in_use_never_overlap(machine: Machine, tmp_path: Path) -> None:
    """What reaches the driver, by the calls of the program."""
    import torch

    module = check(parse(RESIDUAL))
    text = lowered(module)
    made = imported(text, tmp_path)
    x = torch.ones(100)
    y = made.net(x)
    calls = [s for s in module.programs["net"].body if isinstance(s, KernelCall)]
    views = [[v.tensor for v in (*s.args, *s.outs)] for s in calls]
    places: dict[str, int] = {}
    for names, given in zip(views, machine.launched, strict=True):
        for name, address in zip(names, given[ARGUMENTS:], strict=False):
            assert places.setdefault(name, address) == address
    assert places.pop("x") == x.data_ptr() and places.pop("y") == y.data_ptr()
    first = min(places.values())
    temporaries = lifetimes(views, dict.fromkeys(places, 400))
    assert_sound(temporaries, Plan({n: a - first for n, a in places.items()}, 3 * 512))
    assert "memory = torch.empty(1536, dtype=torch.uint8, device=device)" in text
    assert "del " not in text.partition("def net(")[2].partition("def reference")[0]


def test_interpreted_temporaries_hold_their_values() -> None:
    assert_same(*run_both(check(parse(RESIDUAL))))


TYPES = {
    "f8": ("f8e4m3", "%w = cast %v : f8e4m3", "%w = cast %v : f32"),
    "bf16": ("bf16", "%w = cast %v : bf16", "%w = cast %v : f32"),
    "i1": ("i1", "%w = cmp lt %v, 0.5", "%w = cast %v : f32"),
    "f64": ("f64", "%w = cast %v : f64", "%w = cast %v : f32"),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("interpret_as", ["H100", "A100"])
def test_temporaries_of_every_size(name: str, interpret_as: str) -> None:
    """Two of them at a time, of a size that is no multiple of 16 bytes."""
    dtype, to, back = TYPES[name]
    text = (
        unary("to", 37, to, written=dtype) + unary("back", 37, back, read=dtype)
        + f"""
program @net(%x: f32[37]) -> (%y: f32[37], %z: f32[37]) {{
  temp %a : {dtype}[37]
  temp %b : {dtype}[37]
  temp %c : f32[37]
  call @to(%x) -> (%a)
  call @back(%a) -> (%c)
  call @to(%c) -> (%b)
  call @back(%a) -> (%y)
  call @back(%b) -> (%z)
}}
"""
    )  # fmt: skip
    module = check(parse(text))
    given = {"traits": A100} if interpret_as == "A100" else {}
    assert "a = _part(memory, " in lowered(module, **given)
    assert_same(*run_both(module, **given))


def test_bytes_of_fp8_are_temporaries_of_bytes(machine: Machine, tmp_path: Path) -> None:
    import torch

    text = check(parse(
        unary("to", 64, "%w = cast %v : f8e4m3", written="f8e4m3")
        + unary("back", 64, "%w = cast %v : f32", read="f8e4m3")
        + "program @net(%x: f32[64]) -> (%y: f32[64]) {\ntemp %a : f8e4m3[64]\n"
        "call @to(%x) -> (%a)\ncall @back(%a) -> (%y)\n}"
    ))  # fmt: skip
    source = lowered(text, traits=A100)
    assert (
        "a = _part(memory, 0, (64,), torch.uint8)" in source and ".view(torch.uint8)" not in source
    )
    imported(source, tmp_path).net(torch.ones(64))
    assert [dtypes for *_, dtypes in machine.compiled] == [
        (torch.float32, torch.uint8), (torch.uint8, torch.float32)
    ]  # fmt: skip
    assert machine.launched[0][ARGUMENTS + 1] == machine.launched[1][ARGUMENTS]


def test_parts_of_temporaries(machine: Machine, tmp_path: Path) -> None:
    """Inside loops and outside, where they lie in the memory; each row has 128 floats."""
    import torch

    text = STATIC_RNN.replace("repeat %t = 0 to T {", """call @step(%x[0], %h[0], %ws) -> (%h[1])
      repeat %t = 1 to T {""")  # fmt: skip
    module = check(parse(text))
    source = lowered(module)
    assert "h = _part(memory, 0, (T + 1, B, D), torch.float32)" in source
    assert "h_rows = _rows(h, T + 1, B * D * 4)" in source
    made = imported(source, tmp_path)
    x = torch.ones(3, 4, 32)
    made.rnn(x, torch.ones(32, 32))
    _, start, *steps, copy = [given[ARGUMENTS:] for given in machine.launched]
    h = [start[0] + t * 512 for t in range(4)]
    assert [(given[0], given[1], given[3]) for given in steps] == [
        (x[t].data_ptr(), h[t], h[t + 1]) for t in range(3)
    ]
    assert copy[0] == h[3]
    assert_same(*run_both(module, name="rnn"), ulps=4, terms=4)


def test_a_temporary_of_a_loop_lives_as_long_as_the_loop(machine: Machine, tmp_path: Path) -> None:
    """The loop launches only, and what it has beside it is not where it is."""
    import torch

    module = check(parse(STATIC_RNN.replace(
        "call @step(%x[%t], %h[%t], %ws)",
        "temp %g : f32[B, D]\n call @copy(%h[%t]) -> (%g)\n call @step(%x[%t], %g, %ws)",
    )))  # fmt: skip
    source = lowered(module)
    assert "        launch_copy(h_rows[t], g)" in source
    made = imported(source, tmp_path)
    made.rnn(torch.ones(3, 4, 32), torch.ones(32, 32))
    _, start, *pairs, _ = [given[ARGUMENTS:] for given in machine.launched]
    h = range(start[0], start[0] + 4 * 512, 512)
    for t in range(3):
        copy, step = pairs[2 * t : 2 * t + 2]
        assert copy[0] == h[t] and step[1] == copy[1] and step[3] == h[t + 1]
        assert copy[1] + 512 <= h[0] or h[0] + 4 * 512 <= copy[1]
    assert_same(*run_both(module, name="rnn"), ulps=4, terms=4)


def test_parts_of_temporaries_in_a_loop_that_does_more() -> None:
    """It initialises; what it takes parts of has its place computed in each step."""
    text = INITIALISING_RNN.replace("%h: f32[B, T + 1, D], ", "")
    text = text.replace("  repeat %b", "  temp %h : f32[B, T + 1, D]\n  repeat %b")
    module = check(parse(text))
    source = lowered(module).partition("def nest(")[2]
    assert "_part(memory, " in source and "h_rows = _rows(h, B * (T + 1), D * 4)" in source
    assert_same(*run_both(module))


def test_what_is_initialised_is_a_tensor() -> None:
    text = DOUBLE.replace("100", "32") + MOST + unary("again", 1, "%w = mul %v, 2.0") + """
program @net(%x: f32[32]) -> (%y: f32[1]) {
  temp %a : f32[32]
  temp %m : f32[1]
  call @double(%x) -> (%a)
  call @most(%a) -> (%m)
  call @again(%m) -> (%y)
}
"""  # fmt: skip
    module = check(parse(text))
    source = lowered(module)
    assert "    a = _part(memory, 0, (32,), torch.float32)" in source
    assert "    m = torch.empty((1,), dtype=torch.float32, device=device)" in source
    assert "    m.fill_(" in source
    assert_same(*run_both(module))


@pytest.mark.parametrize("name", ["device", "on", "memory", "_part"])
def test_tensors_named_as_the_launcher_names_things(name: str) -> None:
    module = check(parse(RESIDUAL.replace("%a", f"%{name}")))
    assert_same(*run_both(module))
