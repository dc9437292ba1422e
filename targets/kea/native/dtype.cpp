#include "dtype.h"

namespace kea {
namespace {

template <class F>
struct Table {
  float value[256];
  Table() {
    for (uint32_t i = 0; i < 256; ++i) value[i] = static_cast<float>(F::decode(i));
  }
};

template <class W>
W to_int(double x) {
  if (!(x == x)) return 0;
  if (x >= 9223372036854775807.0) return INT64_MAX;
  if (x <= -9223372036854775808.0) return INT64_MIN;
  return static_cast<W>(x);
}

template <class W>
inline W from_float(float x) {
  if constexpr (static_cast<W>(0.5) == 0) return to_int<W>(x);
  else return static_cast<W>(x);
}

template <class T, class W>
void spread(const void* src, W* dst, int64_t n) {
  const T* p = static_cast<const T*>(src);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (static_cast<W>(0.5) == 0 && static_cast<T>(0.5) != 0) dst[i] = to_int<W>(p[i]);
    else dst[i] = static_cast<W>(p[i]);
  }
}

template <class W>
void widen_any(DType d, const void* src, W* dst, int64_t n) {
  static const Table<E4M3> e4m3;
  static const Table<E5M2> e5m2;
  const auto* h = static_cast<const uint16_t*>(src);
  const auto* b = static_cast<const uint8_t*>(src);
  switch (d) {
    case DType::F64: return spread<double>(src, dst, n);
    case DType::F32: return spread<float>(src, dst, n);
    case DType::F16: for (int64_t i = 0; i < n; ++i) dst[i] = from_float<W>(f16_to_f32(h[i])); return;
    case DType::BF16: for (int64_t i = 0; i < n; ++i) dst[i] = from_float<W>(bf16_to_f32(h[i])); return;
    case DType::F8E4M3: for (int64_t i = 0; i < n; ++i) dst[i] = from_float<W>(e4m3.value[b[i]]); return;
    case DType::F8E5M2: for (int64_t i = 0; i < n; ++i) dst[i] = from_float<W>(e5m2.value[b[i]]); return;
    case DType::I64: return spread<int64_t>(src, dst, n);
    case DType::I32: return spread<int32_t>(src, dst, n);
    case DType::I16: return spread<int16_t>(src, dst, n);
    case DType::I8: return spread<int8_t>(src, dst, n);
    default: return spread<uint8_t>(src, dst, n);
  }
}

template <class T, class W>
void squeeze(const W* src, void* dst, int64_t n) {
  T* p = static_cast<T*>(dst);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (static_cast<W>(0.5) != 0 && static_cast<T>(0.5) == 0)
      p[i] = static_cast<T>(to_int<int64_t>(src[i]));
    else p[i] = static_cast<T>(src[i]);
  }
}

template <class W>
void narrow_any(DType d, const W* src, void* dst, int64_t n) {
  auto* h = static_cast<uint16_t*>(dst);
  auto* b = static_cast<uint8_t*>(dst);
  constexpr bool single = sizeof(W) == 4;  // float needs no second rounding
  switch (d) {
    case DType::F64: return squeeze<double>(src, dst, n);
    case DType::F32: return squeeze<float>(src, dst, n);
    case DType::F16:
      for (int64_t i = 0; i < n; ++i) {
        if constexpr (single) h[i] = f32_to_f16(src[i]);
        else h[i] = static_cast<uint16_t>(Half::encode(static_cast<double>(src[i])));
      }
      return;
    case DType::BF16:
      for (int64_t i = 0; i < n; ++i) {
        if constexpr (single) h[i] = f32_to_bf16(src[i]);
        else h[i] = static_cast<uint16_t>(Brain::encode(static_cast<double>(src[i])));
      }
      return;
    case DType::F8E4M3:
      for (int64_t i = 0; i < n; ++i) b[i] = static_cast<uint8_t>(E4M3::encode(static_cast<double>(src[i])));
      return;
    case DType::F8E5M2:
      for (int64_t i = 0; i < n; ++i) b[i] = static_cast<uint8_t>(E5M2::encode(static_cast<double>(src[i])));
      return;
    case DType::I64: return squeeze<int64_t>(src, dst, n);
    case DType::I32: return squeeze<int32_t>(src, dst, n);
    case DType::I16: return squeeze<int16_t>(src, dst, n);
    case DType::I8: return squeeze<int8_t>(src, dst, n);
    case DType::U8: return squeeze<uint8_t>(src, dst, n);
    default: for (int64_t i = 0; i < n; ++i) b[i] = src[i] != 0; return;
  }
}

}  // namespace

void widen(DType d, const void* s, float* o, int64_t n) { widen_any(d, s, o, n); }
void widen(DType d, const void* s, double* o, int64_t n) { widen_any(d, s, o, n); }
void widen(DType d, const void* s, int64_t* o, int64_t n) { widen_any(d, s, o, n); }
void narrow(DType d, const float* s, void* o, int64_t n) { narrow_any(d, s, o, n); }
void narrow(DType d, const double* s, void* o, int64_t n) { narrow_any(d, s, o, n); }
void narrow(DType d, const int64_t* s, void* o, int64_t n) { narrow_any(d, s, o, n); }

}  // namespace kea
