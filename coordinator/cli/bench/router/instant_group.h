#pragma once

// A group that computes nothing: it joins a coordinator by the ranks' own protocol and answers each
// request at once. What a client then waits for is the coordinator.

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "transport/base/generation/sequence_request.h"
#include "transport/rpc/coordinator_link.h"

namespace shoal::cli {

class InstantGroup {
 public:
  // Joins. `model`: the coordinator's, by whose name and vocabulary it says that it has it. Errors:
  // as rpc::CoordinatorLink, and those of a model that cannot be read.
  InstantGroup(const std::string& coordinator, const std::string& model);
  InstantGroup(const InstantGroup&) = delete;
  InstantGroup& operator=(const InstantGroup&) = delete;
  ~InstantGroup();

 private:
  void Answer();

  std::mutex mutex_;  // Guards the two below; the link's thread fills them.
  std::condition_variable_any filled_;
  std::vector<SequenceRequest> requests_;
  std::unique_ptr<rpc::CoordinatorLink> link_;
  std::jthread thread_;
};

}  // namespace shoal::cli
