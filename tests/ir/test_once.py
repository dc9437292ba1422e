"""A program's ``once`` part and the rest, taken apart, compute what the whole does."""

from __future__ import annotations

import numpy as np

from ke_ir.interpret import interpret_program
from ke_ir.ir import Module
from ke_ir.once import only_once, without_once
from ke_ir.parser import parse
from ke_ir.verify import check, verify
from tests.ir.once_program import TEXT, linear

SCRATCH = TEXT.replace("temp %t : f32[K, N]", "temp %t : f32[K, N]\n  temp %u : f32[N, K]").replace(
    "call @pack(%w) -> (%t)",
    "call @pack(%w) -> (%t)\n    call @back(%t) -> (%u)\n    call @pack(%u) -> (%t)",
).replace("program @linear", """kernel @back(%t: f32[K, N]) -> (%w: f32[N, K])
dims K = 128, N = 96
{
  parallel %n = 0 to N tile 32, %k = 0 to K tile 32 {
    %v = load %t[%k, %n] : f32[32, 32]
    %p = permute %v [1, 0]
    store %p, %w[%n, %k]
  }
}
program @linear""")  # fmt: skip


def test_the_parts_make_the_whole() -> None:
    for text in (TEXT, SCRATCH):
        module = parse(text)
        program = module.programs["linear"]
        once, rest = only_once(program), without_once(program)
        assert once is not None
        assert [p.name for p in once.inputs] == ["w"]
        assert [p.name for p in once.outputs] == ["t"]
        assert [p.name for p in rest.inputs] == ["x", "t"]
        assert "u" not in rest.temps
        rng = np.random.default_rng(0)
        given = {"x": rng.standard_normal((5, 128)), "w": rng.standard_normal((96, 128))}
        dims = {"B": 5}
        made = interpret_program(module, once, dims, given)
        got = interpret_program(module, rest, dims, {**given, **made})
        want = interpret_program(module, program, dims, given)
        np.testing.assert_array_equal(got["y"], want["y"])


def test_the_parts_are_valid_programs() -> None:
    module, program = linear()
    once, rest = only_once(program), without_once(program)
    assert once is not None
    for part in (once, rest):
        others = tuple(i for i in module.items if i not in (program, *module.ops.values()))
        assert [d.message for d in verify(Module((*others, part)))] == []


def test_a_program_without_such_a_part_stays() -> None:
    module = check(parse(TEXT.replace("once {", "").replace("(%t)\n  }", "(%t)")))
    program = module.programs["linear"]
    assert only_once(program) is None
    assert without_once(program) is program
