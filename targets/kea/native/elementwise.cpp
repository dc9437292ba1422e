// Elementwise commands: the vector core (arithmetic, comparison, selection) and the special-function
// engine (nonlinear functions by table, conversions).
#include <algorithm>
#include <cmath>

#include "scratch.h"

namespace kea {
namespace {

double vector_cycles(const Tile& shape, int bytes, double factor = 1) {
  const Config& c = sim().machine.config;
  return c.vector_start + std::ceil(shape.elements() * bytes / c.vector_bytes) * factor;
}
double se_cycles(const Tile& shape, int bytes) {
  const Config& c = sim().machine.config;
  return c.se_start + std::ceil(shape.elements() * (bytes > 4 ? c.wide_cycles : 1) / c.se_lanes);
}

void account(Engine e, double cycles, int dst, std::initializer_list<int> tiles) {
  Sim& s = sim();
  int src[4], n = 0;
  for (int t : tiles) src[n++] = s.tiles[t].buffer;
  s.machine.command(e, cycles, 0, s.tiles[dst].buffer, src, n);
}

template <class W, class F>
void map1(const Tile& d, const Tile& a, F f) {
  std::vector<W> ha, hd;
  const W* x = values<W>(a, ha);
  Result<W> out(d, hd);
  const int64_t n = d.elements();
  for (int64_t i = 0; i < n; ++i) out.data[i] = f(x[i]);
  out.commit();
}

// dst[i] = f(a[i], b[i]) with stretching. O is the type of the result values.
template <class O, class W, class F>
void map2(const Tile& d, const Tile& a, const Tile& b, F f) {
  std::vector<W> ha, hb;
  std::vector<O> hd;
  const W *x = values<W>(a, ha), *y = values<W>(b, hb);
  Result<O> out(d, hd);
  const auto sa = stretch(a, d), sb = stretch(b, d);
  const int last = d.rank - 1;
  const int64_t inner = d.rank ? d.dims[last] : 1, ia = d.rank ? sa[last] : 0, ib = d.rank ? sb[last] : 0;
  rows<2>(d, {sa, sb}, [&](int64_t at, const std::array<int64_t, 2>& off) {
    O* o = out.data + at;
    const W *p = x + off[0], *q = y + off[1];
    if (ia == 1 && ib == 1) {
      for (int64_t i = 0; i < inner; ++i) o[i] = f(p[i], q[i]);
    } else if (ia == 1) {
      const W v = *q;
      for (int64_t i = 0; i < inner; ++i) o[i] = f(p[i], v);
    } else if (ib == 1) {
      const W v = *p;
      for (int64_t i = 0; i < inner; ++i) o[i] = f(v, q[i]);
    } else {
      const O v = f(*p, *q);
      for (int64_t i = 0; i < inner; ++i) o[i] = v;
    }
  });
  out.commit();
}

enum Unary { kExp, kExp2, kLog, kLog2, kSqrt, kRsqrt, kSin, kCos, kTan, kTanh, kSigmoid, kErf,
             kFloor, kCeil, kRound, kTrunc, kAbs, kNeg, kNot };
enum Binary { kAdd, kSub, kMul, kMin, kMax, kDiv, kFloorDiv, kMod, kPow, kAnd, kOr, kXor, kShl, kShr };
enum Compare { kEq, kNe, kLt, kLe, kGt, kGe };

template <class W>
void float_unary(int op, const Tile& d, const Tile& a) {
  switch (op) {
    case kExp: return map1<W>(d, a, [](W v) { return std::exp(v); });
    case kExp2: return map1<W>(d, a, [](W v) { return std::exp2(v); });
    case kLog: return map1<W>(d, a, [](W v) { return std::log(v); });
    case kLog2: return map1<W>(d, a, [](W v) { return std::log2(v); });
    case kSqrt: return map1<W>(d, a, [](W v) { return std::sqrt(v); });
    case kRsqrt: return map1<W>(d, a, [](W v) { return W(1) / std::sqrt(v); });
    case kSin: return map1<W>(d, a, [](W v) { return std::sin(v); });
    case kCos: return map1<W>(d, a, [](W v) { return std::cos(v); });
    case kTan: return map1<W>(d, a, [](W v) { return std::tan(v); });
    case kTanh: return map1<W>(d, a, [](W v) { return std::tanh(v); });
    case kSigmoid: return map1<W>(d, a, [](W v) { return W(1) / (W(1) + std::exp(-v)); });
    case kErf: return map1<W>(d, a, [](W v) { return std::erf(v); });
    case kFloor: return map1<W>(d, a, [](W v) { return std::floor(v); });
    case kCeil: return map1<W>(d, a, [](W v) { return std::ceil(v); });
    case kRound: return map1<W>(d, a, [](W v) { return std::nearbyint(v); });
    case kTrunc: return map1<W>(d, a, [](W v) { return std::trunc(v); });
    case kAbs: return map1<W>(d, a, [](W v) { return std::fabs(v); });
    case kNeg: return map1<W>(d, a, [](W v) { return -v; });
    default: sim().fail("unary operation on a floating tile");
  }
}

void int_unary(int op, const Tile& d, const Tile& a) {
  const bool boolean = a.dtype == DType::I1;
  switch (op) {
    case kAbs: return map1<int64_t>(d, a, [](int64_t v) { return v < 0 ? int64_t(0 - uint64_t(v)) : v; });
    case kNeg: return map1<int64_t>(d, a, [](int64_t v) { return int64_t(0 - uint64_t(v)); });
    case kNot: return map1<int64_t>(d, a, [=](int64_t v) { return boolean ? int64_t(!v) : ~v; });
    default: sim().fail("unary operation on an integer tile");
  }
}

template <class W>
W minimum(W a, W b) { return a < b || a != a ? a : b; }
template <class W>
W maximum(W a, W b) { return a > b || a != a ? a : b; }

template <class W>
void float_binary(int op, const Tile& d, const Tile& a, const Tile& b) {
  switch (op) {
    case kAdd: return map2<W, W>(d, a, b, [](W x, W y) { return x + y; });
    case kSub: return map2<W, W>(d, a, b, [](W x, W y) { return x - y; });
    case kMul: return map2<W, W>(d, a, b, [](W x, W y) { return x * y; });
    case kDiv: return map2<W, W>(d, a, b, [](W x, W y) { return x / y; });
    case kMin: return map2<W, W>(d, a, b, minimum<W>);
    case kMax: return map2<W, W>(d, a, b, maximum<W>);
    case kPow: return map2<W, W>(d, a, b, [](W x, W y) { return std::pow(x, y); });
    default: sim().fail("binary operation on floating tiles");
  }
}

int64_t floor_div(int64_t x, int64_t y) {
  if (y == 0) return 0;
  if (y == -1) return int64_t(0 - uint64_t(x));
  const int64_t q = x / y;
  return x % y != 0 && (x % y < 0) != (y < 0) ? q - 1 : q;
}
int64_t floor_mod(int64_t x, int64_t y) {
  if (y == 0 || y == -1) return 0;
  const int64_t r = x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

void int_binary(int op, const Tile& d, const Tile& a, const Tile& b) {
  using I = int64_t;
  using U = uint64_t;
  const int bits = 8 * size_of(d.dtype);
  switch (op) {
    case kAdd: return map2<I, I>(d, a, b, [](I x, I y) { return I(U(x) + U(y)); });
    case kSub: return map2<I, I>(d, a, b, [](I x, I y) { return I(U(x) - U(y)); });
    case kMul: return map2<I, I>(d, a, b, [](I x, I y) { return I(U(x) * U(y)); });
    case kMin: return map2<I, I>(d, a, b, [](I x, I y) { return std::min(x, y); });
    case kMax: return map2<I, I>(d, a, b, [](I x, I y) { return std::max(x, y); });
    case kFloorDiv: return map2<I, I>(d, a, b, floor_div);
    case kMod: return map2<I, I>(d, a, b, floor_mod);
    case kAnd: return map2<I, I>(d, a, b, [](I x, I y) { return x & y; });
    case kOr: return map2<I, I>(d, a, b, [](I x, I y) { return x | y; });
    case kXor: return map2<I, I>(d, a, b, [](I x, I y) { return x ^ y; });
    case kShl: return map2<I, I>(d, a, b, [=](I x, I y) { return y < 0 || y >= bits ? 0 : I(U(x) << y); });
    case kShr: return map2<I, I>(d, a, b, [=](I x, I y) { return x >> (y < 0 || y >= bits ? 63 : y); });
    default: sim().fail("binary operation on integer tiles");
  }
}

template <class W>
void compare_as(int op, const Tile& d, const Tile& a, const Tile& b) {
  using I = int64_t;
  switch (op) {
    case kEq: return map2<I, W>(d, a, b, [](W x, W y) { return I(x == y); });
    case kNe: return map2<I, W>(d, a, b, [](W x, W y) { return I(x != y); });
    case kLt: return map2<I, W>(d, a, b, [](W x, W y) { return I(x < y); });
    case kLe: return map2<I, W>(d, a, b, [](W x, W y) { return I(x <= y); });
    case kGt: return map2<I, W>(d, a, b, [](W x, W y) { return I(x > y); });
    default: return map2<I, W>(d, a, b, [](W x, W y) { return I(x >= y); });
  }
}

}  // namespace

int code_of(const std::string& table, const std::string& name) {
  using Names = std::vector<std::string>;
  static const std::vector<std::pair<std::string, Names>> tables = {
      {"unary", {"exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan", "tanh", "sigmoid",
                 "erf", "floor", "ceil", "round", "trunc", "abs", "neg", "not"}},
      {"binary", {"add", "sub", "mul", "min", "max", "div", "floordiv", "mod", "pow", "and", "or",
                  "xor", "shl", "shr"}},
      {"cmp", {"eq", "ne", "lt", "le", "gt", "ge"}},
      {"reduce", {"sum", "prod", "max", "min", "argmax", "argmin", "any", "all"}},
      {"accumulate", {"load", "store", "add", "min", "max"}},
      {"precision", {"ieee", "tf32", "tf32_even", "tf32x3", "bf16x3", "bf16x6"}},
      {"mapping", {"dynamic", "round_robin", "blocked"}},
      {"dtype", {"f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u8", "i1"}}};
  for (const auto& [key, names] : tables) {
    if (key != table) continue;
    const auto it = std::find(names.begin(), names.end(), name);
    return it == names.end() ? -1 : static_cast<int>(it - names.begin());
  }
  return -1;
}

void unary(int op, int dst, int a) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a];
  const bool simple = op == kAbs || op == kNeg || op == kNot;
  const int bytes = size_of(x.dtype);
  account(simple ? kVector : kSe, simple ? vector_cycles(d, bytes) : se_cycles(d, bytes), dst, {a});
  if (!s.computes(d)) return;
  if (!is_float(x.dtype)) int_unary(op, d, x);
  else if (x.dtype == DType::F64) float_unary<double>(op, d, x);
  else float_unary<float>(op, d, x);
}

