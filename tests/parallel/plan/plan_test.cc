#include "parallel/plan/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>

#include "parallel/model/families/llama.h"
#include "parallel/plan/deal.h"
#include "parallel/plan/predict.h"
#include "tests/parallel/model/refusal.h"

// Plans tile the model, keep their promises about shares, and refuse cuts with the limit's name.

namespace shoal::test {
namespace {

using plan::PlanCut;
using plan::PlanOptions;
using plan::Range;
using plan::RankShard;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A model of shapes only: its tensors have no data, and planning must not touch any.
class ShapeModel : public model::Model {
 public:
  explicit ShapeModel(const ModelSpec& spec) {
    path_ = spec.name + ".gguf";
    name_ = spec.name;
    config_.layer_count = spec.layer_count;
    config_.hidden_dim = spec.hidden_dim;
    config_.head_count = spec.head_count;
    config_.kv_head_count = spec.kv_head_count;
    config_.head_dim = spec.head_dim;
    config_.ffn_dims = {spec.ffn_dim};
    config_.vocab_size = spec.vocab_size;
    leaves_ = model::ComputeLeaves(config_, GroupSize(spec.dtype), GroupSize(spec.dtype));
    norm_ = {"norm", DType::kF32, 1, spec.hidden_dim, nullptr};
    embedding_ = {"embedding", spec.dtype, spec.vocab_size, spec.hidden_dim, nullptr};
    output_ = embedding_;
    tensors_.token_embedding = &embedding_;
    tensors_.output = spec.tied ? &embedding_ : &output_;
    tensors_.output_norm = &norm_;
    weight_bytes_ = embedding_.bytes() * (spec.tied ? 1 : 2) + norm_.bytes();
    for (int64_t i = 0; i < spec.layer_count; ++i) {
      model::LayerTensors& layer = tensors_.layers.emplace_back();
      layer.spec = model::LlamaLayer(config_, i);
      for (const model::TensorSpec& tensor : layer.spec.tensors) {
        const DType dtype = tensor.is_norm() ? DType::kF32 : spec.dtype;
        layer_tensors_.push_back(
            {std::string(tensor.names.gguf), dtype, tensor.rows, tensor.cols, nullptr});
        layer.by_role[static_cast<size_t>(tensor.role)] = &layer_tensors_.back();
        weight_bytes_ += layer_tensors_.back().bytes();
      }
    }
  }

  const nlohmann::json& metadata() const override {
    static const nlohmann::json none;
    return none;
  }

