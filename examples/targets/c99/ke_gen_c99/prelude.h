#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A NaN on either side is the result. */
#define MIN(x, y) ((x) < (y) || (x) != (x) ? (x) : (y))
#define MAX(x, y) ((x) > (y) || (x) != (x) ? (x) : (y))

/* Padding is computed like everything else, so nothing may trap: division by zero gives 0. */
static inline int64_t floordiv(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return b ? -a : 0;
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}
static inline int64_t floormod(int64_t a, int64_t b) {
  return b ? a - floordiv(a, b) * b : 0;
}
static inline int64_t shl(int64_t a, int64_t n) { return n < 0 || n > 63 ? 0 : a << n; }
static inline int64_t shr(int64_t a, int64_t n) { return a >> (n < 0 || n > 63 ? 63 : n); }

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* double to float with the last bit sticky, so that rounding again is not rounding twice. */
static inline float odd(double x) {
  float y = (float)x;
  if ((double)y == x || !isfinite(y)) return y;
  uint32_t u = bits_of(y);
  return float_of((u - (fabs((double)y) > fabs(x))) | 1);
}

/* Floats of 16 and 8 bits: explicit significand digits, exponent bias, and the codes of the largest
   finite value, of what lies beyond it, and of NaN (which is the code beyond where there is no
   infinity). Values are held in a float. */
static inline float decode(uint32_t code, int width, int digits, int bias, uint32_t largest,
                           uint32_t beyond, uint32_t nan) {
  uint32_t size = code & ((1u << (width - 1)) - 1);
  float x = float_of(size << (23 - digits)) * float_of((uint32_t)(254 - bias) << 23);
  if (size > largest) x = size == beyond && beyond != nan ? INFINITY : NAN;
  return code >> (width - 1) ? -x : x;
}
static inline uint32_t encode(float x, int width, int digits, int bias, uint32_t largest,
                              uint32_t beyond, uint32_t nan) {
  uint32_t u = bits_of(x) & 0x7fffffff, sign = bits_of(x) >> 31 << (width - 1), code;
  if (x != x) return nan;
  if (u < (uint32_t)(128 - bias) << 23) { /* subnormal: the addition rounds */
    float unit = float_of((uint32_t)(151 - bias - digits) << 23);
    code = bits_of(float_of(u) + unit) - bits_of(unit);
  } else {
    u += (1u << (22 - digits)) - 1 + (u >> (23 - digits) & 1);
    code = (u >> (23 - digits)) - ((uint32_t)(127 - bias) << digits);
  }
  return sign | (code > largest ? beyond : code);
}
#define NARROW(name, type, ...)                                                          \
  static inline float decode_##name(type code) { return decode(code, __VA_ARGS__); }      \
  static inline type encode_##name(float x) { return (type)encode(x, __VA_ARGS__); }      \
  static inline float round_##name(float x) { return decode_##name(encode_##name(x)); }
NARROW(f16, uint16_t, 16, 10, 15, 0x7bff, 0x7c00, 0x7e00)
NARROW(bf16, uint16_t, 16, 7, 127, 0x7f7f, 0x7f80, 0x7fc0)
NARROW(f8e5m2, uint8_t, 8, 2, 15, 0x7b, 0x7c, 0x7e)
NARROW(f8e4m3, uint8_t, 8, 3, 7, 0x7e, 0x7f, 0x7f)
