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
      stream.grant = tenants.Adopt("", ServiceClass::kCritical);
      streams.Add(std::move(stream));
    }
    for (int i = 0; i < 3; ++i) {
      const StreamId next = *streams.Next(group().key, ServiceClass::kSheddable);
      const Stream& stream = streams.Place(next, group().number, streams.TakeSequence());
      group().Give(stream.sequence, {ServiceClass::kCritical, stream.work_left()});
    }
  }

  Group& group() { return groups.at(0); }
  Stream& stream(uint64_t low) { return *streams.Find({0, low}); }
  std::string Find() const {
    return FindBrokenInvariant(groups, streams, ended, flights, tenants, deadlines, options);
  }

  RegionOptions options;
  EndedStreams ended;
  DeadlineSet deadlines;
  Flights flights;
  Tenants tenants{nullptr, true};
  Groups groups{options};
  // Streams are 1, 2, ...: every other bit is 0.
  Streams streams{[i = uint64_t{0}]() mutable { return ++i % 2 == 0 ? i / 2 : 0; }, 0, 3};
};

TEST(Invariants, HoldOfAFullRegion) { EXPECT_EQ(Parts().Find(), ""); }

void ExpectBroken(const std::string& what, const std::function<void(Parts&)>& breach) {
  Parts parts;
  breach(parts);
  EXPECT_THAT(parts.Find(), HasSubstr(what));
}

TEST(Invariants, NameWhatIsBrokenInAGroup) {
  ExpectBroken("is known as 0", [](Parts& parts) { parts.group().number = 5; });
  ExpectBroken("two groups have epoch 1", [](Parts& parts) {
    parts.groups.Register(3, MakeRank(8));
    parts.groups.at(1).epoch = 1;
  });
  ExpectBroken("is complete and sends no canary",
               [](Parts& parts) { parts.groups.Register(3, MakeRank(8)); });
  ExpectBroken("a canary that it was not given",
               [](Parts& parts) { parts.group().state = GroupState::kCanary; });
  ExpectBroken("its canary came to other bits, that of others to digest",
               [](Parts& parts) { parts.group().canary_digest = "other bits"; });
  ExpectBroken("was given 4 sequences, it takes 3",
               [](Parts& parts) { parts.group().sequences.insert(9); });
  ExpectBroken("connection 9 does not lead to group 0",
               [](Parts& parts) { parts.group().ranks[1]->connection = 9; });
  ExpectBroken(
      "has toy (numerics id 5), its group toy (numerics id 00112233445566778899aabbccddeeff)",
      [](Parts& parts) { parts.group().ranks[1]->info.numerics_id = "5"; });
  ExpectBroken("of which nothing is known", [](Parts& parts) {
    parts.group().key.numerics_id = "5";
    for (auto& rank : parts.group().ranks) rank->info.numerics_id = "5";
  });
  ExpectBroken("are not ready, and its entry differs",
               [](Parts& parts) { parts.group().state = GroupState::kStopping; });
  ExpectBroken("2 connections lead to 1 ranks",
               [](Parts& parts) { parts.group().ranks[1].reset(); });
}

TEST(Invariants, NameWhatIsBrokenWhereGroupsComeBackAndLeave) {
  ExpectBroken("has an epoch that is not above 0 and up to 1",
               [](Parts& parts) { parts.group().epoch = 2; });
  ExpectBroken("is drained without a deadline",
               [](Parts& parts) { parts.group().state = GroupState::kDraining; });
  ExpectBroken("ends and is to get a canary", [](Parts& parts) {
    parts.group().state = GroupState::kStopping;
    parts.group().canary_due = true;
  });
  ExpectBroken("was given sequence 9, the last one is 3", [](Parts& parts) {
    parts.group().Forget(3);
    parts.group().sequences.insert(9);
  });
  ExpectBroken("has sequence 9 on trial, which it was not given",
               [](Parts& parts) { parts.group().trial = 9; });
  ExpectBroken("was given sequence 2 of stream 00000000000000000000000000000002, which is not",
               [](Parts& parts) { parts.stream(2).group = 1; });
  ExpectBroken("connection 2 of a rank that is away leads to 0",
               [](Parts& parts) { parts.group().ranks[1]->away = "closed"; });
  ExpectBroken("0 ranks of group 0", [](Parts& parts) { parts.group().ranks_away = 1; });
  ExpectBroken("02 lives, and nobody can want it",
               [](Parts& parts) { parts.stream(2).detached_since = 0; });
  ExpectBroken("02 lives and has ended", [](Parts& parts) {
    parts.ended.Add({0, 2}, {.stream = parts.stream(2), .end = {}, .holder = {}});
  });
}