 private:
  model::Tensor norm_, embedding_, output_;
  std::deque<model::Tensor> layer_tensors_;
};

PlanOptions Options(int32_t tensor_parallel, int32_t pipeline_parallel) {
  PlanOptions options;
  options.cut = {tensor_parallel, pipeline_parallel};
  return options;
}

// SmolLM2-135M's shapes.
ModelSpec SmolSpec() {
  return {.name = "smol",
          .dtype = DType::kQ4_1,
          .embedding_dtype = {},
          .layer_count = 30,
          .hidden_dim = 576,
          .head_count = 9,
          .kv_head_count = 3,
          .head_dim = 64,
          .ffn_dim = 1536,
          .vocab_size = 49152,
          .tied = true};
}

TEST(DealUnits, DealsEqualSharesWithTheRestToEarlierRanks) {
  EXPECT_THAT(plan::DealUnits(9, std::vector<double>{1, 1}), ElementsAre(Range{0, 5}, Range{5, 9}));
  EXPECT_THAT(plan::DealUnits(8, std::vector<double>{1, 1, 1}),
              ElementsAre(Range{0, 3}, Range{3, 6}, Range{6, 8}));
}

TEST(DealUnits, DealsInProportionToSpeed) {
  EXPECT_THAT(plan::DealUnits(12, std::vector<double>{3, 1}),
              ElementsAre(Range{0, 9}, Range{9, 12}));
  EXPECT_THAT(plan::DealUnits(10, std::vector<double>{1, 2, 1}),
              ElementsAre(Range{0, 3}, Range{3, 8}, Range{8, 10}));
}

TEST(DealUnits, GivesEveryRankAtLeastOne) {
  EXPECT_THAT(plan::DealUnits(4, std::vector<double>{1000, 1, 1, 1}),
              ElementsAre(Range{0, 1}, Range{1, 2}, Range{2, 3}, Range{3, 4}));
  EXPECT_THAT(plan::DealUnits(6, std::vector<double>{1, 1000, 1}),
              ElementsAre(Range{0, 1}, Range{1, 5}, Range{5, 6}));
}

TEST(DealLayers, CountsTheEmbeddingAndTheHead) {
  const plan::LayerLoads loads = {{10, 10, 10, 10, 10, 10}, 20, 0};
  EXPECT_THAT(plan::DealLayers(loads, std::vector<double>{1, 1}),
              ElementsAre(Range{0, 2}, Range{2, 6}));
  const plan::LayerLoads both = {{10, 10, 10, 10, 10}, 20, 20};
  EXPECT_THAT(plan::DealLayers(both, std::vector<double>{1, 1, 1}),
              ElementsAre(Range{0, 1}, Range{1, 4}, Range{4, 5}));
}

TEST(DealLayers, BalancesWhatTheBottleneckLeavesOpen) {
  // The embedding alone decides the maximum; the other stages still share evenly, early ones first.
  const plan::LayerLoads loads = {{1, 1, 1, 1, 1, 1}, 100, 0};
  EXPECT_THAT(plan::DealLayers(loads, std::vector<double>{1, 1, 1}),
              ElementsAre(Range{0, 1}, Range{1, 4}, Range{4, 6}));
}

TEST(DealLayers, GivesFasterStagesMore) {
  const plan::LayerLoads loads = {{1, 1, 1, 1, 1, 1, 1, 1}, 0, 0};
  EXPECT_THAT(plan::DealLayers(loads, std::vector<double>{3, 1}),
              ElementsAre(Range{0, 6}, Range{6, 8}));
}

TEST(PlanCut, CutsNineHeadsIntoFiveAndFour) {
  const ShapeModel model(SmolSpec());
  const std::vector<RankShard> shards = PlanCut(model, Options(2, 1));
  ASSERT_EQ(shards.size(), 2);
  EXPECT_EQ(shards[0].heads, (Range{0, 5}));
  EXPECT_EQ(shards[1].heads, (Range{5, 9}));
  // Heads 3 to 5 share key/value head 1: both ranks hold it.
  EXPECT_EQ(shards[0].kv_heads, (Range{0, 2}));
  EXPECT_EQ(shards[1].kv_heads, (Range{1, 3}));
  EXPECT_EQ(shards[0].mlp_columns, (Range{0, 768}));
  EXPECT_EQ(shards[0].vocab_rows, (Range{0, 24576}));
  EXPECT_EQ(shards[0].kv_bytes_per_token, 30 * 2 * 2 * 64 * 2);
}

TEST(PlanCut, TilesTheModelForEveryCut) {
  ModelSpec spec = HeadDim80Spec();
  spec.vocab_size = 520;
  const ShapeModel model(spec);
  for (int32_t tensor = 1; tensor <= 8; ++tensor) {
    for (int32_t pipeline = 1; pipeline <= 3; ++pipeline) {
      const std::vector<RankShard> shards = PlanCut(model, Options(tensor, pipeline));
      ASSERT_EQ(shards.size(), tensor * pipeline);
      for (int32_t i = 0; i < tensor * pipeline; ++i) {
        const RankShard& shard = shards[i];
        const bool starts_stage = i % tensor == 0;
        const bool ends_stage = (i + 1) % tensor == 0;
        const RankShard before = starts_stage ? RankShard{} : shards[i - 1];
        EXPECT_EQ(shard.rank, i);
        EXPECT_EQ(shard.stage, i / tensor);
        EXPECT_EQ(shard.attention_leaves.begin, before.attention_leaves.end);
        EXPECT_EQ(shard.heads,
                  (Range{2 * shard.attention_leaves.begin, 2 * shard.attention_leaves.end}));
        EXPECT_EQ(shard.mlp_leaves.begin, before.mlp_leaves.end);
        EXPECT_EQ(shard.mlp_columns,
                  (Range{64 * shard.mlp_leaves.begin, 64 * shard.mlp_leaves.end}));
        EXPECT_EQ(shard.vocab_rows.begin, before.vocab_rows.end);
        EXPECT_GE(shard.mlp_leaves.count(), 1);
        const int32_t earlier_stage = i - tensor;
        EXPECT_EQ(shard.layers.begin, earlier_stage < 0 ? 0 : shards[earlier_stage].layers.end);
        EXPECT_GE(shard.layers.count(), 1);
        const bool has_vocab = shard.stage == 0 || shard.stage == pipeline - 1;
        if (ends_stage) {
          EXPECT_EQ(shard.attention_leaves.end, 8);
          EXPECT_EQ(shard.mlp_columns.end, 512);
          EXPECT_EQ(shard.vocab_rows.end, has_vocab ? 520 : 0);
        }
      }
      EXPECT_EQ(shards.back().layers.end, 3);
    }
  }
}

TEST(PlanCut, CountsTheWholeModelOnOneRankAndATiedEmbeddingOnce) {
  for (const bool tied : {false, true}) {
    ModelSpec spec = SmolSpec();
    spec.tied = tied;
    const ShapeModel model(spec);
    EXPECT_EQ(PlanCut(model, Options(1, 1))[0].weight_bytes, model.weight_bytes());
    // Over two stages the last one holds a second copy of a tied embedding.
    const std::vector<RankShard> stages = PlanCut(model, Options(1, 2));
    EXPECT_EQ(stages[0].weight_bytes + stages[1].weight_bytes,
              model.weight_bytes() + (tied ? model.tensors().output->bytes() : 0));
  }
}

TEST(PlanCut, CountsSharedHeadsAndNormsOnEveryRankThatReadsThem) {
  const ShapeModel model(SmolSpec());
  const std::vector<RankShard> shards = PlanCut(model, Options(2, 1));
  const int64_t shared_head = 64 * 2 * RowBytes(DType::kQ4_1, 576) + 2 * 576 * 4;
  EXPECT_EQ(shards[0].weight_bytes + shards[1].weight_bytes,
            model.weight_bytes() + 30 * shared_head + 576 * 4);
}

TEST(PlanCut, DealsByRankSpeed) {
  const ShapeModel model(SmolSpec());
  PlanOptions options = Options(2, 1);
  options.rank_speeds = {2, 1};
  const std::vector<RankShard> shards = PlanCut(model, options);
  EXPECT_EQ(shards[0].heads, (Range{0, 6}));
  EXPECT_EQ(shards[0].mlp_leaves, (Range{0, 8}));
}

TEST(PlanCut, NamesTheUnitThatLimitsTheCut) {
  const ShapeModel model(SmolSpec());
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, Options(10, 1)); }),
              AllOf(HasSubstr("more ranks than leaves"), HasSubstr("9 attention leaves"),
                    HasSubstr("largest tensor-parallel degree is 9")));
  ModelSpec spec = SmolSpec();
  spec.ffn_dim = 256;
  EXPECT_THAT(RefusalOf([&] { PlanCut(ShapeModel(spec), Options(5, 1)); }),
              AllOf(HasSubstr("4 MLP leaves"), HasSubstr("degree is 4")));
  spec.vocab_size = 65;
  EXPECT_THAT(RefusalOf([&] { PlanCut(ShapeModel(spec), Options(3, 1)); }),
              AllOf(HasSubstr("2 vocabulary units"), HasSubstr("degree is 2")));
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, Options(1, 31)); }),
              AllOf(HasSubstr("more stages than layers"), HasSubstr("degree is 30")));
}

