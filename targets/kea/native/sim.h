// The simulator: tiles in local memory, tensors in shared memory, and the commands on them. Every
// command does its work on the data (unless timing alone is wanted) and moves the clock.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "dtype.h"
#include "machine.h"

namespace kea {

constexpr int kMaxRank = 8;

struct Tile {
  DType dtype = DType::F32;
  int buffer = 0, rank = 0;
  bool control = false;  // its values decide addresses or bounds, so timing needs them too
  std::array<int64_t, kMaxRank> dims{};

  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
};

// What a program uses memory for. The numbers are the host's, too.
enum class Role : int32_t { Input, Output, Temporary };

// Memory that tensors lie in.
struct Storage {
  int64_t address = 0, bytes = 0;
  bool has_data = false;    // false in a timing run: the address is then only a name
  Role role = Role::Input;  // a temporary stays in SRAM while it fits; results go on to LPDDR
  Blocks blocks;
};

struct Tensor {
  Storage* storage = nullptr;
  int64_t address = 0;
  DType dtype = DType::F32;
  int rank = 0;
  std::array<int64_t, kMaxRank> dims{}, strides{};  // in elements
};

// One coordinate of a memory access: base + sum(step[r] * i_r) + value of an integer tile.
struct Coord {
  int64_t base = 0;
  int index = -1;  // an integer tile whose dimensions are the access's own, or of size 1
  std::array<int64_t, kMaxRank> step{};
};

struct Sim {
  Machine machine;
  std::vector<Tile> tiles;
  std::vector<Tensor> tensors;
  std::deque<Storage> storages;
  std::vector<char> local;
  std::vector<Coord> coords;
  std::array<int64_t, kMaxRank> limits{};
  bool functional = true, warm = false;
  int64_t instance_count = 0;
  int mapping = 0, kernels = 0;
  int64_t macs = 0;
  std::string error;

  void* data(const Tile& t) {
    const Buffer& b = machine.buffers[t.buffer];
    return local.data() + b.offset + b.bytes * b.current;
  }
  // True when the command has to work on data, not only on the clock.
  bool computes(const Tile& dst) const { return error.empty() && (functional || dst.control); }
  void fail(const std::string& why) {
    if (error.empty()) error = why;
  }
};

Sim& sim();

enum class Access { Load, Store, Add, Min, Max };
void access(Access kind, int tile, int tensor, double fill, int64_t fill_int);
// Sets every element of a tensor to the identity of an accumulation, before a kernel starts.
void initialise(int tensor, Access kind);

void unary(int op, int dst, int a);
void binary(int op, int dst, int a, int b);
void compare(int op, int dst, int a, int b);
void select(int dst, int c, int a, int b);
void copy(int dst, int a);  // with conversion and stretching
void fill(int dst, double f, int64_t i);
void iota(int dst, int64_t base, int64_t step);
void reduce(int op, int dst, int a, int dim);
void scan(int op, int dst, int a, int dim, bool reverse);
void permute(int dst, int a, const int64_t* order);
void dot(int dst, int a, int b, int precision, bool accumulate);
// Code of `name` in a table of operations (unary, binary, compare, reduce, ...), or -1.
int code_of(const std::string& table, const std::string& name);

}  // namespace kea
