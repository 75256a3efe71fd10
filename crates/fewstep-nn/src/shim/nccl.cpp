// Group over c10d's ProcessGroupNCCL, for tensors on GPUs: a library of its own, which is opened beside libtorch's for CUDA and of which
// nothing is needed without a GPU (`cargo xtask libtorch --cuda` compiles it).

#include <ATen/ops/empty.h>

#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cuda_runtime_api.h>

#include "group.h"

namespace fewstep {
namespace {

class Nccl final : public Group {
public:
  Nccl(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout)
      : size_(size), store_(std::move(store)) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store_, rank, size, options);
  }

  void begin_sum(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    sums_.push_back(group_->allreduce(tensors));
  }

  void finish() override {
    std::vector<c10::intrusive_ptr<c10d::Work>> sums;
    sums.swap(sums_);
    for (const auto& sum : sums)
      sum->wait(); // the stream waits, not this thread
  }

  at::Tensor gather(const at::Tensor& tensor) override {
    at::Tensor own = tensor.contiguous();
    std::vector<int64_t> size = own.sizes().vec();
    size.insert(size.begin(), size_);
    at::Tensor all = at::empty(size, own.options());
    group_->_allgather_base(all, own)->wait();
    return all;
  }

  void broadcast(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    group_->broadcast(tensors)->wait();
  }

  void part() override { group_.reset(); }

  void write(const std::string&, const std::string&) override { TORCH_CHECK(false, "lines are left with the group of the hosts"); }

  std::string read(const std::string&, std::chrono::milliseconds) override {
    TORCH_CHECK(false, "lines are left with the group of the hosts");
  }

private:
  int size_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  std::vector<c10::intrusive_ptr<c10d::Work>> sums_;
};

} // namespace
} // namespace fewstep

// What tells this GPU from any other of the machine, also where each process sees one alone.
extern "C" int64_t fewstep_gpu_identity(int device) {
  char bus[64] = {};
  return cudaDeviceGetPCIBusId(bus, sizeof bus, device) == cudaSuccess ? static_cast<int64_t>(std::hash<std::string>{}(bus)) : 0;
}

// The group of the GPUs beside that of the hosts, which meets at the same store. Throws.
extern "C" fewstep::Group* fewstep_join_nccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             int64_t timeout_ms) {
  return new fewstep::Nccl(store, rank, size, std::chrono::milliseconds(timeout_ms));
}
