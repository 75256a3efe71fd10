// Gradients that are summed over processes while they are still being computed.

#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "group.h"

namespace fewstep {

// Runs of a flat vector of weights, each summed as soon as all of it is known.
struct Buckets {
  std::vector<int64_t> of_leaf;  // the bucket of each leaf, ascending
  std::vector<int64_t> order;    // in which sums begin, the same in every process; empty: only at the end
  std::vector<int64_t> finished; // the order in which they became known
};

// Adds `share` times d loss / d leaves to the flat vector `sum`, which has the leaves one after the other, and begins the sums of its
// buckets over the processes of `group` on the way: they are there after `group.finish()`. The graph of `loss` is freed. Returns
// d loss / d x, where x is defined.
at::Tensor backward_summing(Group& group, const at::Tensor& loss, const std::vector<at::Tensor>& leaves, const at::Tensor& x,
                            at::Tensor& sum, double share, Buckets& buckets);

} // namespace fewstep
