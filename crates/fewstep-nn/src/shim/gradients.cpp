#include "gradients.h"

#include <mutex>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

namespace fewstep {

// One backward pass: adds every leaf's gradient where it belongs when it is known. Hooks run in autograd's threads.
class Summing {
public:
  Summing(Gradients& of, Group& group, at::Tensor& sum, double share, const std::vector<int64_t>& order,
          std::vector<int64_t>& finished)
      : of_(of), group_(group), share_(share), order_(order), finished_(finished) {
    const int64_t count = of.of_leaf_.empty() ? 0 : of.of_leaf_.back() + 1;
    missing_.assign(count, 0);
    std::vector<int64_t> first(count, -1), length(count, 0);
    int64_t at = 0;
    for (size_t leaf = 0; leaf < of.leaves_.size(); ++leaf) {
      const int64_t bucket = of.of_leaf_[leaf], size = of.leaves_[leaf].numel();
      places_.push_back(sum.narrow(0, at, size));
      if (first[bucket] < 0)
        first[bucket] = at;
      length[bucket] += size;
      ++missing_[bucket];
      at += size;
    }
    TORCH_CHECK(at == sum.numel(), "gradients: ", sum.numel(), " numbers for ", at, " weights");
    for (int64_t bucket = 0; bucket < count; ++bucket)
      slices_.push_back(sum.narrow(0, first[bucket], length[bucket]));
    begun_.assign(count, false);
    of.current_ = this;
  }

  ~Summing() { of_.current_ = nullptr; }

  Summing(const Summing&) = delete;
  Summing& operator=(const Summing&) = delete;

  void add(size_t leaf, const at::Tensor& grad) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (grad.defined()) {
      const at::AutoGradMode no_grad(false);
      places_[leaf].add_(grad.reshape({-1}), share_);
    }
    const int64_t bucket = of_.of_leaf_[leaf];
    if (--missing_[bucket] != 0)
      return;
    finished_.push_back(bucket);
    // sums begin in the same order everywhere, so that a bucket may have to wait for one before it
    while (next_ < order_.size() && missing_[order_[next_]] == 0)
      begin(order_[next_++]);
  }

  // Begins what is left: buckets of leaves that the loss does not reach, and all of them where no order is known.
  void finish() {
    for (const int64_t bucket : order_)
      begin(bucket);
    for (size_t bucket = 0; bucket < slices_.size(); ++bucket)
      begin(static_cast<int64_t>(bucket));
  }

private:
  void begin(int64_t bucket) {
    if (begun_[bucket])
      return;
    begun_[bucket] = true;
    group_.begin_sum(slices_[bucket]);
  }

  Gradients& of_;
  Group& group_;
  double share_;
  const std::vector<int64_t>& order_;
  std::vector<int64_t>& finished_;
  std::vector<at::Tensor> places_, slices_;
  std::vector<int64_t> missing_;
  std::vector<bool> begun_;
  size_t next_ = 0;
  std::mutex mutex_;
};

Gradients::Gradients(std::vector<at::Tensor> leaves, std::vector<int64_t> of_leaf)
    : leaves_(std::move(leaves)), of_leaf_(std::move(of_leaf)) {
  TORCH_CHECK(leaves_.size() == of_leaf_.size(), "gradients: ", leaves_.size(), " leaves, ", of_leaf_.size(), " buckets of them");
  // once for all passes: libtorch never frees the place of a hook that was removed
  for (size_t leaf = 0; leaf < leaves_.size(); ++leaf) {
    hooks_.push_back(leaves_[leaf].register_hook([this, leaf](const at::Tensor& grad) {
      if (current_)
        current_->add(leaf, grad);
    }));
  }
}

Gradients::~Gradients() {
  for (size_t leaf = 0; leaf < hooks_.size(); ++leaf)
    leaves_[leaf].remove_hook(hooks_[leaf]);
}

at::Tensor Gradients::backward_summing(Group& group, const at::Tensor& loss, const at::Tensor& x, at::Tensor& sum, double share,
                                       const std::vector<int64_t>& order, std::vector<int64_t>& finished) {
  Summing summing(*this, group, sum, share, order, finished);
  std::vector<at::Tensor> inputs = leaves_;
  if (x.defined())
    inputs.push_back(x);
  const std::vector<at::Tensor> grads =
      torch::autograd::grad({loss}, inputs, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  summing.finish();
  return x.defined() ? grads.back() : at::Tensor();
}

} // namespace fewstep
