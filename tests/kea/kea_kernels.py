"""Kernels that between them use every part of the language, by name."""

from __future__ import annotations

KERNELS: dict[str, str] = {
    "unary": """
kernel @k(%x: f32[N]) -> (%y: f32[N], %z: f16[N])
dims N in 1..1000 = 37
{ parallel %n = 0 to N tile 16 {
 %v = load %x[%n] : f32[16]
 %a = abs %v
 %b = sqrt %a
 %c = exp %b
 %d = tanh %c
 %e = sigmoid %d
 %f = erf %e
 %g = sin %f
 %h = cos %g
 %i = exp2 %h
 %j = log %i
 %k = floor %c
 %l = neg %j
 %m = add %k, %l
 %o = round %m
 %p = trunc %m
 %q = ceil %m
 %r = add %o, %p
 %s = add %r, %q
 %t = rsqrt %c
 %u = add %s, %t
 store %u, %y[%n]
 %w = cast %u : f16
 store %w, %z[%n]
} }
""",
    "ints": """
kernel @k(%x: i32[N, M], %y: i32[M]) -> (%z: i32[N, M], %b: i1[N, M])
dims N = 7, M = 19
{ parallel %n = 0 to N tile 3, %m = 0 to M tile 8 {
 %v = load %x[%n, %m] : i32[3, 8]
 %w = load %y[%m] : i32[8]
 %w2 = expand %w dim 0
 %a = add %v, %w2
 %c = sub %a, 5
 %d = floordiv %c, 3
 %e = mod %c, 4
 %f = mul %d, %e
 %g = max %f, %v
 %h = min %g, 7
 %i = xor %h, 3
 %j = and %i, 6
 %l = or %j, %w2
 %o = shl %l, 2
 %p = shr %o, 1
 %t = cmp lt %c, 2
 %u = not %t
 %q = select %u, %p, %c
 store %q, %z[%n, %m]
 store %u, %b[%n, %m]
} }
""",
    "reduces": """
kernel @k(%x: f32[N, 33]) ->
  (%a: f32[N], %b: i32[N], %d: f32[N, 33], %e: f32[N], %f: i1[N], %g: f32[N, 33])
dims N in 1..100 = 9
{ parallel %n = 0 to N tile 4 {
 %o, %p = for %m = 0 to 33 tile 33 carry (%c0 = full 0.0 : f32[4], %c1 = full -inf : f32[4]) {
   %v = load %x[%n, %m] : f32[4, 33]
   %s = reduce sum %v dim 1
   %t = reduce max %v dim 1
   %i = reduce argmax %v dim 1
   store %i, %b[%n]
   %w = scan sum %v dim 1 reverse
   store %w, %d[%n, %m]
   %w2 = scan max %v dim 0
   store %w2, %g[%n, %m]
   %q = cmp gt %v, 1.0
   %r = reduce any %q dim 1
   store %r, %f[%n]
   %c2 = add %c0, %s
   %c3 = max %c1, %t
   yield %c2, %c3
 }
 store %o, %a[%n]
 store %p, %e[%n]
} }
""",
    "swap": """
kernel @k(%x: f32[N]) -> (%y: f32[N], %z: f32[N])
dims N = 8
{ parallel %n = 0 to N tile 8 {
 %v = load %x[%n] : f32[8]
 %w = mul %v, 2.0
 %a, %b = for %i = 0 to 3 carry (%p = %v, %q = %w) {
   %s = add %p, %q
   yield %q, %s
 }
 store %a, %y[%n]
 store %b, %z[%n]
} }
""",
    "sameinit": """
kernel @k(%x: f32[N]) -> (%y: f32[N], %z: f32[N])
dims N = 8
{ parallel %n = 0 to N tile 8 {
 %v = load %x[%n] : f32[8]
 %a, %b = for %i = 0 to 3 carry (%p = %v, %q = %v) {
   %s = add %p, 1.0
   %t = mul %q, %s
   %u = add %t, %v
   yield %s, %u
 }
 store %a, %y[%n]
 store %b, %z[%n]
} }
""",
    "nested": """
kernel @k(%x: f32[N, M]) -> (%y: f32[N])
dims N = 10, M = 21
{ parallel %n = 0 to N tile 4 {
 %z = full 0.0 : f32[4]
 %a = for %i = 0 to 3 carry (%p = %z) {
   %b = for %m = 0 to M tile 8 stages 2 carry (%q = %p) {
     %v = load %x[%n, %m] : f32[4, 8]
     %s = reduce sum %v dim 1
     %t = add %q, %s
     yield %t
   }
   yield %b
 }
 store %a, %y[%n]
} }
""",
    "conv": """
kernel @k(%x: f16[N, C, H, W], %w: f16[O, C, 3, 3]) -> (%y: f32[N, O, H, W])
dims N = 2, C = 5, H = 6, W = 7, O = 4
{ parallel %m = 0 to N*H*W tile 16, %o = 0 to O tile 8 {
 %z = full 0.0 : f32[16, 8]
 %s = for %c = 0 to C tile 4 carry (%a0 = %z) {
  %s1 = for %p = 0 to 3 carry (%a1 = %a0) {
   %s2 = for %q = 0 to 3 carry (%a2 = %a1) {
    %v = load %x[%m // (H * W), %c, (%m // W) % H + %p - 1, %m % W + %q - 1 else 0.0] : f16[16, 4]
    %u = load %w[%o, %c, %p, %q] : f16[8, 4]
    %t = permute %u [1, 0]
    %d = dot %v, %t, %a2
    yield %d
   }
   yield %s2
  }
  yield %s1
 }
 store %s, %y[%m // (H * W), %o, (%m // W) % H, %m % W]
} }
""",
    "gather": """
kernel @k(%t: f32[V, D], %i: i32[N]) -> (%y: f32[N, D])
dims V = 11, D = 20, N = 13
{ parallel %n = 0 to N tile 4 , %d = 0 to D tile 16 {
 %v = load %i[%n] : i32[4]
 %x = load %t[%v + 9, %d else -1.0] : f32[4, 16]
 store %x, %y[%n, %d]
} }
""",
    "scatter": """
kernel @k(%x: f32[N, D], %i: i32[N]) -> (%y: f32[5, D])
dims D = 20, N = 13
{ parallel %n = 0 to N tile 4 , %d = 0 to D tile 16 {
 %v = load %i[%n] : i32[4]
 %a = load %x[%n, %d] : f32[4, 16]
 accumulate add %a, %y[%v, %d]
} }
""",
    "scattermax": """
kernel @k(%x: i32[N, D], %i: i32[N]) -> (%y: i32[5, D])
dims D = 20, N = 13
{ parallel %n = 0 to N tile 4 , %d = 0 to D tile 16 {
 %v = load %i[%n] : i32[4]
 %w = add %v, 4
 %u = mod %w, 7
 %a = load %x[%n, %d] : i32[4, 16]
 accumulate max %a, %y[%u, %d]
} }
""",
    "jagged": """
kernel @k(%x: f32[T], %o: i32[B1]) -> (%y: f32[B])
dims B = 6, B1 = 7, T = 40
{ parallel %b = 0 to B {
 %lo = load %o[%b] : i32
 %hi = load %o[%b + 1] : i32
 %z = full 0.0 : f32
 %s = for %t = %lo to %hi tile 8 carry (%a = %z) {
   %v = load %x[%t] : f32[8]
   %r = reduce sum %v dim 0
   %q = add %a, %r
   yield %q
 }
 store %s, %y[%b]
} }
""",
    "grouped": """
kernel @k(%x: f32[A, B, C]) -> (%y: f32[A, B, C])
dims A = 3, B = 37, C = 22
{ parallel %a = 0 to A, %b = 0 to B tile 8, %c = 0 to C tile 8 order grouped(3) {
 %v = load %x[%a, %b, %c] : f32[8, 8]
 %w = mul %v, 2.0
 store %w, %y[%a, %b, %c]
} }
""",
    "f8": """
kernel @k(%x: f8e4m3[M, K], %y: f8e4m3[K, N]) -> (%z: f32[M, N], %c: f8e5m2[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f8e4m3[16, 16]
  %q = load %y[%k, %n] : f8e4m3[16, 16]
  yield dot %p, %q, %a
 }
 store %s, %z[%m, %n]
 store cast %s : f8e5m2, %c[%m, %n]
} }
""",
    "i8": """
kernel @k(%x: i8[M, K], %y: i8[K, N]) -> (%z: i32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0 : i32[16, 16]) {
  %p = load %x[%m, %k] : i8[16, 16]
  %q = load %y[%k, %n] : i8[16, 16]
  yield dot %p, %q, %a
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_ieee": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision ieee
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_tf32": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision tf32
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_tf32_even": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision tf32_even
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_tf32x3": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision tf32x3
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_bf16x3": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision bf16x3
 }
 store %s, %z[%m, %n]
} }
""",
    "prec_bf16x6": """
kernel @k(%x: f32[M, K], %y: f32[K, N]) -> (%z: f32[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 stages 3 carry (%a = full 0.0 : f32[16, 16]) {
  %p = load %x[%m, %k] : f32[16, 16]
  %q = load %y[%k, %n] : f32[16, 16]
  yield dot %p, %q, %a precision bf16x6
 }
 store %s, %z[%m, %n]
} }
""",
    "f64": """
kernel @k(%x: f64[M, K], %y: f64[K, N]) -> (%z: f64[M, N])
dims M = 20, N = 18, K = 40
{ parallel %m = 0 to M tile 16, %n = 0 to N tile 16 {
 %s = for %k = 0 to K tile 16 carry (%a = full 0.0 : f64[16, 16]) {
  %p = load %x[%m, %k] : f64[16, 16]
  %q = load %y[%k, %n] : f64[16, 16]
  yield dot %p, %q, %a
 }
 store %s, %z[%m, %n]
} }
""",
    "shapes": """
kernel @k(%x: f32[N, 24]) -> (%z: f32[6, N], %w: f32[N, 24])
dims N = 10
{ parallel %n = 0 to N tile 5, %e = 0 to 6 tile 6, %d = 0 to 24 tile 24 {
  %v = load %x[%n, %d] : f32[5, 24]
  %r = reshape %v : f32[5, 4, 6]
  %p = permute %r [1, 2, 0]
  %s = reduce sum %p dim 0
  store %s, %z[%e, %n]
  %m = reduce max %v dim 1
  %me = expand %m dim 1
  %b = broadcast %me : f32[5, 24]
  %c = sub %v, %b
  store %c, %w[%n, %d]
} }
""",
    "program": """
kernel @a(%x: f32[N, M]) -> (%s: f32[N])
dims N = 12, M = 20
{ parallel %n = 0 to N tile 4 {
 %t = for %m = 0 to M tile 8 carry (%a = full 0.0 : f32[4]) {
  %v = load %x[%n, %m] : f32[4, 8]
  yield add %a, reduce sum %v dim 1
 }
 store %t, %s[%n]
} }
kernel @b(%x: f32[N, M], %s: f32[N]) -> (%y: f32[N, M])
dims N = 12, M = 20
{ parallel %n = 0 to N tile 4, %m = 0 to M tile 8 {
  %v = load %x[%n, %m] : f32[4, 8]
  %q = load %s[%n] : f32[4]
  %e = expand %q dim 1
  store sub %v, %e, %y[%n, %m]
} }
kernel @step(%h: f32[N], %x: f32[N]) -> (%o: f32[N])
dims N = 12
{ parallel %n = 0 to N tile 8 {
  %a = load %h[%n] : f32[8]
  %b = load %x[%n] : f32[8]
  store tanh add %a, %b, %o[%n]
} }
program @p(%x: f32[N, M], %u: f32[T, N]) -> (%y: f32[N, M], %h: f32[T, N])
dims N = 12, M = 20, T = 5
{
  temp %s : f32[N]
  temp %z : f32[1, N]
  call @a(%x) -> (%s)
  call @b(%x, %s) -> (%y)
  call @step(%s, %u[0]) -> (%h[0])
  repeat %t = 1 to T {
    call @step(%h[%t - 1], %u[%t]) -> (%h[%t])
  }
}
""",
    "causal": """
kernel @k(%x: f32[N, N]) -> (%y: f32[N])
dims N in 1..500 = 45
{ parallel %i = 0 to N tile 16 {
 %r = iota %i : i64[16]
 %re = expand %r dim 1
 %s = for %j = 0 to min(end(%i), N) tile 8 stages 2 carry (%a = full 0.0 : f32[16]) {
  %c = iota %j : i64[8]
  %ce = expand %c dim 0
  %m = cmp le %ce, %re
  %v = load %x[%i, %j] : f32[16, 8]
  %w = select %m, %v, 0.0
  yield add %a, reduce sum %w dim 1
 }
 store %s, %y[%i]
} }
""",
}
INPUTS: dict[str, dict[str, list[int]]] = {"jagged": {"o": [0, 3, 3, 20, 21, 39, 40]}}
"""Values for inputs that are not drawn at random."""
