#pragma once

// shoal-worker as a process, alone or under mpirun, for tests that are its coordinator.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/worker/rank/fake_coordinator.h"
#include "transport/base/check.h"

extern char** environ;

namespace shoal::rank {

// A child process whose stderr goes to a file.
class Process {
 public:
  Process(std::vector<std::string> arguments, const std::string& log) : log_(log) {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    posix_spawn_file_actions_adddup2(&actions, 2, 1);
    const int result = posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    SHOAL_CHECK(result == 0, "cannot start ", arguments[0]);
  }
  ~Process() {
    if (Poll()) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  void Signal(int signal) const { kill(pid_, signal); }

  // The exit status, once there is one; 128 + N for signal N.
  std::optional<int> Poll() {
    int status = 0;
    if (!status_ && waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return status_;
  }

  std::string Log() const {
    std::ifstream file(log_);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

 private:
  std::string log_;
  pid_t pid_ = 0;
  std::optional<int> status_;
};

class WorkerProcess : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::ScratchFolder;
    test::ModelSpec spec = test::Q4_1Spec();
    model_ = new std::string(test::WriteModel(spec, folder_->path()));
  }
  static void TearDownTestSuite() {
    delete model_;
    delete folder_;
  }

  std::unique_ptr<Process> Start(int rank_count, const std::string& address,
                                 const std::vector<std::string>& more = {},
                                 int64_t kv_cache_tokens = 2048,
                                 std::vector<std::string> arguments = {}) {
    if (rank_count > 1) {
      arguments = {"mpirun", "--allow-run-as-root",     "--oversubscribe", "--bind-to", "none",
                   "-np",    std::to_string(rank_count)};
    }
    for (const std::string& argument :
         {std::string(SHOAL_BINARY_DIR "/bin/shoal-worker"), std::string("--model"), *model_,
          std::string("--coordinator"), address, std::string("--threads"), std::string("1"),
          std::string("--kv-cache-tokens"), std::to_string(kv_cache_tokens)}) {
      arguments.push_back(argument);
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<Process>(arguments, folder_->path() + "/log");
  }

  // The exit status while the coordinator's event loop turns, or -1 if it does not end in time.
  static int StatusOf(Process& process, FakeCoordinator& coordinator) {
    coordinator.RunUntil([&] { return process.Poll().has_value(); });
    return process.Poll().value_or(-1);
  }

  static GenerationParams Greedy(int64_t tokens_max) {
    GenerationParams params;
    params.sampling.temperature = 0;
    params.tokens_max = tokens_max;
    return params;
  }

  // The tokens that a group of this cut gives for a prompt.
  std::vector<int32_t> Generate(int rank_count, const std::vector<std::string>& cut) {
    FakeCoordinator coordinator;
    const auto worker = Start(rank_count, coordinator.address(), cut);
    const auto all = static_cast<size_t>(rank_count);
    EXPECT_TRUE(coordinator.RunUntil([&] { return coordinator.ranks.size() == all; }))
        << worker->Log();
    coordinator.Submit(5, {1, 2, 3, 4, 5}, Greedy(20));
    EXPECT_TRUE(coordinator.RunUntil([&] {
      return coordinator.streams[5].finish == FinishReason::kLength;
    })) << worker->Log();
    coordinator.Stop();
    EXPECT_EQ(StatusOf(*worker, coordinator), 0) << worker->Log();
    return coordinator.streams[5].tokens;
  }

  inline static test::ScratchFolder* folder_ = nullptr;
  inline static std::string* model_ = nullptr;
};

}  // namespace shoal::rank
