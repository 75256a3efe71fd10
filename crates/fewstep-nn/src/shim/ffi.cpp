// The C interface that ffi.rs calls. Tensors cross as pointers to at::Tensor, as in tch. Exceptions do not cross: every
// function is noexcept, and one that can fail returns a status beside its result.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>

#if defined(__linux__)
#include <malloc.h>
#endif

#include <ATen/Context.h>

#include "gradients.h"
#include "group.h"
#include "kernels.h"
#include "ops.h"

namespace {

// What a call came to. The message of a failure is a C string to be freed with fewstep_free_message; null where there was no
// memory for it.
enum Status : int { DONE = 0, FAILED = 1 };

template <typename Body> int guarded(char** message, const Body& body) noexcept {
  *message = nullptr;
  try {
    body();
    return DONE;
  } catch (const c10::Error& error) {
    *message = strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    *message = strdup(error.what());
  } catch (...) {
    *message = strdup("an exception of unknown type");
  }
  return FAILED;
}

at::Tensor or_undefined(const at::Tensor* tensor) { return tensor ? *tensor : at::Tensor(); }

} // namespace

extern "C" {

// `supported`: 1 or 0.
int fewstep_is_supported(int* supported, char** message, const at::Tensor* x) noexcept {
  return guarded(message, [&] { *supported = fewstep::is_supported(*x); });
}

int fewstep_norm_act(at::Tensor** out, char** message, const at::Tensor* x, const at::Tensor* weight,
                     const at::Tensor* bias, const at::Tensor* shift, int64_t groups, double eps, int silu,
                     double dropout, uint64_t seed) noexcept {
  return guarded(message, [&] {
    *out = new at::Tensor(
        fewstep::norm_act(*x, *weight, *bias, or_undefined(shift), {groups, eps, silu != 0, dropout, seed}));
  });
}

int fewstep_scaled_sum(at::Tensor** out, char** message, const at::Tensor* a, const at::Tensor* b,
                       double factor) noexcept {
  return guarded(message, [&] { *out = new at::Tensor(fewstep::scaled_sum(*a, *b, factor)); });
}

int fewstep_dropout(at::Tensor** out, char** message, const at::Tensor* x, double probability, uint64_t seed,
                    int64_t first, int64_t of) noexcept {
  return guarded(message, [&] { *out = new at::Tensor(fewstep::dropout(*x, probability, seed, {first, of})); });
}

// Keeps freed memory in the process; 0 where the C library cannot be told to.
int fewstep_keep_freed_memory() noexcept {
#if defined(__GLIBC__)
  return mallopt(M_MMAP_THRESHOLD, 1 << 30) && mallopt(M_TRIM_THRESHOLD, -1); // never
#else
  return 0;
#endif
}

// Convolutions on a GPU in f32 as it is, as EDM's code sets it, not in TF32, libtorch's default, which keeps 10 bits.
int fewstep_full_precision(char** message) noexcept {
  return guarded(message, [] {
    at::Context& context = at::globalContext();
    context.setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::CONV, at::Float32Precision::IEEE);
    context.setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL, at::Float32Precision::IEEE);
  });
}

// The name of the instruction set in use.
const char* fewstep_kernels_in_use() noexcept { return fewstep::kernels().name; }

// The name of the `index`-th instruction set that this processor has, best first; null after the last.
const char* fewstep_kernels_available(int index) noexcept { return fewstep::available(index); }

// A group, to be freed with fewstep_leave_group. Strings are C strings.
int fewstep_join_group(fewstep::Group** out, char** message, const char* address, int port, int serves,
                       const char* name, const char* interface, int rank, int size, int64_t timeout_ms) noexcept {
  return guarded(message, [&] {
    const fewstep::Meeting meeting{address, port, serves != 0, name, interface};
    *out = fewstep::Group::join(meeting, rank, size, std::chrono::milliseconds(timeout_ms)).release();
  });
}

void fewstep_leave_group(fewstep::Group* group) noexcept { delete group; }

int fewstep_group_begin_sum(char** message, fewstep::Group* group, at::Tensor* tensor) noexcept {
  return guarded(message, [&] { group->begin_sum(*tensor); });
}

int fewstep_group_finish(char** message, fewstep::Group* group) noexcept {
  return guarded(message, [&] { group->finish(); });
}

int fewstep_group_gather(at::Tensor** out, char** message, fewstep::Group* group, const at::Tensor* tensor) noexcept {
  return guarded(message, [&] { *out = new at::Tensor(group->gather(*tensor)); });
}

int fewstep_group_broadcast(char** message, fewstep::Group* group, at::Tensor* tensor) noexcept {
  return guarded(message, [&] { group->broadcast(*tensor); });
}

// Weights in buckets, to be freed with fewstep_free_gradients.
int fewstep_new_gradients(fewstep::Gradients** out, char** message, at::Tensor* const* leaves, const int64_t* of_leaf,
                          int64_t count) noexcept {
  return guarded(message, [&] {
    std::vector<at::Tensor> own;
    for (int64_t leaf = 0; leaf < count; ++leaf)
      own.push_back(*leaves[leaf]);
    *out = new fewstep::Gradients(std::move(own), {of_leaf, of_leaf + count});
  });
}

void fewstep_free_gradients(fewstep::Gradients* gradients) noexcept { delete gradients; }

// `through` is left null where `x` is; `finished` has room for `room` buckets, and the number of those that became known is left in
// `count`.
int fewstep_backward_summing(at::Tensor** through, char** message, fewstep::Gradients* gradients, fewstep::Group* group,
                             const at::Tensor* loss, const at::Tensor* x, at::Tensor* sum, double share,
                             const int64_t* order, int64_t order_count, int64_t* finished, int64_t room,
                             int64_t* count) noexcept {
  return guarded(message, [&] {
    std::vector<int64_t> known;
    const at::Tensor slope =
        gradients->backward_summing(*group, *loss, or_undefined(x), *sum, share, {order, order + order_count}, known);
    *count = std::min<int64_t>(room, static_cast<int64_t>(known.size()));
    std::copy_n(known.begin(), *count, finished);
    if (x && slope.defined())
      *through = new at::Tensor(slope);
  });
}

void fewstep_part_group(fewstep::Group* group) noexcept {
  try {
    group->part();
  } catch (...) { // the others are gone already
  }
}

int fewstep_group_write(char** message, fewstep::Group* group, const char* key, const char* value) noexcept {
  return guarded(message, [&] { group->write(key, value); });
}

// `out` is a string to be freed with fewstep_free_message.
int fewstep_group_read(char** out, char** message, fewstep::Group* group, const char* key,
                       int64_t timeout_ms) noexcept {
  return guarded(message, [&] { *out = strdup(group->read(key, std::chrono::milliseconds(timeout_ms)).c_str()); });
}

void fewstep_free_message(char* message) noexcept { std::free(message); }
}
