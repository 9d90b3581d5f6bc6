// Held streams cut into messages.

#include "transport/rpc/hand_over_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::rpc {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

HeldStream Held(uint64_t id, size_t prompt, size_t tokens, FinishReason finish) {
  HeldStream held;
  held.request = {.id = id, .prompt = std::vector<int32_t>(prompt, 3), .resumable = true};
  held.request.stream = {1, id};
  held.all.id = id;
  for (size_t i = 0; i < tokens; ++i) {
    held.all.tokens.push_back(static_cast<int32_t>(i));
    held.all.logprobs.push_back({-1, {{static_cast<int32_t>(i), -1}}});
  }
  held.all.finish = finish;
  held.all.detail = "d";
  held.all.cached_tokens = 2;
  return held;
}

TEST(HandOverQueue, CutsLongStreamsAndKeepsShortOnesTogether) {
  const std::vector<HeldStream> streams = {
      Held(1, 4, 3, FinishReason::kNone), Held(2, 4, 0, FinishReason::kNone),
      Held(3, 4, 900, FinishReason::kStop), Held(4, 2'000, 10, FinishReason::kLength),
      Held(5, 4, 1, FinishReason::kStop)};
  HandOverQueue queue;
  for (const HeldStream& held : streams) queue.Add(held);
  std::vector<HeldStream> joined;
  size_t messages = 0;
  for (; !queue.empty(); ++messages) {
    const std::vector<HeldStream> taken = queue.Take(4'096);
    ASSERT_FALSE(taken.empty());
    if (messages == 0) {
      EXPECT_THAT(taken, SizeIs(3)) << "two short ones, and one's beginning";
    }
    for (const HeldStream& part : taken) {
      if (!part.request.prompt.empty()) {
        joined.push_back(part);
        continue;
      }
      SequenceUpdate& all = joined.back().all;
      EXPECT_EQ(part.request.id, joined.back().request.id);
      EXPECT_EQ(part.all.tokens_before, static_cast<int64_t>(all.tokens.size()));
      EXPECT_EQ(all.finish, FinishReason::kNone) << "the end comes with the last part";
      all.tokens.insert(all.tokens.end(), part.all.tokens.begin(), part.all.tokens.end());
      all.logprobs.insert(all.logprobs.end(), part.all.logprobs.begin(), part.all.logprobs.end());
      all.finish = part.all.finish;
      all.detail = part.all.detail;
      all.cached_tokens += part.all.cached_tokens;
    }
  }
  EXPECT_GT(messages, 4U);
  EXPECT_EQ(joined, streams);
  EXPECT_THAT(queue.Take(4'096), IsEmpty());
}

}  // namespace
}  // namespace shoal::rpc
