#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "parallel/model/open.h"
#include "parallel/model/resolve.h"
#include "parallel/plan/kv_layout.h"
#include "parallel/plan/plan.h"
#include "tests/parallel/model/refusal.h"
#include "tests/support/scratch_folder.h"

// The table of a layer is what a file has, and what a cut divides. The files come from the writer
// of the test models, which has names and shapes of its own.

namespace shoal::test {
namespace {

using model::CutUnit;
using model::TensorCut;
using plan::Range;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using Shape = std::pair<int64_t, int64_t>;

std::unique_ptr<model::Model> Open(const ModelSpec& spec, const ScratchFolder& folder) {
  return model::Model::Open(WriteModel(spec, folder.path()));
}

// Layers of three widths, the narrowest of which has fewer leaves than the model has heads.
ModelSpec UnevenSpec(Container container) {
  return {.name = "uneven",
          .container = container,
          .dtype = container == Container::kGguf ? DType::kQ4_0 : DType::kBF16,
          .embedding_dtype = {},
          .tokenizer = false,
          .ffn_dims = {512, 1024, 640}};
}

std::vector<ModelSpec> Specs() {
  std::vector<ModelSpec> specs = MatrixSpecs();
  for (const Container container : {Container::kGguf, Container::kSafetensors}) {
    specs.push_back(UnevenSpec(container));
  }
  return specs;
}

class LayerTable : public testing::TestWithParam<ModelSpec> {
 protected:
  ScratchFolder folder_;
};

TEST_P(LayerTable, ListsExactlyTheTensorsOfAFileWithTheirShapes) {
  const ModelSpec& spec = GetParam();
  const auto opened = Open(spec, folder_);
  std::map<std::string, Shape> in_gguf = {{"token_embd.weight", {spec.vocab_size, spec.hidden_dim}},
                                          {"output_norm.weight", {1, spec.hidden_dim}}};
  std::map<std::string, Shape> in_folder = {
      {"model.embed_tokens.weight", {spec.vocab_size, spec.hidden_dim}},
      {"model.norm.weight", {1, spec.hidden_dim}}};
  if (!spec.tied) {
    in_gguf["output.weight"] = in_folder["lm_head.weight"] = {spec.vocab_size, spec.hidden_dim};
  }
  for (int64_t i = 0; i < spec.layer_count; ++i) {
    const model::LayerTensors& layer = opened->tensors().layers[static_cast<size_t>(i)];
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      const Shape shape = {tensor.rows, tensor.cols};
      in_gguf[Str("blk.", i, ".", tensor.names.gguf)] = shape;
      in_folder[Str("model.layers.", i, ".", tensor.names.hugging_face)] = shape;
      EXPECT_EQ(Shape(layer[tensor.role].rows, layer[tensor.role].cols), shape);
    }
  }
  std::map<std::string, Shape> written;
  for (const GgufTensor& tensor : MakeGgufFile(spec).tensors) {
    if (tensor.name == "rope_freqs.weight") continue;
    const auto rows = tensor.dimensions.size() == 1 ? 1 : tensor.dimensions[1];
    written[tensor.name] = {static_cast<int64_t>(rows), static_cast<int64_t>(tensor.dimensions[0])};
  }
  EXPECT_EQ(in_gguf, written);
  written.clear();
  for (const SafetensorsTensor& tensor : MakeSafetensorsTensors(spec)) {
    written[tensor.name] = {tensor.shape.size() == 1 ? 1 : tensor.shape[0], tensor.shape.back()};
  }
  EXPECT_EQ(in_folder, written);
  for (const model::NamedTensor& named : model::GgufTensors(opened->tensors())) {
    EXPECT_EQ(in_gguf.at(named.name), Shape(named.tensor->rows, named.tensor->cols));
    EXPECT_EQ(in_gguf.erase(named.name), 1);
  }
  EXPECT_TRUE(in_gguf.empty());
}

// Every matrix reads an input, every input is read, and what scales an input has its channels.
TEST_P(LayerTable, SaysWhatIsReadAndWhatScalesIt) {
  const auto opened = Open(GetParam(), folder_);
  const int64_t head_group = opened->config().head_count / opened->config().kv_head_count;
  for (const model::LayerTensors& layer : opened->tensors().layers) {
    std::map<model::LayerInput, int64_t> channels;
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      EXPECT_EQ(tensor.is_norm(), tensor.rows == 1);
      EXPECT_EQ(tensor.is_norm(), tensor.cut == TensorCut::kWhole);
      if (!tensor.reads) continue;
      EXPECT_EQ(channels.emplace(*tensor.reads, tensor.cols).first->second, tensor.cols);
    }
    EXPECT_EQ(channels.size(), model::kLayerInputs);
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      if (!tensor.scales) continue;
      const int64_t outputs = tensor.is_norm() ? tensor.cols : tensor.rows;
      const int64_t shared = tensor.unit == CutUnit::kKvHeads ? head_group : 1;
      EXPECT_EQ(outputs * shared, channels[*tensor.scales]);
      channels.erase(*tensor.scales);
    }
    EXPECT_TRUE(channels.empty());
  }
}

