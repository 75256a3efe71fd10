// Gradients that are summed over processes while they are still being computed.

#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "group.h"

namespace fewstep {

class Summing;

// The weights of a network in buckets: runs of a flat vector of weights, each of which is summed as soon as all of it is known.
class Gradients {
public:
  // `of_leaf` has the bucket of each leaf, ascending from 0. The leaves have a hook each from here on, which does nothing outside of
  // `backward_summing`.
  Gradients(std::vector<at::Tensor> leaves, std::vector<int64_t> of_leaf);
  ~Gradients();
  Gradients(const Gradients&) = delete;
  Gradients& operator=(const Gradients&) = delete;

  // Adds `share` times d loss / d leaves to the flat vector `sum`, which has the leaves one after the other, and begins the sums of its
  // buckets over the processes of `group` on the way: they are there after `group.finish()`. They begin in this `order`, the same in
  // every process; where it is empty, only at the end. The graph of `loss` is freed. Returns d loss / d x, where x is defined; `finished`
  // is the order in which buckets became known.
  at::Tensor backward_summing(Group& group, const at::Tensor& loss, const at::Tensor& x, at::Tensor& sum, double share,
                              const std::vector<int64_t>& order, std::vector<int64_t>& finished);

private:
  friend class Summing;
  std::vector<at::Tensor> leaves_;
  std::vector<int64_t> of_leaf_;
  std::vector<unsigned> hooks_;
  Summing* current_ = nullptr; // of the backward pass that is going on
};

} // namespace fewstep
