// Group normalisation with what stands around it in a residual block, forward and backward in two passes each.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <optional>
#include <vector>

#include "ops.h"
#include "rows.h"

namespace fewstep {
namespace {

// Row `n` of a [N or 1, C] array; null stays null.
const float* row(const at::Tensor& values, int64_t n) {
  if (!values.defined())
    return nullptr;
  return values.const_data_ptr<float>() + (values.size(0) == 1 ? 0 : n * values.size(1));
}

double number(const Layout& layout, const char* row, int64_t c) {
  if (layout.kind == Kind::F32)
    return reinterpret_cast<const float*>(row)[c];
  return static_cast<float>(reinterpret_cast<const at::BFloat16*>(row)[c]);
}

// f32 arrays over channels, `count` of them for every key; each starts on a padded boundary.
class Arrays {
 public:
  Arrays(int64_t keys, int64_t count, int64_t padded)
      : count_(count), padded_(padded), memory_(static_cast<size_t>(keys * count * padded)) {}
  float* at(int64_t key, int64_t index) { return memory_.data() + (key * count_ + index) * padded_; }

 private:
  int64_t count_, padded_;
  std::vector<float> memory_;
};

uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

Dropout dropout_of(double p, uint64_t seed, int64_t n, int64_t first) {
  const uint64_t key = splitmix64(seed + static_cast<uint64_t>(n));
  const double threshold = std::min(p * 4294967296.0, 4294967295.0);
  const float scale = p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.0f;
  return {static_cast<uint32_t>(threshold), scale, {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)},
          static_cast<uint32_t>(first)};
}

// One application of the operation, what both directions share.
struct Norm {
  Layout layout;
  NormConfig config;
  const at::Tensor &weight, &bias, &shift;
  // Of each group: [N, groups].
  const at::Tensor &mean, &rstd;

  // scale = rstd * weight, offset = bias + (shift - mean) * scale: the affine map from x to the activation's argument.
  void affine(int64_t n, float* scale, float* offset) const {
    const int64_t per_group = layout.channels / config.groups;
    const float *w = row(weight, n), *b = row(bias, n), *s = row(shift, n);
    const float *mu = row(mean, n), *r = row(rstd, n);
    for (int64_t c = 0; c < layout.channels; ++c) {
      const int64_t g = c / per_group;
      const double a = static_cast<double>(r[g]) * w[c];
      scale[c] = static_cast<float>(a);
      offset[c] = static_cast<float>(b[c] + ((s ? s[c] : 0.0) - static_cast<double>(mu[g])) * a);
    }
  }

