// How a [N, C, H, W] tensor in channels_last memory is handed to the kernels, and shared out among threads.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "kernels.h"

namespace fewstep {

// Rows that are summed in f32 before the sum is carried on in f64. Fixed, so that no result depends on the number of threads.
constexpr int64_t BLOCK = 128;

struct Layout {
  Kind kind;
  int64_t samples, channels, pixels;

  explicit Layout(const at::Tensor& x)
      : kind(x.scalar_type() == at::kFloat ? Kind::F32 : Kind::BF16), samples(x.size(0)), channels(x.size(1)),
        pixels(x.size(2) * x.size(3)) {}

  int64_t blocks() const { return at::divup(pixels, BLOCK); }
  // Length of an array over channels.
  int64_t padded() const { return at::divup(channels, LANES) * LANES; }
  Rows rows(int64_t block) const { return {kind, std::min(BLOCK, pixels - block * BLOCK), channels}; }
  // Where a block of a sample begins, in bytes.
  int64_t offset(int64_t sample, int64_t block) const {
    return (sample * pixels + block * BLOCK) * channels * (kind == Kind::F32 ? 4 : 2);
  }
};

inline const char* at_offset(const at::Tensor& x, int64_t bytes) {
  return static_cast<const char*>(x.const_data_ptr()) + bytes;
}

inline char* at_offset_mut(const at::Tensor& x, int64_t bytes) {
  return static_cast<char*>(x.mutable_data_ptr()) + bytes;
}

// Runs `first(n, block)` for all blocks of a sample, `middle(n)`, then `second(n, block)` for all its blocks; samples in
// parallel, and where there are fewer samples than threads, blocks too. A sample is small enough to stay in the cache.
template <typename First, typename Middle, typename Second>
void two_passes(const Layout& layout, const First& first, const Middle& middle, const Second& second) {
  const int64_t blocks = layout.blocks();
  const int64_t work = 1 << 14; // numbers that are worth a thread
  if (layout.samples >= at::get_num_threads() || blocks == 1) {
    const int64_t grain = std::max<int64_t>(1, work / (layout.pixels * layout.channels));
    at::parallel_for(0, layout.samples, grain, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t block = 0; block < blocks; ++block)
          first(n, block);
        middle(n);
        for (int64_t block = 0; block < blocks; ++block)
          second(n, block);
      }
    });
    return;
  }
  const int64_t grain = std::max<int64_t>(1, work / (BLOCK * layout.channels));
  auto over_blocks = [&](const auto& body) {
    at::parallel_for(0, layout.samples * blocks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        body(i / blocks, i % blocks);
    });
  };
  over_blocks(first);
  for (int64_t n = 0; n < layout.samples; ++n)
    middle(n);
  over_blocks(second);
}

} // namespace fewstep
