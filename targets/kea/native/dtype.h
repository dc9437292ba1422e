// Element types of the simulator and their conversions, all rounding to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

namespace kea {

enum class DType : int32_t { F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U8, I1, Count };

inline int size_of(DType d) {
  static const int bytes[] = {8, 4, 2, 2, 1, 1, 8, 4, 2, 1, 1, 1};
  return bytes[static_cast<int>(d)];
}
inline bool is_float(DType d) { return d <= DType::F8E5M2; }

template <class To, class From>
inline To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

// A small binary format. Finite-only formats (OCP E4M3FN) have no infinity: all-ones is NaN.
template <int kExp, int kMan, bool kFiniteOnly>
struct Small {
  static constexpr int bias = (1 << (kExp - 1)) - 1;
  static constexpr uint32_t exp_mask = (1u << kExp) - 1;
  static constexpr uint32_t man_mask = (1u << kMan) - 1;
  static constexpr uint32_t inf = exp_mask << kMan;
  static constexpr uint32_t nan = kFiniteOnly ? (exp_mask << kMan | man_mask) : (inf | 1u << (kMan - 1));
  static constexpr uint32_t overflow = kFiniteOnly ? nan : inf;

  // Rounds once, from the exact double.
  static uint32_t encode(double x) {
    const uint64_t u = bit_cast<uint64_t>(x);
    const uint32_t sign = static_cast<uint32_t>(u >> 63) << (kExp + kMan);
    const int e = static_cast<int>(u >> 52 & 0x7ff);
    uint64_t man = u & ((1ull << 52) - 1);
    if (e == 0x7ff) return sign | (man ? nan : overflow);
    if (e == 0) return sign;  // zero, or far below the smallest subnormal
    man |= 1ull << 52;
    const int target = e - 1023 + bias;  // biased exponent in this format
    int shift = 52 - kMan;
    if (target < 1) shift += 1 - target;
    if (shift > 53) return sign;
    const uint64_t half = 1ull << (shift - 1), rest = man & ((1ull << shift) - 1);
    uint64_t kept = man >> shift;
    if (rest > half || (rest == half && (kept & 1))) ++kept;
    // Adding the significand with its hidden bit carries into the exponent where it must.
    const uint64_t bits = target < 1 ? kept : (static_cast<uint64_t>(target - 1) << kMan) + kept;
    if (bits >= (kFiniteOnly ? nan : inf)) return sign | overflow;
    return sign | static_cast<uint32_t>(bits);
  }

  static double decode(uint32_t b) {
    const uint32_t e = b >> kMan & exp_mask, m = b & man_mask;
    const double sign = b >> (kExp + kMan) & 1 ? -1.0 : 1.0;
    if (e == exp_mask && (kFiniteOnly ? m == man_mask : true))
      return m ? __builtin_nan("") : sign * __builtin_inf();
    const double frac = e ? 1.0 + m / double(1u << kMan) : m / double(1u << kMan);
    return sign * __builtin_ldexp(frac, (e ? static_cast<int>(e) : 1) - bias);
  }
};
using E4M3 = Small<4, 3, true>;
using E5M2 = Small<5, 2, false>;
using Half = Small<5, 10, false>;
using Brain = Small<8, 7, false>;

inline float bf16_to_f32(uint16_t b) { return bit_cast<float>(static_cast<uint32_t>(b) << 16); }

inline uint16_t f32_to_bf16(float f) {
  const uint32_t u = bit_cast<uint32_t>(f);
  const uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  const uint32_t quiet = (u >> 31 << 15) | 0x7fc0;
  return static_cast<uint16_t>((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}

// Branch-free forms, so that the compiler can vectorise a loop over them.
inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  const float scaled = bit_cast<float>(rest) * 0x1.0p112f;
  const uint32_t special = rest | 0x7f800000;
  return bit_cast<float>(sign | (rest >= (0x7c00u << 13) ? special : bit_cast<uint32_t>(scaled)));
}

inline uint16_t f32_to_f16(float f) {
  const uint32_t w = bit_cast<uint32_t>(f), twice = w << 1;
  float base = (__builtin_fabsf(f) * 0x1.0p+112f) * 0x1.0p-110f;  // rounds at the right bit
  uint32_t bias = twice & 0xff000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  base = bit_cast<float>((bias >> 1) + 0x07800000u) + base;
  const uint32_t bits = bit_cast<uint32_t>(base);
  const uint32_t nonsign = (bits >> 13 & 0x7c00) + (bits & 0xfff);
  return static_cast<uint16_t>(w >> 16 & 0x8000) | static_cast<uint16_t>(twice > 0xff000000u ? 0x7e00 : nonsign);
}

// Bulk conversions between a tile's own type and the wide type that arithmetic is done in.
void widen(DType d, const void* src, float* dst, int64_t n);
void widen(DType d, const void* src, double* dst, int64_t n);
void widen(DType d, const void* src, int64_t* dst, int64_t n);
void narrow(DType d, const float* src, void* dst, int64_t n);
void narrow(DType d, const double* src, void* dst, int64_t n);
void narrow(DType d, const int64_t* src, void* dst, int64_t n);

}  // namespace kea
