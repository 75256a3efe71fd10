// (a + b) * factor in one pass: the end of every residual block.

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "rows.h"

namespace fewstep {
namespace {

// Distance between neighbouring pixels, if all pixels of all samples are equally far apart and channels contiguous: a
// dense tensor, or some of a dense tensor's channels, as the gradient of a concatenation is. 0 otherwise. What libtorch
// says of the stride of a dimension of size 1 means nothing.
int64_t pixel_stride(const at::Tensor& x) {
  const int64_t samples = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t stride = width > 1 ? x.stride(3) : height > 1 ? x.stride(2) : samples > 1 ? x.stride(0) : channels;
  const bool even = (channels == 1 || x.stride(1) == 1) && (height == 1 || x.stride(2) == width * stride) &&
                    (samples == 1 || x.stride(0) == height * width * stride);
  return even ? stride : 0;
}

// `x` itself if it has a pixel stride, else a copy that has one.
at::Tensor strided(const at::Tensor& x) {
  return pixel_stride(x) > 0 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

// A new tensor like `x`, with a pixel stride also where a dimension has one element.
at::Tensor empty_dense(const at::Tensor& x) {
  return at::empty({x.size(0), x.size(2), x.size(3), x.size(1)}, x.options()).permute({0, 3, 1, 2});
}

at::Tensor scaled(const at::Tensor& a, const at::Tensor& b, double factor) {
  const Layout layout(a);
  const Kernels& kernel = kernels();
  const int64_t stride_a = pixel_stride(a), stride_b = b.defined() ? pixel_stride(b) : 0;
  at::Tensor y = empty_dense(a);
  const int64_t bytes = layout.kind == Kind::F32 ? 4 : 2, channels = layout.channels;
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / channels);
  at::parallel_for(0, layout.samples * layout.pixels, grain, [&](int64_t begin, int64_t end) {
    const void* in_b = b.defined() ? at_offset(b, begin * stride_b * bytes) : nullptr;
    Rows rows{layout.kind, end - begin, channels};
    // Dense memory is one long row.
    if (stride_a == channels && (!in_b || stride_b == channels))
      rows = {layout.kind, 1, rows.count * channels};
    kernel.scaled_sum(rows, at_offset(a, begin * stride_a * bytes), stride_a, in_b, stride_b,
                      static_cast<float>(factor), at_offset_mut(y, begin * channels * bytes));
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct ScaledSum : torch::autograd::Function<ScaledSum> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& a, const at::Tensor& b, double factor) {
    ctx->saved_data["factor"] = factor;
    return scaled(a, b, factor);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "the scaled sum cannot be differentiated twice");
    const at::Tensor grad = scaled(strided(grads[0]), at::Tensor(), ctx->saved_data["factor"].toDouble());
    return {grad, grad, at::Tensor()};
  }
};

} // namespace

at::Tensor scaled_sum(const at::Tensor& a, const at::Tensor& b, double factor) {
  TORCH_CHECK(is_supported(a) && is_supported(b) && a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type(),
              "scaled sum: the inputs are not alike, or not f32 or bf16 in channels_last memory on the CPU");
  return ScaledSum::apply(a, b, factor);
}

} // namespace fewstep
