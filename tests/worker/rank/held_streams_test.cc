// What a leader remembers, and for how long.

#include "worker/rank/serving/held_streams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::rank {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kGraceMs = 30'000;

SequenceRequest Request(uint64_t id, bool resumable, size_t generated = 0) {
  SequenceRequest request;
  request.id = id;
  request.prompt = {1, 2, 3};
  request.params.tokens_max = 1'000'000;
  request.generated.assign(generated, 7);
  request.resumable = resumable;
  return request;
}

SequenceUpdate Update(uint64_t id, int64_t before, std::vector<int32_t> tokens,
                      FinishReason finish = FinishReason::kNone) {
  SequenceUpdate update;
  update.id = id;
  update.tokens_before = before;
  update.tokens = std::move(tokens);
  update.finish = finish;
  return update;
}

std::vector<uint64_t> Ids(const std::vector<HeldStream>& streams) {
  std::vector<uint64_t> ids;
  for (const HeldStream& stream : streams) ids.push_back(stream.request.id);
  return ids;
}

std::vector<uint64_t> Ids(const std::vector<SequenceUpdate>& updates) {
  std::vector<uint64_t> ids;
  for (const SequenceUpdate& update : updates) ids.push_back(update.id);
  return ids;
}

TEST(HeldStreams, JoinsAllThatCameOfASequence) {
  HeldStreams held;
  SequenceRequest request = Request(4, true, 2);
  request.params.prompt_logprobs = true;
  request.prompt_logprobs_given = true;
  held.Begin(request);
  EXPECT_TRUE(held.Add(Update(4, 2, {10, 11}), 0));
  SequenceUpdate second = Update(4, 4, {12}, FinishReason::kStop);
  second.logprobs = {{-1, {}}};
  second.cached_tokens = 3;
  second.detail = "x";
  EXPECT_TRUE(held.Add(second, 0));
  EXPECT_FALSE(held.Add(Update(4, 5, {13}), 0)) << "it has ended";
  EXPECT_FALSE(held.Add(Update(5, 0, {13}), 0)) << "nobody knows it";
  const SequenceUpdate all = *held.All(4);
  EXPECT_EQ(all.tokens_before, 2);
  EXPECT_EQ(all.prompt_logprobs_before, 2);
  EXPECT_THAT(all.tokens, ElementsAre(10, 11, 12));
  EXPECT_THAT(all.logprobs, SizeIs(1));
  EXPECT_EQ(all.cached_tokens, 3);
  EXPECT_EQ(all.finish, FinishReason::kStop);
  EXPECT_EQ(all.detail, "x");
  const HeldStreams::Told told = held.HandOver();
  ASSERT_THAT(told.streams, SizeIs(1));
  EXPECT_EQ(told.streams[0], (HeldStream{request, all}));
}

