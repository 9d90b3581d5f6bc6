#include "parallel/comm/forked_group.h"

#include <utility>

#include "parallel/comm/shm_communicator.h"
#include "transport/base/error.h"

// Groups for tests and for programs on one machine that start their ranks themselves.

namespace shoal::comm {
namespace {

class ForkedShmGroup : public ForkedGroup {
 public:
  explicit ForkedShmGroup(int32_t size) : group_(ShmGroup::MakeAnonymous(size)) {}
  std::unique_ptr<Communicator> Join(int32_t rank, Deadline deadline) override {
    auto comm = std::make_unique<ShmCommunicator>(group_, rank, 1);
    comm->SetDeadline(deadline);
    return comm;
  }

 private:
  std::shared_ptr<ShmGroup> group_;
};

}  // namespace

std::unique_ptr<ForkedGroup> MakeForkedShmGroup(int32_t size) {
  return std::make_unique<ForkedShmGroup>(size);
}

std::unique_ptr<ForkedGroup> MakeForkedTcpGroup(int32_t size) {
  Throw(ErrorCode::kFailed, "TCP groups of ", size, " ranks are not connected yet");
}

}  // namespace shoal::comm
