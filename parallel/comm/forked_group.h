#pragma once

// A group whose ranks are forked from one process: holds what must be made before the fork, so that
// all ranks have it.

#include <cstdint>
#include <memory>

#include "parallel/comm/communicator.h"

namespace shoal::comm {

class ForkedGroup {
 public:
  virtual ~ForkedGroup() = default;
  // Once in each forked process, with ranks [0, size). Collective for TCP.
  // Errors: kPeerLost, kDeadlineExceeded.
  virtual std::unique_ptr<Communicator> Join(int32_t rank, Deadline deadline) = 0;
};

std::unique_ptr<ForkedGroup> MakeForkedShmGroup(int32_t size);
// Connects over 127.0.0.1.
std::unique_ptr<ForkedGroup> MakeForkedTcpGroup(int32_t size);

}  // namespace shoal::comm
