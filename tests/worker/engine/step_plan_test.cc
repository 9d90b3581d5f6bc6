// The wire form of plans and results: what goes in comes out, and nothing else gets in.

#include "worker/engine/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/support/every_field.h"
#include "transport/base/error.h"

namespace shoal::engine {
namespace {

using ::testing::IsEmpty;

StepPlan FullPlan() {
  StepPlan plan;
  plan.step = 0x1122334455667788;
  plan.ends = {3, 0, 7};
  plan.starts.push_back({5, 99, {1, 2, 3}, 2, test::EveryFieldSet(), {8, 9}});
  plan.starts.push_back({6, 100, {}, 0, {}, {}});
  plan.known = {{1, 42}, {2, 49151}};
  plan.items.push_back({5, 0, 3, true, true, {0, 1, 2}});
  plan.items.push_back({1, 31, 3, true, false, {}, {-5, 7}});
  return plan;
}

StepResult FullResult() {
  StepResult result;
  result.step = 17;
  ItemResult item;
  item.slot = 4;
  item.chosen = {{12, {-0.5F, {{12, -0.5F}, {3, -1.25F}}}}, {49151, {}}};
  item.prompt_logprobs = {{-1, {}}, {-2, {{9, -0.0F}}}};
  result.items.push_back(item);
  ItemResult failed;
  failed.bad_row = 12;
  failed.detail = "layer 7, position 12";
  result.items.push_back(failed);
  return result;
}

template <typename Decode>
void ExpectEveryPrefixRefused(const std::vector<std::byte>& bytes, Decode decode) {
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(decode(std::span(bytes).first(size)), Error) << size << " of " << bytes.size();
  }
  std::vector<std::byte> longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_THROW(decode(std::span<const std::byte>(longer)), Error);
}

// Every single-byte change and many random messages either decode or are refused with an Error.
template <typename Decode>
void ExpectGarbageSurvived(const std::vector<std::byte>& bytes, Decode decode) {
  const auto attempt = [&](std::span<const std::byte> garbage) {
    try {
      decode(garbage);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFailed);
    }
  };
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::vector<std::byte> changed = bytes;
      changed[at] = static_cast<std::byte>(value);
      attempt(changed);
    }
  }
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> noise(random() % 200);
    for (std::byte& value : noise) value = static_cast<std::byte>(random());
    for (size_t i = 0; i < std::min<size_t>(4, noise.size()); ++i) noise[i] = bytes[i];
    attempt(noise);
  }
}

TEST(StepPlanCodec, GivesBackWhatItWasGiven) {
  const std::vector<std::byte> bytes = Encode(FullPlan());
  const StepPlan plan = DecodeStepPlan(bytes);
  EXPECT_EQ(plan.step, FullPlan().step);
  EXPECT_EQ(plan.ends, FullPlan().ends);
  ASSERT_EQ(plan.starts.size(), 2U);
  EXPECT_THAT(test::DifferentFields(plan.starts[0].params, test::EveryFieldSet()), IsEmpty());
  EXPECT_EQ(plan.starts[1].params, GenerationParams());
  EXPECT_EQ(plan.starts[0].tokens, FullPlan().starts[0].tokens);
  EXPECT_EQ(plan.starts[0].prompt_count, 2U);
  EXPECT_EQ(plan.starts[0].blocks, FullPlan().starts[0].blocks);
  EXPECT_EQ(plan.items[0].new_blocks, FullPlan().items[0].new_blocks);
  EXPECT_TRUE(plan.items[0].sample);
  EXPECT_TRUE(plan.items[0].prompt_logits);
  EXPECT_EQ(plan.items[1].drafts, FullPlan().items[1].drafts);
  EXPECT_EQ(plan.row_count(), 6);
  EXPECT_EQ(Encode(plan), bytes);
}

TEST(StepPlanCodec, KeepsTheStop) {
  StepPlan plan;
  plan.stop = true;
  EXPECT_TRUE(DecodeStepPlan(Encode(plan)).stop);
  EXPECT_FALSE(DecodeStepPlan(Encode(StepPlan{})).stop);
}

TEST(StepPlanCodec, RefusesTruncatedAndOverlongPlans) {
  ExpectEveryPrefixRefused(Encode(FullPlan()), DecodeStepPlan);
}

TEST(StepPlanCodec, SurvivesGarbage) { ExpectGarbageSurvived(Encode(FullPlan()), DecodeStepPlan); }

TEST(StepResultCodec, GivesBackWhatItWasGiven) {
  const std::vector<std::byte> bytes = Encode(FullResult());
  const StepResult result = DecodeStepResult(bytes);
  EXPECT_EQ(result.step, 17U);
  ASSERT_EQ(result.items.size(), 2U);
  ASSERT_EQ(result.items[0].chosen.size(), 2U);
  EXPECT_EQ(result.items[0].chosen[0].token, 12);
  EXPECT_EQ(result.items[0].chosen[0].logprobs, FullResult().items[0].chosen[0].logprobs);
  EXPECT_EQ(result.items[0].chosen[1].token, 49151);
  EXPECT_EQ(result.items[0].prompt_logprobs, FullResult().items[0].prompt_logprobs);
  EXPECT_EQ(result.items[0].bad_row, -1);
  EXPECT_EQ(result.items[1].bad_row, 12);
  EXPECT_EQ(result.items[1].detail, "layer 7, position 12");
  EXPECT_EQ(Encode(result), bytes);
}

TEST(StepResultCodec, RefusesTruncatedAndOverlongResults) {
  ExpectEveryPrefixRefused(Encode(FullResult()), DecodeStepResult);
}

TEST(StepResultCodec, SurvivesGarbage) {
  ExpectGarbageSurvived(Encode(FullResult()), DecodeStepResult);
}

TEST(StepResultCodec, RefusesAPlan) {
  EXPECT_THROW(DecodeStepResult(Encode(FullPlan())), Error);
  EXPECT_THROW(DecodeStepPlan(Encode(FullResult())), Error);
}

}  // namespace
}  // namespace shoal::engine