// The parts of the ranks of a stage tile each tensor; only key/value heads may overlap.
TEST_P(LayerTable, IsTiledByTheRanksOfAStage) {
  const auto opened = Open(GetParam(), folder_);
  for (const int32_t ranks : {1, 2, 3, 8}) {
    if (ranks > plan::LargestTensorParallel(opened->leaves())) continue;
    const auto shards = plan::PlanCut(*opened, {.cut = {ranks, 1}, .rank_speeds = {}});
    for (int64_t i = 0; i < opened->config().layer_count; ++i) {
      const auto& layer = opened->tensors().layers[static_cast<size_t>(i)];
      for (const model::TensorSpec& tensor : layer.spec.tensors) {
        const Range rows = {0, tensor.rows};
        const Range cols = {0, tensor.cols};
        int64_t end = 0;
        for (const plan::RankShard& shard : shards) {
          const plan::TensorPart part = plan::PartOf(tensor, i, shard);
          const Range& cut = tensor.cut == TensorCut::kRowParallel ? part.cols : part.rows;
          EXPECT_TRUE(part.rows == rows || tensor.cut == TensorCut::kColumnParallel);
          EXPECT_TRUE(part.cols == cols || tensor.cut == TensorCut::kRowParallel);
          if (tensor.cut == TensorCut::kWhole) continue;
          if (tensor.unit == CutUnit::kKvHeads) {
            EXPECT_LE(cut.begin, end);
          } else {
            EXPECT_EQ(cut.begin, end);
          }
          EXPECT_GT(cut.count(), 0);
          EXPECT_EQ(cut.count() % tensor.unit_size, 0);
          end = cut.end;
        }
        const int64_t all = tensor.cut == TensorCut::kRowParallel ? tensor.cols : tensor.rows;
        EXPECT_EQ(end, tensor.cut == TensorCut::kWhole ? 0 : all);
      }
    }
  }
}

