"""What derived kernels look like: fusion, masks, tiles, names and errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

from ke_ir.derive import derive, with_derived
from ke_ir.derive.assemble import LOCAL_BYTES
from ke_ir.derive.footprint import peak_bytes
from ke_ir.diagnostics import IRError
from ke_ir.evaluate import evaluate_with_error
from ke_ir.expr import evaluate_int
from ke_ir.interpret import interpret_program
from ke_ir.ir import For, Kernel, Module, OpDef, Parallel, Program, statements
from ke_ir.ops import Dot, Load, Permute, Reduce, Select, Store
from ke_ir.ops.base import Stmt
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.rounding import Rounding
from ke_ir.types import DType
from ke_ir.verify import check
from tests.ir.derive_check import agree, derived, is_program, kernels, random_inputs
from tests.ir.test_derive_ops import CASES


def case(name: str) -> Module:
    (op,) = parse(CASES[name].text).ops.values()
    return derived(op)


def op_of(text: str) -> OpDef:
    (op,) = parse(text).ops.values()
    return op


def all_statements(k: Kernel) -> Iterator[Stmt]:
    return statements(k.body)


def found(k: Kernel, kind: type) -> list[Stmt]:
    return [s for s in all_statements(k) if isinstance(s, kind)]


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm", "softmax", "softmax_nested"])
def test_row_wise_chain_is_one_kernel(name: str) -> None:
    module = case(name)
    assert not is_program(module)
    (k,) = kernels(module)
    (top,) = k.body
    assert isinstance(top, Parallel)
    assert any(isinstance(s, For) and found_in(s, Store) for s in top.body)


def test_few_long_rows_leave_what_follows_to_more_programs() -> None:
    """Statistics of few channels take a program each; what follows is done by many."""
    module = case("batch_norm")
    assert is_program(module)
    *statistics, last = kernels(module)
    assert all(found(k, Reduce) for k in statistics)
    assert not found(last, Reduce)
    assert programs(last) > programs(statistics[-1])


def programs(k: Kernel) -> int:
    """Parallel iterations at the default sizes."""
    (top,) = k.body
    assert isinstance(top, Parallel)
    sizes = k.sizes({})
    return math.prod(-(-evaluate_int(v.hi, sizes) // v.step) for v in top.vars)


def test_counters_are_one_kernel() -> None:
    """A network counts the batches of each of its norms: not a kernel for each of them."""
    names = [f"n{i}" for i in range(70)]
    text = (
        f"op @f({', '.join(f'{n}: i64[]' for n in names)}, x: f32[5])"
        f" -> ({', '.join(f'{n}_next: i64[]' for n in names)}, y: f32[5]) {{\n"
        + "".join(f"  {n}_next[] = {n}[] + 1\n" for n in names)
        + "  y[i] = x[i] * 2.0\n}"
    )
    module = derived(op_of(text))
    counting = [k for k in kernels(module) if k.tensors.keys() & {f"{n}_next" for n in names}]
    assert len(counting) == 2 and len(kernels(module)) == 3
    agree(module)


def found_in(s: For, kind: type) -> bool:
    return any(isinstance(x, kind) for x in statements(s.body))


@pytest.mark.parametrize(
    ("name", "dots"), [("matmul", 1), ("gated_mlp", 2), ("conv1d", 1), ("conv2d", 1)]
)
def test_contraction_and_epilogue_are_one_kernel(name: str, dots: int) -> None:
    module = case(name)
    assert not is_program(module)
    (k,) = kernels(module)
    assert len(found(k, Dot)) == dots
    loads = {s.tensor: s.type for s in found(k, Load) if isinstance(s, Load)}
    assert loads["x"].dtype is k.tensors["x"].dtype
    assert loads["x"].rank == loads["w"].rank == 2


def test_dot_loop_is_pipelined_and_tiles_grouped() -> None:
    (k,) = kernels(case("matmul"))
    (top,) = k.body
    assert isinstance(top, Parallel) and top.group == 8
    assert [v.tile for v in top.vars] == [128, 64]
    assert [s.stages for s in found(k, For) if isinstance(s, For)] == [3]


def test_narrow_operands_reach_dot_unconverted() -> None:
    for name, dtype in (("matmul_f8", DType.F8E4M3), ("matmul_i8", DType.I8)):
        (k,) = kernels(case(name))
        made = {s.result: s for s in all_statements(k) if isinstance(s, Load)}
        (dot,) = (s for s in all_statements(k) if isinstance(s, Dot))
        assert made[str(dot.a)].type.dtype is made[str(dot.b)].type.dtype is dtype


def test_transposed_operands_are_permuted_for_dot() -> None:
    (k,) = kernels(case("batched_matmul"))
    made = {s.result: s for s in all_statements(k) if isinstance(s, Permute)}
    (dot,) = (s for s in all_statements(k) if isinstance(s, Dot))
    assert str(dot.a) not in made and made[str(dot.b)].order == (1, 0)


def test_untransposed_matmul_permutes_nothing() -> None:
    assert not found(kernels(case("matmul"))[0], Permute)


def test_integers_too_wide_for_dot_are_multiplied_exactly() -> None:
    assert not found(kernels(case("matmul_i32"))[0], Dot)


def test_fills_make_masks_unnecessary_where_they_can() -> None:
    (k,) = kernels(case("rms_norm"))
    assert not found(k, Select)
    (k,) = kernels(case("softmax"))
    fills = [s.fill for s in all_statements(k) if isinstance(s, Load)]
    assert fills == [-np.inf, 0, 0]
    assert len(found(k, Select)) == 1


def without_masks(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Every select gives its first value: the constant it would mask with is never taken."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Parallel | For):
            out.append(dataclasses.replace(s, body=without_masks(s.body)))
        elif isinstance(s, Select):
            out.append(dataclasses.replace(s, y=s.x))
        else:
            out.append(s)
    return tuple(out)


def test_a_missing_mask_is_caught() -> None:
    module = case("softmax")
    (op, k) = module.items
    assert isinstance(k, Kernel)
    wrong = Module((op, dataclasses.replace(k, body=without_masks(k.body))))
    agree(wrong, {"B": 3, "D": 2048})
    with pytest.raises(AssertionError):
        agree(wrong, {"B": 3, "D": 1500})


def test_attention_is_scores_statistics_values() -> None:
    module = case("attention")
    assert [k.name for k in kernels(module)] == ["f_s", "f_l", "f_o"]
    assert [len(found(k, Dot)) for k in kernels(module)] == [1, 0, 1]
    assert set(module.programs["f"].temps) == {"s", "m", "l"}


def test_probabilities_are_not_stored() -> None:
    module = derived(
        op_of("""op @f(s: f32[B, S, S], v: f16[B, S, D]) -> (o: f16[B, S, D])
        dims B = 32, S = 512, D = 64 {
          m[b, i] = max[j](s[b, i, j])
          p[b, i, j] = exp(s[b, i, j] - m[b, i])
          l[b, i] = sum[j](p[b, i, j])
          o[b, i, d] = sum[j](p[b, i, j] * v[b, j, d]) / l[b, i] }""")
    )
    assert set(module.programs["f"].temps) == {"m", "l"}
    agree(module, {"B": 2, "S": 37, "D": 19})


def test_an_output_of_full_precision_is_its_own_temporary() -> None:
    text = """op @f(x: f32[M, K], w: f32[K, N]) -> (h: {}[M, N], s: f32[N])
        dims M = 256, K = 512, N = 512 {{
          h[m, n] = sum[k](x[m, k] * w[k, n])  s[n] = sum[m](h[m, n]) }}"""
    assert not derived(op_of(text.format("f32"))).programs["f"].temps
    module = derived(op_of(text.format("f16")))
    assert module.programs["f"].temps["h_value"].dtype is DType.F32
    agree(module, {"M": 33, "K": 20, "N": 17})


def test_large_reduction_to_a_scalar_has_two_levels() -> None:
    module = case("mean_loss")
    first, last = kernels(module)
    (top,) = first.body
    assert isinstance(top, Parallel)
    sizes = first.sizes()
    assert evaluate_int(top.vars[0].hi, sizes) >= 256
    assert [p.name for p in last.outputs] == ["l"]


@pytest.mark.parametrize("name", CASES)
def test_tiles_fit_a_small_local_memory(name: str) -> None:
    for k in kernels(case(name)):
        assert peak_bytes(k) <= LOCAL_BYTES


@pytest.mark.parametrize("name", CASES)
def test_tiles_are_powers_of_two_no_larger_than_needed(name: str) -> None:
    for k in kernels(case(name)):
        sizes = k.sizes()
        for s in all_statements(k):
            vars_ = s.vars if isinstance(s, Parallel) else (s.var,) if isinstance(s, For) else ()
            for v in vars_:
                if v.tile is None:
                    continue
                assert v.tile & (v.tile - 1) == 0
                try:
                    n = evaluate_int(v.hi, sizes) - evaluate_int(v.lo, sizes)
                except (KeyError, ValueError):
                    continue
                assert v.tile < 2 * max(n, 16)


@pytest.mark.parametrize("name", CASES)
def test_as_typed_run_is_within_the_error_bound(name: str) -> None:
    c = CASES[name]
    module = case(name)
    (op,) = module.ops.values()
    sizes = c.sizes[-1]
    limits = {"off": op.sizes(sizes).get("L", 0), **c.limits}
    given = random_inputs(op, op.sizes(sizes), 1, limits)
    with np.errstate(all="ignore"):
        want = evaluate_with_error(op, sizes, given, Rounding())
        program = module.programs[op.name]
        got = interpret_program(module, program, sizes, given, exact=False, check_nan=False)
        for n, (x, bound) in want.items():
            y = np.asarray(got[n]).astype(np.float64)
            x = np.asarray(x, np.float64)
            right = (np.abs(y - x) <= bound) | (y == x) | (np.isnan(y) & np.isnan(x))
            assert right.all(), (n, y[~right][:3], x[~right][:3])


def test_with_derived_adds_only_what_is_missing() -> None:
    text = """
    op @a(x: f32[N]) -> (y: f32[N]) dims N = 8 { y[i] = x[i] + 1 }
    op @b(x: f32[N]) -> (y: f32[N]) dims N = 8 { y[i] = x[i] / sum[j](x[j]) }
    kernel @a(%x: f32[N]) -> (%y: f32[N]) dims N = 8 {
      parallel %i = 0 to N { %v = load %x[%i] : f32  %w = add %v, 1.0  store %w, %y[%i] }
    }
    """
    module = parse(text)
    full = check(with_derived(module))
    assert full.items[:3] == module.items
    assert [i.name for i in full.items[3:] if isinstance(i, Kernel | Program)] == ["b"]
    assert with_derived(full) == full


def test_names_do_not_clash_with_the_module() -> None:
    text = """
    op @f(x: f32[N], d: f32[M]) -> (y: f32[], z: f32[M]) dims N = 100000000, M = 4 {
      y[] = sum[x_1](x[x_1]) * d[0]
      z[acc] = d[acc] * y[] }
    """
    op = op_of(text)
    module = derived(op)
    taken = Module((op, *module.items[1:-1]))
    names = [i.name for i in derive(op, taken)]
    assert names[-1] == "f"
    assert not set(names[:-1]) & set(taken.kernels)
    agree(module, {"N": 5000, "M": 3})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("op @f(x: f32[N]) -> (y: f32[N]) dims N = 8 { y[i] = x[i + 1] }", "out-of-range"),
        ("op @f(x: f32[N]) -> (y: f32[N]) dims N = 8 { y[i] = z[i] }", "undefined"),
        ("op @f(x: f32[N]) -> (y: f32[N]) dims N = 8 { y[i] = sum[k](x[i]) }", "unknown-range"),
        ("op @f(x: f32[N]) -> (y: i32[N]) dims N = 8 { y[i] = x[i] }", "kind"),
        ("op @f(x: f32[N]) -> (y: f32[N], z: f32[]) dims N = 8 { y[i] = x[i] }", "undefined"),
    ],
)
def test_a_wrong_op_is_refused_with_a_place(text: str, code: str) -> None:
    module = parse(text)
    (op,) = module.ops.values()
    with pytest.raises(IRError) as error:
        derive(op, module)
    assert code in [d.code for d in error.value.diagnostics]
    assert all(d.line == 1 for d in error.value.diagnostics)


def test_long_chains_of_equations_derive() -> None:
    lines = [f"a{i}[n] = a{i - 1}[n] * 0.5 + x[n]" for i in range(1, 600)]
    text = "op @f(x: f32[N]) -> (y: f32[N]) dims N = 5000 { a0[n] = x[n] "
    module = derived(op_of(text + " ".join(lines) + " y[n] = a599[n] }"))
    assert not is_program(module)
    agree(module, {"N": 5})


def test_repeated_squaring_does_not_grow() -> None:
    lines = [f"a{i}[n] = a{i - 1}[n] * a{i - 1}[n]" for i in range(1, 40)]
    text = "op @f(x: f32[N]) -> (y: f32[N]) dims N = 5000 { a0[n] = sigmoid(x[n]) "
    module = derived(op_of(text + " ".join(lines) + " y[n] = a39[n] }"))
    assert sum(1 for k in kernels(module) for _ in all_statements(k)) < 60
    agree(module, {"N": 5})


def test_nothing_loops_beside_a_contraction() -> None:
    module = derived(
        op_of("""op @f(x: f16[M, K], w: f16[K, N], v: f32[J]) -> (y: f32[M, N, J])
        dims M = 256, K = 256, N = 256, J = 64 {
          h[m, n] = sum[k](x[m, k] * w[k, n])  y[m, n, j] = h[m, n] * v[j] }""")
    )
    assert len(kernels(module)) == 2
    agree(module, {"M": 17, "K": 18, "N": 19, "J": 3})


def test_derivation_is_deterministic() -> None:
    assert print_module(case("attention")) == print_module(case("attention"))