  // Calls `use` with the activation of block `block` of sample `n`.
  template <typename Use>
  void with_activation(int64_t n, int64_t block, const float* scale, const float* offset, const Use& use) const {
    const Dropout dropout = dropout_of(config.dropout, config.seed, n, block * BLOCK * layout.channels);
    use(Activation{scale, offset, config.silu, config.dropout > 0.0 ? &dropout : nullptr});
  }
};

// Means and variances of the groups of sample `n` from the sums of its blocks, combined as Chan et al. do: exact also
// where the mean is large against the deviation. `origin` is the sample's first row.
void group_statistics(const Norm& norm, int64_t n, const char* origin, Arrays& sums) {
  const Layout& layout = norm.layout;
  const int64_t per_group = layout.channels / norm.config.groups;
  const float* shift = row(norm.shift, n);
  const double pixels = static_cast<double>(layout.pixels);
  std::vector<double> means(per_group);
  for (int64_t g = 0; g < norm.config.groups; ++g) {
    double total = 0.0, squares = 0.0;
    for (int64_t i = 0; i < per_group; ++i) {
      const int64_t c = g * per_group + i;
      double sum = 0.0, square = 0.0;
      for (int64_t block = 0; block < layout.blocks(); ++block) {
        sum += sums.at(n * layout.blocks() + block, 0)[c];
        square += sums.at(n * layout.blocks() + block, 1)[c];
      }
      means[i] = number(layout, origin, c) + sum / pixels + (shift ? shift[c] : 0.0);
      total += means[i];
      squares += std::max(0.0, square - sum * sum / pixels);
    }
    const double mean = total / per_group;
    for (const double value : means)
      squares += pixels * (value - mean) * (value - mean);
    norm.mean.mutable_data_ptr<float>()[n * norm.config.groups + g] = static_cast<float>(mean);
    norm.rstd.mutable_data_ptr<float>()[n * norm.config.groups + g] =
        static_cast<float>(1.0 / std::sqrt(squares / (pixels * per_group) + norm.config.eps));
  }
}

at::Tensor forward(const Norm& norm, const at::Tensor& x) {
  const Layout& layout = norm.layout;
  const Kernels& kernel = kernels();
  at::Tensor y = at::empty_like(x);
  Arrays sums(layout.samples * layout.blocks(), 2, layout.padded()), maps(layout.samples, 2, layout.padded());
  two_passes(
      layout,
      [&](int64_t n, int64_t block) {
        const int64_t key = n * layout.blocks() + block;
        kernel.moments(layout.rows(block), at_offset(x, layout.offset(n, block)), at_offset(x, layout.offset(n, 0)),
                       sums.at(key, 0), sums.at(key, 1));
      },
      [&](int64_t n) {
        group_statistics(norm, n, at_offset(x, layout.offset(n, 0)), sums);
        norm.affine(n, maps.at(n, 0), maps.at(n, 1));
      },
      [&](int64_t n, int64_t block) {
        const int64_t offset = layout.offset(n, block);
        norm.with_activation(n, block, maps.at(n, 0), maps.at(n, 1), [&](const Activation& f) {
          kernel.apply(layout.rows(block), at_offset(x, offset), f, at_offset_mut(y, offset));
        });
      });
  return y;
}

// Gradients of one application: of x, and of weight, bias and shift for each sample, [N, C].
struct Gradients {
  at::Tensor x, weight, bias, shift;
};

// Arrays over channels of a sample that the backward kernels read.
enum Coefficient { SCALE, OFFSET, UNIT_SCALE, UNIT_SHIFT, OF_G, OF_X, CONSTANT, COEFFICIENTS };

// From the sums over a sample's blocks to the coefficients of dx and to the gradients of weight, bias and shift.
//
// With u the normalised x and g the gradient at the activation's argument, and <.> the mean over a group,
// dx = rstd (weight g - <weight g> - u <weight g u>).
void combine_gradients(const Norm& norm, int64_t n, Arrays& sums, Arrays& coefficients, const Gradients& out) {
  const Layout& layout = norm.layout;
  const int64_t channels = layout.channels, per_group = channels / norm.config.groups;
  const double pixels = static_cast<double>(layout.pixels);
  const float *w = row(norm.weight, n), *r = row(norm.rstd, n);
  const float* unit_shift = coefficients.at(n, UNIT_SHIFT);
  std::vector<double> g_sum(channels), gu_sum(channels), u_sum(channels);
  for (int64_t block = 0; block < layout.blocks(); ++block) {
    const int64_t key = n * layout.blocks() + block;
    for (int64_t c = 0; c < channels; ++c) {
      g_sum[c] += sums.at(key, 0)[c];
      gu_sum[c] += sums.at(key, 1)[c];
      u_sum[c] += sums.at(key, 2)[c];
    }
  }
  for (int64_t group = 0; group < norm.config.groups; ++group) {
    const int64_t first = group * per_group, last = first + per_group;
    const double rstd = r[group];
    double wg = 0.0, wgu = 0.0;
    for (int64_t c = first; c < last; ++c) {
      wg += w[c] * g_sum[c];
      wgu += w[c] * gu_sum[c];
    }
    wg /= pixels * per_group;
    wgu /= pixels * per_group;
    for (int64_t c = first; c < last; ++c) {
      coefficients.at(n, OF_G)[c] = static_cast<float>(rstd * w[c]);
      coefficients.at(n, OF_X)[c] = static_cast<float>(-rstd * rstd * wgu);
      coefficients.at(n, CONSTANT)[c] = static_cast<float>(-rstd * (wg + unit_shift[c] * wgu));
      out.weight.mutable_data_ptr<float>()[n * channels + c] = static_cast<float>(gu_sum[c]);
      out.bias.mutable_data_ptr<float>()[n * channels + c] = static_cast<float>(g_sum[c]);
      out.shift.mutable_data_ptr<float>()[n * channels + c] =
          static_cast<float>(rstd * (w[c] * g_sum[c] - pixels * wg - u_sum[c] * wgu));
    }
  }
}

Gradients backward(const Norm& norm, const at::Tensor& x, const at::Tensor& dy) {
  const Layout& layout = norm.layout;
  const Kernels& kernel = kernels();
  const auto f32 = x.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous);
  auto per_sample = [&] { return at::empty({layout.samples, layout.channels}, f32); };
  Gradients out{at::empty_like(x), per_sample(), per_sample(), per_sample()};
  Arrays sums(layout.samples * layout.blocks(), 3, layout.padded());
  Arrays coefficients(layout.samples, COEFFICIENTS, layout.padded());
  for (int64_t n = 0; n < layout.samples; ++n) {
    const int64_t per_group = layout.channels / norm.config.groups;
    const float *shift = row(norm.shift, n), *mean = row(norm.mean, n), *rstd = row(norm.rstd, n);
    norm.affine(n, coefficients.at(n, SCALE), coefficients.at(n, OFFSET));
    for (int64_t c = 0; c < layout.channels; ++c) {
      const int64_t g = c / per_group;
      coefficients.at(n, UNIT_SCALE)[c] = rstd[g];
      coefficients.at(n, UNIT_SHIFT)[c] = static_cast<float>(((shift ? shift[c] : 0.0) - static_cast<double>(mean[g])) * rstd[g]);
    }
  }
  two_passes(
      layout,
      [&](int64_t n, int64_t block) {
        const int64_t offset = layout.offset(n, block), key = n * layout.blocks() + block;
        norm.with_activation(n, block, coefficients.at(n, SCALE), coefficients.at(n, OFFSET), [&](const Activation& f) {
          kernel.gradient_sums(layout.rows(block), at_offset(x, offset), at_offset(dy, offset), f,
                               coefficients.at(n, UNIT_SCALE), coefficients.at(n, UNIT_SHIFT), sums.at(key, 0),
                               sums.at(key, 1), sums.at(key, 2), at_offset_mut(out.x, offset));
        });
      },
      [&](int64_t n) { combine_gradients(norm, n, sums, coefficients, out); },
      [&](int64_t n, int64_t block) {
        const int64_t offset = layout.offset(n, block);
        kernel.gradient(layout.rows(block), at_offset(x, offset), coefficients.at(n, OF_G), coefficients.at(n, OF_X),
                        coefficients.at(n, CONSTANT), at_offset_mut(out.x, offset));
      });
  return out;
}