TEST(PlanCut, RefusesCutsAndSpeedsThatMakeNoSense) {
  const ShapeModel model(SmolSpec());
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, Options(0, 1)); }), HasSubstr("at least 1"));
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, Options(1, -1)); }), HasSubstr("at least 1"));
  for (const std::vector<double>& speeds :
       {std::vector<double>{1}, {1, 0}, {1, -1}, {1, std::numeric_limits<double>::quiet_NaN()}}) {
    PlanOptions options = Options(2, 1);
    options.rank_speeds = speeds;
    EXPECT_THAT(RefusalOf([&] { PlanCut(model, options); }), HasSubstr("rank speeds"));
  }
}

TEST(PlanCut, SaysHowManyBytesAreMissing) {
  const ShapeModel model(SmolSpec());
  PlanOptions options = Options(1, 1);
  const RankShard shard = PlanCut(model, options)[0];
  options.kv_cache_tokens = 1000;
  const int64_t needed = shard.weight_bytes + 1000 * shard.kv_bytes_per_token;
  options.memory_bytes_max = needed;
  EXPECT_NO_THROW(PlanCut(model, options));
  options.memory_bytes_max = needed - 1;
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, options); }),
              AllOf(HasSubstr("rank 0 needs " + std::to_string(needed)),
                    HasSubstr(std::to_string(needed - 1)), HasSubstr("memory-bytes-max")));
  options.kv_cache_tokens = INT64_MAX;
  EXPECT_THAT(RefusalOf([&] { PlanCut(model, options); }), HasSubstr("rank 0 needs"));
}

