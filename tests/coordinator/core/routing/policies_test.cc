// The formulas of the policies, by vectors and by what must hold of them whatever comes in.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/routing/policies/least_conn.h"
#include "coordinator/core/routing/policies/minres_seed.h"
#include "coordinator/core/routing/policies/p2c_least_tokens.h"
#include "coordinator/core/routing/policies/prefix_aware.h"
#include "coordinator/core/routing/policies/wlc_seed.h"
#include "coordinator/core/routing/rendezvous.h"
#include "transport/base/check.h"

namespace shoal::core {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(WlcSeed, IsTheArticlesFormula) {
  EXPECT_DOUBLE_EQ(WlcWeight(100, 0, 0, 0), 100);
  EXPECT_DOUBLE_EQ(WlcWeight(100, 0.5, 0.5, 200), 100 * (1 - 0.15 - 0.2 - 0.06));
  EXPECT_DOUBLE_EQ(WlcWeight(10, 1, 0, 0), 7);
  EXPECT_DOUBLE_EQ(WlcWeight(10, 0, 1, 0), 6);
  EXPECT_DOUBLE_EQ(WlcWeight(10, 0, 0, 1'000), 7);
}

// The article divides milliseconds by 1000 and stops there: with a latency of a second and more the
// weight falls to 0 and below.
TEST(WlcSeed, StaysAboveItsFloorWhereTheArticlesFormulaDoesNot) {
  EXPECT_DOUBLE_EQ(WlcWeight(100, 1, 1, 1'000), 5);
  EXPECT_NEAR(WlcWeight(100, 0.9, 0.9, 10'000), 7, 1e-9);
  EXPECT_DOUBLE_EQ(WlcWeight(100, 1, 1, 1e9), 5);
  for (const double bad : {kNan, kInfinity, 7.0}) {
    EXPECT_DOUBLE_EQ(WlcWeight(100, bad, bad, 1'000 * bad), 5);
  }
  EXPECT_DOUBLE_EQ(WlcWeight(100, -1, -kInfinity, -5), 100);
}

TEST(WlcSeed, IsPositiveAndFallsWithEachInput) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<> share(0, 1.5);
  for (int i = 0; i < 10'000; ++i) {
    const double cpu = share(random);
    const double memory = share(random);
    const double latency = 2'000 * share(random);
    const double more = share(random);
    const double weight = WlcWeight(8, cpu, memory, latency);
    EXPECT_GE(weight, 0.4);
    EXPECT_LE(WlcWeight(8, cpu + more, memory, latency), weight);
    EXPECT_LE(WlcWeight(8, cpu, memory + more, latency), weight);
    EXPECT_LE(WlcWeight(8, cpu, memory, latency + 1'000 * more), weight);
  }
}

TEST(MinresSeed, IsTheArticlesFormula) {
  const auto weight = [](double cpu, double gpu) {
    return MinresWeight(std::vector<double>{cpu, gpu});
  };
  EXPECT_DOUBLE_EQ(weight(0, 0), 1'000);
  EXPECT_NEAR(weight(1, 1), 90.909, 0.001);
  EXPECT_DOUBLE_EQ(weight(0.5, 0.9), 100);
  // Whichever is scarce.
  EXPECT_DOUBLE_EQ(weight(0.9, 0.5), 100);
  EXPECT_DOUBLE_EQ(MinresWeight(std::vector<double>{0.1, 0.9, 0.3, 0.2}), 100);
  for (const double bad : {kNan, kInfinity, 3.0}) EXPECT_DOUBLE_EQ(weight(bad, 0), 100 / 1.1);
  EXPECT_DOUBLE_EQ(weight(-1, -kInfinity), 1'000);
}

std::vector<Candidate> MakeCandidates(size_t count) {
  std::vector<Candidate> candidates(count);
  for (size_t i = 0; i < count; ++i) {
    candidates[i] = {.group = 10 + i, .sequences_max = 8, .speed = 8};
  }
  return candidates;
}

TEST(Policies, TakeTheFirstOfEqualOnes) {
  const auto candidates = MakeCandidates(3);
  EXPECT_EQ(ChooseByWlc(candidates), 10u);
  EXPECT_EQ(ChooseByMinres(candidates), 10u);
  EXPECT_EQ(ChooseByLeastConn(candidates), 10u);
  EXPECT_EQ(ChooseByPrefix(candidates, 100), 10u);
}

TEST(Policies, AvoidWhatIsLoaded) {
  auto candidates = MakeCandidates(3);
  candidates[0].sequences = 2;
  candidates[1].sequences = 2;
  candidates[2].sequences = 2;
  candidates[0].busy = candidates[1].busy = 0.9;
  EXPECT_EQ(ChooseByWlc(candidates), 12u);
  EXPECT_EQ(ChooseByMinres(candidates), 12u);
  candidates[1].sequences = 1;
  EXPECT_EQ(ChooseByLeastConn(candidates), 11u);
  // Twice the room, twice the requests.
  candidates[0] = {.group = 10, .sequences = 2, .sequences_max = 16, .speed = 16};
  EXPECT_DOUBLE_EQ(LeastConnLoad(candidates[0]), 3.0 / 16);
  EXPECT_EQ(ChooseByLeastConn(candidates), 10u);
}

TEST(Policies, GiveAGroupThatComesBackItsShareOnly) {
  auto candidates = MakeCandidates(2);
  for (Candidate& candidate : candidates) {
    candidate.sequences = 3;
    candidate.work_tokens = 300;
  }
  candidates[0].share = 0.2;
  EXPECT_EQ(ChooseByWlc(candidates), 11u);
  EXPECT_EQ(ChooseByMinres(candidates), 11u);
  EXPECT_EQ(ChooseByLeastConn(candidates), 11u);
  EXPECT_EQ(ChooseByPrefix(candidates, 100), 11u);
  candidates[1].sequences = 30;
  candidates[1].work_tokens = 3'000;
  EXPECT_EQ(ChooseByLeastConn(candidates), 10u);
  EXPECT_EQ(ChooseByPrefix(candidates, 100), 10u);
}

TEST(P2cLeastTokens, DrawsTwoDifferentOnesFromTheStreamsId) {
  const auto candidates = MakeCandidates(4);
  std::mt19937_64 random(5);
  std::set<std::pair<size_t, size_t>> drawn;
  for (int i = 0; i < 1'000; ++i) {
    const StreamId stream{random(), random()};
    const auto two = DrawTwo(candidates, stream);
    EXPECT_NE(two.first, two.second);
    EXPECT_LT(std::max(two.first, two.second), 4u);
    EXPECT_EQ(DrawTwo(candidates, stream), two);
    drawn.insert(two);
  }
  EXPECT_EQ(drawn.size(), 12u);
  EXPECT_EQ(DrawTwo(MakeCandidates(1), {1, 2}), (std::pair<size_t, size_t>{0, 0}));
  for (const uint64_t bits : {uint64_t{0}, UINT64_MAX}) {
    const auto two = DrawTwo(candidates, {bits, bits});
    EXPECT_NE(two.first, two.second);
  }
}

TEST(P2cLeastTokens, DrawsByStrengthAndTakesTheOneWithLessWork) {
  auto candidates = MakeCandidates(3);
  candidates[2].speed = 48;
  candidates[0].work_tokens = 1;
  std::mt19937_64 random(6);
  std::map<uint64_t, int> first;
  for (int i = 0; i < 8'000; ++i) {
    const StreamId stream{random(), random()};
    const auto two = DrawTwo(candidates, stream);
    ++first[two.first];
    const uint64_t chosen = ChooseByP2c(candidates, 64, stream);
    EXPECT_TRUE(chosen == candidates[two.first].group || chosen == candidates[two.second].group);
    if (two == std::pair<size_t, size_t>{0, 1} || two == std::pair<size_t, size_t>{1, 0}) {
      EXPECT_EQ(chosen, 11u);
    }
  }
  EXPECT_NEAR(first[2], 6'000, 300);
  EXPECT_NEAR(first[0], 1'000, 150);
}

TEST(PrefixAware, WeighsWhatIsCachedAgainstWhatIsToBeDone) {
  auto candidates = MakeCandidates(2);
  candidates[1].cached_tokens = 512;
  EXPECT_DOUBLE_EQ(PrefixCost(candidates[0], 600), 600.0 / 8);
  EXPECT_DOUBLE_EQ(PrefixCost(candidates[1], 600), 88.0 / 8);
  EXPECT_EQ(ChooseByPrefix(candidates, 600), 11u);
  candidates[1].work_tokens = 511;
  EXPECT_EQ(ChooseByPrefix(candidates, 600), 11u);
  candidates[1].work_tokens = 512;
  EXPECT_EQ(ChooseByPrefix(candidates, 600), 10u);
  // A group whose steps hold twice as much may have twice the work.
  candidates[1].sequences_max = 16;
  EXPECT_EQ(ChooseByPrefix(candidates, 600), 11u);
}

// When a group goes only its sessions move, and when it is back they come back.
TEST(Rendezvous, MovesOnlyTheSessionsOfTheGroupThatGoes) {
  const auto all = MakeCandidates(8);
  auto fewer = all;
  fewer.erase(fewer.begin() + 3);
  std::map<uint64_t, int> owners;
  for (int i = 0; i < 8'000; ++i) {
    const std::string session = Str("session-", i);
    const uint64_t before = ChooseBySession(all, session, 0, 64).value();
    const uint64_t after = ChooseBySession(fewer, session, 0, 56).value();
    ++owners[before];
    EXPECT_EQ(after == before, before != 13) << session;
  }
  ASSERT_EQ(owners.size(), 8u);
  for (const auto& [group, count] : owners) EXPECT_NEAR(count, 1'000, 130) << group;
}

TEST(Rendezvous, LeavesAGroupThatHasMoreThanItsBound) {
  auto candidates = MakeCandidates(4);
  const uint64_t own = ChooseBySession(candidates, "a", 0, 32).value();
  Candidate& group = candidates[own - 10];
  // A quarter of its slots is always free to its sessions.
  group.sequences = 1;
  EXPECT_EQ(ChooseBySession(candidates, "a", 1, 32), own);
  // Then 1.25 times its share: of 16 and one more, 5.3125, so 6.
  group.sequences = 5;
  EXPECT_TRUE(IsWithinBound(group, 16, 32));
  group.sequences = 6;
  EXPECT_FALSE(IsWithinBound(group, 16, 32));
  const auto second = ChooseBySession(candidates, "a", 16, 32);
  ASSERT_TRUE(second);
  EXPECT_NE(*second, own);
  for (Candidate& candidate : candidates) candidate.sequences = 16;
  EXPECT_EQ(ChooseBySession(candidates, "a", 16, 32), std::nullopt);
}

}  // namespace
}  // namespace shoal::core