TEST(Invariants, NameWhatIsBrokenInAStream) {
  ExpectBroken(
      "1 new streams wait for toy (numerics id 00112233445566778899aabbccddeeff), at most 0",
      [](Parts& parts) { parts.options.queue_requests_max = 0; });
  ExpectBroken("02 has lost its prompt",
               [](Parts& parts) { parts.stream(2).request.prompt.clear(); });
  ExpectBroken("02 was brought more", [](Parts& parts) { parts.stream(2).tokens.resize(17); });
  ExpectBroken("02 was brought more",
               [](Parts& parts) { parts.stream(2).prompt_logprobs_left = -1; });
  ExpectBroken("02 has no group and does not wait for one of toy", [](Parts& parts) {
    parts.stream(2).group.reset();
    parts.stream(2).sequence = 0;
    parts.group().Forget(2);
  });
  ExpectBroken("04 waits, and group 0",
               [](Parts& parts) { parts.group().ranks[0]->info.sequences_max = 3; });
  ExpectBroken("02 is not found by its sequence 7",
               [](Parts& parts) { parts.stream(2).sequence = 7; });
  ExpectBroken("02 has a group that is gone", [](Parts& parts) {
    parts.stream(2).group = 1;
    parts.group().Forget(2);
  });
  ExpectBroken("which is not ready",
               [](Parts& parts) { parts.groups.SetEnding(parts.group(), GroupState::kStopping); });
  ExpectBroken("04 waits, and has sequence 9", [](Parts& parts) { parts.stream(4).sequence = 9; });
  ExpectBroken("02 has a group and is to wait for one",
               [](Parts& parts) { parts.stream(2).parked.emplace(); });
  ExpectBroken("02 has a group and is to wait for one",
               [](Parts& parts) { parts.stream(2).stranded_since = 0; });
  ExpectBroken("02 has lost 2 groups and is not alone with group 0",
               [](Parts& parts) { parts.stream(2).groups_lost = 2; });
  ExpectBroken("02 has lost 3 groups and goes on",
               [](Parts& parts) { parts.stream(2).groups_lost = 3; });
  ExpectBroken("02 of toy (numerics id 5) is with group 0", [](Parts& parts) {
    RankRegistration other = MakeRank(8);
    other.numerics_id = "5";
    parts.groups.Register(3, other);
    parts.groups.SetReady(parts.groups.at(1), "digest");
    parts.stream(2).key.numerics_id = "5";
  });
  ExpectBroken("02 is with group 0", [](Parts& parts) { parts.group().Forget(2); });
  ExpectBroken("02 needs 300 tokens", [](Parts& parts) { parts.stream(2).tokens_needed = 300; });
  ExpectBroken("1 turns in the queues are of 0 streams", [](Parts& parts) {
    parts.stream(4).arrival = 99;
    parts.streams.Remove({0, 4});
  });
}

TEST(Invariants, NameWhatIsBrokenInWhatIsWatched) {
  ExpectBroken("the deadline of stream 00000000000000000000000000000002 is not watched",
               [](Parts& parts) { parts.stream(2).deadline = 5; });
  ExpectBroken("4 streams without a token and 1 deadlines are watched, there are 4 and 0",
               [](Parts& parts) {
                 parts.deadlines.emplace(5, StreamId{0, 2});
               });
  ExpectBroken("02 has 1 tokens, and is among those without one",
               [](Parts& parts) { parts.stream(2).tokens = {4}; });
  ExpectBroken("02 has 0 tokens, and is not among those without one", [](Parts& parts) {
    parts.streams.NoteAnswered({0, 2});
  });
}

TEST(Invariants, NameWhatIsBrokenInWhatTenantsAreCountedToHave) {
  ExpectBroken("counts sequence 2 in another class than sheddable", [](Parts& parts) {
    parts.stream(2).grant.service_class = ServiceClass::kSheddable;
  });
  ExpectBroken(
      "the streams of tenant '' are 4, with 0 tokens of its quota; it is counted to have 5",
      [](Parts& parts) { parts.tenants.Adopt("", ServiceClass::kCritical); });
  ExpectBroken(
      "the streams of tenant '' are 4, with 7 tokens of its quota; it is counted to have 4",
      [](Parts& parts) { parts.stream(2).grant.tokens = 7; });
  ExpectBroken(
      "the streams of tenant '' are 3, with 0 tokens of its quota; it is counted to have 4",
      [](Parts& parts) { parts.stream(4).grant.tenant = "other"; });
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