TEST(ToJson, HasTheDocumentedKeysInOrder) {
  const ShapeModel model(SmolSpec());
  const nlohmann::ordered_json json = plan::ToJson(PlanCut(model, Options(2, 3)));
  ASSERT_EQ(json["ranks"].size(), 6);
  std::vector<std::string> keys;
  for (const auto& [key, value] : json["ranks"][2].items()) {
    keys.push_back(key);
  }
  EXPECT_THAT(
      keys, ElementsAre("rank", "stage", "layers", "heads", "kv_heads", "mlp_leaves", "vocab_rows",
                        "weight_bytes", "kv_bytes_per_token", "bytes_per_step"));
  EXPECT_EQ(json["ranks"][2]["vocab_rows"].dump(), "[0,0]");
  EXPECT_EQ(json["ranks"][1]["heads"].dump(), "[5,9]");
}

TEST(ToTable, HasALineForEveryRank) {
  const ShapeModel model(SmolSpec());
  const std::string table = plan::ToTable(model, PlanCut(model, Options(3, 2)));
  EXPECT_THAT(table, HasSubstr("smol: 30 layers"));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 8);
}

TEST(PredictSpeed, IsTheReadingOfTheSlowestRankAndTheExchangeOfEveryLayer) {
  const ShapeModel model(Q4_1Spec());
  const auto shards = PlanCut(model, Options(2, 1));
  const int64_t read =
      std::max(plan::DecodeReadBytes(model, shards[0]), plan::DecodeReadBytes(model, shards[1]));
  EXPECT_LT(read, shards[0].weight_bytes) << "an embedding of its own is not read end to end";
  plan::GroupSpeed speed = {.read_bytes_per_second = 2.0 * static_cast<double>(read),
                            .dot_ops_per_second = 1e9};
  const plan::SpeedPrediction free = plan::PredictSpeed(model, shards, speed);
  EXPECT_DOUBLE_EQ(free.decode_tokens_per_second, 1);
  EXPECT_EQ(free.decode_bound, "memory");
  // Three layers with two all-reduces each: six seconds more.
  speed.all_reduce_seconds = 1;
  const plan::SpeedPrediction slow = plan::PredictSpeed(model, shards, speed);
  EXPECT_DOUBLE_EQ(slow.decode_tokens_per_second, 1.0 / 7);
  EXPECT_EQ(slow.decode_bound, "exchange");
  EXPECT_EQ(slow.prefill_tokens_per_second, free.prefill_tokens_per_second);
}

}  // namespace
}  // namespace shoal::test
