// The C interface: what the host sets up and reads, and what compiled kernels call.
#include <algorithm>
#include <cstring>

#include "sim.h"

namespace kea {
Sim& sim() {
  static Sim instance;  // one a process; callers take turns
  return instance;
}
}  // namespace kea

using kea::sim;

#define KEA_API extern "C" __attribute__((visibility("default")))

// ---- host ----------------------------------------------------------------------------------

KEA_API int kea_set(const char* name, double value) {
  double* field = kea::config_field(sim().machine.config, name);
  if (field) *field = value;
  return field ? 0 : -1;
}

KEA_API int kea_code(const char* table, const char* name) { return kea::code_of(table, name); }

KEA_API void kea_reset(int functional, int warm) {
  kea::Sim& s = sim();
  s.machine.reset();
  s.tensors.clear();
  s.storages.clear();
  s.tiles.clear();
  s.local.assign(static_cast<size_t>(s.machine.config.local_bytes) + 64, 0);
  s.functional = functional;
  s.warm = warm;
  s.kernels = 0;
  s.macs = 0;
  s.error.clear();
}

KEA_API void kea_storage(int64_t address, int64_t bytes, int has_data, int role) {
  kea::Sim& s = sim();
  kea::Storage& g = s.storages.emplace_back();
  g.address = address;
  g.bytes = bytes;
  g.has_data = has_data;
  g.role = static_cast<kea::Role>(role);
  const size_t blocks = static_cast<size_t>(bytes / s.machine.config.block_bytes) + 1;
  g.blocks.slot.assign(blocks, 0);
  g.blocks.ready.assign(blocks, 0);
  if (s.warm && g.role != kea::Role::Temporary) s.machine.memory.warm(g.blocks);
}

KEA_API const char* kea_error() { return sim().error.c_str(); }

// Fills `out`: cycles, commands, instances, issue cycles, LPDDR bytes, SRAM bytes, MACs, then busy
// cycles of DMA in, DMA out, DPE, RE, SE, vector, MLU (summed over PEs). Returns how many.
KEA_API int kea_report(double* out) {
  const kea::Machine& m = sim().machine;
  const double head[] = {std::max(m.now, m.memory.end()), double(m.commands), double(m.instances),
                         m.issue_busy, m.memory.lpddr_bytes, m.memory.sram_bytes, double(sim().macs)};
  std::copy(head, head + 7, out);
  std::copy(m.busy, m.busy + kea::kEngines, out + 7);
  return 7 + kea::kEngines;
}

// ---- compiled kernels ------------------------------------------------------------------------

KEA_API void kea_kernel(int32_t mapping) {
  kea::Sim& s = sim();
  s.machine.begin_kernel(s.kernels++ == 0);
  s.tiles.clear();
  s.tensors.clear();
  s.mapping = mapping;
}

KEA_API void kea_kernel_end() { sim().machine.end_kernel(); }

KEA_API void kea_bind(int32_t id, int64_t address, int32_t dtype, int32_t rank, int64_t d0, int64_t d1,
                      int64_t d2, int64_t d3, int64_t d4, int64_t d5, int64_t d6, int64_t d7) {
  kea::Sim& s = sim();
  if (s.tensors.size() <= size_t(id)) s.tensors.resize(id + 1);
  kea::Tensor& t = s.tensors[id];
  t.address = address;
  t.dtype = static_cast<kea::DType>(dtype);
  t.rank = rank;
  t.dims = {d0, d1, d2, d3, d4, d5, d6, d7};
  int64_t step = 1;
  for (int i = rank - 1; i >= 0; --i) {
    t.strides[i] = step;
    step *= t.dims[i];
  }
  const int64_t end = address + step * size_of(t.dtype);
  for (kea::Storage& g : s.storages)
    if (address >= g.address && end <= g.address + g.bytes) t.storage = &g;
  if (!t.storage) s.fail("a kernel's tensor lies outside every argument and temporary");
}

KEA_API void kea_initialise(int32_t tensor, int32_t kind) {
  if (sim().error.empty()) kea::initialise(tensor, static_cast<kea::Access>(kind));
}

KEA_API void kea_buffer(int32_t id, int64_t offset, int64_t bytes, int32_t copies) {
  kea::Sim& s = sim();
  auto& buffers = s.machine.buffers;
  if (buffers.size() <= size_t(id)) buffers.resize(id + 1);
  buffers[id] = {offset, bytes, copies, 0};
  if (offset + bytes * copies > s.machine.config.local_bytes)
    s.fail("local memory exceeded: a buffer ends at byte " + std::to_string(offset + bytes * copies) +
           " of " + std::to_string(static_cast<int64_t>(s.machine.config.local_bytes)));
}

