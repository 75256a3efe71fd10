// Kernels over rows of channels (channels_last memory: one row a pixel, `channels` contiguous numbers), on plain memory.
//
// kernels.cpp implements them and is compiled once for each instruction set; `kernels()` picks what the processor has.
// They know nothing of libtorch and nothing of threads. Arrays over channels are f32 and padded to a multiple of LANES.

#pragma once

#include <cstdint>

namespace fewstep {

// Widest vector of any instruction set, in f32 numbers.
constexpr int64_t LANES = 16;

// What the rows are made of. Arithmetic is always f32.
enum class Kind { F32, BF16 };

// Some consecutive pixels of one sample.
struct Rows {
  Kind kind;
  int64_t count;
  int64_t channels;
};

// Which numbers of a sample dropout keeps: a hash of (key, position) >= threshold. No mask is stored.
struct Dropout {
  uint32_t threshold; // p * 2^32
  float scale;        // 1 / (1 - p)
  uint32_t key[2];    // of this sample
  uint32_t first;     // position of the first row's first number in its sample
};

// y = dropout(act(x * scale + shift)), the second half of a normalisation. Arrays over channels.
struct Activation {
  const float* scale;
  const float* shift;
  bool silu;
  const Dropout* dropout; // null for none
};

struct Kernels {
  // The instruction set: baseline, avx2, avx512 or avx512bf16.
  const char* name;

  // sum[c] = sum of x - origin, square[c] = sum of (x - origin)^2, over the rows. `origin` is one row.
  void (*moments)(Rows rows, const void* x, const void* origin, float* sum, float* square);

  // y = f(x), row by row.
  void (*apply)(Rows rows, const void* x, const Activation& f, void* y);

  // g = dy f'(x), and with u = x * unit_scale + unit_shift (the normalised x) the sums over the rows of g, g u and u.
  void (*gradient_sums)(Rows rows, const void* x, const void* dy, const Activation& f, const float* unit_scale,
                        const float* unit_shift, float* sum_g, float* sum_gu, float* sum_u, void* g);

  // dx = g * of_g + x * of_x + constant, row by row; `dx` holds g before.
  void (*gradient)(Rows rows, const void* x, const float* of_g, const float* of_x, const float* constant, void* dx);

  // y = (a + b) * factor; rows of `a` and `b` lie `stride_a` and `stride_b` numbers apart, those of y are dense.
  // `b` may be null.
  void (*scaled_sum)(Rows rows, const void* a, int64_t stride_a, const void* b, int64_t stride_b, float factor, void* y);
};

// The fastest set for this processor.
const Kernels& kernels() noexcept;

// The name of the `index`-th set that this processor has, best first; null after the last.
const char* available(int index) noexcept;

} // namespace fewstep
