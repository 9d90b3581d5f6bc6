// One flipped bit in one rank's copy of a sum ends the group within that step, and nothing of the
// step is told; without one nobody is suspected. (The exact runs of all other tests compare their
// ranks' digests too.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/table.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/rank_runner.h"
#include "tests/support/trial/trial_group.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "worker/engine/schedule/scheduler.h"
#include "worker/rank/group_member.h"

namespace shoal::test {
namespace {

using nlohmann::json;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int64_t kContext = 256;
constexpr int64_t kBlocks = 64;

struct FaultCase {
  plan::Cut cut{2, 1};
  RankKind kind = RankKind::kShm;
  forward::Numerics numerics = forward::Numerics::kExact;
  double temperature = 0;
  int64_t chunk = 100;
  int32_t guesses = 0;
  std::optional<forward::PlantedFault> fault;
};

ModelSpec FaultSpec() {
  ModelSpec spec;
  spec.name = "fault";
  spec.layer_count = 4;
  spec.hidden_dim = 128;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.ffn_dim = 256;
  spec.vocab_size = 300;
  spec.context_tokens = kContext;
  return spec;
}

// A prompt of several chunks, sequence-parallel ones among them, and short ones.
std::vector<SequenceRequest> FaultRequests(double temperature) {
  std::vector<SequenceRequest> requests;
  for (const int32_t length : {130, 5, 1}) {
    SequenceRequest& request = requests.emplace_back();
    request.id = requests.size();
    for (int32_t i = 0; i < length; ++i) request.prompt.push_back(i * 37 % 300);
    request.params.sampling.temperature = temperature;
    request.params.sampling.seed = 3;
    request.params.tokens_max = 12;
  }
  return requests;
}

// By sequence, the tokens that came, and of each the step that brought it.
json LeadUntilTheEnd(rank::GroupMember& member, const FaultCase& options) {
  engine::Scheduler scheduler({.sequences_max = 4,
                               .prefill_chunk_tokens = options.chunk,
                               .kv_block_count = kBlocks,
                               .context_tokens = kContext,
                               .steps_in_flight_max = options.cut.pipeline_parallel,
                               .speculation_tokens_max = options.guesses});
  json told = {{"tokens", json::object()}, {"steps", json::object()}, {"error", ""}};
  for (SequenceRequest& request : FaultRequests(options.temperature)) {
    SHOAL_CHECK(scheduler.Submit(std::move(request)) == engine::SubmitOutcome::kAccepted);
  }
  uint64_t collected = 0;
  try {
    while (!scheduler.idle() || member.step().in_flight() > 0) {
      if (const std::optional<engine::StepPlan> plan = scheduler.NextStep()) {
        member.step().Issue(*plan);
        continue;
      }
      const engine::StepResult result = member.step().Collect();
      collected = result.step;
      scheduler.OnResult(result);
      for (const SequenceUpdate& update : scheduler.TakeUpdates()) {
        for (const int32_t token : update.tokens) {
          told["tokens"][std::to_string(update.id)].push_back(token);
          told["steps"][std::to_string(update.id)].push_back(collected);
        }
      }
    }
    member.step().Issue(scheduler.StopStep());
    static_cast<void>(member.step().Collect());
  } catch (const Error& error) {
    told["error"] = Str(ToString(error.code()), ": ", error.what());
  }
  return told;
}

std::string RunFaultRank(const model::Model& model, const FaultCase& options,
                         comm::Communicator& group) {
  const SteadyClock clock;
  device::ThreadTeam team(1);
  rank::GroupMemberOptions member_options;
  member_options.step_timeout_ms = kPatienceMs;
  member_options.model.cut = options.cut;
  member_options.model.numerics = options.numerics;
  member_options.model.kv_block_count = kBlocks;
  member_options.model.context_tokens = kContext;
  member_options.model.sequences_max = 4;
  member_options.model.prefill_chunk_tokens = options.chunk;
  member_options.model.planted_fault = options.fault;
  rank::GroupMember member(model, member_options,
                           cpu::SelectKernelTable(cpu::DetectCpuFeatures(), ""), team, clock,
                           group);
  json told = {{"error", ""}};
  if (member.leads()) {
    told = LeadUntilTheEnd(member, options);
  } else {
    try {
      while (member.step().Follow()) {
      }
    } catch (const Error& error) {
      told["error"] = Str(ToString(error.code()), ": ", error.what());
    }
  }
  if (told["error"] != "") group.Abort();
  return told.dump();
}

std::vector<json> RunFaultGroup(const model::Model& model, const FaultCase& options) {
  const auto results =
      RunRanks(options.cut.rank_count(), options.kind,
               [&](comm::Communicator& group) { return RunFaultRank(model, options, group); });
  EXPECT_EQ(Describe(results), "");
  std::vector<json> told;
  for (const RankResult& result : results) {
    told.push_back(json::parse(result.bytes, nullptr, /*allow_exceptions=*/false));
  }
  return told;
}

// What came is what the undisturbed twin says, and nothing of the step or after it.
void ExpectOnlyWhatCameBefore(const json& told, const json& twin, uint64_t step, bool all) {
  for (const auto& [id, tokens] : twin["tokens"].items()) {
    const json got = told["tokens"].value(id, json::array());
    size_t before = 0;
    for (const json& at : twin["steps"][id]) before += at.get<uint64_t>() < step;
    EXPECT_LE(got.size(), before) << "sequence " << id;
    EXPECT_TRUE(got.size() == before || !all) << "sequence " << id;
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], tokens[i]) << "sequence " << id;
  }
}

