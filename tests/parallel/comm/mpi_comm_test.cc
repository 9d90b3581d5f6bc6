#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/comm/make_communicator.h"
#include "tests/support/patience.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"

// The communicator suite under a real mpirun, and what mpirun makes of ranks that die or hang.

namespace shoal::test {
namespace {

constexpr int kTimeoutMs = test::kPatienceMs;
constexpr int kEndMs = 5000;

// The processes whose command line holds `mark`, this one excepted.
std::vector<pid_t> ProcessesMarked(const std::string& mark) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (text.find(mark) != std::string::npos) found.push_back(std::stoi(name));
  }
  return found;
}

// Waits for the end of a process.
bool EndsWithin(pid_t pid, int timeout_ms) {
  // The descriptor becomes readable when the process ends.
  const int process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) return errno == ESRCH;
  pollfd entry{process, POLLIN, 0};
  const bool ended = poll(&entry, 1, timeout_ms) > 0;
  close(process);
  return ended;
}

struct JobResult {
  int exit_status = -1;  // -1: killed by this test after kTimeoutMs.
  std::vector<pid_t> left_behind;
};

// Runs mpi_suite_main on `size` ranks; nothing of it lives on when it returns.
JobResult RunJob(int32_t size, const std::string& kind, const std::string& mode) {
  const std::string mark = Str("mark-", getpid(), "-", SteadyClock().now());
  const std::string count = std::to_string(size);
  std::vector<std::string> words = {"mpirun",
                                    "--allow-run-as-root",
                                    "--bind-to",
                                    "none",
                                    "--oversubscribe",
                                    "-np",
                                    count,
                                    std::string(SHOAL_BINARY_DIR) + "/bin/mpi_suite_main",
                                    kind,
                                    mode,
                                    mark};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  const bool ended = EndsWithin(pid, kTimeoutMs);
  if (!ended) kill(pid, SIGKILL);
  JobResult result;
  int status = 0;
  waitpid(pid, &status, 0);
  if (ended && WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  // mpirun may return between killing a rank and the rank's end.
  for (const pid_t rank : ProcessesMarked(mark)) {
    if (EndsWithin(rank, kEndMs)) continue;
    result.left_behind.push_back(rank);
    kill(rank, SIGKILL);
  }
  return result;
}

class MpiJob : public ::testing::TestWithParam<std::tuple<std::string, int32_t>> {};

TEST_P(MpiJob, PassesTheSuite) {
  const auto& [kind, size] = GetParam();
  const JobResult result = RunJob(size, kind, "suite");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.left_behind, ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, MpiJob,
                         ::testing::Combine(::testing::Values("mpi"),
                                            ::testing::Values(1, 2, 3, 8)));
INSTANTIATE_TEST_SUITE_P(OthersThroughMpirun, MpiJob,
                         ::testing::Combine(::testing::Values("shm", "tcp"), ::testing::Values(3)));

class FailingMpiJob : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(All, FailingMpiJob, ::testing::Values("shm", "tcp", "mpi"));

TEST_P(FailingMpiJob, EndsWithoutTracesWhenARankIsKilled) {
  const JobResult result = RunJob(3, GetParam(), "killed");
  EXPECT_GT(result.exit_status, 0);
  EXPECT_THAT(result.left_behind, ::testing::IsEmpty());
}

TEST_P(FailingMpiJob, EndsWithoutTracesWhenARankIsStopped) {
  const JobResult result = RunJob(3, GetParam(), "stopped");
  EXPECT_GT(result.exit_status, 0);
  EXPECT_THAT(result.left_behind, ::testing::IsEmpty());
}

TEST(MakeCommunicator, NeedsNoMpiForASingleRank) {
  comm::MpiEnvironment environment;
  ASSERT_EQ(environment.size(), 1);
  for (const auto kind :
       {comm::CommKind::kAuto, comm::CommKind::kShm, comm::CommKind::kTcp, comm::CommKind::kMpi}) {
    const auto comm = comm::MakeCommunicator(environment, {.kind = kind});
    std::vector<int64_t> data = {1, 2, 3};
    comm->AllReduceSum(std::span(data));
    EXPECT_THAT(data, ::testing::ElementsAre(1, 2, 3));
  }
}

}  // namespace
}  // namespace shoal::test
