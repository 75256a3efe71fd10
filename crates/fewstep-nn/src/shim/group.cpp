// Group over c10d's ProcessGroupGloo, and over NCCL for tensors on GPUs where its library is at hand (nccl.cpp).

#include "group.h"

#include <dlfcn.h>
#include <unistd.h>

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace fewstep {
namespace {

c10::intrusive_ptr<c10d::Store> store(const Meeting& meeting, int size, std::chrono::milliseconds timeout) {
  c10::intrusive_ptr<c10d::Store> store;
  if (meeting.port < 0) {
    store = c10::make_intrusive<c10d::FileStore>(meeting.address, size);
  } else {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(meeting.port);
    options.isServer = meeting.serves;
    options.numWorkers = size;
    options.waitWorkers = false; // the group waits for all of them itself
    options.timeout = timeout;
    store = c10::make_intrusive<c10d::TCPStore>(meeting.address, options);
  }
  store->setTimeout(timeout);
  return c10::make_intrusive<c10d::PrefixStore>(meeting.name, store);
}

// What nccl.cpp has; null where its library is not at hand.
struct NcclLibrary {
  Group* (*join)(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, int64_t timeout_ms) = nullptr;
  int64_t (*gpu_identity)(int device) = nullptr;

  NcclLibrary() {
    if (void* library = dlopen("libfewstep_nccl.so", RTLD_NOW | RTLD_LOCAL)) {
      join = reinterpret_cast<decltype(join)>(dlsym(library, "fewstep_join_nccl"));
      gpu_identity = reinterpret_cast<decltype(gpu_identity)>(dlsym(library, "fewstep_gpu_identity"));
    }
  }

  bool is_there() const { return join && gpu_identity; }
};

class Gloo final : public Group {
public:
  Gloo(const Meeting& meeting, int rank, int size, std::chrono::milliseconds timeout)
      : rank_(rank), size_(size), timeout_(timeout) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(meeting.interface.empty()
                                   ? c10d::ProcessGroupGloo::createDefaultDevice()
                                   : c10d::ProcessGroupGloo::createDeviceForInterface(meeting.interface));
    store_ = store(meeting, size, timeout);
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, rank, size, options);
  }

  // Gloo works on the host: what lies on a device goes there and back.
  void begin_sum(at::Tensor& tensor) override {
    check_here();
    if (Group* gpus = nccl(tensor))
      return gpus->begin_sum(tensor);
    at::Tensor own = tensor.is_cpu() ? tensor : tensor.cpu();
    std::vector<at::Tensor> tensors{own};
    sums_.push_back({group_->allreduce(tensors), own, tensor});
  }

  void finish() override {
    if (nccl_)
      nccl_->finish();
    std::vector<Sum> sums;
    sums.swap(sums_);
    for (Sum& sum : sums) {
      sum.work->wait();
      if (!sum.whole.is_same(sum.own))
        sum.whole.copy_(sum.own);
    }
  }

  at::Tensor gather(const at::Tensor& tensor) override {
    check_here();
    if (Group* gpus = nccl(tensor))
      return gpus->gather(tensor);
    std::vector<at::Tensor> own{tensor.cpu().contiguous()};
    std::vector<std::vector<at::Tensor>> all(1);
    for (int rank = 0; rank < size_; ++rank)
      all[0].push_back(at::empty_like(own[0]));
    group_->allgather(all, own)->wait();
    return at::stack(all[0]).to(tensor.device());
  }

  void broadcast(at::Tensor& tensor) override {
    check_here();
    if (Group* gpus = nccl(tensor))
      return gpus->broadcast(tensor);
    std::vector<at::Tensor> own{tensor.cpu().contiguous()};
    group_->broadcast(own)->wait();
    tensor.copy_(own[0]);
  }

  void part() override {
    nccl_.reset();
    group_.reset();
  }

  void write(const std::string& key, const std::string& value) override {
    store_->set(key, std::vector<uint8_t>(value.begin(), value.end()));
  }

  std::string read(const std::string& key, std::chrono::milliseconds timeout) override {
    store_->wait({key}, timeout);
    const std::vector<uint8_t> value = store_->get(key);
    return {value.begin(), value.end()};
  }

private:
  struct Sum {
    c10::intrusive_ptr<c10d::Work> work;
    at::Tensor own, whole;
  };

  void check_here() const { TORCH_CHECK(group_, "this process has parted with the others"); }

  // The group of the GPUs, for a tensor on one: where every process has the library and a GPU of its own, which they agree on once.
  Group* nccl(const at::Tensor& tensor) {
    if (!tensor.is_cuda())
      return nullptr;
    if (!asked_nccl_) {
      asked_nccl_ = true;
      const NcclLibrary library;
      char host[256] = {};
      gethostname(host, sizeof host - 1);
      const int64_t gpu = library.is_there() ? library.gpu_identity(tensor.device().index()) : 0;
      const auto place = static_cast<int64_t>(std::hash<std::string>{}(host)) ^ gpu;
      const at::Tensor all = gather(at::tensor({static_cast<int64_t>(library.is_there()), place}));
      bool every = true;
      for (int rank = 0; rank < size_; ++rank) {
        every = every && all[rank][0].item<int64_t>() != 0;
        for (int other = 0; other < rank; ++other)
          every = every && all[rank][1].item<int64_t>() != all[other][1].item<int64_t>();
      }
      if (every)
        nccl_.reset(library.join(c10::make_intrusive<c10d::PrefixStore>("nccl", store_), rank_, size_, timeout_.count()));
    }
    return nccl_.get();
  }

  int rank_, size_;
  std::chrono::milliseconds timeout_;
  bool asked_nccl_ = false;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::vector<Sum> sums_;
  std::unique_ptr<Group> nccl_; // before the store that it uses goes
};

} // namespace

std::unique_ptr<Group> Group::join(const Meeting& meeting, int rank, int size, std::chrono::milliseconds timeout) {
  return std::make_unique<Gloo>(meeting, rank, size, timeout);
}

} // namespace fewstep