void binary(int op, int dst, int a, int b) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a], &y = s.tiles[b];
  const bool slow = op == kDiv || op == kFloorDiv || op == kMod || op == kPow;
  const double factor = slow ? 8 : 1;  // iterative on a vector core
  account(kVector, vector_cycles(d, size_of(d.dtype), factor), dst, {a, b});
  if (!s.computes(d)) return;
  if (!is_float(d.dtype)) int_binary(op, d, x, y);
  else if (d.dtype == DType::F64) float_binary<double>(op, d, x, y);
  else float_binary<float>(op, d, x, y);
}

void compare(int op, int dst, int a, int b) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a], &y = s.tiles[b];
  account(kVector, vector_cycles(d, size_of(x.dtype)), dst, {a, b});
  if (!s.computes(d)) return;
  with_wide(x.dtype, [&](auto w) { compare_as<decltype(w)>(op, d, x, y); });
}

void select(int dst, int c, int a, int b) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &cond = s.tiles[c], &x = s.tiles[a], &y = s.tiles[b];
  account(kVector, vector_cycles(d, size_of(d.dtype)), dst, {c, a, b});
  if (!s.computes(d)) return;
  with_wide(d.dtype, [&](auto w) {
    using W = decltype(w);
    std::vector<W> ha, hb, hd;
    const W *p = values<W>(x, ha), *q = values<W>(y, hb);
    const auto* m = static_cast<const uint8_t*>(s.data(cond));
    Result<W> out(d, hd);
    const auto sm = stretch(cond, d), sa = stretch(x, d), sb = stretch(y, d);
    const int last = d.rank - 1;
    const int64_t inner = d.rank ? d.dims[last] : 1;
    const int64_t im = d.rank ? sm[last] : 0, ia = d.rank ? sa[last] : 0, ib = d.rank ? sb[last] : 0;
    rows<3>(d, {sm, sa, sb}, [&](int64_t at, const std::array<int64_t, 3>& off) {
      for (int64_t i = 0; i < inner; ++i)
        out.data[at + i] = m[off[0] + i * im] ? p[off[1] + i * ia] : q[off[2] + i * ib];
    });
    out.commit();
  });
}

