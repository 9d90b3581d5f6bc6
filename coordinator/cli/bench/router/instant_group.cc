#include "coordinator/cli/bench/router/instant_group.h"

#include <unistd.h>

#include <utility>

#include "coordinator/cli/bench/router/core_cost.h"
#include "parallel/model/model.h"

namespace shoal::cli {

InstantGroup::InstantGroup(const std::string& coordinator, const std::string& model) {
  const auto opened = model::Model::Open(model);
  rpc::LinkOptions options;
  options.address = coordinator;
  options.rank = LoneRank(static_cast<uint64_t>(getpid()), opened->name(),
                          opened->config().vocab_size, opened->config().context_tokens);
  rpc::LinkCallbacks callbacks;
  callbacks.on_submit = [this](SequenceRequest request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.push_back(std::move(request));
    filled_.notify_one();
  };
  callbacks.on_cancel = [](uint64_t) {};  // It has ended already.
  callbacks.on_release = [](uint64_t) {};
  callbacks.on_stop = [] {};
  callbacks.on_lost = [](const std::string&) {};  // Its clients hear of it.
  link_ = std::make_unique<rpc::CoordinatorLink>(std::move(options), std::move(callbacks));
  thread_ = std::jthread([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<SequenceRequest> requests;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        filled_.wait(lock, stop, [this] { return !requests_.empty(); });
        requests.swap(requests_);
      }
      if (requests.empty()) continue;
      std::vector<SequenceUpdate> updates;
      for (const SequenceRequest& request : requests) updates.push_back(AnswerAtOnce(request));
      SchedulerStats stats;
      stats.kv_blocks_total = 1 << 20;
      link_->QueueUpdates(std::move(updates), stats);
      link_->SendQueued();
    }
  });
  link_->Introduce({}, {}, {});
  link_->Start();
}

InstantGroup::~InstantGroup() {
  thread_.request_stop();
  thread_.join();
}

}  // namespace shoal::cli
