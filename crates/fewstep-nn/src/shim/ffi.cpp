// The C interface that kernels.rs calls. Tensors cross as pointers to at::Tensor, as in tch; exceptions do not cross:
// a function that can fail returns its message, to be freed with fewstep_free_message, or null.

#include <cstdlib>
#include <cstring>
#include <exception>

#if defined(__linux__)
#include <malloc.h>
#endif

#include <ATen/Context.h>

#include "ops.h"

namespace {

template <typename Body> char* guarded(at::Tensor** out, const Body& body) {
  try {
    *out = new at::Tensor(body());
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

at::Tensor or_undefined(const at::Tensor* tensor) { return tensor ? *tensor : at::Tensor(); }

} // namespace

extern "C" {

int fewstep_is_supported(const at::Tensor* x) { return fewstep::is_supported(*x); }

char* fewstep_norm_act(at::Tensor** out, const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias,
                       const at::Tensor* shift, int64_t groups, double eps, int silu, double dropout) {
  return guarded(out, [&] {
    return fewstep::norm_act(*x, *weight, *bias, or_undefined(shift), {groups, eps, silu != 0, dropout});
  });
}

char* fewstep_scaled_sum(at::Tensor** out, const at::Tensor* a, const at::Tensor* b, double factor) {
  return guarded(out, [&] { return fewstep::scaled_sum(*a, *b, factor); });
}

// Keeps freed memory in the process, where the C library can be told to.
void fewstep_keep_freed_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1); // never
#endif
}

// Convolutions on a GPU in f32 as it is, as EDM's code sets it, not in TF32, libtorch's default, which keeps 10 bits.
void fewstep_full_precision() {
  at::globalContext().setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::CONV, at::Float32Precision::IEEE);
  at::globalContext().setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL, at::Float32Precision::IEEE);
}

void fewstep_free_message(char* message) { std::free(message); }
}
