// Plans and results that no link buffers whole, while other steps are under way.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <fstream>
#include <new>
#include <tuple>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/gated_pipeline.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

// The last stage sends a result while the leader sends it the next plan and rows: each larger than
// a link's buffer of 64 KiB, so that two ranks which only send would wait for each other.
TEST(LargeResults, ReachALeaderThatIssuesTheNextPlan) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel({.name = "small",
                                                    .dtype = DType::kF32,
                                                    .embedding_dtype = {},
                                                    .layer_count = 2,
                                                    .hidden_dim = 64,
                                                    .head_count = 2,
                                                    .kv_head_count = 1,
                                                    .head_dim = 16,
                                                    .ffn_dim = 128,
                                                    .vocab_size = 320,
                                                    .context_tokens = 32},
                                                   folder.path()));
  constexpr int kRequests = 900;
  std::vector<rank::TrialRequest> requests(kRequests);
  for (int i = 0; i < kRequests; ++i) {
    requests[i].prompt = {i % 300};
    requests[i].params.sampling.temperature = 0;
    requests[i].params.tokens_max = 4;
    requests[i].params.top_logprobs = 20;
  }
  TrialGroupOptions options;
  options.cut.pipeline_parallel = 2;
  options.sequences_max = kRequests;
  options.kv_block_count = kRequests;
  options.record_logits = false;
  const Observation seen = RunTrialGroup(*model, requests, options);
  ASSERT_EQ(seen.answers.size(), requests.size());
  for (int i = 0; i < kRequests; ++i) {
    EXPECT_EQ(seen.answers[i].tokens.size(), 4u);
    EXPECT_EQ(seen.answers[i].logprobs.size(), 4u);
    EXPECT_TRUE(seen.answers[i] == seen.answers[i % 300]) << "request " << i;
  }
}

// As many layers as stages.
std::string WriteTinyModel(const std::string& folder, int32_t stages) {
  return WriteModel({.name = "tiny",
                     .dtype = DType::kF32,
                     .embedding_dtype = {},
                     .layer_count = stages,
                     .hidden_dim = 64,
                     .head_count = 2,
                     .kv_head_count = 1,
                     .head_dim = 16,
                     .ffn_dim = 128,
                     .vocab_size = 320,
                     .context_tokens = 32},
                    folder);
}

std::string DigestOfOneStage(const model::Model& model, int32_t requests) {
  std::atomic<int64_t> begun{0};
  const auto results = RunRanks(1, RankKind::kShm, [&](comm::Communicator& group) {
    return RunGatedPipeline(model, group, begun, {.stages = 1, .rows = requests, .gated = false});
  });
  EXPECT_EQ(Describe(results), "");
  return results[0].bytes;
}

class GatedPipeline : public ::testing::TestWithParam<std::tuple<RankKind, int32_t, int32_t>> {};

// Results of 320 rows have 70 KB, a ring 64; with 20 stages even 20 results of 80 rows have more.
// All plans that start the sequences have hundreds of KB.
INSTANTIATE_TEST_SUITE_P(All, GatedPipeline,
                         ::testing::Values(std::tuple(RankKind::kShm, 2, 320),
                                           std::tuple(RankKind::kShm, 4, 320),
                                           std::tuple(RankKind::kShm, 20, 80),
                                           std::tuple(RankKind::kTcp, 2, 320),
                                           std::tuple(RankKind::kTcp, 4, 320)));

TEST_P(GatedPipeline, HasAPlanUnderWayForEachStage) {
  const auto [kind, stages, rows] = GetParam();
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteTinyModel(folder.path(), stages));
  void* memory = mmap(nullptr, sizeof(std::atomic<int64_t>), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto& begun = *new (memory) std::atomic<int64_t>(0);
  const auto results =
      RunRanks(stages, kind, [&, stages = stages, rows = rows](comm::Communicator& group) {
        return RunGatedPipeline(*model, group, begun, {.stages = stages, .rows = rows});
      });
  munmap(memory, sizeof(std::atomic<int64_t>));
  ASSERT_EQ(Describe(results), "");
  EXPECT_EQ(results[0].bytes, DigestOfOneStage(*model, stages * rows));
}

TEST(GatedMpiPipeline, HasAPlanUnderWayForEachStage) {
  constexpr int32_t kStages = 3;
  constexpr int32_t kRows = 320;
  const ScratchFolder folder;
  const std::string path = WriteTinyModel(folder.path(), kStages);
  const std::string shared = folder.path() + "/shared";
  std::ofstream(shared) << std::string(sizeof(std::atomic<int64_t>), '\0');
  const std::string command =
      Str("mpirun --allow-run-as-root --oversubscribe --bind-to none -np ", kStages,
          " " SHOAL_BINARY_DIR "/bin/pipeline_main ", path, " ", shared, " ", kStages, " ", kRows);
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char line[100] = {};
  EXPECT_NE(std::fgets(line, sizeof(line), pipe), nullptr);
  EXPECT_EQ(pclose(pipe), 0);
  const auto model = model::Model::Open(path);
  EXPECT_EQ(line, Str("digest ", DigestOfOneStage(*model, kStages * kRows), "\n"));
}

}  // namespace
}  // namespace shoal::test
