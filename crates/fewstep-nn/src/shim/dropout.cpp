// Dropout of tensors that the fused kernels do not take.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "ops.h"

namespace fewstep {
namespace {

// A generator of our own on the device of `x`.
at::Generator generator(const at::Tensor& x, uint64_t seed) {
  at::Generator own = x.is_cpu() ? at::make_generator<at::CPUGeneratorImpl>(seed)
                                 : at::globalContext()
                                       .getAcceleratorHooksInterface(x.device().type())
                                       .getNewGenerator(x.device().index());
  own.set_current_seed(seed);
  return own;
}

} // namespace

at::Tensor dropout(const at::Tensor& x, double probability, uint64_t seed, PartOfBatch rows) {
  TORCH_CHECK(probability >= 0.0 && probability <= 1.0, "dropout: the probability is ", probability);
  if (probability == 1.0)
    return x.mul(0.0);
  const at::TensorOptions mask = x.options().dtype(at::kBool);
  at::Tensor kept;
  if (rows.of == x.size(0)) {
    kept = at::empty_like(x, mask).bernoulli_(1.0 - probability, generator(x, seed));
  } else {
    TORCH_CHECK(rows.first >= 0 && rows.first + x.size(0) <= rows.of, "dropout: rows that the batch does not have");
    // a generator gives the numbers of a whole batch, in the memory format that this part of it has
    std::vector<int64_t> size = x.sizes().vec();
    size[0] = rows.of;
    kept = at::empty(size, mask, x.suggest_memory_format()).bernoulli_(1.0 - probability, generator(x, seed));
    kept = kept.narrow(0, rows.first, x.size(0));
  }
  return x.mul(kept).mul(1.0 / (1.0 - probability));
}

} // namespace fewstep
