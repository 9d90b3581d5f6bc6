#include "tests/e2e/failover/failover_run.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/e2e/failover/forked/forked_region.h"
#include "tests/support/model/random_weights.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

constexpr size_t kDetailsMax = 5;
constexpr int64_t kGapMaxMs = 60;
constexpr int64_t kKillsFactorMax = 4;
constexpr int64_t kStopMs = 700;  // Longer than a silent rank is waited for.

gateway::CoordinatorOptions RegionFor(const std::string& model_path, const std::string& folder) {
  gateway::CoordinatorOptions options;
  options.model = model_path;
  options.region.heartbeat_ms = 50;
  options.region.heartbeats_missed_max = 10;
  options.state_dir = folder;
  options.region.resume_timeout_ms = kPatienceMs;
  options.region.groups_per_stream_max = INT32_MAX;
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

  // Answers so far that lost a group and went on.
  int64_t Disturbed() {
    const std::lock_guard lock(mutex_);
    return outcome_.disturbed;
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
  Killer(ForkedRegion& region, uint64_t seed) : region_(region), random_(seed) {}

  // Result: how many it killed, perhaps none.
  int64_t Strike(int64_t coordinator_percent) {
    if (static_cast<int64_t>(random_.Below(100)) < coordinator_percent) {
      region_.WaitForReady(1);
      Pause(static_cast<int64_t>(random_.Below(kGapMaxMs + 1)));
      region_.coordinator().Kill();
      return 1;
    }
    return StrikeRanks();
  }

 private:
  int64_t StrikeRanks() {
    const bool any_state = random_.Below(8) == 0;
    if (!any_state) region_.WaitForReady(1);
    Pause(static_cast<int64_t>(random_.Below(kGapMaxMs + 1)));
    const std::vector<GroupStatus> groups = region_.Groups(!any_state);
    if (groups.empty()) return 0;
    GroupKeeper& keeper = region_.keeper();
    if (random_.Below(12) == 0) {  // All at once: nobody is left.
      int64_t killed = 0;
      for (const GroupStatus& group : groups) killed += keeper.Kill(DrawRank(group)) ? 1 : 0;
      return killed;
    }
    const pid_t rank = DrawRank(DrawGroup(groups));
    if (random_.Below(40) == 0) return keeper.Stop(rank, kStopMs, random_.Below(2) == 0) ? 1 : 0;
    return keeper.Kill(rank) ? 1 : 0;
  }

  // Mostly one that answers somebody: however fast a machine is, its kills then meet streams.
  const GroupStatus& DrawGroup(const std::vector<GroupStatus>& groups) {
    std::vector<const GroupStatus*> busy;
    for (const GroupStatus& group : groups) {
      if (group.streams > 0) busy.push_back(&group);
    }
    if (busy.empty() || random_.Below(4) == 0) return groups[random_.Below(groups.size())];
    return *busy[random_.Below(busy.size())];
  }

  pid_t DrawRank(const GroupStatus& group) {
    if (group.ranks.empty()) return 0;
    return static_cast<pid_t>(group.ranks[random_.Below(group.ranks.size())].pid);
  }

  ForkedRegion& region_;
  RandomBits random_;
};

}  // namespace

FailoverOutcome RunFailover(const model::Model& model, const std::string& model_path,
                            const FailoverOptions& options) {
  ForkedRegion region(model, {.coordinator = RegionFor(model_path, options.folder),
                              .keeper = {.seed = options.seed, .kv_dtype = options.kv_dtype},
                              .folder = options.folder});
  region.WaitForReady(2);
  const std::vector<Ask> asks =
      MakeAsks({.seed = options.seed,
                .count = options.asks,
                .vocab_size = static_cast<int32_t>(model.config().vocab_size),
                .context_tokens = model.config().context_tokens,
                .resumable = options.coordinator_kills_percent > 0});
  const std::vector<Answer> twins = GetTwins(region.door(), asks, options.clients);
  Clients clients(region.door(), asks, twins, options);
  Killer killer(region, options.seed);
  int64_t kills = 0;
  // Where clients get little time between kills, more are needed until enough have met an answer.
  const auto enough = [&] {
    return kills >= options.kills && (clients.Disturbed() > options.kills / kKillsPerDisturbed ||
                                      kills >= kKillsFactorMax * options.kills);
  };
  while (!enough() && !clients.Failed()) kills += killer.Strike(options.coordinator_kills_percent);
  FailoverOutcome outcome = clients.Stop();
  outcome.kills = kills;
  outcome.unplanned = region.keeper().UnplannedEnds();
  return outcome;
}

}  // namespace shoal::test
