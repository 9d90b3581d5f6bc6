// The forward pass at its smallest, for the sanitizers: two layers, prompts long enough that rows
// are sequence-parallel and threads take tiles through a layer, and the same bits at every cut.

#include <gtest/gtest.h>

#include "kernels/math/scalar.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/trial_group.h"

namespace shoal::test {
namespace {

ModelSpec SmokeSpec() {
  ModelSpec spec;
  spec.name = "smoke";
  spec.layer_count = 2;
  spec.hidden_dim = 128;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.ffn_dim = 256;
  spec.vocab_size = 300;
  spec.context_tokens = 160;
  return spec;
}

std::vector<rank::TrialRequest> Requests(int32_t vocab_size) {
  std::vector<rank::TrialRequest> requests(2);
  for (size_t i = 0; i < requests.size(); ++i) {
    for (uint32_t position = 0; position < 130; ++position) {
      const auto words = math::Philox4x32({position, static_cast<uint32_t>(i), 0, 0}, {3, 0});
      requests[i].prompt.push_back(static_cast<int32_t>(words[0] % uint32_t(vocab_size)));
    }
    requests[i].params.tokens_max = 4;
    requests[i].params.top_logprobs = 2;
  }
  requests[0].params.sampling = {.temperature = 0};
  requests[1].params.sampling = {.temperature = 0.8, .top_k = 40, .top_p = 0.9, .seed = 1};
  return requests;
}

// Layers of different widths: the ranks' leaves of one are not those of the other.
ModelSpec UnevenSpec() {
  ModelSpec spec = SmokeSpec();
  spec.name = "uneven";
  spec.ffn_dims = {192, 448};
  return spec;
}

class ExactnessSmoke : public ::testing::TestWithParam<plan::Cut> {};

void ExpectTheBitsOfOneRankAndOneThread(const ModelSpec& spec, plan::Cut cut) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(spec, folder.path()));
  const std::vector<rank::TrialRequest> requests = Requests(model->config().vocab_size);
  const Observation expected = RunTrialGroup(*model, requests, {});
  ASSERT_EQ(expected.answers.size(), requests.size());
  ASSERT_FALSE(expected.digests.empty());
  TrialGroupOptions options;
  options.cut = cut;
  options.threads = 2;
  const Observation seen = RunTrialGroup(*model, requests, options);
  EXPECT_EQ(seen.digests, expected.digests);
  EXPECT_TRUE(seen.answers == expected.answers);
  options.record_logits = false;  // Tokens are chosen as in service.
  EXPECT_TRUE(RunTrialGroup(*model, requests, options).answers == expected.answers);
}

TEST_P(ExactnessSmoke, GivesTheBitsOfOneRankAndOneThread) {
  ExpectTheBitsOfOneRankAndOneThread(SmokeSpec(), GetParam());
}

TEST_P(ExactnessSmoke, GivesThemForLayersOfDifferentWidths) {
  ExpectTheBitsOfOneRankAndOneThread(UnevenSpec(), GetParam());
}

// [rows][cols] f32 values within [rows_wide][cols_wide], the rest zeros.
std::string Widened(const std::string& data, int64_t cols, int64_t rows_wide, int64_t cols_wide) {
  std::string wide;
  for (size_t at = 0; at < data.size(); at += static_cast<size_t>(cols) * 4) {
    wide += data.substr(at, static_cast<size_t>(cols) * 4);
    wide.resize(wide.size() + static_cast<size_t>(cols_wide - cols) * 4);
  }
  wide.resize(static_cast<size_t>(rows_wide * cols_wide) * 4);
  return wide;
}

TEST(LayersOfDifferentWidths, GiveTheLogitsOfEqualOnesFilledUpWithZeros) {
  const ScratchFolder folder;
  ModelSpec spec = UnevenSpec();
  spec.container = Container::kSafetensors;
  spec.dtype = DType::kF32;
  const std::string path = WriteModel(spec, folder.path());
  const std::vector<rank::TrialRequest> requests = Requests(static_cast<int32_t>(spec.vocab_size));
  const Observation uneven = RunTrialGroup(*model::Model::Open(path), requests, {});
  const int64_t widest = spec.ffn_dims[1];
  std::vector<SafetensorsTensor> tensors = MakeSafetensorsTensors(spec);
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.name.find(".mlp.") == std::string::npos) continue;
    int64_t& width = tensor.shape[tensor.name.find("down_proj") == std::string::npos ? 0 : 1];
    const int64_t cols = tensor.shape[1];
    width = widest;
    tensor.data = Widened(tensor.data, cols, tensor.shape[0], tensor.shape[1]);
  }
  spec.ffn_dims = {widest, widest};
  WriteFile(path + "/config.json", MakeConfigJson(spec));
  WriteFile(path + "/model.safetensors", SafetensorsBytes(tensors));
  const Observation even = RunTrialGroup(*model::Model::Open(path), requests, {});
  EXPECT_EQ(uneven.digests, even.digests);
  EXPECT_TRUE(uneven.answers == even.answers);
  EXPECT_NE(uneven.numerics_id, even.numerics_id);
}

INSTANTIATE_TEST_SUITE_P(Cuts, ExactnessSmoke,
                         ::testing::Values(plan::Cut{1, 1}, plan::Cut{2, 1}, plan::Cut{1, 2}),
                         [](const auto& info) {
                           return "Tensor" + std::to_string(info.param.tensor_parallel) +
                                  "Pipeline" + std::to_string(info.param.pipeline_parallel);
                         });

}  // namespace
}  // namespace shoal::test
