// Group over c10d's ProcessGroupGloo.

#include "group.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

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

class Gloo final : public Group {
public:
  Gloo(const Meeting& meeting, int rank, int size, std::chrono::milliseconds timeout) : size_(size) {
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(meeting.interface.empty()
                                   ? c10d::ProcessGroupGloo::createDefaultDevice()
                                   : c10d::ProcessGroupGloo::createDeviceForInterface(meeting.interface));
    store_ = store(meeting, size, timeout);
    group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store_, rank, size, options);
  }

  // Gloo works on the host: what lies on a device goes there and back.
  void begin_sum(at::Tensor& tensor) override {
    at::Tensor own = tensor.is_cpu() ? tensor : tensor.cpu();
    std::vector<at::Tensor> tensors{own};
    sums_.push_back({group_->allreduce(tensors), own, tensor});
  }

  void finish() override {
    std::vector<Sum> sums;
    sums.swap(sums_);
    for (Sum& sum : sums) {
      sum.work->wait();
      if (!sum.whole.is_same(sum.own))
        sum.whole.copy_(sum.own);
    }
  }

  at::Tensor gather(const at::Tensor& tensor) override {
    std::vector<at::Tensor> own{tensor.cpu().contiguous()};
    std::vector<std::vector<at::Tensor>> all(1);
    for (int rank = 0; rank < size_; ++rank)
      all[0].push_back(at::empty_like(own[0]));
    group_->allgather(all, own)->wait();
    return at::stack(all[0]).to(tensor.device());
  }

  void broadcast(at::Tensor& tensor) override {
    std::vector<at::Tensor> own{tensor.cpu().contiguous()};
    group_->broadcast(own)->wait();
    tensor.copy_(own[0]);
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

  int size_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  std::vector<Sum> sums_;
};

} // namespace

std::unique_ptr<Group> Group::join(const Meeting& meeting, int rank, int size, std::chrono::milliseconds timeout) {
  return std::make_unique<Gloo>(meeting, rank, size, timeout);
}

} // namespace fewstep
