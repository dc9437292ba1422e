#include "machine.h"

#include <algorithm>
#include <unordered_map>

namespace kea {

double* config_field(Config& c, const std::string& name) {
#define FIELD(f) {#f, &Config::f}
  static const std::unordered_map<std::string, double Config::*> fields = {
      FIELD(pes), FIELD(local_bytes), FIELD(lpddr_rate), FIELD(sram_rate), FIELD(port_rate), FIELD(local_rate),
      FIELD(lpddr_latency), FIELD(sram_latency), FIELD(sram_bytes), FIELD(block_bytes),
      FIELD(granule_bytes), FIELD(segment_cycles), FIELD(dma_depth), FIELD(queue_depth),
      FIELD(issue_cycles), FIELD(loop_cycles), FIELD(sync_cycles), FIELD(scalar_cycles),
      FIELD(launch_cycles), FIELD(relaunch_cycles), FIELD(dpe_rows), FIELD(dpe_depth_bytes),
      FIELD(dpe_fill_cycles), FIELD(vector_bytes), FIELD(vector_start), FIELD(wide_cycles),
      FIELD(se_lanes), FIELD(se_start), FIELD(re_lanes), FIELD(re_start), FIELD(mlu_bytes),
      FIELD(mlu_start)};
#undef FIELD
  const auto it = fields.find(name);
  return it == fields.end() ? nullptr : &(c.*(it->second));
}

void Calendar::reset(double bytes_per_cycle) {
  capacity_ = bytes_per_cycle * kWindow;
  end_ = 0;
  used_.clear();
  skip_.clear();
}

size_t Calendar::first_free(size_t w) {
  size_t root = w;
  while (root < skip_.size() && skip_[root] != root) root = skip_[root];
  while (w < skip_.size() && skip_[w] != root) {  // path compression
    const size_t next = skip_[w];
    skip_[w] = static_cast<uint32_t>(root);
    w = next;
  }
  return root;
}

double Calendar::reserve(double t, double bytes, double rate) {
  if (bytes <= 0) return t;
  rate = std::min(rate, capacity_ / kWindow);
  size_t w = static_cast<size_t>(t / kWindow);
  double done = t;
  for (;;) {
    w = first_free(w);
    if (w >= used_.size()) {
      const size_t old = used_.size();
      used_.resize(w + 64, 0.0f);
      skip_.resize(used_.size());
      for (size_t i = old; i < skip_.size(); ++i) skip_[i] = static_cast<uint32_t>(i);
    }
    const double begin = std::max(done, static_cast<double>(w) * kWindow);
    const double end = static_cast<double>(w + 1) * kWindow;
    const double take = std::min({capacity_ - used_[w], bytes, (end - begin) * rate});
    used_[w] += static_cast<float>(take);
    bytes -= take;
    done = std::min(begin + take / rate, end);
    if (capacity_ - used_[w] < 1e-3 * capacity_) skip_[w] = static_cast<uint32_t>(w + 1);
    if (bytes <= 1e-6) break;
    done = end;
    ++w;
  }
  end_ = std::max(end_, done);
  return done;
}

void Memory::reset(const Config& c) {
  c_ = &c;
  lpddr_.reset(c.lpddr_rate);
  sram_.reset(c.sram_rate);
  capacity_ = std::max<size_t>(1, static_cast<size_t>(c.sram_bytes / c.block_bytes));
  ring_.clear();
  hand_ = filled_ = 0;
  lpddr_bytes = sram_bytes = 0;
}

void Memory::insert(Blocks& b, uint32_t i, Touch kind, double now) {
  size_t at;
  if (filled_ < capacity_) {
    at = filled_++;
    ring_.emplace_back();
  } else {  // second-chance replacement, close to LRU and cheap
    while (ring_[hand_].used) {
      ring_[hand_].used = false;
      hand_ = (hand_ + 1) % capacity_;
    }
    at = hand_;
    hand_ = (hand_ + 1) % capacity_;
    Resident& old = ring_[at];
    old.owner->slot[old.index] = 0;
    if (old.dirty) {
      lpddr_.reserve(now, c_->block_bytes, c_->lpddr_rate);
      lpddr_bytes += c_->block_bytes;
    }
  }
  ring_[at] = {&b, i, true, kind == Touch::Keep};
  b.slot[i] = static_cast<uint32_t>(at) + 1;
  b.ready[i] = static_cast<float>(now);
}

void Memory::touch(Blocks& b, int64_t offset, int64_t bytes, Touch kind, Traffic& t, double now) {
  const int64_t block = static_cast<int64_t>(c_->block_bytes);
  for (int64_t i = offset / block; i <= (offset + bytes - 1) / block; ++i) {
    const uint32_t slot = b.slot[i];
    if (slot) {
      ring_[slot - 1].used = true;
      ring_[slot - 1].dirty |= kind == Touch::Keep;
      t.hit_ready = std::max(t.hit_ready, static_cast<double>(b.ready[i]));
    } else {
      // A write needs no fill: the block is assembled in SRAM.
      insert(b, static_cast<uint32_t>(i), kind, now);
      if (kind != Touch::Read) continue;
      t.missed += c_->block_bytes;
      fresh_.emplace_back(&b, static_cast<uint32_t>(i));
    }
  }
}

double Memory::pass(double now, double bytes, double rate) {
  sram_bytes += bytes;
  return sram_.reserve(now, bytes, rate);
}

double Memory::arrive(double now, const Traffic& t, double passed) {
  double done = passed + c_->sram_latency;
  if (t.missed > 0) {
    done = std::max(done, lpddr_.reserve(now, t.missed, c_->port_rate) + c_->lpddr_latency);
    lpddr_bytes += t.missed;
  }
  for (const auto& [blocks, i] : fresh_) blocks->ready[i] = static_cast<float>(done);
  fresh_.clear();
  return std::max(done, t.hit_ready);  // a block that another PE is fetching arrives with that fetch
}

void Memory::write_back(double now, double bytes, double rate) {
  lpddr_.reserve(now, bytes, rate);
  lpddr_bytes += bytes;
}

void Memory::warm(Blocks& b) {
  for (uint32_t i = 0; i < b.slot.size(); ++i)
    if (!b.slot[i] && filled_ < capacity_) insert(b, i, Touch::Read, 0);
}

double Memory::end() const { return std::max(lpddr_.end(), sram_.end()); }

void Machine::reset() {
  memory.reset(config);
  pes.assign(static_cast<size_t>(config.pes), Pe{});
  for (Pe& p : pes) {
    for (auto& q : p.queue) q.assign(static_cast<size_t>(config.queue_depth), 0.0);
    for (auto& f : p.in_flight) f.assign(static_cast<size_t>(config.dma_depth), 0.0);
  }
  buffers.clear();
  now = 0;
  std::fill(busy, busy + kEngines, 0.0);
  commands = instances = 0;
  issue_busy = 0;
}

void Machine::begin_kernel(bool first) {
  now += first ? config.launch_cycles : config.relaunch_cycles;
  buffers.clear();
  for (Pe& p : pes) {
    p.issue = p.done = now;
    std::fill(p.free, p.free + kEngines, now);
    p.times.clear();
  }
}

void Machine::end_kernel() {
  for (const Pe& p : pes) now = std::max({now, p.issue, p.done});
}

void Machine::begin_instance(int64_t index, int64_t count, int mapping) {
  const auto n = static_cast<int64_t>(pes.size());
  if (mapping == 1) {
    current_ = static_cast<size_t>(index % n);  // round robin
  } else if (mapping == 2) {
    current_ = static_cast<size_t>(index / std::max<int64_t>(1, (count + n - 1) / n) % n);  // blocks
  } else {  // the PE that is free first takes the next instance
    size_t best = 0;
    for (size_t i = 1; i < pes.size(); ++i)
      if (pes[i].issue < pes[best].issue) best = i;
    current_ = best;
  }
  ++instances;
  share_ = std::min(config.port_rate, config.sram_rate / static_cast<double>(std::min(n, count)));
  Pe& p = pe();
  if (p.times.size() < buffers.size()) {
    p.times.resize(buffers.size());
    for (size_t i = 0; i < buffers.size(); ++i)
      p.times[i].resize(static_cast<size_t>(buffers[i].copies), BufferTimes{now, now, now});
  }
  p.issue += config.issue_cycles;
}

double Machine::issue(Engine e) {
  Pe& p = pe();
  // The command waits for a place in the engine's queue: the oldest queued one must have started.
  double& slot = p.queue[e][p.head[e]];
  p.issue = std::max(p.issue, slot) + config.issue_cycles;
  issue_busy += config.issue_cycles;
  ++commands;
  return p.issue;
}

double Machine::start(Engine e, double issued, int dst, const int* src, int n) {
  double t = std::max(issued, pe().free[e]);
  for (int i = 0; i < n; ++i) t = std::max(t, times(src[i]).ready);
  if (dst >= 0) t = std::max({t, times(dst).read, times(dst).ready});
  return t;
}

void Machine::finish(Engine e, double started, double cycles, double done, int dst, const int* src,
                     int n) {
  Pe& p = pe();
  p.free[e] = started + cycles;
  busy[e] += cycles;
  for (int i = 0; i < n; ++i) {
    BufferTimes& s = times(src[i]);
    s.read = std::max(s.read, done);
  }
  if (dst >= 0) times(dst).ready = times(dst).chain = done;
  p.done = std::max(p.done, done);
  p.queue[e][p.head[e]] = started;
  p.head[e] = (p.head[e] + 1) % p.queue[e].size();
}

void Machine::command(Engine e, double cycles, double latency, int dst, const int* src, int n) {
  const double t = start(e, issue(e), dst, src, n);
  finish(e, t, cycles, t + cycles + latency, dst, src, n);
}

void Machine::multiply(Engine e, double cycles, double latency, int dst, const int* src,
                       bool accumulate) {
  const double issued = issue(e);
  BufferTimes& out = times(dst);
  double t = std::max(start(e, issued, -1, src, 2), out.read);
  t = std::max(t, accumulate ? out.chain : out.ready);
  finish(e, t, cycles, t + cycles + latency, dst, src, 2);
  out.chain = t + cycles;
}

void Machine::landed(int direction, double done) {
  Pe& p = pe();
  oldest(direction) = done;
  p.flight_head[direction] = (p.flight_head[direction] + 1) % p.in_flight[direction].size();
}

double Machine::begin_load(int dst, const int* index, int n) {
  return std::max(start(kDmaIn, issue(kDmaIn), dst, index, n), oldest(0));
}

void Machine::end_load(double t, int dst, const int* index, int n, double cycles,
                       const Traffic& traffic) {
  const double passed = std::max(t + cycles, memory.pass(t, traffic.bytes, share_));
  const double done = memory.arrive(t, traffic, passed);
  landed(0, done);
  finish(kDmaIn, t, passed - t, done, dst, index, n);
}

double Machine::begin_store(int src, const int* index, int n) {
  const double t = start(kDmaOut, issue(kDmaOut), -1, index, n);
  return std::max({t, times(src).ready, oldest(1)});
}

void Machine::end_store(double t, int src, const int* index, int n, double cycles, double bytes,
                        bool keep) {
  const double passed = std::max(t + cycles, memory.pass(t, bytes, share_));
  const double done = passed + config.sram_latency;
  if (!keep) memory.write_back(t, bytes, config.port_rate);
  landed(1, done);
  finish(kDmaOut, t, passed - t, done, -1, index, n);
  times(src).read = std::max(times(src).read, done);
}

void Machine::sync(int buffer) {
  Pe& p = pe();
  p.issue = std::max(p.issue, times(buffer).ready) + config.sync_cycles;
}

}  // namespace kea
