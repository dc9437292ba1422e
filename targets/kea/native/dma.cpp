// DMA between tensors in shared memory and tiles in local memory. Coordinates are affine in the
// tile's positions, or come from integer tiles; what lies outside the tensor or the limits is
// filled on load and not written on store.
#include <algorithm>
#include <cmath>
#include <limits>

#include "scratch.h"

namespace kea {
namespace {

using Index = std::array<int64_t, kMaxRank>;

// Collects the bytes that an access touches as runs of memory, and what they cost.
class Runs {
 public:
  Runs(const Tensor& t, Touch kind, double now)
      : tensor_(t), kind_(kind), now_(now),
        granule_(static_cast<int64_t>(sim().machine.config.granule_bytes)) {}
  void add(int64_t byte, int64_t n) {
    if (byte >= end_ && byte - end_ < granule_ && end_ > begin_) {
      end_ = byte + n;
    } else if (byte < begin_ || byte + n > end_) {
      flush();
      begin_ = byte;
      end_ = byte + n;
    }
  }
  void flush() {
    if (end_ <= begin_) return;
    const int64_t first = (tensor_.address - tensor_.storage->address) + begin_;
    const int64_t lines = (first + (end_ - begin_) - 1) / granule_ - first / granule_ + 1;
    traffic.bytes += static_cast<double>(lines * granule_);
    ++count;
    sim().machine.memory.touch(tensor_.storage->blocks, first, end_ - begin_, kind_, traffic, now_);
    end_ = begin_ = 0;
  }
  double cycles() const {
    const Config& c = sim().machine.config;
    return std::max(traffic.bytes / c.port_rate, count * c.segment_cycles);
  }
  Traffic traffic;
  int64_t count = 0;

 private:
  const Tensor& tensor_;
  Touch kind_;
  double now_;
  int64_t granule_, begin_ = 0, end_ = 0;
};

// One memory access, prepared: the order in which the tile's positions are visited, and how the
// coordinates change along each.
struct Plan {
  const Tile& tile;
  const Tensor& tensor;
  int rank;
  std::array<int, kMaxRank> order{};  // tile dimensions, the innermost (densest in memory) last
  Index local{};                      // element strides of the tile
  std::array<const int64_t*, kMaxRank> index{};
  std::array<std::vector<int64_t>, kMaxRank> hold;
  std::array<Index, kMaxRank> index_stride{};
  bool inner_varies = false;  // an integer tile varies along the innermost dimension

  Plan(const Tile& t, const Tensor& g) : tile(t), tensor(g), rank(t.rank) {
    int64_t step = 1;
    for (int r = rank - 1; r >= 0; --r) {
      local[r] = step;
      step *= t.dims[r];
    }
    Index memory{};
    for (int d = 0; d < g.rank; ++d) add_coordinate(d, memory);
    for (int r = 0; r < rank; ++r) order[r] = r;
    // Walk memory in its own order: the dimension with the smallest step innermost.
    std::stable_sort(order.begin(), order.begin() + rank, [&](int a, int b) {
      return key(a, memory) > key(b, memory);
    });
    if (rank == 0) return;
    for (int d = 0; d < g.rank; ++d)
      inner_varies |= index[d] && index_stride[d][order[rank - 1]] != 0;
  }

