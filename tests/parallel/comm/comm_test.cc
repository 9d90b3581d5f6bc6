#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <tuple>

#include "tests/parallel/comm/comm_suite.h"
#include "tests/support/trial/rank_runner.h"

// The communicator suite in forked ranks. tests/parallel/comm/mpi_suite_main.cc runs the same under
// mpirun.

namespace shoal::test {
namespace {

using comm::Communicator;

std::string KindName(RankKind kind) { return ::testing::PrintToString(kind); }

// Runs `function` for its effects; the test fails with what the ranks report.
void ExpectAllRanks(int32_t size, RankKind kind,
                    const std::function<void(Communicator&)>& function) {
  const auto results = RunRanks(size, kind, [&](Communicator& comm) {
    function(comm);
    return std::string();
  });
  EXPECT_EQ(Describe(results), "");
}

class SizedCommunicator : public ::testing::TestWithParam<std::tuple<RankKind, int32_t, int64_t>> {
};

TEST_P(SizedCommunicator, PassesTheSuite) {
  const auto [kind, size, bytes] = GetParam();
  ExpectAllRanks(size, kind, [&](Communicator& comm) {
    for (const SuiteCase& suite_case : SuiteCases()) suite_case.run(comm, bytes);
  });
}

INSTANTIATE_TEST_SUITE_P(All, SizedCommunicator,
                         ::testing::Combine(::testing::Values(RankKind::kShm, RankKind::kTcp),
                                            ::testing::Values(1, 2, 3, 8),
                                            ::testing::Values(0, 1, 7, 4 << 10, 64 << 10, 1 << 20)),
                         [](const auto& info) {
                           return Str(KindName(std::get<0>(info.param)), "_",
                                      std::get<1>(info.param), "ranks_", std::get<2>(info.param),
                                      "bytes");
                         });

class GroupCommunicator : public ::testing::TestWithParam<std::tuple<RankKind, int32_t>> {
 protected:
  RankKind kind() const { return std::get<0>(GetParam()); }
  int32_t size() const { return std::get<1>(GetParam()); }
};

// With at least one peer to lose.
class PeersOfACommunicator : public GroupCommunicator {};

std::string GroupName(const ::testing::TestParamInfo<std::tuple<RankKind, int32_t>>& info) {
  return Str(KindName(std::get<0>(info.param)), "_", std::get<1>(info.param), "ranks");
}

const auto kKinds = ::testing::Values(RankKind::kShm, RankKind::kTcp);
INSTANTIATE_TEST_SUITE_P(All, GroupCommunicator,
                         ::testing::Combine(kKinds, ::testing::Values(1, 2, 3, 8)), GroupName);
INSTANTIATE_TEST_SUITE_P(All, PeersOfACommunicator,
                         ::testing::Combine(kKinds, ::testing::Values(2, 3, 8)), GroupName);

TEST_P(GroupCommunicator, KeepsUpWithRandomSequences) {
  for (const uint64_t seed : {1, 2}) {
    ExpectAllRanks(size(), kind(), [&](Communicator& comm) { RunRandomSequence(comm, seed, 200); });
  }
}

TEST_P(GroupCommunicator, FailsPendingAndLaterOperationsOnAbort) {
  ExpectAllRanks(size(), kind(), RunAbort);
}

TEST_P(GroupCommunicator, FailsWithItsParts) { ExpectAllRanks(size(), kind(), RunSplitAbort); }

// What the survivors of a lost rank see.
std::string TryOperations(Communicator& comm) {
  std::string codes;
  std::vector<int64_t> data(1000);
  for (int i = 0; i < 2; ++i) {
    try {
      comm.AllReduceSum(std::span(data));
      codes += "done ";
    } catch (const Error& error) {
      codes += Str(ToString(error.code()), " ");
    }
  }
  return codes;
}

TEST_P(PeersOfACommunicator, ReportsAKilledPeerAsLost) {
  const int32_t victim = size() - 1;
  const auto results = RunRanks(size(), kind(), [&](Communicator& comm) {
    comm.Barrier();
    if (comm.rank() == victim) raise(SIGKILL);
    return TryOperations(comm);
  });
  for (int32_t rank = 0; rank < size(); ++rank) {
    const RankResult& result = results[static_cast<size_t>(rank)];
    if (rank == victim) {
      EXPECT_EQ(result.signal, SIGKILL);
    } else {
      EXPECT_EQ(result.bytes, "peer lost peer lost ") << "rank " << rank << Describe(results);
    }
  }
}

TEST_P(PeersOfACommunicator, GivesUpOnAStoppedPeerAtTheDeadline) {
  const int32_t victim = size() - 1;
  const auto results = RunRanks(size(), kind(),
                                [&](Communicator& comm) {
                                  comm.Barrier();
                                  if (comm.rank() == victim) raise(SIGSTOP);
                                  comm.SetDeadline(Deadline::After(SteadyClock(), 200));
                                  return TryOperations(comm);
                                },
                                {.stopped_ranks = {victim}});
  // The first rank to reach its deadline ends the group for the others.
  std::vector<std::string> codes;
  for (int32_t rank = 0; rank < victim; ++rank) {
    codes.push_back(results[static_cast<size_t>(rank)].bytes);
  }
  const std::string deadline = "deadline exceeded deadline exceeded ";
  EXPECT_THAT(codes, ::testing::Contains(deadline)) << Describe(results);
  EXPECT_THAT(codes, ::testing::Each(::testing::AnyOf(deadline, "peer lost peer lost ")));
}

TEST_P(PeersOfACommunicator, DeliversWhatAPeerSentBeforeItEnded) {
  const auto results = RunRanks(size(), kind(), [&](Communicator& comm) {
    const std::byte sent{42};
    std::byte received{};
    if (comm.rank() == 0) {
      for (int32_t to = 1; to < comm.size(); ++to) comm.Send({&sent, 1}, to);
      return std::string("sent");
    }
    comm.Receive({&received, 1}, 0);
    return std::string(received == sent ? "received" : "wrong");
  });
  for (size_t rank = 1; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].bytes, "received") << Describe(results);
  }
}

