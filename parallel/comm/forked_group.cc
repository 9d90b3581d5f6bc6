#include "parallel/comm/forked_group.h"

#include <utility>
#include <vector>

#include "parallel/comm/shm/shm_communicator.h"
#include "parallel/comm/tcp/tcp_communicator.h"
#include "transport/link/tcp/tcp_hello.h"
#include "transport/link/tcp/tcp_mesh.h"

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

class ForkedTcpGroup : public ForkedGroup {
 public:
  explicit ForkedTcpGroup(int32_t size) {
    for (int32_t rank = 0; rank < size; ++rank) {
      listeners_.push_back(link::TcpListener::Bind("127.0.0.1"));
      plan_.addresses.push_back(listeners_.back().address());
    }
    plan_.token = link::RandomToken();
  }

  std::unique_ptr<Communicator> Join(int32_t rank, Deadline deadline) override {
    plan_.rank = rank;
    // A listener must live in its own rank alone, so that dialling a rank that has ended is
    // refused: this process closes the others' copies.
    link::TcpListener listener = std::move(listeners_[static_cast<size_t>(rank)]);
    listeners_.clear();
    return TcpCommunicator::Connect(plan_, listener, static_cast<int32_t>(plan_.addresses.size()),
                                    1, deadline);
  }

 private:
  link::MeshPlan plan_;
  std::vector<link::TcpListener> listeners_;  // By rank.
};

}  // namespace

std::unique_ptr<ForkedGroup> MakeForkedShmGroup(int32_t size) {
  return std::make_unique<ForkedShmGroup>(size);
}

std::unique_ptr<ForkedGroup> MakeForkedTcpGroup(int32_t size) {
  return std::make_unique<ForkedTcpGroup>(size);
}

}  // namespace shoal::comm
