// Views of tiles in the wide type that arithmetic is done in: float for the small floats and f32,
// double for f64, int64 for integers and i1.
#pragma once
#include <type_traits>
#include <vector>

#include "sim.h"

namespace kea {

template <class W> constexpr DType kOwn = DType::I64;
template <> inline constexpr DType kOwn<float> = DType::F32;
template <> inline constexpr DType kOwn<double> = DType::F64;

// The values of a tile; `hold` keeps them when they had to be converted.
template <class W>
const W* values(const Tile& t, std::vector<W>& hold) {
  void* p = sim().data(t);
  if (t.dtype == kOwn<W>) return static_cast<const W*>(p);
  hold.resize(t.elements());
  widen(t.dtype, p, hold.data(), t.elements());
  return hold.data();
}

// Where results go: the tile itself, or a buffer that `commit` rounds into it.
template <class W>
struct Result {
  Result(const Tile& t, std::vector<W>& hold) : tile(t) {
    if (t.dtype == kOwn<W>) {
      data = static_cast<W*>(sim().data(t));
    } else {
      hold.resize(t.elements());
      data = hold.data();
    }
  }
  void commit() {
    if (tile.dtype != kOwn<W>) narrow(tile.dtype, data, sim().data(tile), tile.elements());
  }
  const Tile& tile;
  W* data;
};

// Calls `f` with a value of the wide type for `d`.
template <class F>
void with_wide(DType d, F f) {
  if (d == DType::F64) f(double{});
  else if (is_float(d)) f(float{});
  else f(int64_t{});
}

// Element strides of `t` as seen from `shape`: 0 where its size 1 stretches; a scalar fits any.
inline std::array<int64_t, kMaxRank> stretch(const Tile& t, const Tile& shape) {
  std::array<int64_t, kMaxRank> out{};
  int64_t s = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    out[i] = t.dims[i] == 1 && shape.dims[i] != 1 ? 0 : s;
    s *= t.dims[i];
  }
  return out;
}

// Visits the rows (all dimensions but the last) of `shape`; f(row offset of dst, offsets of srcs).
template <int N, class F>
void rows(const Tile& shape, const std::array<std::array<int64_t, kMaxRank>, N>& strides, F f) {
  const int r = shape.rank;
  const int64_t inner = r ? shape.dims[r - 1] : 1;
  const int64_t total = shape.elements() / (inner ? inner : 1);
  std::array<int64_t, kMaxRank> at{};
  std::array<int64_t, N> off{};
  for (int64_t row = 0; row < total; ++row) {
    f(row * inner, off);
    for (int d = r - 2; d >= 0; --d) {
      for (int k = 0; k < N; ++k) off[k] += strides[k][d];
      if (++at[d] < shape.dims[d]) break;
      for (int k = 0; k < N; ++k) off[k] -= strides[k][d] * shape.dims[d];
      at[d] = 0;
    }
  }
}

}  // namespace kea