void copy(int dst, int a) {
  Sim& s = sim();
  const Tile &d = s.tiles[dst], &x = s.tiles[a];
  const int bytes = std::max(size_of(d.dtype), size_of(x.dtype));
  const bool converts = d.dtype != x.dtype;
  account(converts ? kSe : kVector, converts ? se_cycles(d, bytes) : vector_cycles(d, bytes), dst, {a});
  if (!s.computes(d)) return;
  // Floats go through the wider of the two, so that they are rounded once.
  const bool fractional = is_float(x.dtype) && is_float(d.dtype);
  DType through = DType::I64;
  if (fractional) through = x.dtype == DType::F64 || d.dtype == DType::F64 ? DType::F64 : DType::F32;
  else if (is_float(x.dtype)) through = DType::F64;
  if (is_float(x.dtype) && d.dtype == DType::I1) through = DType::F64;  // 0.5 is true
  with_wide(through, [&](auto w) {
    using W = decltype(w);
    map2<W, W>(d, x, x, [](W v, W) { return v; });
  });
}

void fill(int dst, double f, int64_t i) {
  Sim& s = sim();
  const Tile& d = s.tiles[dst];
  // The reduction engine initialises its accumulators as fast as local memory takes them.
  const Config& c = s.machine.config;
  account(kRe, c.re_start + std::ceil(d.elements() * size_of(d.dtype) / c.local_rate), dst, {});
  if (!s.computes(d)) return;
  with_wide(d.dtype, [&](auto w) {
    using W = decltype(w);
    std::vector<W> hold;
    Result<W> out(d, hold);
    std::fill(out.data, out.data + d.elements(), is_float(d.dtype) ? static_cast<W>(f) : static_cast<W>(i));
    out.commit();
  });
}

void iota(int dst, int64_t base, int64_t step) {
  Sim& s = sim();
  const Tile& d = s.tiles[dst];
  account(kVector, vector_cycles(d, size_of(d.dtype)), dst, {});
  if (!s.computes(d)) return;
  std::vector<int64_t> hold;
  Result<int64_t> out(d, hold);
  for (int64_t i = 0; i < d.elements(); ++i) out.data[i] = base + i * step;
  out.commit();
}

}  // namespace kea
