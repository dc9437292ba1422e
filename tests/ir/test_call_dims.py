"""The dims of a called kernel: as expressions, and those that are the same in every run."""

from __future__ import annotations

from ke_ir.expr import evaluate_int, show
from ke_ir.ir import bind_call, call_dims, fixed_dims
from ke_ir.parser import parse
from ke_ir.verify import check

TEXT = """
kernel @turn(%x: f32[M, N]) -> (%y: f32[N, M]) dims M = 4, N = 8, P = M * N {
  parallel %m = 0 to M tile 4, %n = 0 to N tile 8 {
    %v = load %x[%m, %n] : f32[4, 8]
    store permute %v [1, 0], %y[%n, %m]
  }
}
program @twice(%x: f32[M, N]) -> (%y: f32[M, N]) dims M in 1..99 = 5, N = 6, Q = M + 1 {
  temp %t : f32[N, M]
  call @turn(%x) -> (%t)
  call @turn(%t) -> (%y)
}
"""


def test_dims_of_a_call_follow_from_the_shapes_of_its_arguments() -> None:
    module = check(parse(TEXT))
    program, kernel = module.programs["twice"], module.kernels["turn"]
    shown = [{n: show(e) for n, e in call_dims(program, c, kernel).items()} for c in program.calls]
    assert shown == [{"M": "M", "N": "N", "P": "M * N"}, {"M": "N", "N": "M", "P": "N * M"}]
    for sizes in (program.sizes(), program.sizes({"M": 17})):
        for c in program.calls:
            exprs = call_dims(program, c, kernel)
            assert {n: evaluate_int(e, sizes) for n, e in exprs.items()} == bind_call(
                program, c, kernel, sizes
            )


def test_what_a_run_decides_or_calls_differ_in_is_not_fixed() -> None:
    module = check(parse(TEXT))
    program, kernel = module.programs["twice"], module.kernels["turn"]
    assert fixed_dims(program, kernel, program.sizes()) == {}
    single = check(parse(TEXT[: TEXT.index("program")]))
    sizes = single.programs["turn"].sizes()
    assert fixed_dims(single.programs["turn"], single.kernels["turn"], sizes) == sizes
