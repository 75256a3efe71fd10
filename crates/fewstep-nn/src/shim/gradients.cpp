#include "gradients.h"

#include <mutex>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

namespace fewstep {
namespace {

// Adds every leaf's gradient where it belongs when it is known; hooks run in autograd's threads, one after the other for a device.
class Summing {
public:
  Summing(Group& group, at::Tensor& sum, double share, Buckets& buckets, const std::vector<at::Tensor>& leaves)
      : group_(group), share_(share), buckets_(buckets), leaves_(leaves) {
    const int64_t count = buckets.of_leaf.empty() ? 0 : buckets.of_leaf.back() + 1;
    missing_.assign(count, 0);
    std::vector<int64_t> begin(count, -1), length(count, 0);
    int64_t at = 0;
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
      const int64_t bucket = buckets.of_leaf[leaf], size = leaves[leaf].numel();
      places_.push_back(sum.narrow(0, at, size));
      if (begin[bucket] < 0)
        begin[bucket] = at;
      length[bucket] += size;
      ++missing_[bucket];
      at += size;
    }
    TORCH_CHECK(at == sum.numel(), "gradients: ", sum.numel(), " numbers for ", at, " weights");
    for (int64_t bucket = 0; bucket < count; ++bucket)
      slices_.push_back(sum.narrow(0, begin[bucket], length[bucket]));
    begun_.assign(count, false);
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf)
      hooks_.push_back(leaves_[leaf].register_hook([this, leaf](const at::Tensor& grad) { add(leaf, grad); }));
  }

  ~Summing() {
    for (size_t leaf = 0; leaf < hooks_.size(); ++leaf)
      leaves_[leaf].remove_hook(hooks_[leaf]);
  }

  Summing(const Summing&) = delete;
  Summing& operator=(const Summing&) = delete;

  // Begins what is left: buckets of leaves that the loss does not reach, and all of them where no order is known.
  void finish() {
    for (const int64_t bucket : buckets_.order)
      begin(bucket);
    for (size_t bucket = 0; bucket < slices_.size(); ++bucket)
      begin(static_cast<int64_t>(bucket));
  }

private:
  void add(size_t leaf, const at::Tensor& grad) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (grad.defined()) {
      const at::AutoGradMode no_grad(false);
      places_[leaf].add_(grad.reshape({-1}), share_);
    }
    const int64_t bucket = buckets_.of_leaf[leaf];
    if (--missing_[bucket] > 0)
      return;
    buckets_.finished.push_back(bucket);
    // sums begin in the same order everywhere, so that a bucket may have to wait for one before it
    while (next_ < buckets_.order.size() && missing_[buckets_.order[next_]] == 0)
      begin(buckets_.order[next_++]);
  }

  void begin(int64_t bucket) {
    if (begun_[bucket])
      return;
    begun_[bucket] = true;
    group_.begin_sum(slices_[bucket]);
  }

  Group& group_;
  double share_;
  Buckets& buckets_;
  const std::vector<at::Tensor>& leaves_;
  std::vector<at::Tensor> places_, slices_;
  std::vector<int64_t> missing_;
  std::vector<bool> begun_;
  std::vector<unsigned> hooks_;
  size_t next_ = 0;
  std::mutex mutex_;
};

} // namespace

at::Tensor backward_summing(Group& group, const at::Tensor& loss, const std::vector<at::Tensor>& leaves, const at::Tensor& x,
                            at::Tensor& sum, double share, Buckets& buckets) {
  Summing summing(group, sum, share, buckets, leaves);
  std::vector<at::Tensor> inputs = leaves;
  if (x.defined())
    inputs.push_back(x);
  const std::vector<at::Tensor> grads =
      torch::autograd::grad({loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  summing.finish();
  return x.defined() ? grads.back() : at::Tensor();
}

} // namespace fewstep