KEA_API void kea_tile(int32_t id, int32_t buffer, int32_t dtype, int32_t control, int32_t rank,
                      int64_t d0, int64_t d1, int64_t d2, int64_t d3, int64_t d4, int64_t d5,
                      int64_t d6, int64_t d7) {
  kea::Sim& s = sim();
  if (s.tiles.size() <= size_t(id)) s.tiles.resize(id + 1);
  s.tiles[id] = {static_cast<kea::DType>(dtype), buffer, rank, control != 0, {d0, d1, d2, d3, d4, d5, d6, d7}};
  const kea::Buffer& b = s.machine.buffers[buffer];
  if (s.tiles[id].elements() * size_of(s.tiles[id].dtype) > b.bytes) s.fail("a tile is larger than its buffer");
}

KEA_API void kea_instance(int64_t index, int64_t count) {
  kea::Sim& s = sim();
  if (s.error.empty()) s.machine.begin_instance(index, count, s.mapping);
}

KEA_API void kea_loop_step() { sim().machine.loop_step(); }

KEA_API void kea_coord(int32_t axis, int64_t base, int32_t index, int64_t s0, int64_t s1, int64_t s2,
                       int64_t s3, int64_t s4, int64_t s5, int64_t s6, int64_t s7) {
  kea::Sim& s = sim();
  if (s.coords.size() <= size_t(axis)) s.coords.resize(axis + 1);
  s.coords[axis] = {base, index, {s0, s1, s2, s3, s4, s5, s6, s7}};
}

KEA_API void kea_limit(int32_t dim, int64_t limit) { sim().limits[dim] = limit; }

KEA_API void kea_access(int32_t kind, int32_t tile, int32_t tensor, double f, int64_t i) {
  if (sim().error.empty()) kea::access(static_cast<kea::Access>(kind), tile, tensor, f, i);
}

// The value of a one-element integer tile, for the scalar core: it waits until it is there.
KEA_API int64_t kea_read(int32_t tile) {
  kea::Sim& s = sim();
  if (!s.error.empty()) return 0;
  const kea::Tile& t = s.tiles[tile];
  s.machine.sync(t.buffer);
  int64_t v = 0;
  widen(t.dtype, s.data(t), &v, 1);
  return v;
}

#define KEA_COMMAND(name, params, call) \
  KEA_API void name params {            \
    if (sim().error.empty()) call;      \
  }
KEA_COMMAND(kea_unary, (int32_t op, int32_t d, int32_t a), kea::unary(op, d, a))
KEA_COMMAND(kea_binary, (int32_t op, int32_t d, int32_t a, int32_t b), kea::binary(op, d, a, b))
KEA_COMMAND(kea_cmp, (int32_t op, int32_t d, int32_t a, int32_t b), kea::compare(op, d, a, b))
KEA_COMMAND(kea_select, (int32_t d, int32_t c, int32_t a, int32_t b), kea::select(d, c, a, b))
KEA_COMMAND(kea_copy, (int32_t d, int32_t a), kea::copy(d, a))
KEA_COMMAND(kea_fill, (int32_t d, double f, int64_t i), kea::fill(d, f, i))
KEA_COMMAND(kea_iota, (int32_t d, int64_t base, int64_t step), kea::iota(d, base, step))
KEA_COMMAND(kea_reduce, (int32_t op, int32_t d, int32_t a, int32_t dim), kea::reduce(op, d, a, dim))
KEA_COMMAND(kea_scan, (int32_t op, int32_t d, int32_t a, int32_t dim, int32_t reverse),
            kea::scan(op, d, a, dim, reverse != 0))
KEA_COMMAND(kea_dot, (int32_t d, int32_t a, int32_t b, int32_t precision, int32_t accumulate),
            kea::dot(d, a, b, precision, accumulate != 0))

KEA_API void kea_permute(int32_t d, int32_t a, int64_t o0, int64_t o1, int64_t o2, int64_t o3, int64_t o4,
                         int64_t o5, int64_t o6, int64_t o7) {
  const int64_t order[] = {o0, o1, o2, o3, o4, o5, o6, o7};
  if (sim().error.empty()) kea::permute(d, a, order);
}

KEA_API int64_t kea_dtype_bytes(int32_t dtype) { return size_of(static_cast<kea::DType>(dtype)); }
