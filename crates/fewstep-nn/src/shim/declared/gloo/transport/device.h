// A name for pointers.
#pragma once

namespace gloo {
namespace transport {
class Device;
}
} // namespace gloo
