// Reductions (RE), prefix scans (vector core) and transposes (MLU).
#include <algorithm>
#include <cmath>
#include <limits>

#include "scratch.h"

namespace kea {
namespace {

enum Kind { kSum, kProd, kMax, kMin, kArgMax, kArgMin, kAny, kAll };

// A tile seen as [outer, n, inner] around one dimension.
struct Around {
  int64_t outer = 1, n = 1, inner = 1;
  Around(const Tile& t, int dim) {
    for (int i = 0; i < dim; ++i) outer *= t.dims[i];
    n = t.dims[dim];
    for (int i = dim + 1; i < t.rank; ++i) inner *= t.dims[i];
  }
};

template <class W>
struct Sum {
  static W identity() { return 0; }
  static W apply(W a, W b) { return a + b; }
};
template <>
struct Sum<int64_t> {
  static int64_t identity() { return 0; }
  static int64_t apply(int64_t a, int64_t b) { return int64_t(uint64_t(a) + uint64_t(b)); }
};
template <class W>
struct Prod {
  static W identity() { return 1; }
  static W apply(W a, W b) { return a * b; }
};
template <>
struct Prod<int64_t> {
  static int64_t identity() { return 1; }
  static int64_t apply(int64_t a, int64_t b) { return int64_t(uint64_t(a) * uint64_t(b)); }
};
template <class W>
struct Max {
  static W identity() {
    return std::numeric_limits<W>::has_infinity ? -std::numeric_limits<W>::infinity()
                                                : std::numeric_limits<W>::min();
  }
  static W apply(W a, W b) { return a > b || a != a ? a : b; }
};
template <class W>
struct Min {
  static W identity() {
    return std::numeric_limits<W>::has_infinity ? std::numeric_limits<W>::infinity()
                                                : std::numeric_limits<W>::max();
  }
  static W apply(W a, W b) { return a < b || a != a ? a : b; }
};

template <class W, template <class> class Op>
void reduce_with(const Tile& d, const Tile& a, int dim) {
  std::vector<W> ha, hd;
  const W* x = values<W>(a, ha);
  Result<W> out(d, hd);
  const Around s(a, dim);
  for (int64_t o = 0; o < s.outer; ++o) {
    const W* p = x + o * s.n * s.inner;
    W* q = out.data + o * s.inner;
    if (s.inner == 1) {  // independent partial results, as the lanes of the engine hold them
      W part[16];
      std::fill(part, part + 16, Op<W>::identity());
      int64_t i = 0;
      for (; i + 16 <= s.n; i += 16)
        for (int k = 0; k < 16; ++k) part[k] = Op<W>::apply(part[k], p[i + k]);
      for (; i < s.n; ++i) part[i % 16] = Op<W>::apply(part[i % 16], p[i]);
      for (int half = 8; half; half /= 2)
        for (int k = 0; k < half; ++k) part[k] = Op<W>::apply(part[k], part[k + half]);
      q[0] = part[0];
    } else {
      std::fill(q, q + s.inner, Op<W>::identity());
      for (int64_t i = 0; i < s.n; ++i)
        for (int64_t k = 0; k < s.inner; ++k) q[k] = Op<W>::apply(q[k], p[i * s.inner + k]);
    }
  }
  out.commit();
}

template <class W>
void arg_reduce(bool largest, const Tile& d, const Tile& a, int dim) {
  std::vector<W> ha;
  std::vector<int64_t> hd;
  const W* x = values<W>(a, ha);
  Result<int64_t> out(d, hd);
  const Around s(a, dim);
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t k = 0; k < s.inner; ++k) {
      const W* p = x + o * s.n * s.inner + k;
      int64_t best = 0;
      for (int64_t i = 1; i < s.n; ++i) {
        const W v = p[i * s.inner], w = p[best * s.inner];
        if (w == w && (v != v || (largest ? v > w : v < w))) best = i;
      }
      out.data[o * s.inner + k] = best;
    }
  }
  out.commit();
}

// What a scan carries from element to element is wider than they are, so that each is rounded once:
// small floats are computed in float, and float in double.
template <class W> struct Carried { using type = W; };
template <> struct Carried<float> { using type = double; };

