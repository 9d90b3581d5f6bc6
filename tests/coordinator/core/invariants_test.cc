// Each invariant of a region is seen when it is broken.

#include "coordinator/core/invariants.h"

#include <functional>

#include "tests/coordinator/core/region_fixture.h"

namespace shoal::core {
namespace {

using ::testing::HasSubstr;

// A group of 2 ranks that is full with streams 1 to 3, and stream 4, which waits.
struct Parts {
  Parts() {
    groups.Register(1, MakeRank(7, 0, 2));
    groups.Register(2, MakeRank(7, 1, 2));
    groups.SetReady(group(), "digest");
    for (int i = 0; i < 4; ++i) {
      Stream stream({{1, 2}, {}});
      stream.key = group().key;
      stream.tokens_needed = 18;
      streams.Add(std::move(stream));
    }
    for (int i = 0; i < 3; ++i) {
      const auto& queue = streams.waiting(group().key);
      group().sequences.insert(streams.Place(queue.front(), group().number).sequence);
    }
  }

  Group& group() { return groups.at(0); }
  Stream& stream(uint64_t low) { return *streams.Find({0, low}); }
  std::string Find() const { return FindBrokenInvariant(groups, streams, options); }

  RegionOptions options;
  Groups groups{options};
  // Streams are 1, 2, ...: every other bit is 0.
  Streams streams{[i = uint64_t{0}]() mutable { return ++i % 2 == 0 ? i / 2 : 0; }};
};

TEST(Invariants, HoldOfAFullRegion) { EXPECT_EQ(Parts().Find(), ""); }

TEST(Invariants, NameWhatIsBroken) {
  const auto expect = [](const std::string& what, const std::function<void(Parts&)>& breach) {
    Parts parts;
    breach(parts);
    EXPECT_THAT(parts.Find(), HasSubstr(what));
  };
  expect("is known as 0", [](Parts& parts) { parts.group().number = 5; });
  expect("two groups have epoch 1", [](Parts& parts) {
    parts.groups.Register(3, MakeRank(8));
    parts.groups.at(1).epoch = 1;
  });
  expect("is complete and sends no canary",
         [](Parts& parts) { parts.groups.Register(3, MakeRank(8)); });
  expect("a canary that it was not given",
         [](Parts& parts) { parts.group().state = GroupState::kCanary; });
  expect("its canary came to other bits, that of others to digest",
         [](Parts& parts) { parts.group().canary_digest = "other bits"; });
  expect("was given 4 sequences, it takes 3",
         [](Parts& parts) { parts.group().sequences.insert(9); });
  expect("connection 9 does not lead to group 0",
         [](Parts& parts) { parts.group().ranks[1]->connection = 9; });
  expect("has toy (numerics id 5), its group toy (numerics id 00112233445566778899aabbccddeeff)",
         [](Parts& parts) { parts.group().ranks[1]->info.numerics_id = "5"; });
  expect("of which nothing is known", [](Parts& parts) {
    parts.group().key.numerics_id = "5";
    for (auto& rank : parts.group().ranks) rank->info.numerics_id = "5";
  });
  expect("are not ready, and its entry differs",
         [](Parts& parts) { parts.group().state = GroupState::kStopping; });
  expect("2 connections lead to 1 ranks", [](Parts& parts) { parts.group().ranks[1].reset(); });

  expect(
      "1 streams wait for toy (numerics id 00112233445566778899aabbccddeeff), at least 1 and "
      "at most 0",
      [](Parts& parts) { parts.options.queue_requests_max = 0; });
  expect("02 has lost its prompt", [](Parts& parts) { parts.stream(2).request.prompt.clear(); });
  expect("02 was brought more", [](Parts& parts) { parts.stream(2).tokens.resize(17); });
  expect("02 was brought more", [](Parts& parts) { parts.stream(2).prompt_logprobs_left = -1; });
  expect("02 has no group and does not wait for one of toy",
         [](Parts& parts) { parts.stream(2).group.reset(); });
  expect("04 waits, and group 0",
         [](Parts& parts) { parts.group().ranks[0]->info.sequences_max = 3; });
  expect("02 is not found by its sequence 7", [](Parts& parts) { parts.stream(2).sequence = 7; });
  expect("02 has a group that is gone", [](Parts& parts) { parts.stream(2).group = 1; });
  expect("which is not ready", [](Parts& parts) { parts.groups.SetStopping(parts.group()); });
  expect("is of toy (numerics id 5), of which nothing is known",
         [](Parts& parts) { parts.stream(2).key.numerics_id = "5"; });
  expect("02 of toy (numerics id 5) is with group 0", [](Parts& parts) {
    RankRegistration other = MakeRank(8);
    other.numerics_id = "5";
    parts.groups.Register(3, other);
    parts.groups.SetReady(parts.groups.at(1), "digest");
    parts.stream(2).key.numerics_id = "5";
  });
  expect("02 is with group 0", [](Parts& parts) {
    parts.group().sequences.erase(2);
    parts.group().sequences.insert(9);
  });
  expect("02 needs 300 tokens", [](Parts& parts) { parts.stream(2).tokens_needed = 300; });
  expect("1 turns in the queues are of 0 streams", [](Parts& parts) {
    parts.group().sequences = {2, 3, 4};
    parts.streams.Remove({0, 1});
    parts.stream(4).group = 0;
  });
}

using RegionDeathTest = RegionTest;

TEST_F(RegionDeathTest, TickEndsTheProcessRatherThanServeFromABrokenState) {
  JoinReady(1, MakeRank(1));
  const StreamId stream = Submit();
  Take();
  TickFor(1'000);
  // Nothing that the region offers breaks it.
  const_cast<StreamMap&>(region_.streams()).at(stream).request.prompt.clear();
  EXPECT_DEATH(TickFor(1'000), "has lost its prompt");
}

}  // namespace
}  // namespace shoal::core
