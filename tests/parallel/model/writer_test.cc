#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "parallel/model/digest.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

// The generated models are what they promise to be: the matrix of cuts relies on it.

namespace shoal::test {
namespace {

class MatrixModel : public testing::TestWithParam<ModelSpec> {
 protected:
  ScratchFolder folder_;
};

TEST_P(MatrixModel, OpensWithTheConfigurationItWasMadeFrom) {
  const ModelSpec& spec = GetParam();
  const auto model = model::Model::Open(WriteModel(spec, folder_.path()));
  const model::ModelConfig& config = model->config();
  EXPECT_EQ(model->name(), spec.name);
  EXPECT_EQ(config.layer_count, spec.layer_count);
  EXPECT_EQ(config.hidden_dim, spec.hidden_dim);
  EXPECT_EQ(config.head_count, spec.head_count);
  EXPECT_EQ(config.kv_head_count, spec.kv_head_count);
  EXPECT_EQ(config.head_dim, spec.head_dim);
  EXPECT_EQ(config.ffn_dims, std::vector{spec.ffn_dim});
  EXPECT_EQ(config.vocab_size, spec.vocab_size);
  EXPECT_EQ(config.context_tokens, spec.context_tokens);
  EXPECT_EQ(config.rope.theta, spec.rope_theta);
  // A tokenizer has <|endoftext|> beside the EOS that is named.
  std::vector<int32_t> eos_ids = {static_cast<int32_t>(spec.vocab_size - 1)};
  if (spec.tokenizer) eos_ids.push_back(static_cast<int32_t>(spec.vocab_size - 3));
  EXPECT_EQ(config.eos_ids, eos_ids);
  EXPECT_EQ(model->tensors().output == model->tensors().token_embedding, spec.tied);
  EXPECT_EQ(model->tensors().layers[0][model::TensorRole::kQuery].dtype, spec.dtype);
  const bool gguf = spec.container == Container::kGguf;
  EXPECT_EQ(config.rope.layout,
            gguf ? model::RopeLayout::kAdjacentPairs : model::RopeLayout::kHalfSplit);
  EXPECT_EQ(config.rope.llama3.has_value(), spec.llama3_rope && !gguf);
  EXPECT_EQ(config.rope.frequency_divisors.size(),
            spec.llama3_rope && gguf ? static_cast<size_t>(spec.head_dim / 2) : 0);
  EXPECT_EQ(model->tokenizer_source(),
            gguf ? model::TokenizerSource::kGgufMetadata : model::TokenizerSource::kNone);
}

TEST_P(MatrixModel, HasOnlyFiniteScales) {
  const auto model = model::Model::Open(WriteModel(GetParam(), folder_.path()));
  for (const model::LayerTensors& layer : model->tensors().layers) {
    EXPECT_NO_THROW(model::CheckScales(layer[model::TensorRole::kQuery], 0,
                                       layer[model::TensorRole::kQuery].rows));
    EXPECT_NO_THROW(model::CheckScales(layer[model::TensorRole::kDown], 0,
                                       layer[model::TensorRole::kDown].rows));
  }
}

TEST_P(MatrixModel, HasEnoughUnitsForTheCutsOfTheMatrix) {
  const ModelSpec& spec = GetParam();
  const auto model = model::Model::Open(WriteModel(spec, folder_.path()));
  if (spec.layer_count == 1) {
    EXPECT_EQ(plan::LargestTensorParallel(model->leaves()), 2);
    EXPECT_GT(spec.context_tokens, 8192);
    return;
  }
  EXPECT_GE(plan::LargestTensorParallel(model->leaves()), 8);
  EXPECT_GE(spec.layer_count, 3);
}

INSTANTIATE_TEST_SUITE_P(Specs, MatrixModel, testing::ValuesIn(MatrixSpecs()),
                         [](const auto& info) { return info.param.name; });

TEST(HeadDim80Spec, HasLeavesOfTwoHeads) {
  const ScratchFolder folder;
  const auto model = model::Model::Open(WriteModel(HeadDim80Spec(), folder.path()));
  EXPECT_EQ(model->leaves().heads_per_leaf, 2);
  EXPECT_EQ(model->leaves().attention_leaf_count, 8);
}

// The committed digests of outputs depend on these bytes. A change of the generator must be meant.
TEST(WriteModel, GivesTheSameBytesOnEveryMachine) {
  model::WeightDigest digest;
  for (const ModelSpec& spec : MatrixSpecs()) {
    if (spec.container == Container::kGguf) {
      const std::string bytes = MakeGgufFile(spec).Bytes();
      digest.AddUnit(spec.name, 0, std::as_bytes(std::span(bytes)));
    } else {
      const std::string bytes = SafetensorsBytes(MakeSafetensorsTensors(spec));
      digest.AddUnit(spec.name, 0, std::as_bytes(std::span(bytes)));
    }
  }
  EXPECT_EQ(digest.Hex(), "5947af9f3ab50679b4c2d88c54c971da");
}

}  // namespace
}  // namespace shoal::test