// The gradient of a [N or 1, C] array from its parts for each sample, added in the order of the samples.
at::Tensor gradient_like(const at::Tensor& array, const at::Tensor& per_sample) {
  if (!array.defined() || array.size(0) == per_sample.size(0))
    return array.defined() ? per_sample : at::Tensor();
  const int64_t samples = per_sample.size(0), channels = per_sample.size(1);
  std::vector<double> total(channels);
  for (int64_t n = 0; n < samples; ++n)
    for (int64_t c = 0; c < channels; ++c)
      total[c] += row(per_sample, n)[c];
  at::Tensor sum = at::empty({1, channels}, per_sample.options());
  std::copy(total.begin(), total.end(), sum.mutable_data_ptr<float>());
  return sum;
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const std::optional<at::Tensor>& given_shift,
                            const NormConfig& config) {
    const at::Tensor shift = given_shift.value_or(at::Tensor());
    const auto f32 = x.options().dtype(at::kFloat).memory_format(at::MemoryFormat::Contiguous);
    const at::Tensor mean = at::empty({x.size(0), config.groups}, f32), rstd = at::empty_like(mean);
    const at::Tensor y = fewstep::forward({Layout(x), config, weight, bias, shift, mean, rstd}, x);
    ctx->save_for_backward({x, weight, bias, shift, mean, rstd});
    ctx->saved_data["groups"] = config.groups;
    ctx->saved_data["eps"] = config.eps;
    ctx->saved_data["silu"] = config.silu;
    ctx->saved_data["dropout"] = config.dropout;
    ctx->saved_data["seed"] = static_cast<int64_t>(config.seed);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "the fused group normalisation cannot be differentiated twice");
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &shift = saved[3];
    auto& data = ctx->saved_data;
    const NormConfig config{data["groups"].toInt(), data["eps"].toDouble(), data["silu"].toBool(),
                            data["dropout"].toDouble(), static_cast<uint64_t>(data["seed"].toInt())};
    const at::Tensor dy = grads[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    const Gradients found =
        fewstep::backward({Layout(x), config, weight, bias, shift, saved[4], saved[5]}, x, dy);
    return {found.x, gradient_like(weight, found.weight), gradient_like(bias, found.bias),
            gradient_like(shift, found.shift), at::Tensor()};
  }
};

void check_array(const char* name, const at::Tensor& values, const at::Tensor& x) {
  TORCH_CHECK(values.dim() == 2 && values.size(1) == x.size(1) && (values.size(0) == 1 || values.size(0) == x.size(0)),
              "group normalisation: ", name, " has shape ", values.sizes(), " for an input of shape ", x.sizes());
  TORCH_CHECK(values.scalar_type() == at::kFloat && values.is_cpu(), "group normalisation: ", name, " is not f32 on the CPU");
}

} // namespace

bool is_supported(const at::Tensor& x) {
  const auto kind = x.scalar_type();
  return x.is_cpu() && x.dim() == 4 && x.numel() > 0 && (kind == at::kFloat || kind == at::kBFloat16) &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor norm_act(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& shift,
                    const NormConfig& config) {
  TORCH_CHECK(is_supported(x), "group normalisation: the input is not f32 or bf16 in channels_last memory on the CPU");
  TORCH_CHECK(config.groups > 0 && x.size(1) % config.groups == 0, "group normalisation: ", x.size(1),
              " channels cannot be split into ", config.groups, " groups");
  check_array("weight", weight, x);
  check_array("bias", bias, x);
  if (shift.defined())
    check_array("shift", shift, x);
  std::optional<at::Tensor> dense_shift;
  if (shift.defined())
    dense_shift = shift.contiguous();
  return NormAct::apply(x, weight.contiguous(), bias.contiguous(), dense_shift, config);
}

} // namespace fewstep
