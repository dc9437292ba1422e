"""KE-IR texts that several tests use."""

ROW_SUM = """
op @row_sum(x: f32[B, D]) -> (y: f32[B])
dims B in 1..4096 = 64, D = 96
{ y[b] = sum[d](x[b, d]) }

kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
{
  parallel %b = 0 to B tile 8 {
    %zero = full 0.0 : f32[8]
    %s = for %d = 0 to D tile 32 carry (%acc = %zero) {
      %v = load %x[%b, %d] : f32[8, 32]
      %r = reduce sum %v dim 1
      %n = add %acc, %r
      yield %n
    }
    store %s, %y[%b]
  }
}
"""

ADD = """
op @add(x: f16[B], y: f16[B]) -> (z: f16[B])
dims B in 1..1000 = 40
{ z[b] = x[b] + y[b] }
"""
