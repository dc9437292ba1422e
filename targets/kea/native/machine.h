// The timing model of the accelerator: engines of each processing element (PE), circular buffers,
// the shared SRAM cache and LPDDR. Times are cycles of the PE clock; bandwidths bytes per cycle.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kea {

enum Engine { kDmaIn, kDmaOut, kDpe, kRe, kSe, kVector, kMlu, kEngines };

struct Config {
  double pes = 64, local_bytes = 384 << 10;
  double lpddr_rate = 151.7, sram_rate = 2000, port_rate = 64, local_rate = 741;
  double lpddr_latency = 400, sram_latency = 120;
  double sram_bytes = 256 << 20, block_bytes = 512, granule_bytes = 64, segment_cycles = 1;
  double dma_depth = 16, queue_depth = 8;
  double issue_cycles = 12, loop_cycles = 4, sync_cycles = 30, scalar_cycles = 1;
  double launch_cycles = 1350, relaunch_cycles = 675;
  double dpe_rows = 32, dpe_depth_bytes = 64, dpe_fill_cycles = 32;
  double vector_bytes = 64, vector_start = 8, wide_cycles = 2;
  double se_lanes = 64, se_start = 16, re_lanes = 32, re_start = 16, mlu_bytes = 64, mlu_start = 16;
};
// The field called `name`, or null.
double* config_field(Config& c, const std::string& name);

// A bandwidth shared by all PEs: each window of time holds so many bytes and no more. PEs may
// reserve out of time order, so a later caller can still use an earlier window that has room.
class Calendar {
 public:
  void reset(double bytes_per_cycle);
  // The time at which the last of `bytes` has passed, when they come no faster than `rate`.
  double reserve(double t, double bytes, double rate);
  double end() const { return end_; }

 private:
  static constexpr double kWindow = 128;
  size_t first_free(size_t w);
  double capacity_ = 1, end_ = 0;
  std::vector<float> used_;
  std::vector<uint32_t> skip_;
};

// A tensor as the memory system sees it: the cache blocks that it covers.
struct Blocks {
  std::vector<uint32_t> slot;  // 1 + position in the resident ring, 0 when not in SRAM
  std::vector<float> ready;    // when its fill arrives (cycles, relative to the program's start)
};

struct Traffic {
  double bytes = 0, missed = 0, hit_ready = 0;
};

// `Keep` leaves what is written in SRAM, to be moved to LPDDR only when its place is needed.
enum class Touch { Read, Write, Keep };

class Memory {
 public:
  void reset(const Config& c);
  // Touches `bytes` at `offset` of a tensor; adds to `t` what must come from LPDDR.
  void touch(Blocks& b, int64_t offset, int64_t bytes, Touch kind, Traffic& t, double now);
  // When `bytes` have passed the SRAM's ports, coming no faster than `rate`.
  double pass(double now, double bytes, double rate);
  // When a read that passed at `passed` is complete, with what LPDDR had to deliver.
  double arrive(double now, const Traffic& t, double passed);
  // Results go on to LPDDR in the background: only the program's end waits for them.
  void write_back(double now, double bytes, double rate);
  void warm(Blocks& b);
  double end() const;
  double lpddr_bytes = 0, sram_bytes = 0;

 private:
  struct Resident {
    Blocks* owner = nullptr;
    uint32_t index = 0;
    bool used = false, dirty = false;
  };
  void insert(Blocks& b, uint32_t i, Touch kind, double now);
  const Config* c_ = nullptr;
  std::vector<std::pair<Blocks*, uint32_t>> fresh_;  // blocks that the current transfer fetches
  Calendar lpddr_, sram_;
  std::vector<Resident> ring_;
  size_t hand_ = 0, filled_ = 0, capacity_ = 1;
};

// A local buffer: `copies` of the same bytes, used in turn.
struct Buffer {
  int64_t offset = 0, bytes = 0;
  int copies = 1, current = 0;
};

struct BufferTimes {
  double ready = 0;  // when its contents are complete
  double read = 0;   // when its last reader has finished
  double chain = 0;  // when a product may go on accumulating into it
};

struct Pe {
  double issue = 0, free[kEngines] = {}, done = 0;
  std::vector<double> queue[kEngines];  // start times of the last commands, a ring
  size_t head[kEngines] = {};
  std::vector<double> in_flight[2];  // completion times of the last DMA loads and stores, rings
  size_t flight_head[2] = {};
  std::vector<std::vector<BufferTimes>> times;  // by buffer, by copy
};

class Machine {
 public:
  Config config;
  Memory memory;
  std::vector<Pe> pes;
  std::vector<Buffer> buffers;
  double now = 0;  // when the running kernel started
  double busy[kEngines] = {};
  int64_t commands = 0, instances = 0;
  double issue_busy = 0;

  void reset();
  void begin_kernel(bool first);
  void end_kernel();
  void begin_instance(int64_t index, int64_t count, int mapping);
  void loop_step() { pe().issue += config.loop_cycles; issue_busy += config.loop_cycles; }
  void scalar(int64_t n) { pe().issue += n * config.scalar_cycles; }

  BufferTimes& times(int buffer) { return pe().times[buffer][buffers[buffer].current]; }
  void advance(int buffer) {
    Buffer& b = buffers[buffer];
    if (b.copies > 1) b.current = (b.current + 1) % b.copies;
  }
  // Issues a command of `cycles` on `e`: reads buffers, writes one. Returns its completion.
  void command(Engine e, double cycles, double latency, int dst, const int* src, int n);
  // A product; with `accumulate` it follows an earlier one into `dst` without draining the pipeline.
  void multiply(Engine e, double cycles, double latency, int dst, const int* src, bool accumulate);
  // DMA in two steps, because the time it starts decides what it finds in SRAM. The engine is
  // busy for `cycles`; completion is what the shared memories allow.
  double begin_load(int dst, const int* index, int n);
  void end_load(double t, int dst, const int* index, int n, double cycles, const Traffic& traffic);
  double begin_store(int src, const int* index, int n);
  void end_store(double t, int src, const int* index, int n, double cycles, double bytes, bool keep);
  void sync(int buffer);  // the scalar core waits for a value

 private:
  Pe& pe() { return pes[current_]; }
  double issue(Engine e);
  double start(Engine e, double issued, int dst, const int* src, int n);
  double& oldest(int direction) { return pe().in_flight[direction][pe().flight_head[direction]]; }
  void landed(int direction, double done);
  void finish(Engine e, double started, double busy, double done, int dst, const int* src, int n);
  size_t current_ = 0;
  double share_ = 0;  // of SRAM bandwidth, when all PEs that have work ask for it
};

}  // namespace kea
