"""A program that transposes its weights once, for tests of how that is reported."""

from __future__ import annotations

from ke_ir.ir import Module, Program
from ke_ir.parser import parse
from ke_ir.verify import check

TEXT = """
op @linear(x: f32[B, K], w: f32[N, K]) -> (y: f32[B, N])
dims B in 1..4096 = 64, K = 128, N = 96
{
  y[b, n] = sum[k](x[b, k] * w[n, k])
}
kernel @pack(%w: f32[N, K]) -> (%t: f32[K, N])
dims K = 128, N = 96
{
  parallel %n = 0 to N tile 32, %k = 0 to K tile 32 {
    %v = load %w[%n, %k] : f32[32, 32]
    %p = permute %v [1, 0]
    store %p, %t[%k, %n]
  }
}
kernel @product(%x: f32[B, K], %t: f32[K, N]) -> (%y: f32[B, N])
dims B in 1..4096 = 64, K = 128, N = 96
{
  parallel %b = 0 to B tile 32, %n = 0 to N tile 32 {
    %z = full 0.0 : f32[32, 32]
    %s = for %k = 0 to K tile 32 stages 2 carry (%acc = %z) {
      %a = load %x[%b, %k] : f32[32, 32]
      %c = load %t[%k, %n] : f32[32, 32]
      %d = dot %a, %c, %acc
      yield %d
    }
    store %s, %y[%b, %n]
  }
}
program @linear(%x: f32[B, K], %w: f32[N, K]) -> (%y: f32[B, N])
dims B in 1..4096 = 64, K = 128, N = 96
{
  temp %t : f32[K, N]
  once {
    call @pack(%w) -> (%t)
  }
  call @product(%x, %t) -> (%y)
}
"""


def linear() -> tuple[Module, Program]:
    """The module, and its program."""
    module = check(parse(TEXT))
    return module, module.programs["linear"]