// By the formula of a llama layer, written out.
TEST_P(LayerTable, MakesTheBytesOfAPlan) {
  const auto opened = Open(GetParam(), folder_);
  const model::ModelTensors& tensors = opened->tensors();
  for (const int32_t ranks : {1, 2}) {
    for (const auto& shard : plan::PlanCut(*opened, {.cut = {ranks, 1}, .rank_speeds = {}})) {
      const int64_t hidden_dim = GetParam().hidden_dim;
      const int64_t queries = shard.heads.count() * GetParam().head_dim;
      const int64_t keys = shard.kv_heads.count() * GetParam().head_dim;
      int64_t bytes = tensors.output_norm->bytes();
      bytes += shard.vocab_rows.count() * tensors.token_embedding->row_bytes();
      if (!GetParam().tied) bytes += shard.vocab_rows.count() * tensors.output->row_bytes();
      for (int64_t i = 0; i < GetParam().layer_count; ++i) {
        const model::LayerTensors& layer = tensors.layers[static_cast<size_t>(i)];
        const auto of = [&](model::TensorRole role) -> const model::Tensor& { return layer[role]; };
        const int64_t columns = shard.MlpColumns(i).count();
        bytes += of(model::TensorRole::kAttentionNorm).bytes();
        bytes += of(model::TensorRole::kMlpNorm).bytes();
        bytes += queries * of(model::TensorRole::kQuery).row_bytes();
        bytes += keys * of(model::TensorRole::kKey).row_bytes();
        bytes += keys * of(model::TensorRole::kValue).row_bytes();
        bytes += columns * of(model::TensorRole::kGate).row_bytes();
        bytes += columns * of(model::TensorRole::kUp).row_bytes();
        bytes += hidden_dim * RowBytes(of(model::TensorRole::kAttentionOutput).dtype, queries);
        bytes += hidden_dim * RowBytes(of(model::TensorRole::kDown).dtype, columns);
      }
      EXPECT_EQ(shard.weight_bytes, bytes);
      EXPECT_TRUE(ranks > 1 || bytes == opened->weight_bytes());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Specs, LayerTable, testing::ValuesIn(Specs()), [](const auto& info) {
  return info.param.name + (info.param.container == Container::kGguf ? "" : "_in_a_folder");
});

TEST(PartOf, CutsByHeadsAndByColumns) {
  const ScratchFolder folder;
  const auto opened = Open(NineHeadsSpec(), folder);  // 9 heads of 32 on 3, 1056 columns.
  const auto shards = plan::PlanCut(*opened, {.cut = {2, 1}, .rank_speeds = {}});
  const model::LayerSpec& spec = opened->tensors().layers[0].spec;
  std::map<model::TensorRole, plan::TensorPart> parts;
  for (const model::TensorSpec& tensor : spec.tensors) {
    parts[tensor.role] = plan::PartOf(tensor, 0, shards[1]);
  }
  EXPECT_EQ(parts[model::TensorRole::kQuery].rows, (Range{160, 288}));
  EXPECT_EQ(parts[model::TensorRole::kKey].rows, (Range{32, 96}));
  EXPECT_EQ(parts[model::TensorRole::kAttentionOutput].rows, (Range{0, 288}));
  EXPECT_EQ(parts[model::TensorRole::kAttentionOutput].cols, (Range{160, 288}));
  EXPECT_EQ(parts[model::TensorRole::kGate].rows, (Range{640, 1056}));
  EXPECT_EQ(parts[model::TensorRole::kDown].cols, (Range{640, 1056}));
  EXPECT_EQ(parts[model::TensorRole::kMlpNorm].cols, (Range{0, 288}));
}

TEST(PlanCut, DealsTheLeavesOfEachLayerForThemselves) {
  const ScratchFolder folder;
  const auto opened = Open(UnevenSpec(Container::kGguf), folder);
  EXPECT_THAT(opened->config().ffn_dims, ElementsAre(512, 1024, 640));
  EXPECT_EQ(opened->leaves().mlp_leaf_width, 128);
  EXPECT_EQ(opened->leaves().mlp_leaf_count, 8);
  EXPECT_EQ(plan::LargestTensorParallel(opened->leaves()), 4) << "512 columns are 4 leaves";
  const auto shards = plan::PlanCut(*opened, {.cut = {3, 1}, .rank_speeds = {}});
  EXPECT_EQ(shards[0].MlpColumns(0), (Range{0, 256}));
  EXPECT_EQ(shards[1].MlpColumns(0), (Range{256, 384}));
  EXPECT_EQ(shards[0].MlpColumns(1), (Range{0, 384}));
  EXPECT_EQ(shards[2].MlpColumns(2), (Range{512, 640}));
  EXPECT_EQ(shards[0].MlpColumnsMax(), 384);
  const auto stages = plan::PlanCut(*opened, {.cut = {1, 3}, .rank_speeds = {}});
  EXPECT_EQ(stages[2].MlpColumns(2), (Range{0, 640}));
  EXPECT_EQ(stages[2].MlpColumnsMax(), 640);
}

TEST(FeedForwardLength, MayBeOneForEachLayer) {
  ModelSpec spec = UnevenSpec(Container::kGguf);
  const auto refusal = [&](const std::string& value) {
    GgufFile file = MakeGgufFile(spec);
    file.value("llama.feed_forward_length") = value;
    const std::string bytes = file.Bytes();
    return RefusalOf([&] { model::OpenGgufBytes(std::as_bytes(std::span(bytes)), "m.gguf"); });
  };
  EXPECT_THAT(refusal(GgufInt32s({512, 1024})),
              AllOf(HasSubstr("\"llama.feed_forward_length\" is an array of 2"),
                    HasSubstr("an array of 3")));
  EXPECT_THAT(refusal(GgufInt32s({})), HasSubstr("array of 0"));
  EXPECT_THAT(refusal(GgufInt32s({512, -1, 640})),
              HasSubstr("\"llama.feed_forward_length[1]\" must be an integer"));
  EXPECT_THAT(refusal(GgufInt32s({512, 0, 640})), HasSubstr("feed-forward dimension is 0"));
  EXPECT_THAT(refusal(GgufInt32s({512, 512, 640})),
              AllOf(HasSubstr("\"blk.1.ffn_gate.weight\""), HasSubstr("512 rows of 256")));
  EXPECT_THAT(refusal(GgufStrings({"512", "1024", "640"})), HasSubstr("must be an integer"));
  // Equal ones are one.
  spec.ffn_dims = {512, 512, 512};
  const ScratchFolder folder;
  EXPECT_THAT(Open(spec, folder)->config().ffn_dims, ElementsAre(512));
}

TEST(MakeKvLayout, GivesKeysAndValuesOfEachLayerTheirOwnWidths) {
  const model::KvWidths widths[] = {{.key = 8, .value = 4}, {.key = 16, .value = 16}};
  const plan::KvLayout layout = plan::MakeKvLayout(widths, 3, KvDType::kF16);
  EXPECT_EQ(layout.layers[0].key_bytes, 16);
  EXPECT_EQ(layout.layers[0].value_bytes, 8);
  EXPECT_EQ(layout.layers[1].offset, 3 * 32 * 24);
  EXPECT_EQ(layout.layers[1].head_bytes(), 32 * 64);
  EXPECT_EQ(layout.block_stride, 3 * 32 * (24 + 64));
  EXPECT_EQ(layout.token_bytes(), 3 * (24 + 64));
  // An int8 has a scale of 4 bytes beside each.
  EXPECT_EQ(plan::MakeKvLayout(widths, 1, KvDType::kInt8).token_bytes(), 12 + 8 + 20 + 20);
}

TEST(MakeKvLayout, IsTheKernelsWhereValuesAreAsWideAsKeys) {
  for (const KvDType dtype : {KvDType::kF16, KvDType::kF32, KvDType::kBF16, KvDType::kInt8}) {
    const model::KvWidths widths[] = {{.key = 80, .value = 80}};
    EXPECT_EQ(plan::MakeKvLayout(widths, 1, dtype).block_stride, KvBlockBytes(dtype, 80));
  }
}

}  // namespace
}  // namespace shoal::test
