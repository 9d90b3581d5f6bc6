// Our structs through their wire form and back, and messages that are not ours.

#include "transport/rpc/convert.h"

#include <capnp/message.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/base/error.h"

namespace shoal::rpc {
namespace {

GenerationParams RoundTrip(const GenerationParams& params) {
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::GenerationParams>();
  Write(params, wire);
  return Read(wire.asReader());
}

TEST(ConvertGenerationParams, GivesBackEveryField) {
  GenerationParams params;
  params.sampling = {.temperature = 0.5,
                     .top_k = 40,
                     .top_p = 0.9,
                     .min_p = 0.05,
                     .seed = 0xfedcba9876543210,
                     .choice = 3,
                     .typical_p = 0.75,
                     .repetition_penalty = 1.1,
                     .frequency_penalty = -2,
                     .presence_penalty = 0.3,
                     .logit_bias = {{49151, -100.0F}, {0, 0.1F}},
                     .min_tokens = 12};
  params.tokens_max = int64_t{1} << 40;
  params.stop_ids = {5, -6};
  params.prompt_logprobs = true;
  params.top_logprobs = 20;
  EXPECT_EQ(RoundTrip(params), params);
  EXPECT_EQ(RoundTrip({}), GenerationParams{});
}

// A peer that does not know a field leaves it out, and means what it meant before there was one.
TEST(ConvertGenerationParams, ReadsAbsentSamplingFieldsAsWithoutEffect) {
  ::capnp::MallocMessageBuilder message;
  const auto wire = message.initRoot<wire::GenerationParams>();
  EXPECT_EQ(Read(wire.asReader()).sampling, SamplingParams{});
}

TEST(ConvertSequenceUpdate, GivesBackEveryField) {
  SequenceUpdate update;
  update.id = 7;
  update.tokens = {1, 2};
  update.logprobs = {{-0.5F, {{1, -0.5F}}}, {-1.5F, {{3, -0.25F}}}};
  update.cached_tokens = 96;
  update.finish = FinishReason::kLength;
  update.detail = "detail";
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::SequenceUpdate>();
  Write(update, wire);
  SequenceUpdate read = Read(wire.asReader());
  EXPECT_EQ(read.id, 7U);
  EXPECT_EQ(read.tokens, update.tokens);
  EXPECT_EQ(read.logprobs, update.logprobs);
  EXPECT_EQ(read.cached_tokens, 96);
  EXPECT_EQ(read.finish, FinishReason::kLength);
  EXPECT_EQ(read.detail, "detail");
}

TEST(ConvertGenerationParams, RefusesBiasesThatDoNotFitTheirIds) {
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::GenerationParams>();
  wire.initSampling().initBiasIds(3);
  try {
    Read(wire.asReader());
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(error.what(), "logit biases: expected one value for each of 3 ids, found 0");
  }
}

}  // namespace
}  // namespace shoal::rpc
