#include "tests/e2e/failover/failover_run.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/e2e/failover/forked/forked_coordinator.h"
#include "tests/support/model/random_weights.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

constexpr size_t kDetailsMax = 5;
constexpr int64_t kGapMaxMs = 60;
constexpr int64_t kStopMs = 700;  // Longer than a silent rank is waited for.

void Pause(int64_t milliseconds) { poll(nullptr, 0, static_cast<int>(milliseconds)); }

gateway::CoordinatorOptions RegionFor(const std::string& model_path) {
  gateway::CoordinatorOptions options;
  options.model = model_path;
  options.region.heartbeat_ms = 50;
  options.region.heartbeats_missed_max = 10;
  options.region.resume_timeout_ms = kPatienceMs;
  return options;
}

// "at byte 17: ...abc... instead of ...abd...".
std::string Difference(const std::string& seen, const std::string& twin) {
  const auto [left, right] = std::ranges::mismatch(seen, twin);
  const auto at = static_cast<size_t>(left - seen.begin());
  const size_t from = at > 80 ? at - 80 : 0;
  return Str("at byte ", at, ": ", seen.substr(from, 160),
             "\n  instead of: ", twin.substr(from, 160));
}

// Answers to all asks from several clients at once, each ask once.
std::vector<Answer> GetTwins(const Door& door, const std::vector<Ask>& asks, size_t clients) {
  std::vector<Answer> twins(asks.size());
  std::atomic<size_t> next{0};
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < clients; ++i) {
    threads.emplace_back([&] {
      for (size_t ask = next++; ask < asks.size(); ask = next++) twins[ask] = Get(door, asks[ask]);
    });
  }
  threads.clear();
  for (size_t i = 0; i < asks.size(); ++i) {
    if (twins[i].error.empty()) continue;
    Throw(ErrorCode::kFailed, "ask ", i, " (", asks[i].path, " ", asks[i].body,
          ") has no undisturbed answer: ", twins[i].error);
  }
  return twins;
}

// Clients from here until Stop.
class Clients {
 public:
  Clients(const Door& door, const std::vector<Ask>& asks, const std::vector<Answer>& twins,
          const FailoverOptions& options)
      : door_(door), asks_(asks), twins_(twins) {
    for (size_t i = 0; i < options.clients; ++i) {
      threads_.emplace_back([this, seed = options.seed * 1000 + i] { Run(seed); });
    }
  }
  ~Clients() { Stop(); }
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  // Waits for the answers under way.
  FailoverOutcome Stop() {
    stop_ = true;
    threads_.clear();
    return outcome_;
  }

  // Whether more has gone wrong than is worth going on for.
  bool Failed() {
    const std::lock_guard lock(mutex_);
    return outcome_.details.size() >= kDetailsMax;
  }

 private:
  void Run(uint64_t seed) {
    RandomBits random(seed);
    while (!stop_) {
      const size_t index = random.Below(asks_.size());
      Note(index, Get(door_, asks_[index]));
    }
  }

  void Note(size_t index, const Answer& answer) {
    const std::lock_guard lock(mutex_);
    ++outcome_.answers;
    outcome_.resumes += answer.resumes;
    if (answer.resumes > 0) ++outcome_.disturbed;
    const bool lost = !answer.error.empty();
    if (!lost && answer.bytes == twins_[index].bytes) return;
    ++(lost ? outcome_.lost : outcome_.changed);
    if (outcome_.details.size() >= kDetailsMax) return;
    const std::string& path = asks_[index].path;
    outcome_.details.push_back(
        Str("ask ", index, " (", path.empty() ? "RPC" : path, " ", asks_[index].body, "), ",
            answer.resumes, " resumes: ",
            lost ? "lost: " + answer.error : Difference(answer.bytes, twins_[index].bytes)));
  }

  const Door door_;
  const std::vector<Ask>& asks_;
  const std::vector<Answer>& twins_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // Guards outcome_.
  FailoverOutcome outcome_;
  std::vector<std::jthread> threads_;
};

// Who kills whom, and when.
class Killer {
 public:
  Killer(const Door& door, GroupKeeper& keeper, uint64_t seed)
      : client_({.address = door.rpc_address}), keeper_(keeper), random_(seed) {}

  // Until `count` groups are ready.
  void WaitForReady(size_t count) {
    const SteadyClock clock;
    const Deadline deadline = Deadline::After(clock, kPatienceMs);
    while (Groups(true).size() < count) {
      if (deadline.Passed(clock)) {
        Throw(ErrorCode::kDeadlineExceeded, "of ", count, " groups not all were ready");
      }
      Pause(2);
    }
  }

  // Result: how many it killed, perhaps none.
  int64_t Strike() {
    const bool any_state = random_.Below(8) == 0;
    if (!any_state) WaitForReady(1);
    Pause(static_cast<int64_t>(random_.Below(kGapMaxMs + 1)));
    std::vector<GroupStatus> groups = Groups(!any_state);
    if (groups.empty()) return 0;
    if (random_.Below(12) == 0) {  // All at once: nobody is left.
      int64_t killed = 0;
      for (const GroupStatus& group : groups) killed += keeper_.Kill(DrawRank(group)) ? 1 : 0;
      return killed;
    }
    const pid_t rank = DrawRank(groups[random_.Below(groups.size())]);
    if (random_.Below(40) == 0) return keeper_.Stop(rank, kStopMs, random_.Below(2) == 0) ? 1 : 0;
    return keeper_.Kill(rank) ? 1 : 0;
  }

 private:
  std::vector<GroupStatus> Groups(bool ready_only) {
    std::vector<GroupStatus> groups = client_.Status().groups;
    std::erase_if(groups, [&](const GroupStatus& group) {
      return ready_only && group.state != GroupState::kReady;
    });
    return groups;
  }

  pid_t DrawRank(const GroupStatus& group) {
    if (group.ranks.empty()) return 0;
    return static_cast<pid_t>(group.ranks[random_.Below(group.ranks.size())].pid);
  }

  rpc::Client client_;
  GroupKeeper& keeper_;
  RandomBits random_;
};

}  // namespace

FailoverOutcome RunFailover(const model::Model& model, const std::string& model_path,
                            const FailoverOptions& options) {
  ForkedCoordinator coordinator(RegionFor(model_path), options.folder + "/coordinator.log");
  const Door door{coordinator.rpc_address(), coordinator.port()};
  GroupKeeper keeper(model, {.coordinator = door.rpc_address,
                             .seed = options.seed,
                             .kv_dtype = options.kv_dtype,
                             .log = options.folder + "/ranks.log"});
  Killer killer(door, keeper, options.seed);
  killer.WaitForReady(2);
  const std::vector<Ask> asks =
      MakeAsks({.seed = options.seed,
                .count = options.asks,
                .vocab_size = static_cast<int32_t>(model.config().vocab_size),
                .context_tokens = model.config().context_tokens});
  const std::vector<Answer> twins = GetTwins(door, asks, options.clients);
  Clients clients(door, asks, twins, options);
  int64_t kills = 0;
  while (kills < options.kills && !clients.Failed()) kills += killer.Strike();
  FailoverOutcome outcome = clients.Stop();
  outcome.kills = kills;
  outcome.unplanned = keeper.UnplannedEnds();
  return outcome;
}

}  // namespace shoal::test