class WrongSumTest : public ::testing::Test {
 protected:
  WrongSumTest() : model_(model::Model::Open(WriteModel(FaultSpec(), folder_.path()))) {}

  // Runs it without the fault and with it.
  void ExpectFound(FaultCase options, int32_t rank, uint64_t step, std::optional<int64_t> layer) {
    const plan::Cut cut = options.cut;
    SCOPED_TRACE(Str("tensor ", cut.tensor_parallel, ", pipeline ", cut.pipeline_parallel,
                     ", rank ", rank, ", step ", step, ", chunk ", options.chunk, ", temperature ",
                     options.temperature));
    const std::vector<json> twin = RunFaultGroup(*model_, options);
    for (const json& told : twin) ASSERT_EQ(told["error"], "") << "a false alarm";
    options.fault = {.kind = forward::FaultKind::kWrongSum,
                     .rank = rank,
                     .step = step,
                     .layer = layer,
                     .once = ""};
    const std::vector<json> told = RunFaultGroup(*model_, options);
    const std::string place =
        Str("step ", step, ", stage ", rank / cut.tensor_parallel, ": ranks that must hold");
    int64_t found = 0;
    for (const json& of_rank : told) {
      const auto error = of_rank["error"].get<std::string>();
      EXPECT_THAT(error, AnyOf(HasSubstr("peer lost: "), HasSubstr("wrong answer: " + place)));
      found += error.starts_with("wrong answer: ");
    }
    EXPECT_GE(found, 1);
    ExpectOnlyWhatCameBefore(told[0], twin[0], step, /*all=*/cut.pipeline_parallel == 1);
  }

  ScratchFolder folder_;
  std::unique_ptr<model::Model> model_;
};

TEST_F(WrongSumTest, IsFoundInEveryKindOfStep) {
  // Of chunks of 100 and of few rows: the first steps are of the prompt, the later ones decode. Not
  // of the last layer: a step that only reads the prompt has no sums there.
  for (const int64_t chunk : {100, 20}) {
    for (const double temperature : {0.0, 0.8}) {
      for (const uint64_t step : {1, 2, 3, 8}) {
        FaultCase options{.temperature = temperature, .chunk = chunk, .fault = {}};
        ExpectFound(options, static_cast<int32_t>(step % 2), step, step % 3);
      }
    }
  }
}

TEST_F(WrongSumTest, IsFoundInEveryStageOfAPipelineWithSeveralStepsUnderWay) {
  for (const RankKind kind : {RankKind::kShm, RankKind::kTcp}) {
    for (const int32_t rank : {0, 1, 2, 3}) {
      for (const uint64_t step : {2, 9}) {
        ExpectFound({.cut = {2, 2}, .kind = kind, .fault = {}}, rank, step, std::nullopt);
      }
    }
  }
}

TEST_F(WrongSumTest, IsFoundWithFastNumericsAndGuesses) {
  ExpectFound({.cut = {2, 1}, .numerics = forward::Numerics::kFast, .fault = {}}, 1, 2, 2);
  ExpectFound({.cut = {2, 1}, .kind = RankKind::kTcp, .guesses = 6, .fault = {}}, 0, 6, 3);
}

TEST_F(WrongSumTest, HasItsRankNamedByTheMajority) {
  FaultCase options{.cut = {4, 1}, .fault = {}};
  options.fault = forward::ParsePlantedFault("wrong-sum:rank=2,step=5");
  const std::vector<json> told = RunFaultGroup(*model_, options);
  EXPECT_THAT(told[0]["error"].get<std::string>(), HasSubstr("so wrong: rank 2."));
}

}  // namespace
}  // namespace shoal::test
