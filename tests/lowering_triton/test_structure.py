"""Control flow, gathers, scatters, shapes and programs, beside KE-IR's interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check
from tests.lowering_triton.conftest import assert_same, function, kernel, lowered, run_both

STRUCTURES = {
    "scatter": kernel(
        "(%x: f32[N], %idx: i32[N]) -> (%y: f32[M], %z: f32[M])", "N in 1..100 = 37, M = 5",
        "parallel %i = 0 to N tile 16 persistent {\n%v = load %x[%i] : f32[16]\n"
        "%ix = load %idx[%i else -1] : i32[16]\naccumulate add %v, %y[%ix]\n"
        "accumulate max %v, %z[%ix]\n}",
    ),
    "gather": kernel(
        "(%x: f32[M, D], %idx: i64[N]) -> (%y: f32[N, D])", "N in 1..100 = 37, M = 4, D = 30",
        "parallel %i = 0 to N tile 16 {\n%ix = load %idx[%i else -1] : i64[16]\n"
        "for %d = 0 to D tile 12 {\n%t = load %x[%ix, %d else 9.0] : f32[16, 12]\n"
        "store %t, %y[%i, %d]\n}}",
    ),
    "clamped": kernel(  # coordinates that stay inside by `min` and `max`, of indices and of tiles
        "(%x: f32[N], %idx: i32[N]) -> (%y: f32[N], %z: f32[N])", "N in 1..100 = 37",
        "parallel %i = 0 to N tile 16 {\n%v = load %x[min(max(%i - 3, 0), N - 9)] : f32[16]\n"
        "store %v, %y[%i]\n%ix = load %idx[%i] : i32[16]\n"
        "%g = load %x[max(min(%ix * 5, N - 1), 2)] : f32[16]\nstore %g, %z[%i]\n}",
    ),
    "shapes": kernel(
        "(%x: bf16[A, B, 3]) -> (%y: bf16[B, 3, A])", "A in 1..99 = 10, B in 1..99 = 21",
        "parallel %i = 0 to A tile 4, %j = 0 to B tile 8, %k = 0 to 3 order grouped(2) {\n"
        "%v = load %x[%i, %j, %k] : bf16[4, 8]\n%r = reshape %v : bf16[2, 2, 8]\n"
        "%p = permute %r [2, 0, 1]\n%q = reshape %p : bf16[8, 4]\nstore %q, %y[%j, %k, %i]\n}",
    ),
    "scalars": kernel(
        "(%x: f32[A, B], %len: i32[A]) -> (%y: f32[A], %n: i32[A])", "A = 6, B = 9",
        "parallel %i = 0 to A {\n%m = load %len[%i] : i32\n%s0 = full 0.0 : f32\n"
        "%c0 = full 1 : i32\n%s, %c = for %j = 0 to min(%m, B) carry (%a = %s0, %b = %c0) {\n"
        "%v = load %x[%i, %j] : f32\n%t = add %a, %v\n%u = add %b, 1\n%late = cmp gt %u, 3\n"
        "%w = select %late, %t, %a\nyield %w, %u\n}\nstore %s, %y[%i]\nstore %c, %n[%i]\n}",
    ),
    "carries": kernel(  # values that move between carried variables, and loops that share one
        "(%x: f32[3]) -> (%y: f32[8], %z: f32[8])", "",
        "parallel %i = 0 to 1 {\n%a0 = full 0.0 : f32[8]\n%b0 = full 1.0 : f32[8]\n"
        "%ra, %rb = for %t = 0 to 5 carry (%a = %a0, %b = %b0) {\n"
        "%n = add %a, %b\nyield %b, %n\n}\n"
        "%rc = for %u = 0 to 3 carry (%c = %ra) {\n%rd = for %v = 0 to 2 carry (%d = %c) {\n"
        "%e = add %d, %rb\nyield %e\n}\n%f = mul %rd, 0.5\nyield %f\n}\n"
        "for %k = 0 to 8 tile 8 {\nstore %rc, %y[%k]\n%io = iota %k : i64[8]\n"
        "%mod = mod %io, 3\n%ix = cast %mod : i32\n%g = load %x[%ix] : f32[8]\nstore %g, %z[%k]\n"
        "}}",
    ),
    "shifted": kernel(
        "(%x: f32[B, D]) -> (%y: f32[B, D])", "B = 5, D = 40",
        "parallel %b = 1 to B + 1 tile 4 {\nfor %d = 4 to D + 4 tile 16 {\n"
        "%v = load %x[%b - 1, %d - 4 else 2] : f32[4, 16]\nstore %v, %y[%b - 1, %d - 4]\n}}",
    ),
    "conv2d": kernel(
        "(%x: f32[N, C, H, W], %w: f32[O, C, 3, 3]) -> (%y: f32[N, O, H, W])",
        "N in 1..10 = 2, C = 20, H = 5, W = 7, O = 10",
        "parallel %m = 0 to N * H * W tile 16, %o = 0 to O tile 16 {\n"
        "%z = full 0.0 : f32[16, 16]\n%r = for %p = 0 to 3 carry (%acc = %z) {\n"
        "%s = for %q = 0 to 3 carry (%acc_1 = %acc) {\n"
        "%u = for %c = 0 to C tile 16 stages 2 carry (%acc_2 = %acc_1) {\n"
        "%a = load %x[%m // (H * W), %c, (%m // W) % H + %p - 1, %m % W + %q - 1] : f32[16, 16]\n"
        "%b = load %w[%o, %c, %p, %q] : f32[16, 16]\n%bt = permute %b [1, 0]\n"
        "%d = dot %a, %bt, %acc_2\nyield %d\n}\nyield %u\n}\nyield %s\n}\n"
        "store %r, %y[%m // (H * W), %o, (%m // W) % H, %m % W]\n}",
    ),
    "convolution in parts": kernel(  # of the channels, so that the inner loop does not begin at 0
        "(%x: f32[2, 48, 40], %w: f32[10, 48, 3]) -> (%y: f32[3, 2, 10, 38])", "",
        "parallel %part = 0 to 3, %b = 0 to 2, %i = 0 to 38 tile 16, %o = 0 to 10 tile 16 {\n"
        "%z = full 0.0 : f32[16, 16]\n%r = for %p = 0 to 3 carry (%acc = %z) {\n"
        "%u = for %c = %part * 16 to %part * 16 + 16 tile 8 stages 2 carry (%acc_2 = %acc) {\n"
        "%a = load %x[%b, %c, %i + %p] : f32[8, 16]\n%at = permute %a [1, 0]\n"
        "%v = load %w[%o, %c, %p] : f32[16, 8]\n%vt = permute %v [1, 0]\n"
        "%d = dot %at, %vt, %acc_2\nyield %d\n}\nyield %u\n}\n"
        "%rt = permute %r [1, 0]\nstore %rt, %y[%part, %b, %o, %i]\n}",
    ),
    "pool": kernel(
        "(%x: f32[9, 20]) -> (%y: f32[7, 18])", "",
        "parallel %i = 0 to 7 tile 4, %j = 0 to 18 tile 16 {\n%z = full -inf : f32[4, 16]\n"
        "%r = for %p = 0 to 3 carry (%acc = %z) {\n%s = for %q = 0 to 3 carry (%acc_1 = %acc) {\n"
        "%v = load %x[%i + %p, %j + %q else -inf] : f32[4, 16]\n%m = max %acc_1, %v\nyield %m\n"
        "}\nyield %s\n}\nstore %r, %y[%i, %j]\n}",
    ),
    "raveled": kernel(  # the places of one index along several dimensions
        "(%x: f32[4, 5, 7], %u: f32[4, 5, 6]) -> (%y: f32[20, 7], %z: f32[20, 7])", "",
        "parallel %i = 0 to 140 tile 16 {\n%v = load %x[%i // 35, %i // 7 % 5, %i % 7] : f32[16]\n"
        "store %v, %y[%i // 7, %i % 7]\n"
        "%w = load %u[%i // 35, %i // 7 % 5, %i % 7 else 2.0] : f32[16]\n"
        "store %w, %z[%i // 7, %i % 7]\n}",
    ),
}  # fmt: skip

RNN = """
kernel @scale(%w: f32[D, D]) -> (%v: f32[D, D])
dims D = 32
{
  parallel %i = 0 to D, %d = 0 to D tile 32 {
    %a = load %w[%i, %d] : f32[32]
    %b = mul %a, 0.25
    store %b, %v[%i, %d]
  }
}
kernel @start() -> (%h: f32[B, D])
dims B in 1..64 = 4, D = 32
{
  parallel %b = 0 to B, %d = 0 to D tile 32 {
    store 0.0, %h[%b, %d]
  }
}
kernel @step(%x: f32[B, D], %h: f32[B, D], %w: f32[D, D]) -> (%y: f32[B, D])
dims B in 1..64 = 4, D = 32
{
  parallel %b = 0 to B tile 16, %d = 0 to D tile 32 {
    %z = full 0.0 : f32[16, 32]
    %r = for %k = 0 to D tile 16 stages 2 carry (%acc = %z) {
      %a = load %h[%b, %k] : f32[16, 16]
      %c = load %w[%k, %d] : f32[16, 32]
      %t = dot %a, %c, %acc
      yield %t
    }
    %xx = load %x[%b, %d] : f32[16, 32]
    %s = add %r, %xx
    %q = tanh %s
    store %q, %y[%b, %d]
  }
}
kernel @copy(%h: f32[B, D]) -> (%y: f32[B, D])
dims B in 1..64 = 4, D = 32
{
  parallel %b = 0 to B, %d = 0 to D tile 32 {
    %a = load %h[%b, %d] : f32[32]
    store %a, %y[%b, %d]
  }
}
program @rnn(%x: f32[T, B, D], %w: f32[D, D]) -> (%y: f32[B, D])
dims T in 1..10 = 3, B in 1..64 = 4, D = 32
{
  temp %ws : f32[D, D]
  once {
    call @scale(%w) -> (%ws)
  }
  temp %h : f32[T + 1, B, D]
  call @start() -> (%h[0])
  repeat %t = 0 to T {
    call @step(%x[%t], %h[%t], %ws) -> (%h[%t + 1])
  }
  call @copy(%h[T]) -> (%y)
}
"""


@pytest.fixture(scope="module")
def rnn() -> Module:
    return check(parse(RNN))


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name: str) -> None:
    assert_same(*run_both(STRUCTURES[name]), ulps=2, terms=16)


@pytest.mark.parametrize("dims", [{}, {"T": 1, "B": 1}, {"T": 5, "B": 17}])
def test_program(rnn: Module, dims: dict[str, int]) -> None:
    assert_same(*run_both(rnn, dims, name="rnn"), ulps=4, terms=4)


def test_a_once_section_is_a_function_of_its_own(rnn: Module) -> None:
    text = lowered(rnn)
    assert "def prepare(x, w):" in text
    assert "def rnn(x, w, *, out=None, prepared=None):" in text
    assert "(ws,) = prepare(x, w) if prepared is None else prepared" in text
    assert "x_rows = x.unbind()" in text and "del x_rows, h_rows" in text
    args = text[text.index("step_kernel[grid](") :].split()
    assert args[1:6] == ["x_rows[t],", "h_rows[t],", "ws,", "h_rows[t", "+"]


def test_few_steps_take_no_tensor_apart() -> None:
    """Its rows may be many more than the steps are."""
    few = RNN.replace("repeat %t = 0 to T {", "repeat %t = 0 to 1 {")
    text = lowered(check(parse(few.replace("T in 1..10 = 3", "T in 1..10 = 10"))))
    assert "unbind" not in text and "x[t]" in text


def test_persistent_programs_share_the_grid() -> None:
    text = lowered(STRUCTURES["scatter"], units=132)
    assert (
        "for tile_id in range(tl.program_id(0), tl.cdiv(N, BLOCK_I), tl.num_programs(0)):" in text
    )
    assert 'min(132, triton.cdiv(N, meta["BLOCK_I"]))' in text
    assert "y.fill_(0.0)" in text
    assert 'z.fill_(float("-inf"))' in text


def test_a_loop_of_one_iteration_is_no_loop() -> None:
    module = kernel(
        "(%x: f32[N, 64]) -> (%y: f32[N])", "N = 8",
        "parallel %i = 0 to N tile 4 {\n%z = full 0.0 : f32[4]\n"
        "%s = for %d = 0 to 64 tile 64 carry (%acc = %z) {\n%v = load %x[%i, %d] : f32[4, 64]\n"
        "%r = reduce sum %v dim 1\n%t = add %acc, %r\nyield %t\n}\nstore %s, %y[%i]\n}",
    )  # fmt: skip
    text = function(lowered(module))
    assert "for " not in text.replace("# for", "")
    assert_same(*run_both(module), ulps=2, terms=64)


def test_a_nest_whose_inner_loop_is_pipelined_is_one_loop() -> None:
    """Else the pipeline would be filled and emptied again for each tap of a window."""
    text = function(lowered(STRUCTURES["conv2d"]))
    assert text.count("for ") == 1
    assert "for step in range(3 * 3 * tl.cdiv(C, BLOCK_C)):" in text
    assert '"num_stages": 2' in lowered(STRUCTURES["conv2d"])


def test_a_nest_stays_where_an_outer_loop_does_more() -> None:
    """Or where the inner one is not pipelined: a window of a pool is easier to read so."""
    text = function(lowered(STRUCTURES["carries"]))
    assert text.count("for ") == 3
    assert "for p in range" in function(lowered(STRUCTURES["pool"]))


def test_places_of_one_index_along_neighbouring_dimensions_are_one_address() -> None:
    """Only where their sizes are those it is split by: those of %u are not."""
    text = function(lowered(STRUCTURES["raveled"]))
    assert "tl.load(x + offs_i" in text and "tl.store(y + offs_i" in text
    assert "offs_i // 35" in text and text.count("offs_i % 7") >= 1


BOUND_BY_CALLS = """
kernel @double(%x: f32[N]) -> (%y: f32[N])
dims N = 64
{
  parallel %i = 0 to N tile 32 {
    %v = load %x[%i] : f32[32]
    %w = add %v, %v
    store %w, %y[%i]
  }
}
program @p(%x: f32[T], %w: f32[D]) -> (%y: f32[T], %z: f32[D])
dims T in 1..99 = 40, D = 96
{
  call @double(%x) -> (%y)
  call @double(%w) -> (%z)
}
"""


def test_a_kernel_is_lowered_for_the_way_it_is_called() -> None:
    """A static dim bound to a run-time size is an argument; bound to a fixed one, a constant."""
    module = check(parse(BOUND_BY_CALLS))
    text = lowered(module)
    assert "mask_i = offs_i < N" in function(text, "double_kernel")
    assert "def double_kernel(x, y, N, BLOCK_I: tl.constexpr):" in text
    assert "mask" not in function(text, "double_kernel_2")
    assert "def double_kernel_2(x, y, N: tl.constexpr, BLOCK_I: tl.constexpr):" in text
    assert_same(*run_both(module, {"T": 33}, name="p"))


def test_a_derived_size_that_is_no_polynomial() -> None:
    module = kernel(
        "(%x: f32[N]) -> (%y: f32[H])",
        "N in 2..200 = 51, H = N // 2",
        "parallel %i = 0 to H tile 16 {\n%v = load %x[2 * %i] : f32[16]\nstore %v, %y[%i]\n}",
    )
    for size in (2, 51, 64):
        assert_same(*run_both(module, {"N": size}))


def test_a_temporary_gives_its_memory_back_after_its_last_use() -> None:
    """Each is made where it is first used; what comes after may have its memory."""
    step = """kernel @k{0}(%x: f32[N]) -> (%y: f32[N])
    dims N in 1..100 = 64 {{
      parallel %i = 0 to N tile 64 {{
        %v = load %x[%i] : f32[64]
        %w = add %v, {0}.5
        store %w, %y[%i]
      }}
    }}
    """
    module = check(parse("".join(map(step.format, range(3))) + """
    program @chain(%x: f32[N]) -> (%y: f32[N])
    dims N in 1..100 = 64 {
      temp %a : f32[N]
      temp %b : f32[N]
      call @k0(%x) -> (%a)
      call @k1(%a) -> (%b)
      call @k2(%b) -> (%y)
    }"""))  # fmt: skip
    text = lowered(module, "chain").partition("def chain(")[2]
    words = [line.split()[0] if " = torch.empty" in line else line.strip()
             for line in text.splitlines() if " = torch.empty" in line or "[grid](" in line
             or line.lstrip().startswith("del ")]  # fmt: skip
    assert [w.partition("[")[0] for w in words] == [
        "y", "a", "k0_kernel", "b", "k1_kernel", "del a", "k2_kernel"
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "called"), [("tanh", "tanh_"), ("min", "min_"), ("tri", "tri")])
def test_a_program_named_as_something_the_file_needs(name: str, called: str) -> None:
    """Its launcher has another name: kernels call helpers, and grids are minima."""
    module = kernel(
        "(%x: f32[N]) -> (%y: f32[N])", "N = 40",
        "parallel %i = 0 to N tile 16 persistent {\n%v = load %x[%i] : f32[16]\n%t = tanh %v\n"
        "store %t, %y[%i]\n}",
    )  # fmt: skip
    renamed = Module(tuple(replace(i, name=name) for i in module.items), file=module.file)
    assert f"def {called}(x, *, out=None):" in lowered(renamed)
    assert_same(*run_both(renamed, name=name), ulps=4)
