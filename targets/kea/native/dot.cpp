// The dot-product engine (DPE): matrix products with float32, float64 or int32 accumulation.
#include <algorithm>
#include <cmath>

#include "scratch.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define KEA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KEA_CLONES
#endif

namespace kea {
namespace {

// c[m, n] += a[m, k] * b[k, n], row-major. Four rows by 32 columns stay in registers. What a block's
// products sum to is added to c at the end: over many blocks that rounds less than one long sum.
KEA_CLONES void multiply(float* __restrict c, const float* __restrict a, const float* __restrict b,
                         int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kR = 4, kC = 32;
  for (int64_t i = 0; i < m; i += kR) {
    const int64_t height = std::min(kR, m - i);
    for (int64_t j = 0; j < n; j += kC) {
      const int64_t width = std::min(kC, n - j);
      float acc[kR][kC] = {};
      if (height == kR && width == kC) {
        for (int64_t p = 0; p < k; ++p) {
          const float* row = b + p * n + j;
          for (int r = 0; r < kR; ++r) {
            const float v = a[(i + r) * k + p];
            for (int x = 0; x < kC; ++x) acc[r][x] += v * row[x];
          }
        }
      } else {
        for (int64_t p = 0; p < k; ++p)
          for (int64_t r = 0; r < height; ++r)
            for (int64_t x = 0; x < width; ++x) acc[r][x] += a[(i + r) * k + p] * b[p * n + j + x];
      }
      for (int64_t r = 0; r < height; ++r)
        for (int64_t x = 0; x < width; ++x) c[(i + r) * n + j + x] += acc[r][x];
    }
  }
}

template <class W>
void multiply_plain(W* c, const W* a, const W* b, int64_t m, int64_t n, int64_t k) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < k; ++p)
      for (int64_t x = 0; x < n; ++x) c[i * n + x] += a[i * k + p] * b[p * n + x];
}

float to_tf32(float v) {  // ten explicit significand bits, ties away from zero
  const uint32_t u = bit_cast<uint32_t>(v);
  if ((u & 0x7f800000) == 0x7f800000) return v;
  return bit_cast<float>((u + 0x1000) & ~0x1fffu);
}
float to_tf32_even(float v) {  // the same, ties to even
  const uint32_t u = bit_cast<uint32_t>(v);
  if ((u & 0x7f800000) == 0x7f800000) return v;
  return bit_cast<float>((u + 0xfff + ((u >> 13) & 1)) & ~0x1fffu);
}
float to_bf16(float v) { return bf16_to_f32(f32_to_bf16(v)); }

struct Precision {
  int parts;    // each operand is a sum of so many rounded parts
  int order;    // products of parts i and j are kept while i + j < order
  float (*round)(float);
};
const Precision kPrecisions[] = {
    {1, 1, nullptr}, {1, 1, to_tf32}, {1, 1, to_tf32_even},
    {2, 2, to_tf32}, {2, 2, to_bf16}, {3, 3, to_bf16}};

std::vector<std::vector<float>> split(const float* x, int64_t n, const Precision& p) {
  std::vector<std::vector<float>> out;
  std::vector<float> rest(x, x + n);
  for (int i = 0; i < p.parts; ++i) {
    std::vector<float> part(rest);
    for (int64_t e = 0; e < n; ++e) {
      part[e] = p.round(rest[e]);
      rest[e] -= part[e];
    }
    out.push_back(std::move(part));
  }
  return out;
}

void multiply_f32(float* c, const float* a, const float* b, int64_t m, int64_t n, int64_t k, int precision) {
  const Precision& p = kPrecisions[precision];
  if (!p.round) return multiply(c, a, b, m, n, k);
  const auto pa = split(a, m * k, p), pb = split(b, k * n, p);
  for (int total = p.order - 1; total >= 0; --total)  // the smallest products first
    for (int i = 0; i <= total && i < p.parts; ++i)
      if (total - i < p.parts) multiply(c, pa[i].data(), pb[total - i].data(), m, n, k);
}

// Cycles of one [m, k] x [k, n]. The DPE caches a block of `dpe_rows` rows, `dpe_depth_bytes` deep,
// of one operand and streams a row or column of the other past it each cycle.
double dpe_cycles(int64_t m, int64_t n, int64_t k, DType t, int precision) {
  const Config& c = sim().machine.config;
  const Precision& p = kPrecisions[precision];
  double passes = 1, bytes = size_of(t);
  if (t == DType::F64 || (t == DType::F32 && precision == 0)) {
    // No such mode in the DPE: a multiply and an add on the vector core.
    return 2 * std::ceil(double(m) * n * k * bytes / c.vector_bytes);
  }
  if (t == DType::F8E4M3 || t == DType::F8E5M2) bytes = 2;  // widened to f16 on the way in
  if (p.round == to_bf16) bytes = 2;
  for (int total = 1; total < p.order; ++total) passes += std::min(total + 1, p.parts);
  const double depth = std::ceil(k / (c.dpe_depth_bytes / bytes));
  const double cached_m = std::ceil(m / c.dpe_rows) * n, cached_n = std::ceil(n / c.dpe_rows) * m;
  return passes * depth * std::min(cached_m, cached_n);
}

}  // namespace

void dot(int dst, int a, int b, int precision, bool accumulate) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a], &y = s.tiles[b];
  const int64_t m = x.dims[x.rank - 2], k = x.dims[x.rank - 1], n = y.dims[y.rank - 1];
  const int64_t plane = m * n, batch = plane > 0 ? d.elements() / plane : 0;
  const bool vector = x.dtype == DType::F64 || (x.dtype == DType::F32 && precision == 0);
  const int src[2] = {x.buffer, y.buffer};
  s.machine.multiply(vector ? kVector : kDpe, batch * dpe_cycles(m, n, k, x.dtype, precision),
                     s.machine.config.dpe_fill_cycles, d.buffer, src, accumulate);
  s.macs += batch * m * n * k;
  if (!s.computes(d)) return;
  if (!accumulate) std::memset(s.data(d), 0, d.elements() * size_of(d.dtype));
  with_wide(x.dtype, [&](auto w) {
    using W = decltype(w);
    std::vector<W> ha, hb, hd;
    const W *p = values<W>(x, ha), *q = values<W>(y, hb);
    if (d.dtype != kOwn<W>) {
      hd.resize(d.elements());
      widen(d.dtype, s.data(d), hd.data(), d.elements());
    }
    W* out = d.dtype == kOwn<W> ? static_cast<W*>(s.data(d)) : hd.data();
    for (int64_t i = 0; i < batch; ++i) {
      if constexpr (std::is_same_v<W, float>)
        multiply_f32(out + i * m * n, p + i * m * k, q + i * k * n, m, n, k, precision);
      else multiply_plain(out + i * m * n, p + i * m * k, q + i * k * n, m, n, k);
    }
    if (d.dtype != kOwn<W>) narrow(d.dtype, out, s.data(d), d.elements());
  });
}

}  // namespace kea
