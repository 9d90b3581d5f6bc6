// Our structs through their wire form and back, and messages that are not ours.

#include "transport/rpc/convert/convert.h"
#include <algorithm>

#include <capnp/dynamic.h>
#include <capnp/message.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/every_field.h"
#include "transport/base/error.h"

namespace shoal::rpc {
namespace {

using ::testing::IsEmpty;

GenerationParams RoundTrip(const GenerationParams& params) {
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::GenerationParams>();
  Write(params, wire);
  return Read(wire.asReader());
}

TEST(ConvertGenerationParams, GivesBackEveryField) {
  const GenerationParams every = test::EveryFieldSet();
  EXPECT_THAT(test::DifferentFields(RoundTrip(every), every), IsEmpty());
  EXPECT_EQ(RoundTrip({}), GenerationParams{});
}

// The other way round: what the schema has and the structs have not would be lost without a word.
TEST(ConvertGenerationParams, FillsEveryFieldOfTheSchema) {
  ::capnp::MallocMessageBuilder message;
  auto params = message.initRoot<wire::GenerationParams>();
  Write(test::EveryFieldSet(), params);
  for (::capnp::DynamicStruct::Builder filled :
       {::capnp::toDynamic(params), ::capnp::toDynamic(params.getSampling())}) {
    for (const auto field : filled.getSchema().getFields()) {
      EXPECT_TRUE(filled.has(field, ::capnp::HasMode::NON_DEFAULT))
          << field.getProto().getName().cStr();
    }
  }
}

// Programs of other builds read the same fields at the same places.
TEST(ConvertGenerationParams, PutsEachFieldWhereTheSchemaHasIt) {
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::GenerationParams>();
  GenerationParams params;
  params.sampling.top_p = 0.9;
  params.sampling.min_p = 0.05;
  params.sampling.seed = 0xfedcba9876543210;
  params.sampling.logit_bias = {{5, -1.5F}};
  params.stop_ids = {5, -6};
  params.top_logprobs = 20;
  params.grammar = {GrammarKind::kRegex, "a+"};
  Write(params, wire);
  EXPECT_EQ(wire.getSampling().getTopP(), 0.9);
  EXPECT_EQ(wire.getSampling().getMinP(), 0.05);
  EXPECT_EQ(wire.getSampling().getSeed(), 0xfedcba9876543210);
  EXPECT_EQ(wire.getSampling().getBiasIds()[0], 5);
  EXPECT_EQ(wire.getSampling().getBiases()[0], -1.5F);
  EXPECT_EQ(wire.getStopIds()[1], -6);
  EXPECT_EQ(wire.getTopLogprobs(), 20);
  EXPECT_EQ(wire.getGrammarKind(), wire::GrammarKind::REGEX);
  EXPECT_STREQ(wire.getGrammar().cStr(), "a+");
}

TEST(ConvertServedModel, GivesBackEveryField) {
  // Text is not cut at a NUL: another model's name may begin like it.
  const std::string name("to\0y", 4);
  const ServedModel model = {name, "00ff", 64, 256, 49'152, 96, name + "-1b", "ca4a", 2, 3};
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::ModelInfo>();
  Write(model, wire);
  EXPECT_EQ(Read(wire.asReader()), model);
}

TEST(ConvertRegionStatus, GivesBackEveryField) {
  RegionStatus status;
  status.groups.push_back({2,
                           9,
                           "group 2",
                           "toy-1b",
                           "00ff",
                           2,
                           3,
                           {{0, 41, "node1", "avx2", 2, "joined", "cpu"}, {1}},
                           GroupState::kLost,
                           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                           true,
                           6,
                           "rank 1 died",
                           7,
                           800,
                           true});
  status.models = {{"toy", "00ff", 64}, {"other", "11ff", 32}};
  status.totals.steps_total = 13;
  status.requests_waiting = 6;
  status.requests_total = 7;
  status.requests_coalesced_total = 2;
  status.streams_live = 8;
  status.group_losses_total = 9;
  status.group_losses = {1, 2, 3, 4, 5, 6, 7, 8};
  status.streams_resumed = {8, 7, 6, 5, 4, 3, 2, 1};
  status.streams_adopted_total = 10;
  status.group_restarts_total = 11;
  status.stalls = {3, 2, 1};
  status.stall_seconds_sum = 1.5;
  status.breakers = {{"kv_used > 95: reject_all", true}, {"queue_length > 9: degrade", false}};
  status.requests_rejected = {5, 0, 3};
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::Status>();
  Write(status, wire);
  EXPECT_EQ(Read(wire.asReader()), status);
}

Record MakeRecord(uint64_t number) {
  return {.number = number,
          .time = -5,
          .unix_ms = 1'700'000'000'123,
          .kind = RecordKind::kBreakerOpened,
          .stream = {3, 4},
          .request = "req",
          .tenant = "acme",
          .service_class = ServiceClass::kCriticalPlus,
          .group = 0,
          .reason = BusyReason::kQueueFull,
          .detail = "what",
          .figures = {{"tokens", 1.5, "tenants.yaml:4"}, {}}};
}

TEST(ConvertRecordPage, GivesBackEveryField) {
  const RecordPage page{.records = {MakeRecord(8), {.number = 9}},
                        .more = true,
                        .now_unix_ms = 12,
                        .oldest_unix_ms = 11,
                        .forgotten = 10};
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::RecordPage>();
  Write(page, wire);
  EXPECT_EQ(Read(wire.asReader()), page);
}

TEST(ConvertRecord, GivesBackEveryKindAndReason) {
  for (int i = 0; i < std::max(kRecordKinds, kBusyReasons); ++i) {
    ::capnp::MallocMessageBuilder message;
    auto wire = message.initRoot<wire::Record>();
    Record record;
    record.kind = static_cast<RecordKind>(std::min(i, kRecordKinds - 1));
    record.reason = static_cast<BusyReason>(std::min(i, kBusyReasons - 1));
    Write(record, wire);
    EXPECT_EQ(Read(wire.asReader()), record);
  }
}

TEST(ConvertRecord, RefusesNamesThatItDoesNotKnow) {
  ::capnp::MallocMessageBuilder message;
  auto wire = message.initRoot<wire::Record>();
  Write(Record{}, wire);
  wire.setKind("teleported");
  try {
    Read(wire.asReader());
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(error.what(),
                 "a record of the coordinator has the kind 'teleported', which this build does not "
                 "know: use the coordinator's own release of shoal");
  }
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
  update.preemptions = 4;
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
  EXPECT_EQ(read.preemptions, 4);
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

struct BadTerms {
  std::string expected;
  std::function<void(wire::GenerateRequest::Builder)> make;
};

TEST(Convert, RefusesTermsThatAreOutOfBounds) {
  const std::vector<BadTerms> cases = {
      {"critical_plus, critical, sheddable_plus or sheddable",
       [](wire::GenerateRequest::Builder to) { to.setServiceClass("vip"); }},
      {"expected 0 (none) to 604800000",
       [](wire::GenerateRequest::Builder to) { to.setDeadlineMs(-1); }},
      {"expected 0 (none) to 604800000",
       [](wire::GenerateRequest::Builder to) { to.setDeadlineMs(604'800'001); }},
      {"expected 1 to 1000", [](wire::GenerateRequest::Builder to) { to.setAttempt(0); }},
      {"expected 1 to 1000", [](wire::GenerateRequest::Builder to) { to.setAttempt(1'001); }},
      {"at most 128", [](wire::GenerateRequest::Builder to) { to.setName(std::string(129, 'n')); }},
      {"at most 256",
       [](wire::GenerateRequest::Builder to) { to.setSession(std::string(257, 's')); }},
  };
  for (const BadTerms& bad : cases) {
    ::capnp::MallocMessageBuilder message;
    auto request = message.initRoot<wire::GenerateRequest>();
    GenerateRequest plain;
    plain.prompt = "a";
    Write(plain, request);
    EXPECT_EQ(Read(request.asReader()).terms, RequestTerms());
    bad.make(request);
    try {
      Read(request.asReader());
      ADD_FAILURE() << "taken, though it must be " << bad.expected;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), ::testing::HasSubstr(bad.expected));
    }
  }
}

}  // namespace
}  // namespace shoal::rpc
