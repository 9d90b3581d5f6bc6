// Updates cut into messages, and taking turns in them.

#include "transport/rpc/update_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr size_t kPositionBytes = 4 + 20 * 8;

TokenLogprobs Position(int32_t index) {
  TokenLogprobs position{.logprob = -static_cast<float>(index), .top = {}};
  for (int32_t i = 0; i < 20; ++i) position.top.emplace_back(index + i, -static_cast<float>(i));
  return position;
}

SequenceUpdate Update(uint64_t id, int32_t prompt_positions, int32_t tokens) {
  SequenceUpdate update;
  update.id = id;
  for (int32_t i = 0; i < prompt_positions; ++i) update.prompt_logprobs.push_back(Position(i));
  for (int32_t i = 0; i < tokens; ++i) {
    update.tokens.push_back(1'000 + i);
    update.logprobs.push_back(Position(1'000 + i));
  }
  return update;
}

size_t Positions(const SequenceUpdate& update) {
  return update.prompt_logprobs.size() + update.tokens.size();
}

TEST(UpdateQueue, CutsWhatIsLongAndLosesNothing) {
  SequenceUpdate whole = Update(7, 5'000, 300);
  whole.cached_tokens = 96;
  whole.finish = FinishReason::kNumericError;
  whole.detail = "layer 7, position 12";
  whole.no_room = true;
  whole.preemptions = 3;
  UpdateQueue queue;
  queue.Add(whole);
  SequenceUpdate joined;
  size_t messages = 0;
  for (; !queue.empty(); ++messages) {
    EXPECT_EQ(joined.finish, FinishReason::kNone) << "before the last part";
    const std::vector<SequenceUpdate> taken = queue.Take(64 * 1024);
    ASSERT_EQ(taken.size(), 1U);
    const SequenceUpdate& part = taken[0];
    EXPECT_LE(Positions(part) * kPositionBytes, 64U * 1024);
    EXPECT_TRUE(part.prompt_logprobs.empty() || joined.tokens.empty()) << "the prompt comes first";
    EXPECT_EQ(part.logprobs.size(), part.tokens.size());
    joined.prompt_logprobs.insert(joined.prompt_logprobs.end(), part.prompt_logprobs.begin(),
                                  part.prompt_logprobs.end());
    joined.tokens.insert(joined.tokens.end(), part.tokens.begin(), part.tokens.end());
    joined.logprobs.insert(joined.logprobs.end(), part.logprobs.begin(), part.logprobs.end());
    joined.cached_tokens += part.cached_tokens;
    joined.finish = part.finish;
    joined.detail = part.detail;
    joined.no_room = part.no_room;
    EXPECT_EQ(part.preemptions, 3);
  }
  EXPECT_EQ(messages, (5'300 * kPositionBytes) / (64 * 1024) + 1);
  EXPECT_EQ(queue.bytes(), 0U);
  EXPECT_THAT(queue.Take(64 * 1024), IsEmpty());
  EXPECT_EQ(joined.prompt_logprobs, whole.prompt_logprobs);
  EXPECT_EQ(joined.tokens, whole.tokens);
  EXPECT_EQ(joined.logprobs, whole.logprobs);
  EXPECT_EQ(joined.cached_tokens, 96);
  EXPECT_EQ(joined.finish, whole.finish);
  EXPECT_EQ(joined.detail, whole.detail);
  EXPECT_TRUE(joined.no_room);
}

TEST(UpdateQueue, LetsOthersSpeakBetweenThePartsOfALongOne) {
  UpdateQueue queue;
  queue.Add(Update(1, 1'000, 0));
  const auto ids = [&] {
    std::vector<uint64_t> found;
    for (const SequenceUpdate& part : queue.Take(16 * 1024)) found.push_back(part.id);
    return found;
  };
  queue.Add(Update(2, 0, 1));
  queue.Add(Update(3, 0, 1));
  EXPECT_THAT(ids(), ElementsAre(1, 2)) << "the last one is cut to what is left, not left out";
  EXPECT_THAT(ids(), ElementsAre(3, 1));
  queue.Add(Update(2, 0, 1));
  EXPECT_THAT(ids(), ElementsAre(1, 2));
}

TEST(UpdateQueue, GoesOnFromWhatWaits) {
  UpdateQueue queue;
  queue.Add(Update(1, 0, 3));
  const std::vector<SequenceUpdate> first = queue.Take(1);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_THAT(first[0].tokens, ElementsAre(1'000)) << "at least one, whatever its size";
  SequenceUpdate end = Update(1, 0, 1);
  end.finish = FinishReason::kLength;
  queue.Add(std::move(end));
  const std::vector<SequenceUpdate> rest = queue.Take(1 << 20);
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_THAT(rest[0].tokens, ElementsAre(1'001, 1'002, 1'000));
  EXPECT_THAT(rest[0].logprobs, ElementsAre(Position(1'001), Position(1'002), Position(1'000)));
  EXPECT_EQ(rest[0].finish, FinishReason::kLength);
  EXPECT_EQ(queue.bytes(), 0U);
}

}  // namespace
}  // namespace shoal::rpc