TEST_P(PeersOfACommunicator, RefusesToWaitForARankThatHasLeft) {
  const auto results = RunRanks(size(), kind(), [&](Communicator& comm) {
    if (comm.rank() == 0) return std::string("left");
    return TryOperations(comm);
  });
  for (size_t rank = 1; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].bytes, "peer lost peer lost ") << Describe(results);
  }
}

TEST_P(PeersOfACommunicator, FailsRanksThatCallDifferentOperations) {
  const auto results = RunRanks(size(), kind(), [&](Communicator& comm) {
    std::vector<int64_t> data(comm.rank() == 0 ? 8 : 16);
    comm.AllReduceSum(std::span(data));
    return std::string("unnoticed");
  });
  for (const RankResult& result : results) EXPECT_EQ(result.exit_status, 1) << result.bytes;
  EXPECT_TRUE(std::ranges::any_of(
      results, [](const RankResult& result) { return result.code == ErrorCode::kFailed; }));
}

TEST(RunRanks, ReportsExceptionsExitsAndSignals) {
  const auto results = RunRanks(3, RankKind::kShm, [](Communicator& comm) -> std::string {
    if (comm.rank() == 0) return "fine";
    if (comm.rank() == 1) Throw(ErrorCode::kOverloaded, "too much");
    raise(SIGTERM);
    return "unreached";
  });
  EXPECT_TRUE(results[0].ok());
  EXPECT_EQ(results[0].bytes, "fine");
  EXPECT_EQ(results[1].code, ErrorCode::kOverloaded);
  EXPECT_EQ(results[1].error, "too much");
  EXPECT_EQ(results[2].signal, SIGTERM);
}

TEST(RunRanks, KillsRanksThatOverstay) {
  const auto results = RunRanks(2, RankKind::kShm,
                                [](Communicator& comm) -> std::string {
                                  if (comm.rank() == 1) raise(SIGSTOP);
                                  return "done";
                                },
                                {.timeout_ms = 200});
  EXPECT_TRUE(results[0].ok());
  EXPECT_TRUE(results[1].timed_out);
}

}  // namespace
}  // namespace shoal::test
