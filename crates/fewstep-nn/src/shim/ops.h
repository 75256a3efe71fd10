// Differentiable operations on libtorch tensors in channels_last memory on a CPU, f32 or bf16.

#pragma once

#include <ATen/core/Tensor.h>

namespace fewstep {

struct NormConfig {
  int64_t groups;
  double eps;
  bool silu;
  double dropout; // probability, 0 for none
  uint64_t seed;  // of the dropout
};

// dropout(act(group_norm(x + shift) * weight + bias)). x: [N, C, H, W]; weight, bias, shift: [N or 1, C] f32,
// shift may be undefined. Which numbers are dropped follows from the seed and their places alone.
at::Tensor norm_act(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& shift,
                    const NormConfig& config);

// Rows `first` to `first + N` of a batch of `of` rows.
struct PartOfBatch {
  int64_t first, of;
};

// x, the `rows` of a batch, each number dropped with this probability and the others scaled up, on any device; the same for the same
// seed there, however a batch is divided. libtorch's own generators are not touched.
at::Tensor dropout(const at::Tensor& x, double probability, uint64_t seed, PartOfBatch rows);

// (a + b) * factor, both [N, C, H, W].
at::Tensor scaled_sum(const at::Tensor& a, const at::Tensor& b, double factor);

// Whether the operations above take `x`.
bool is_supported(const at::Tensor& x);

} // namespace fewstep