template <class W, template <class> class Op>
void scan_with(const Tile& d, const Tile& a, int dim, bool reverse) {
  std::vector<W> ha, hd;
  const W* x = values<W>(a, ha);
  Result<W> out(d, hd);
  const Around s(a, dim);
  using C = typename Carried<W>::type;
  std::vector<C> carried(s.inner);
  for (int64_t o = 0; o < s.outer; ++o) {
    const int64_t base = o * s.n * s.inner;
    for (int64_t step = 0; step < s.n; ++step) {
      const int64_t row = base + (reverse ? s.n - 1 - step : step) * s.inner;
      for (int64_t k = 0; k < s.inner; ++k) {
        carried[k] = step ? Op<C>::apply(carried[k], x[row + k]) : C(x[row + k]);
        out.data[row + k] = static_cast<W>(carried[k]);
      }
    }
  }
  out.commit();
}

void command(Engine e, double cycles, int dst, int a) {
  Sim& s = sim();
  const int src = s.tiles[a].buffer;
  s.machine.command(e, cycles, 0, s.tiles[dst].buffer, &src, 1);
}

}  // namespace

void reduce(int op, int dst, int a, int dim) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a];
  const Config& c = s.machine.config;
  const double wide = size_of(x.dtype) > 4 ? c.wide_cycles : 1;
  command(kRe, c.re_start + std::ceil(x.elements() * wide / c.re_lanes), dst, a);
  if (!s.computes(d)) return;
  with_wide(x.dtype, [&](auto w) {
    using W = decltype(w);
    switch (op) {
      case kSum: return reduce_with<W, Sum>(d, x, dim);
      case kProd: return reduce_with<W, Prod>(d, x, dim);
      case kMax: case kAny: return reduce_with<W, Max>(d, x, dim);
      case kMin: case kAll: return reduce_with<W, Min>(d, x, dim);
      default: return arg_reduce<W>(op == kArgMax, d, x, dim);
    }
  });
}

void scan(int op, int dst, int a, int dim, bool reverse) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a];
  const Config& c = s.machine.config;
  const Around shape(x, dim);
  // Along the last dimension a vector needs log2(lanes) steps; across it one step a row.
  const bool sums = op == kSum || op == kProd;  // an extreme is one of the elements
  const double lanes = c.vector_bytes / (x.dtype == DType::F32 && sums ? 8 : size_of(x.dtype));
  const double steps = shape.inner == 1 ? std::ceil(std::log2(lanes)) : 1;
  command(kVector, c.vector_start + std::ceil(x.elements() / lanes) * steps, dst, a);
  if (!s.computes(d)) return;
  with_wide(x.dtype, [&](auto w) {
    using W = decltype(w);
    switch (op) {
      case kSum: return scan_with<W, Sum>(d, x, dim, reverse);
      case kProd: return scan_with<W, Prod>(d, x, dim, reverse);
      case kMax: return scan_with<W, Max>(d, x, dim, reverse);
      default: return scan_with<W, Min>(d, x, dim, reverse);
    }
  });
}

void permute(int dst, int a, const int64_t* order) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a];
  const Config& c = s.machine.config;
  const int bytes = size_of(x.dtype);
  command(kMlu, c.mlu_start + std::ceil(x.elements() * bytes / c.mlu_bytes), dst, a);
  if (!s.computes(d)) return;
  std::array<int64_t, kMaxRank> own{}, strides{};
  int64_t step = 1;
  for (int i = x.rank - 1; i >= 0; --i) {
    own[i] = step;
    step *= x.dims[i];
  }
  for (int i = 0; i < d.rank; ++i) strides[i] = own[order[i]];
  const char* from = static_cast<const char*>(s.data(x));
  char* to = static_cast<char*>(s.data(d));
  const int64_t inner = d.rank ? d.dims[d.rank - 1] : 1, by = d.rank ? strides[d.rank - 1] : 0;
  rows<1>(d, {strides}, [&](int64_t at, const std::array<int64_t, 1>& off) {
    for (int64_t i = 0; i < inner; ++i)
      std::memcpy(to + (at + i) * bytes, from + (off[0] + i * by) * bytes, bytes);
  });
}

}  // namespace kea
