// Results of a step that no link buffers whole, while later steps are under way.

#include <gtest/gtest.h>

#include "tests/support/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial_group.h"

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

}  // namespace
}  // namespace shoal::test