TEST(HeldStreams, TellsACoordinatorThatIsBackOfEverythingThatIsLiveOrHasJustEnded) {
  HeldStreams held;
  held.Begin(Request(1, false));
  held.Begin(Request(2, true));
  held.Begin(Request(3, false));
  held.Begin(Request(4, true));
  held.Refuse(Update(5, 0, {}, FinishReason::kCancelled), 0);
  held.Add(Update(1, 0, {10}), 0);
  held.Add(Update(3, 0, {10}, FinishReason::kStop), 0);
  held.Add(Update(4, 0, {10}, FinishReason::kStop), 0);
  held.Orphan(kSecondNs, kGraceMs);
  const HeldStreams::Told told = held.SendAgain();
  EXPECT_THAT(Ids(told.updates), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_TRUE(told.updates[1].tokens.empty());
  EXPECT_THAT(told.cancelled, IsEmpty());
  EXPECT_THAT(held.Expire(2 * kSecondNs), IsEmpty());
  EXPECT_THAT(Ids(held.SendAgain().updates), ElementsAre(1, 2, 4)) << "2 s after its end";
  EXPECT_THAT(held.Expire(1'000 * kSecondNs), IsEmpty()) << "there is a coordinator";
  EXPECT_TRUE(held.Knows(4)) << "until it is released";
}

TEST(HeldStreams, HandsTheResumableOverAndForgetsTheRest) {
  HeldStreams held;
  for (uint64_t id = 1; id <= 5; ++id) held.Begin(Request(id, id % 2 == 0));
  held.Add(Update(4, 0, {10}, FinishReason::kStop), 0);
  held.Add(Update(5, 0, {10}, FinishReason::kStop), 0);
  held.Orphan(0, kGraceMs);
  const HeldStreams::Told told = held.HandOver();
  EXPECT_THAT(Ids(told.streams), ElementsAre(2, 4));
  EXPECT_THAT(told.cancelled, ElementsAre(1, 3));
  EXPECT_FALSE(held.Add(Update(1, 0, {}, FinishReason::kCancelled), 0)) << "nobody knows it now";
  EXPECT_TRUE(held.Add(Update(2, 0, {10}), 0));
  // Cut off in its middle, by a coordinator that has begun to ask.
  held.Begin(Request(9, false));
  const HeldStreams::Told again = held.HandOverAgain();
  EXPECT_THAT(Ids(again.streams), ElementsAre(2, 4));
  EXPECT_THAT(again.streams[0].all.tokens, ElementsAre(10));
  EXPECT_THAT(Ids(again.updates), ElementsAre(9));
  EXPECT_THAT(again.cancelled, IsEmpty());
}

TEST(HeldStreams, EndsWhatIsNotResumableAfterTwoSecondsAndTheRestAfterItsGrace) {
  HeldStreams held;
  for (uint64_t id = 1; id <= 4; ++id) held.Begin(Request(id, id > 2));
  held.Add(Update(4, 0, {10}, FinishReason::kStop), 0);
  held.Orphan(kSecondNs, kGraceMs);
  held.Orphan(20 * kSecondNs, kGraceMs);  // Lost again before anybody was told: no new time.
  EXPECT_THAT(held.Expire(3 * kSecondNs - 1), IsEmpty());
  EXPECT_THAT(held.Expire(3 * kSecondNs), ElementsAre(1, 2));
  EXPECT_THAT(held.Expire(31 * kSecondNs - 1), IsEmpty());
  EXPECT_TRUE(held.Knows(4));
  EXPECT_THAT(held.Expire(31 * kSecondNs), ElementsAre(3));
  EXPECT_EQ(held.size(), 0U);
  EXPECT_EQ(held.bytes(), 0U);
}

TEST(HeldStreams, ShortGraceIsForAll) {
  HeldStreams held;
  held.Begin(Request(1, false));
  held.Orphan(0, 100);
  EXPECT_THAT(held.Expire(100 * kMillisecondNs), ElementsAre(1));
}

TEST(HeldStreams, ForgetsWhatIsReleased) {
  HeldStreams held;
  held.Begin(Request(1, true));
  held.Begin(Request(2, true));
  held.Add(Update(1, 0, {10}, FinishReason::kStop), 0);
  held.Release(1);
  held.Release(2);  // Lives on, and is not held once it has ended.
  held.Release(3);
  EXPECT_FALSE(held.Knows(1));
  EXPECT_TRUE(held.Add(Update(2, 0, {10}, FinishReason::kStop), 0));
  EXPECT_EQ(held.ended_count(), 0U);
  static_cast<void>(held.Expire(2 * kSecondNs));
  EXPECT_EQ(held.size(), 0U);
  EXPECT_EQ(held.bytes(), 0U);
}

TEST(HeldStreams, DoesNotHoldWhatWasCancelled) {
  HeldStreams held;
  held.Begin(Request(1, true));
  held.Add(Update(1, 0, {10}), 0);
  held.Add(Update(1, 1, {}, FinishReason::kCancelled), 0);
  EXPECT_EQ(held.ended_count(), 0U);
  EXPECT_THAT(Ids(held.SendAgain().updates), ElementsAre(1)) << "its coordinator may not know yet";
  held.Orphan(0, kGraceMs);
  const HeldStreams::Told again = held.HandOverAgain();
  EXPECT_THAT(again.streams, IsEmpty());
  EXPECT_THAT(Ids(again.updates), ElementsAre(1));
  EXPECT_THAT(held.HandOver().streams, IsEmpty());
  EXPECT_FALSE(held.Knows(1));
  held.Begin(Request(2, true));
  held.Add(Update(2, 0, {}, FinishReason::kCancelled), 0);
  static_cast<void>(held.Expire(2 * kSecondNs));
  EXPECT_EQ(held.size(), 0U);
  EXPECT_EQ(held.bytes(), 0U);
}

TEST(HeldStreams, KeepsTheNewestOfThoseThatHaveEnded) {
  HeldStreams held({.ended_max = 3});
  for (uint64_t id = 1; id <= 5; ++id) {
    held.Begin(Request(id, true));
    held.Add(Update(id, 0, {10}, FinishReason::kLength), 0);
  }
  EXPECT_EQ(held.ended_count(), 3U);
  EXPECT_THAT(Ids(held.HandOver().streams), ElementsAre(3, 4, 5));
}

// First what has ended is forgotten, then the longest of those that live: it goes on, and ends with
// its coordinator.
TEST(HeldStreams, KeepsWithinItsBytes) {
  HeldStreams held({.bytes_max = 10'000});
  held.Begin(Request(1, true));
  held.Add(Update(1, 0, {10}, FinishReason::kStop), 0);
  held.Begin(Request(2, true));
  held.Begin(Request(3, true));
  held.Add(Update(2, 0, std::vector<int32_t>(2'200)), 0);
  EXPECT_FALSE(held.Knows(1));
  EXPECT_TRUE(held.All(2).has_value());
  held.Add(Update(3, 0, std::vector<int32_t>(200)), 0);
  EXPECT_LE(held.bytes(), 10'000U);
  EXPECT_TRUE(held.Knows(2));
  EXPECT_FALSE(held.All(2).has_value());
  EXPECT_TRUE(held.Add(Update(2, 2'200, {5}), 0)) << "its coordinator still hears of it";
  EXPECT_TRUE(held.All(3).has_value());
  const HeldStreams::Told told = held.SendAgain();
  EXPECT_THAT(Ids(told.updates), ElementsAre(3));
  EXPECT_THAT(told.cancelled, ElementsAre(2));
  EXPECT_FALSE(held.Knows(2));
}

TEST(HeldStreams, EndsWhatItDoesNotHoldWithItsUpdate) {
  HeldStreams held({.bytes_max = 1});
  held.Begin(Request(1, true));
  EXPECT_TRUE(held.Knows(1));
  EXPECT_TRUE(held.Add(Update(1, 0, {5}, FinishReason::kStop), 0));
  EXPECT_FALSE(held.Knows(1));
  EXPECT_EQ(held.bytes(), 0U);
}

}  // namespace
}  // namespace shoal::rank
