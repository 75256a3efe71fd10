// What ProcessGroupGloo.hpp needs of Gloo, whose headers libtorch does not come with: names, of which nothing here makes or uses a value.
#pragma once

#include <chrono>

namespace gloo {

class Context {
public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class UnboundBuffer;
}

} // namespace gloo
