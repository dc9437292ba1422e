"""Derivations of ops of every kind mean what the op means, at sizes of every kind."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ke_ir.parser import parse
from tests.ir.derive_check import agree, derived


@dataclass(frozen=True)
class Case:
    """An op at its real sizes, the small sizes to check it at, and limits of integer inputs."""

    text: str
    sizes: tuple[dict[str, int], ...] = ({},)
    limits: dict[str, int] = field(default_factory=dict)


CASES = {
    "pointwise": Case(
        """op @f(x: f32[B, D], b: f32[D]) -> (y: f32[B, D])
        dims B in 1..65536 = 8192, D = 4096 { y[i, d] = max(x[i, d] + b[d], 0) }""",
        ({"B": 1, "D": 7}, {"B": 13, "D": 1030}),
    ),
    "two_outputs": Case(
        """op @f(x: f32[B, D]) -> (y: f32[B, D], z: f16[D, B])
        dims B = 5, D = 70 { y[i, d] = x[i, d] * 2  z[d, i] = x[i, d] + i - d }""",
        ({}, {"B": 1, "D": 1}),
    ),
    "scalar_tensors": Case(
        """op @f(x: f32[], n: i32[]) -> (y: f32[], z: i32[])
        { y[] = x[] * 2 + n[]  z[] = n[] + 1 }""",
    ),
    "stencil": Case(
        """op @f(x: f32[H, W]) -> (y: f32[H, W]) dims H = 300, W = 500
        { y[i, j] = x[i, j] * 4 - x[i - 1, j else 0] - x[i + 1, j else 0]
                  - x[i, j - 1 else 1.5] - x[i, j + 1 else inf] }""",
        ({"H": 3, "W": 5}, {"H": 1, "W": 1}, {"H": 37, "W": 33}),
    ),
    "integers": Case(
        """op @f(x: i8[N], u: u8[N], k: i64[N]) -> (y: i32[N], z: i64[N], w: i8[N], q: i1[N])
        dims N = 300 {
          y[i] = x[i] * u[i] + i % 7 - (i // 3)
          z[i] = k[i] * 100000 + x[i]
          w[i] = x[i] + 100
          q[i] = x[i] > 0 and not (k[i] == 1) or i < N - 3
        }""",
        ({}, {"N": 1}),
    ),
    "wide_integers": Case(
        """op @f(x: i32[N], y: i32[N]) -> (z: i64[N], s: i64[]) dims N = 1000 {
          z[i] = x[i] * y[i] * 1000000  s[] = sum[i](x[i] * y[i]) }""",
        ({"N": 17},),
        {"x": 1 << 30, "y": 1 << 30},
    ),
    "functions": Case(
        """op @f(x: f32[N]) -> (y: f32[N], z: i32[N]) dims N = 200 {
          y[i] = sigmoid(x[i]) + tanh(abs(x[i])) * erf(x[i]) + pow(abs(x[i]), 1.5) + exp2(x[i]) % 2
               + x[i] // 0.5 + select(x[i] > 0, sqrt(abs(x[i])), i)
          z[i] = floor(x[i] * 10) + round(x[i]) * trunc(x[i]) - ceil(x[i]) }""",
    ),
    "rms_norm": Case(
        """op @f(x: f16[B, D], w: f16[D]) -> (y: f16[B, D])
        dims B in 1..65536 = 8192, D = 4096 {
          ms[b] = sum[d](x[b, d] * x[b, d]) / D
          y[b, d] = x[b, d] * rsqrt(ms[b] + 1e-6) * w[d] }""",
        ({"B": 1, "D": 4}, {"B": 13, "D": 1031}),
    ),
    "layer_norm": Case(
        """op @f(x: bf16[B, D], w: bf16[D], c: bf16[D]) -> (y: bf16[B, D], mean: f32[B])
        dims B in 1..65536 = 8192, D = 4096 {
          mean[b] = sum[d](x[b, d]) / D
          v[b] = sum[d]((x[b, d] - mean[b]) * (x[b, d] - mean[b])) / D
          y[b, d] = (x[b, d] - mean[b]) * rsqrt(v[b] + 1e-5) * w[d] + c[d] }""",
        ({"B": 1, "D": 4}, {"B": 13, "D": 1031}),
    ),
    "softmax": Case(
        """op @f(x: f16[B, D]) -> (y: f16[B, D])
        dims B in 1..65536 = 8192, D = 1000 {
          m[b] = max[d](x[b, d])
          s[b] = sum[d](exp(x[b, d] - m[b]))
          y[b, d] = exp(x[b, d] - m[b]) / s[b] }""",
        ({"B": 1, "D": 1}, {"B": 3, "D": 1500}),
    ),
    "softmax_nested": Case(
        """op @f(x: f16[B, D]) -> (y: f16[B, D]) dims B = 100, D = 33 {
          y[b, d] = exp(x[b, d] - max[e](x[b, e])) / sum[e](exp(x[b, e] - max[g](x[b, g]))) }""",
        ({},),
    ),
    "softmax_columns": Case(
        """op @f(x: f16[B, H, W]) -> (y: f16[B, H, W]) dims B = 64, H = 512, W = 512 {
          m[b, w] = max[h](x[b, h, w])
          s[b, w] = sum[h](exp(x[b, h, w] - m[b, w]))
          y[b, h, w] = exp(x[b, h, w] - m[b, w]) / s[b, w] }""",
        ({"B": 2, "H": 19, "W": 5},),
    ),
    "mean_and_square": Case(
        """op @f(x: f32[B, D]) -> (a: f32[B], s: f32[B]) dims B = 4096, D = 4096 {
          a[b] = sum[d](x[b, d]) s[b] = sum[d](x[b, d] * x[b, d]) }""",
        ({"B": 11, "D": 70},),
    ),
    "full_reductions": Case(
        """op @f(x: f32[N]) -> (a: f32[], b: f32[], c: f32[], p: f32[])
        dims N in 1..99999999 = 30000000
        { a[] = sum[i](x[i]) b[] = max[i](x[i] * 2) c[] = min[i](x[i])
        p[] = prod[i](1 + x[i] / 1000) }""",
        ({"N": 1}, {"N": 70001}),
    ),
    "mean_loss": Case(
        """op @f(x: f32[N, D], t: f32[N, D]) -> (l: f32[]) dims N = 32768, D = 1024 {
          l[] = sum[n, d]((x[n, d] - t[n, d]) * (x[n, d] - t[n, d])) / (N * D) }""",
        ({"N": 3, "D": 5}, {"N": 130, "D": 70}),
    ),
    "normalise_by_total": Case(
        """op @f(x: f32[N]) -> (y: f32[N]) dims N = 1048576
        { y[i] = x[i] / sum[j](x[j] * x[j]) }""",
        ({"N": 3}, {"N": 5000}),
    ),
    "column_sum": Case(
        """op @f(x: f32[B, D]) -> (y: f32[D]) dims B = 4096, D = 4096 { y[d] = sum[b](x[b, d]) }""",
        ({"B": 70, "D": 150},),
    ),
    "argmax": Case(
        """op @f(x: f32[B, D]) -> (y: i32[B], z: i64[D]) dims B = 4096, D = 3000 {
          y[b] = argmax[d](x[b, d]) z[d] = argmin[b](x[b, d] * x[b, d]) }""",
        ({"B": 5, "D": 7}, {"B": 70, "D": 1030}),
    ),
    "argmax_ties": Case(
        """op @f(x: i8[B, D]) -> (y: i32[B]) dims B = 40, D = 3000 { y[b] = argmax[d](x[b, d]) }""",
        ({"B": 5, "D": 2100},),
    ),
    "any_all": Case(
        """op @f(x: f32[B, D]) -> (y: i1[B], z: i1[B]) dims B = 64, D = 100 {
          y[b] = any[d](x[b, d] > 2) z[b] = all[d](x[b, d] < 2) }""",
        ({},),
    ),
    "integer_sums": Case(
        """op @f(x: i32[B, D], y: u8[B, D]) -> (a: i64[B], s: i32[B], c: i32[B], p: i64[B])
        dims B = 64, D = 90 {
          a[b] = sum[d](x[b, d]) s[b] = sum[d](y[b, d]) c[b] = max[d](x[b, d])
          p[b] = prod[d](x[b, d])
        }""",
        ({},),
    ),
    "matmul": Case(
        """op @f(x: bf16[M, K], w: bf16[K, N], b: bf16[N]) -> (y: bf16[M, N])
        dims M in 1..65536 = 4096, K = 4096, N = 4096 {
          h[m, n] = sum[k](x[m, k] * w[k, n]) + b[n]
          y[m, n] = h[m, n] * 0.5 * (1 + erf(h[m, n] * 0.7071067811865476)) }""",
        ({"M": 1, "K": 3, "N": 2}, {"M": 67, "K": 45, "N": 131}),
    ),
    "matmul_transposed": Case(
        """op @f(x: f16[K, M], w: f16[N, K]) -> (y: f32[N, M])
        dims M = 512, K = 512, N = 512 { y[n, m] = sum[k](x[k, m] * w[n, k]) * 0.5 }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "matmul_mixed": Case(
        """op @f(x: f16[M, K], w: f32[K, N], s: f32[K], t: f32[N]) -> (y: f32[M, N])
        dims M = 512, K = 512, N = 512 {
          y[m, n] = sum[k](2 * x[m, k] * w[k, n] * exp(s[k]) / t[n]) }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "matmul_f64": Case(
        """op @f(x: f64[M, K], w: f64[K, N]) -> (y: f64[M, N])
        dims M = 512, K = 512, N = 512 { y[m, n] = sum[k](x[m, k] * w[k, n]) }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "matmul_i8": Case(
        """op @f(x: i8[M, K], w: i8[K, N]) -> (y: i32[M, N])
        dims M = 512, K = 512, N = 512 { y[m, n] = sum[k](x[m, k] * w[k, n]) }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "matmul_i32": Case(
        """op @f(x: i32[M, K], w: i32[K, N]) -> (y: i64[M, N])
        dims M = 64, K = 64, N = 64 { y[m, n] = sum[k](x[m, k] * w[k, n]) }""",
        ({"M": 33, "K": 45, "N": 35},),
        {"x": 1 << 30, "w": 1 << 20},
    ),
    "matmul_f8": Case(
        """op @f(x: f8e4m3[M, K], w: f8e4m3[K, N], s: f32[M]) -> (y: f8e5m2[M, N])
        dims M = 512, K = 512, N = 512 { y[m, n] = sum[k](x[m, k] * w[k, n]) * s[m] }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "gated_mlp": Case(
        """op @f(x: f16[M, K], w: f16[K, N], v: f16[K, N]) -> (y: f16[M, N])
        dims M = 512, K = 512, N = 512 {
          g[m, n] = sum[k](x[m, k] * w[k, n])
          u[m, n] = sum[k](x[m, k] * v[k, n])
          y[m, n] = g[m, n] * sigmoid(g[m, n]) * u[m, n] }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "batched_matmul": Case(
        """op @f(x: f16[B, H, M, K], w: f16[B, H, N, K]) -> (y: f32[B, H, M, N])
        dims B = 4, H = 8, M = 512, K = 64, N = 512 {
          y[b, h, m, n] = sum[k](x[b, h, m, k] * w[b, h, n, k]) / 8 }""",
        ({"B": 2, "H": 3, "M": 33, "K": 20, "N": 17},),
    ),
    "linear_3d": Case(
        """op @f(x: f16[B, S, K], w: f16[N, K]) -> (y: f16[B, S, N])
        dims B = 4, S = 100, K = 64, N = 512 { y[b, s, n] = sum[k](x[b, s, k] * w[n, k]) }""",
        ({"B": 2, "S": 13, "K": 20, "N": 17},),
    ),
    "matvec": Case(
        """op @f(a: f16[M, K], x: f16[K]) -> (y: f32[M]) dims M = 4096, K = 4096 {
          y[m] = sum[k](a[m, k] * x[k]) }""",
        ({"M": 33, "K": 77},),
    ),
    "outer": Case(
        """op @f(a: f16[M], x: f16[N]) -> (y: f32[M, N]) dims M = 4096, N = 4096 {
          y[m, n] = a[m] * x[n] }""",
        ({"M": 33, "N": 77},),
    ),
    "matmul_norm": Case(
        """op @f(x: f16[M, K], w: f16[K, N], b: f16[N]) -> (y: f16[M, N])
        dims M = 512, K = 512, N = 512 {
          h[m, n] = tanh(sum[k](x[m, k] * w[k, n]) + b[n])
          ms[m] = sum[n](h[m, n] * h[m, n]) / N
          y[m, n] = h[m, n] * rsqrt(ms[m] + 1e-5) }""",
        ({"M": 33, "K": 45, "N": 65},),
    ),
    "two_matmuls": Case(
        """op @f(x: f16[M, K], w: f16[K, N], v: f16[N, P]) -> (h: f16[M, N], y: f16[M, P])
        dims M = 512, K = 512, N = 512, P = 256 {
          h[m, n] = max(sum[k](x[m, k] * w[k, n]), 0)
          y[m, p] = sum[n](h[m, n] * v[n, p]) }""",
        ({"M": 33, "K": 45, "N": 65, "P": 40},),
    ),
    "pairwise_distance": Case(
        """op @f(x: f32[M, K], w: f32[N, K]) -> (y: f32[M, N])
        dims M = 512, K = 64, N = 512 {
          y[m, n] = sqrt(sum[k]((x[m, k] - w[n, k]) * (x[m, k] - w[n, k]))) }""",
        ({"M": 33, "K": 7, "N": 40},),
    ),
    "attention": Case(
        """op @f(q: f16[B, H, S, D], k: f16[B, H, S, D], v: f16[B, H, S, D])
          -> (o: f16[B, H, S, D])
        dims B = 2, H = 16, S = 1024, D = 64 {
          s[b, h, i, j] = select(j <= i, sum[d](q[b, h, i, d] * k[b, h, j, d]) * 0.125, -inf)
          m[b, h, i] = max[j](s[b, h, i, j])
          l[b, h, i] = sum[j](exp(s[b, h, i, j] - m[b, h, i]))
          o[b, h, i, d] = sum[j](exp(s[b, h, i, j] - m[b, h, i]) / l[b, h, i] * v[b, h, j, d]) }""",
        ({"B": 1, "H": 2, "S": 37, "D": 16},),
    ),
    "conv1d": Case(
        """op @f(x: f16[N, C, L], w: f16[O, C, 3]) -> (y: f16[N, O, L])
        dims N = 2048, C = 96, O = 96, L = 200 {
          y[n, o, i] = sum[c, p](x[n, c, i + p - 1 else 0] * w[o, c, p]) }""",
        ({"N": 2, "C": 20, "O": 10, "L": 9},),
    ),
    "conv2d": Case(
        """op @f(x: f16[N, C, H, W], w: f16[O, C, 3, 3], b: f16[O]) -> (y: f16[N, O, H, W])
        dims N = 32, C = 64, O = 128, H = 56, W = 56 {
          y[n, o, i, j] = max(b[o] + sum[c, p, q](
            x[n, c, i + p - 1, j + q - 1 else 0] * w[o, c, p, q]), 0) }""",
        ({"N": 2, "C": 5, "O": 10, "H": 6, "W": 7},),
    ),
    "conv2d_strided_valid": Case(
        """op @f(x: f32[N, C, H, W], w: f32[O, C, 7, 7]) -> (y: f32[N, O, OH, OW])
        dims N = 16, C = 3, O = 64, H = 64, W = 64, OH = (H - 7) // 2 + 1, OW = (W - 7) // 2 + 1 {
          y[n, o, i, j] = sum[c, p, q](x[n, c, i * 2 + p, j * 2 + q] * w[o, c, p, q]) }""",
        ({"N": 2, "C": 2, "O": 10, "H": 13, "W": 12},),
    ),
    "depthwise_conv": Case(
        """op @f(x: f16[N, C, H, W], w: f16[C, 3, 3]) -> (y: f16[N, C, H, W])
        dims N = 32, C = 64, H = 56, W = 56 {
          y[n, c, i, j] = sum[p, q](x[n, c, i + p - 1, j + q - 1 else 0] * w[c, p, q]) }""",
        ({"N": 2, "C": 5, "H": 6, "W": 7},),
    ),
    "max_pool": Case(
        """op @f(x: f16[N, C, H, W]) -> (y: f16[N, C, OH, OW])
        dims N = 32, C = 64, H = 56, W = 56, OH = (H + 1) // 2, OW = (W + 1) // 2 {
          y[n, c, i, j] = max[p in 0 to 3, q in 0 to 3](
            x[n, c, i * 2 + p - 1, j * 2 + q - 1 else -inf]) }""",
        ({"N": 2, "C": 5, "H": 6, "W": 7},),
    ),
    "global_pool": Case(
        """op @f(x: f16[N, C, H, W]) -> (y: f16[N, C]) dims N = 32, C = 64, H = 7, W = 7 {
          y[n, c] = sum[h, w](x[n, c, h, w]) / (H * W) }""",
        ({"N": 3, "C": 5}, {"N": 1, "C": 2, "H": 2, "W": 19}),
    ),
    "group_norm": Case(
        """op @f(x: f16[N, C, H, W], g: f16[C]) -> (y: f16[N, C, H, W])
        dims N = 8, C = 32, H = 14, W = 14 {
          m[n, k in 0 to C // 4] = sum[c in 0 to 4, h, w](x[n, k * 4 + c, h, w]) / (4 * H * W)
          y[n, c, h, w] = (x[n, c, h, w] - m[n, c // 4]) * g[c] }""",
        ({"N": 2, "C": 8, "H": 5, "W": 3},),
    ),
    "batch_norm": Case(
        """op @f(x: f16[N, C, H, W]) -> (y: f16[N, C, H, W]) dims N = 32, C = 64, H = 28, W = 28 {
          m[c] = sum[n, h, w](x[n, c, h, w]) / (N * H * W)
          v[c] = sum[n, h, w](pow(x[n, c, h, w] - m[c], 2)) / (N * H * W)
          y[n, c, h, w] = (x[n, c, h, w] - m[c]) / sqrt(v[c] + 1e-5) }""",
        ({"N": 3, "C": 8, "H": 5, "W": 3},),
    ),
    "gather": Case(
        """op @f(t: f16[V, D], ix: i64[N]) -> (y: f16[N, D]) dims V = 50000, D = 128, N = 10000 {
          y[n, d] = t[ix[n], d] }""",
        ({"V": 9, "D": 5, "N": 13},),
        {"ix": 9},
    ),
    "gather_diagonal": Case(
        """op @f(x: f32[B, D], ix: i32[B]) -> (y: f32[B]) dims B = 1000, D = 128 {
          y[b] = -log(abs(x[b, ix[b]]) + 1) + x[ix[b] + 1 - 1, b % 5] }""",
        ({"B": 13, "D": 9},),
        {"ix": 9},
    ),
    "gather_2d": Case(
        """op @f(t: f32[V, W], a: i32[N, M], b: i32[M]) -> (y: f32[N, M, W], z: f32[N, M])
        dims V = 100, W = 64, N = 100, M = 64 {
          y[n, m, w] = t[a[n, m], w] * 2
          z[n, m] = t[a[n, m], b[m] else 0] }""",
        ({"V": 9, "W": 5, "N": 6, "M": 7},),
        {"a": 9, "b": 9},
    ),
    "cross_entropy": Case(
        """op @f(x: f32[B, D], t: i64[B]) -> (l: f32[]) dims B = 4096, D = 1000 {
          m[b] = max[d](x[b, d])
          lse[b] = log(sum[d](exp(x[b, d] - m[b]))) + m[b]
          l[] = sum[b](lse[b] - x[b, t[b]]) / B }""",
        ({"B": 5, "D": 7},),
        {"t": 7},
    ),
    "embedding_bag": Case(
        """op @f(t: f16[V, D], ix: i64[L], off: i64[B + 1]) -> (y: f32[B, D])
        dims V = 50000, D = 64, L = 100000, B in 1..65536 = 4096 {
          y[b, d] = sum[l in off[b] to off[b + 1]](t[ix[l], d]) }""",
        ({"V": 9, "D": 5, "L": 40, "B": 7}, {"V": 9, "D": 5, "L": 3, "B": 1}),
        {"ix": 9},
    ),
    "jagged_max": Case(
        """op @f(x: f32[L], off: i32[B + 1]) -> (y: f32[B], n: i32[B], k: i32[B])
        dims L = 100000, B = 4096 {
          y[b] = max[l in off[b] to off[b + 1]](x[l] + 1)
          n[b] = off[b + 1] - off[b]
          k[b] = sum[l in off[b] to off[b + 1]](1) }""",
        ({"L": 40, "B": 7},),
        {"off": 40},
    ),
    "jagged_softmax": Case(
        """op @f(x: f32[L], off: i32[B + 1], row: i32[L]) -> (y: f32[L])
        dims L = 100000, B = 4096 {
          m[b in 0 to B] = max[l in off[b] to off[b + 1]](x[l])
          s[b in 0 to B] = sum[l in off[b] to off[b + 1]](exp(x[l] - m[b]))
          y[l] = exp(x[l] - m[row[l]]) / s[row[l]] }""",
        ({"L": 12, "B": 3},),
        {"off": 12, "row": 1},
    ),
    "jagged_nested": Case(
        """op @f(x: f32[L, D], off: i32[B + 1]) -> (y: f32[B])
        dims L = 1000, D = 40, B = 50 {
          y[b] = sum[l in off[b] to off[b + 1]](sqrt(sum[d](x[l, d] * x[l, d]))) }""",
        ({"L": 40, "B": 7, "D": 5},),
        {"off": 40},
    ),
    "bucketize": Case(
        """op @f(x: f32[N], e: f32[K]) -> (y: i32[N]) dims N = 100000, K = 200 {
          y[n] = sum[k](select(e[k] <= x[n], 1, 0)) }""",
        ({"N": 21, "K": 7},),
    ),
    "triangular": Case(
        """op @f(x: f32[N, N]) -> (y: f32[N], z: f32[N]) dims N = 2048 {
          y[i] = sum[j in 0 to i + 1](x[i, j])
          z[i] = sum[j in i to N](x[j, i] * (j - i)) }""",
        ({"N": 37},),
    ),
    "cumulative": Case(
        """op @f(x: f32[B, N]) -> (y: f32[B, N]) dims B = 64, N = 256 {
          y[b, i] = sum[j](select(j <= i, x[b, j], 0)) }""",
        ({"B": 2, "N": 37},),
    ),
    "shifted_intermediate": Case(
        """op @f(x: f32[N]) -> (y: f32[N]) dims N = 5000 {
          a[i] = x[i] * x[i] + 1
          y[i] = a[i] + a[i - 1 else 7] + a[i + 1 else 0.1] }""",
        ({"N": 1}, {"N": 70}),
    ),
    "shifted_sums": Case(
        """op @f(x: f32[N, K]) -> (y: f32[N]) dims N = 5000, K = 100 {
          a[i] = sum[k](x[i, k])
          y[i] = a[i] - a[i - 1 else 0] }""",
        ({"N": 1, "K": 3}, {"N": 70, "K": 9}),
    ),
    "f16_fill": Case(
        """op @f(x: f16[N]) -> (y: f32[N]) dims N = 5000 {
          y[i] = x[i - 1 else 1e-30] + x[i + 1 else i * 2] }""",
        ({"N": 1}, {"N": 70}),
    ),
    "five_indices": Case(
        """op @f(x: f32[A, B, C, D, E]) -> (y: f32[E, A, C, D, B])
        dims A = 3, B = 4, C = 5, D = 6, E = 40
        { y[e, a, c, d, b] = x[a, b, c, d, e] * (a + b) }""",
        ({}, {"A": 1, "B": 1, "C": 2, "D": 1, "E": 1}),
    ),
    "sum_of_constant": Case(
        """op @f(x: f32[B, D]) -> (y: f32[B], z: i32[]) dims B = 5, D = 40 {
          y[b] = sum[d in 0 to D](x[b, 0]) z[] = sum[i in 0 to B, j in 0 to i](j) }""",
        ({}, {"B": 1, "D": 1}),
    ),
    "wukong_fm": Case(
        """op @f(x: f16[B, N, D], p: f16[N, K]) -> (y: f16[B, N, K])
        dims B = 64, N = 24, D = 224, K = 100 {
          z[b, d, k] = sum[m](x[b, m, d] * p[m, k])
          y[b, n, k] = sum[d](x[b, n, d] * z[b, d, k]) }""",
        ({"B": 2, "N": 9, "D": 22, "K": 11},),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivation_means_what_the_op_means(name: str) -> None:
    case = CASES[name]
    (op,) = parse(case.text).ops.values()
    module = derived(op)
    for i, sizes in enumerate(case.sizes):
        limits = dict(case.limits)
        if "off" in [p.name for p in op.inputs]:
            limits["off"] = op.sizes(sizes)["L"]
        agree(module, sizes, seed=i, limits=limits)
