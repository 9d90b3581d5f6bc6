#include "tests/e2e/failover/forked/group_keeper.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <list>
#include <memory>
#include <random>
#include <sstream>
#include <vector>

#include "parallel/comm/forked_group.h"
#include "tests/e2e/failover/forked/forked_coordinator.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

namespace shoal::test {
namespace {

constexpr int kPollMs = 2;
// Ranks that have lost one of their group end by themselves; those that do not are killed.
constexpr int64_t kEndMs = 3'000;
// Before a group that ended by itself is forked anew, so that one that cannot live takes no core.
constexpr int64_t kPauseMs = 50;

[[noreturn]] void RunRank(const model::Model& model, const GroupShape& shape,
                          const RankPlace& place, comm::ForkedGroup& forked, int32_t rank,
                          pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  int status = 1;
  try {
    const SteadyClock clock;
    const auto group = forked.Join(rank, Deadline::After(clock, kPatienceMs));
    ServeRank(model, shape, place, *group);
    status = 0;
  } catch (const std::exception& error) {  // The end of a process; its group is forked anew.
    std::cerr << "rank " << rank << " (" << getpid() << ") ends: " << error.what() << std::endl;
  }
  std::fflush(nullptr);
  _exit(status);
}

// What goes on in the keeper's process.
class Keeper {
 public:
  Keeper(const model::Model& model, const KeeperOptions& options, int socket)
      : model_(model), options_(options), socket_(socket), random_(options.seed) {}

  void Run() {
    std::vector<Deadline> starts(static_cast<size_t>(options_.group_count), Deadline{0});
    while (TakeOrder()) {
      Reap();
      for (size_t slot = 0; slot < starts.size(); ++slot) {
        const bool lives = std::ranges::any_of(
            groups_, [&](const Group& group) { return group.slot == slot && !group.ending; });
        if (lives || !starts[slot].Passed(clock_)) continue;
        Fork(slot);
      }
      for (Group& group : groups_) Look(group, starts);
      groups_.remove_if([](const Group& group) { return group.ranks.empty(); });
    }
  }

 private:
  struct Rank {
    pid_t pid = -1;
    bool struck = false;  // Killed or stopped as ordered.
    Deadline wake{};      // Of one that is stopped.
    bool wakes = false;
  };
  struct Group {
    size_t slot = 0;
    std::vector<Rank> ranks;  // That have not been reaped.
    bool struck = false;
    bool ending = false;
    Deadline end{};
  };

  GroupShape DrawShape() {
    const auto draw = [&](uint64_t bound) { return random_() % bound; };
    constexpr plan::Cut kCuts[] = {{1, 1}, {2, 1}, {1, 2}, {2, 1}};
    GroupShape shape;
    shape.cut = kCuts[options_.ranks_max > 1 ? draw(4) : 0];
    shape.kv_dtype = options_.kv_dtype;
    shape.speculation_tokens_max = static_cast<int32_t>(draw(2) * 4);
    shape.prefill_chunk_tokens = draw(2) == 0 ? 64 : 17;
    shape.kv_block_count = draw(2) == 0 ? 256 : options_.kv_block_count_least;
    shape.prefix_cache = draw(4) != 0;
    return shape;
  }

  void Fork(size_t slot) {
    Group& group = groups_.emplace_back();
    group.slot = slot;
    const GroupShape shape = DrawShape();
    const RankPlace place{.group_id = random_(), .coordinator = options_.coordinator};
    const auto forked = comm::MakeForkedShmGroup(shape.cut.rank_count());
    const pid_t parent = getpid();
    for (int32_t rank = 0; rank < shape.cut.rank_count(); ++rank) {
      const pid_t pid = fork();
      if (pid == 0) {
        close(socket_);
        RunRank(model_, shape, place, *forked, rank, parent);
      }
      if (pid > 0) group.ranks.push_back({.pid = pid});
    }
  }