 private:
  int64_t key(int r, const Index& memory) const {
    return tile.dims[r] == 1 ? std::numeric_limits<int64_t>::max() : std::abs(memory[r]);
  }
  void add_coordinate(int d, Index& memory) {
    const Coord& c = sim().coords[d];
    for (int r = 0; r < rank; ++r) memory[r] += c.step[r] * tensor.strides[d];
    if (c.index < 0) return;
    const Tile& x = sim().tiles[c.index];
    index[d] = values<int64_t>(x, hold[d]);
    index_stride[d] = stretch(x, tile);
    for (int r = 0; r < rank; ++r)
      if (tile.dims[r] > 1 && index_stride[d][r])
        memory[r] += (index[d][index_stride[d][r]] - index[d][0]) * tensor.strides[d];
  }
};

int64_t div_floor(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
int64_t div_ceil(int64_t a, int64_t b) { return -div_floor(-a, b); }

// Narrows [lo, hi) to the positions i where 0 <= base + step * i < size.
void clip(int64_t base, int64_t step, int64_t size, int64_t& lo, int64_t& hi) {
  if (step == 0) {
    if (base < 0 || base >= size) hi = lo;
  } else if (step > 0) {
    lo = std::max(lo, div_ceil(-base, step));
    hi = std::min(hi, div_floor(size - 1 - base, step) + 1);
  } else {
    lo = std::max(lo, div_ceil(base - size + 1, -step));
    hi = std::min(hi, div_floor(base, -step) + 1);
  }
}

// The common case: every coordinate moves with at most one of the tile's dimensions, so that the
// valid positions are a box, found once.
struct Box {
  Index lo{}, hi{}, memory_step{};
  int64_t memory = 0;
  bool holds = true;

  explicit Box(const Plan& p) {
    const Sim& s = sim();
    for (int r = 0; r < p.rank; ++r) hi[r] = std::clamp<int64_t>(s.limits[r], 0, p.tile.dims[r]);
    for (int d = 0; d < p.tensor.rank && holds; ++d) {
      const Coord& c = s.coords[d];
      int along = -1;
      for (int r = 0; r < p.rank; ++r) {
        if (!c.step[r]) continue;
        holds &= along < 0;
        along = r;
        memory_step[r] += c.step[r] * p.tensor.strides[d];
      }
      holds &= c.index < 0;
      if (along >= 0) clip(c.base, c.step[along], p.tensor.dims[d], lo[along], hi[along]);
      else holds &= c.base >= 0 && c.base < p.tensor.dims[d];
      memory += c.base * p.tensor.strides[d];
    }
  }
};

template <class Span>
void walk_box(const Plan& p, const Box& b, Span span) {
  const int last = p.rank - 1, inner = p.rank ? p.order[last] : 0;
  const int64_t n = p.rank ? p.tile.dims[inner] : 1, total = n ? p.tile.elements() / n : 0;
  const int64_t lo = p.rank ? b.lo[inner] : 0, hi = p.rank ? std::max(lo, b.hi[inner]) : 1;
  const int64_t step = p.rank ? p.local[inner] : 1;
  Index at{};
  int64_t local = 0, memory = b.memory;
  for (int64_t row = 0; row < total; ++row) {
    bool valid = true;
    for (int k = 0; k < last; ++k) {
      const int r = p.order[k];
      valid &= at[r] >= b.lo[r] && at[r] < b.hi[r];
    }
    span(local, step, memory, b.memory_step[inner], lo, valid ? hi : lo, n);
    for (int k = last - 1; k >= 0; --k) {
      const int r = p.order[k];
      local += p.local[r];
      memory += b.memory_step[r];
      if (++at[r] < p.tile.dims[r]) break;
      local -= p.local[r] * at[r];
      memory -= b.memory_step[r] * at[r];
      at[r] = 0;
    }
  }
}

// Visits a plan row by row. `span(tile offset, tile step, memory offset, memory step, lo, hi, n)`
// gets the valid positions [lo, hi) of the n along a row; offsets are in elements.
template <class Span>
void walk(const Plan& p, Span span) {
  const Sim& s = sim();
  const Tensor& g = p.tensor;
  if (const Box box(p); box.holds) return walk_box(p, box, span);
  const int inner = p.rank ? p.order[p.rank - 1] : -1;
  const int64_t n = p.rank ? p.tile.dims[inner] : 1;
  const int64_t total = n ? p.tile.elements() / n : 0;
  int64_t memory_step = 0;
  for (int d = 0; d < g.rank && inner >= 0; ++d) memory_step += s.coords[d].step[inner] * g.strides[d];
  const int64_t inner_limit = inner >= 0 ? std::clamp<int64_t>(s.limits[inner], 0, n) : 1;
  Index at{};
  for (int64_t row = 0; row < total; ++row) {
    int64_t local = 0, lo = 0, hi = inner_limit, memory = 0;
    Index base{}, from{};
    for (int r = 0; r < p.rank; ++r) {
      local += at[r] * p.local[r];
      if (at[r] >= s.limits[r]) hi = 0;
    }
    for (int d = 0; d < g.rank; ++d) {
      const Coord& c = s.coords[d];
      int64_t v = c.base;
      for (int r = 0; r < p.rank; ++r) v += at[r] * c.step[r];
      if (c.index >= 0) {
        for (int r = 0; r < p.rank; ++r) from[d] += at[r] * p.index_stride[d][r];
        if (!p.inner_varies) v += p.index[d][from[d]];
      }
      base[d] = v;
      if (!p.inner_varies) clip(v, inner >= 0 ? c.step[inner] : 0, g.dims[d], lo, hi);
      memory += v * g.strides[d];
    }
    const int64_t local_step = inner >= 0 ? p.local[inner] : 1;
    if (!p.inner_varies) {
      span(local, local_step, memory, memory_step, lo, std::max(lo, hi), n);
    } else {
      for (int64_t i = 0; i < n; ++i) {
        bool valid = i < hi;
        int64_t address = 0;
        for (int d = 0; d < g.rank && valid; ++d) {
          int64_t v = base[d] + i * s.coords[d].step[inner];
          if (p.index[d]) v += p.index[d][from[d] + i * p.index_stride[d][inner]];
          valid = v >= 0 && v < g.dims[d];
          address += v * g.strides[d];
        }
        span(local + i * local_step, 1, address, 1, 0, valid ? 1 : 0, 1);
      }
    }
    for (int k = p.rank - 2; k >= 0; --k) {
      const int r = p.order[k];
      if (++at[r] < p.tile.dims[r]) break;
      at[r] = 0;
    }
  }
}

template <int kBytes>
void move(char* to, int64_t to_step, const char* from, int64_t from_step, int64_t n) {
  if (to_step == 1 && from_step == 1) {
    std::memcpy(to, from, n * kBytes);
    return;
  }
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * to_step * kBytes, from + i * from_step * kBytes, kBytes);
}

void move(int bytes, char* to, int64_t to_step, const char* from, int64_t from_step, int64_t n) {
  switch (bytes) {
    case 1: return move<1>(to, to_step, from, from_step, n);
    case 2: return move<2>(to, to_step, from, from_step, n);
    case 4: return move<4>(to, to_step, from, from_step, n);
    default: return move<8>(to, to_step, from, from_step, n);
  }
}

template <class W>
void combine(Access kind, DType d, char* to, const char* from) {
  W a, b;
  widen(d, to, &a, 1);
  widen(d, from, &b, 1);
  if (kind == Access::Add) a += b;
  else if (kind == Access::Min) a = b < a || b != b ? b : a;
  else a = b > a || b != b ? b : a;
  narrow(d, &a, to, 1);
}

void encode(DType d, double f, int64_t i, char* out) {
  if (is_float(d)) narrow(d, &f, out, 1);
  else narrow(d, &i, out, 1);
}

void transfer(Access kind, const Plan& p, char* tile, char* memory, const char* pad, Runs& runs, bool work) {
  const int bytes = size_of(p.tensor.dtype);
  walk(p, [&](int64_t local, int64_t ls, int64_t address, int64_t ms, int64_t lo, int64_t hi, int64_t n) {
    if (hi > lo) {
      if (ms == 1) runs.add((address + lo) * bytes, (hi - lo) * bytes);
      else
        for (int64_t i = lo; i < hi; ++i) runs.add((address + i * ms) * bytes, bytes);
    }
    if (!work) return;
    char *t = tile + local * bytes, *m = memory + address * bytes;
    if (kind == Access::Load) {
      if (hi > lo) move(bytes, t + lo * ls * bytes, ls, m + lo * ms * bytes, ms, hi - lo);
      for (int64_t i = 0; i < n; ++i)
        if (i < lo || i >= hi) std::memcpy(t + i * ls * bytes, pad, bytes);
    } else if (kind == Access::Store) {
      if (hi > lo) move(bytes, m + lo * ms * bytes, ms, t + lo * ls * bytes, ls, hi - lo);
    } else {
      with_wide(p.tensor.dtype, [&](auto w) {
        for (int64_t i = lo; i < hi; ++i)
          combine<decltype(w)>(kind, p.tensor.dtype, m + i * ms * bytes, t + i * ls * bytes);
      });
    }
  });
  runs.flush();
}

// Whether what is written may stay in SRAM, rather than going on to LPDDR.
bool kept(const Sim& s, const Tensor& g) { return g.storage->role == Role::Temporary || s.warm; }

}  // namespace

void access(Access kind, int tile, int tensor, double fill, int64_t fill_int) {
  Sim& s = sim();
  Machine& m = s.machine;
  if (!s.error.empty()) return;
  const Tile& t = s.tiles[tile];
  const Tensor& g = s.tensors[tensor];
  int index[kMaxRank], n = 0;
  for (int d = 0; d < g.rank; ++d)
    if (s.coords[d].index >= 0) index[n++] = s.tiles[s.coords[d].index].buffer;
  const bool load = kind == Access::Load;
  if (load) m.advance(t.buffer);
  const bool work = g.storage->has_data && (load ? s.computes(t) : s.functional);
  if (!load && g.storage->role == Role::Input) return s.fail("the program writes to an input");
  if (load && t.control && !work) return s.fail("values that decide addresses were not supplied");
  const double now = load ? m.begin_load(t.buffer, index, n) : m.begin_store(t.buffer, index, n);
  const Plan plan(t, g);
  const bool keep = kept(s, g);
  Runs runs(g, load ? Touch::Read : keep ? Touch::Keep : Touch::Write, now);
  char pad[8] = {};
  encode(t.dtype, fill, fill_int, pad);
  transfer(kind, plan, static_cast<char*>(s.data(t)), reinterpret_cast<char*>(g.address), pad, runs, work);
  if (load) return m.end_load(now, t.buffer, index, n, runs.cycles(), runs.traffic);
  const double passes = kind == Access::Store ? 1 : 2;  // an accumulation reads and writes back
  m.end_store(now, t.buffer, index, n, runs.cycles() * passes, runs.traffic.bytes * passes, keep);
}

void initialise(int tensor, Access kind) {
  Sim& s = sim();
  const Tensor& g = s.tensors[tensor];
  if (g.storage->role == Role::Input) return s.fail("the program writes to an input");
  int64_t elements = 1;
  for (int i = 0; i < g.rank; ++i) elements *= g.dims[i];
  const int bytes = size_of(g.dtype);
  Machine& m = s.machine;
  const bool keep = kept(s, g);
  const double size = static_cast<double>(elements * bytes), begin = m.now;
  Traffic traffic;
  const int64_t first = static_cast<int64_t>(g.address - g.storage->address);
  m.memory.touch(g.storage->blocks, first, elements * bytes, keep ? Touch::Keep : Touch::Write, traffic, begin);
  m.now = m.memory.pass(begin, size, m.config.sram_rate);
  if (!keep) m.memory.write_back(begin, size, m.config.lpddr_rate);
  if (!s.functional || !g.storage->has_data) return;
  const bool real = is_float(g.dtype);
  const double inf = std::numeric_limits<double>::infinity();
  const int bits = 8 * bytes;
  const int64_t low = g.dtype == DType::U8 ? 0 : int64_t(~0ull << (bits - 1));
  const int64_t high = g.dtype == DType::U8 ? 255 : ~low;
  double f = 0;
  int64_t i = 0;
  if (kind != Access::Add) f = kind == Access::Min ? inf : -inf, i = kind == Access::Min ? high : low;
  char one[8] = {};
  encode(g.dtype, real ? f : 0, i, one);
  for (int64_t e = 0; e < elements; ++e)
    std::memcpy(reinterpret_cast<char*>(g.address) + e * bytes, one, bytes);
}

}  // namespace kea
