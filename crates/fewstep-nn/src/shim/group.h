// Processes that work together: PyTorch's c10d, over Gloo on CPUs.

#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace fewstep {

// Where processes find each other.
struct Meeting {
  std::string address; // a host and a port, or a file where the port is -1
  int port;
  bool serves; // whether this process opens the port
  std::string name; // of the group, apart from others at the same place
  std::string interface; // of the network, by which processes talk; empty for that of this machine's name
};

class Group {
public:
  virtual ~Group() = default;

  // Waits for all processes, at most `timeout`. Throws where one does not come.
  static std::unique_ptr<Group> join(const Meeting& meeting, int rank, int size, std::chrono::milliseconds timeout);

  // All of these are called by every process in the same order, and throw where one has gone or does not come in time.

  // The sum of every process's tensor, in place of its own, once `finish` was called; of the same shape and type everywhere.
  virtual void begin_sum(at::Tensor& tensor) = 0;
  // Waits for the sums that were begun.
  virtual void finish() = 0;
  // Every process's tensor, `[size, ...]` on the device of `tensor`; of the same shape and type everywhere.
  virtual at::Tensor gather(const at::Tensor& tensor) = 0;
  // The tensor of process 0, in place of every other's; of the same shape and type everywhere.
  virtual void broadcast(at::Tensor& tensor) = 0;

  // Parts with the others, who hear of it at once; lines can still be left and read.
  virtual void part() = 0;

  // A line that any process can leave for any other, without any of them waiting for all.
  virtual void write(const std::string& key, const std::string& value) = 0;
  // Throws where nobody has left one in time.
  virtual std::string read(const std::string& key, std::chrono::milliseconds timeout) = 0;
};

} // namespace fewstep