  void Reap() {
    int status = 0;
    while (const pid_t pid = waitpid(-1, &status, WNOHANG)) {
      if (pid < 0) return;
      for (Group& group : groups_) {
        if (std::erase_if(group.ranks, [&](const Rank& rank) { return rank.pid == pid; }) == 0) {
          continue;
        }
        if (!group.ending && !group.struck) ++unplanned_;
        if (group.ending) continue;
        group.ending = true;
        group.end = Deadline::After(clock_, kEndMs);
      }
    }
  }

  void Look(Group& group, std::vector<Deadline>& starts) {
    for (Rank& rank : group.ranks) {
      if (!rank.wake.Passed(clock_)) continue;
      rank.wake = {};
      kill(rank.pid, rank.wakes ? SIGCONT : SIGKILL);
    }
    if (!group.ending) return;
    if (!group.struck) {
      starts[group.slot] = Deadline::After(clock_, kPauseMs);
      group.struck = true;
    }
    if (!group.end.Passed(clock_)) return;
    for (const Rank& rank : group.ranks) kill(rank.pid, SIGKILL);
  }

  // False at the end. "kill PID", "stop PID MS WAKES", "unplanned".
  bool TakeOrder() {
    pollfd ready{socket_, POLLIN, 0};
    if (poll(&ready, 1, kPollMs) <= 0) return true;
    char buffer[128];
    const ssize_t count = recv(socket_, buffer, sizeof(buffer), 0);
    if (count < 0 && errno == EINTR) return true;
    if (count <= 0) return false;
    std::istringstream words(std::string(buffer, static_cast<size_t>(count)));
    std::string verb;
    pid_t pid = 0;
    int64_t milliseconds = 0;
    bool wakes = false;
    words >> verb >> pid >> milliseconds >> wakes;
    const std::string answer = verb == "unplanned"
                                   ? std::to_string(unplanned_)
                                   : std::to_string(Strike(verb, pid, milliseconds, wakes));
    return send(socket_, answer.data(), answer.size(), MSG_NOSIGNAL) > 0;
  }

  bool Strike(const std::string& verb, pid_t pid, int64_t milliseconds, bool wakes) {
    for (Group& group : groups_) {
      for (Rank& rank : group.ranks) {
        if (rank.pid != pid || rank.struck || group.ending) continue;
        rank.struck = true;
        group.struck = true;
        if (verb == "kill") return kill(pid, SIGKILL) == 0;
        rank.wake = Deadline::After(clock_, milliseconds);
        rank.wakes = wakes;
        return kill(pid, SIGSTOP) == 0;
      }
    }
    return false;
  }

  const SteadyClock clock_;
  const model::Model& model_;
  const KeeperOptions options_;
  const int socket_;
  std::mt19937_64 random_;
  std::list<Group> groups_;
  int64_t unplanned_ = 0;
};

}  // namespace

GroupKeeper::GroupKeeper(const model::Model& model, const KeeperOptions& options) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    Throw(ErrorCode::kFailed, "socketpair: ", strerror(errno));
  }
  std::fflush(nullptr);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ < 0) Throw(ErrorCode::kFailed, "fork: ", strerror(errno));
  if (pid_ == 0) {
    StartForked(parent, options.log);
    close(ends[0]);
    Keeper(model, options, ends[1]).Run();
    _exit(0);
  }
  close(ends[1]);
  socket_ = ends[0];
}

GroupKeeper::~GroupKeeper() {
  close(socket_);
  // The ranks die with it.
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

bool GroupKeeper::Kill(pid_t rank) { return Ask(Str("kill ", rank)) == "1"; }

bool GroupKeeper::Stop(pid_t rank, int64_t milliseconds, bool wakes) {
  return Ask(Str("stop ", rank, " ", milliseconds, " ", wakes)) == "1";
}

int64_t GroupKeeper::UnplannedEnds() { return std::stoll(Ask("unplanned")); }

std::string GroupKeeper::Ask(const std::string& order) {
  char buffer[128];
  ssize_t count = send(socket_, order.data(), order.size(), MSG_NOSIGNAL);
  if (count > 0) count = recv(socket_, buffer, sizeof(buffer), 0);
  if (count <= 0) Throw(ErrorCode::kFailed, "the keeper of the groups has ended");
  return {buffer, static_cast<size_t>(count)};
}

}  // namespace shoal::test
