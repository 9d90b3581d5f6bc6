#include "parallel/plan/plan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>
#include <utility>

#include "parallel/plan/deal.h"
#include "parallel/plan/kv_layout.h"
#include "transport/base/error.h"

// From a model's leaves and sizes to each rank's shard.

namespace shoal::plan {
namespace {

using model::LeafGeometry;
using model::Model;
using model::ModelConfig;

// The three kinds of unit that a tensor-parallel cut divides, with their names for messages.
std::array<std::pair<const char*, int64_t>, 3> UnitCounts(const LeafGeometry& leaves) {
  return {{{"attention leaves", leaves.attention_leaf_count},
           {"MLP leaves", leaves.mlp_leaf_count_min},
           {"vocabulary units of 64 rows", leaves.vocab_unit_count}}};
}

void CheckCut(const Model& model, const PlanOptions& options) {
  const Cut& cut = options.cut;
  if (cut.tensor_parallel < 1 || cut.pipeline_parallel < 1) {
    Throw(ErrorCode::kInvalidArgument, "tensor-parallel ", cut.tensor_parallel,
          " and pipeline-parallel ", cut.pipeline_parallel, " must both be at least 1");
  }
  for (const auto& [name, count] : UnitCounts(model.leaves())) {
    if (cut.tensor_parallel > count) {
      Throw(ErrorCode::kInvalidArgument, model.path(), ": tensor-parallel ", cut.tensor_parallel,
            " is more ranks than leaves: the model has ", count, " ", name,
            "; the largest tensor-parallel degree is ", LargestTensorParallel(model.leaves()));
    }
  }
  if (cut.pipeline_parallel > model.config().layer_count) {
    Throw(ErrorCode::kInvalidArgument, model.path(), ": pipeline-parallel ", cut.pipeline_parallel,
          " is more stages than layers: the largest pipeline-parallel degree is ",
          model.config().layer_count);
  }
  const auto& speeds = options.rank_speeds;
  const bool usable = std::all_of(speeds.begin(), speeds.end(), [](double speed) {
    return speed >= 1e-6 && speed <= 1e15;  // Also false for a NaN.
  });
  if (!usable || (!speeds.empty() && static_cast<int64_t>(speeds.size()) !=
                                         int64_t{cut.tensor_parallel} * cut.pipeline_parallel)) {
    Throw(ErrorCode::kInvalidArgument, "rank speeds: expected one from 1e-6 to 1e15 for each of ",
          int64_t{cut.tensor_parallel} * cut.pipeline_parallel, " ranks, found ", speeds.size());
  }
}

bool IsTied(const Model& model) {
  return model.tensors().output == model.tensors().token_embedding;
}

int64_t LayerBytes(const model::LayerTensors& layer) {
  int64_t bytes = 0;
  for (const model::TensorSpec& tensor : layer.spec.tensors) bytes += layer[tensor.role].bytes();
  return bytes;
}

std::vector<Range> PlanStages(const Model& model, std::span<const double> speeds, const Cut& cut) {
  const model::ModelTensors& tensors = model.tensors();
  LayerLoads loads;
  for (const model::LayerTensors& layer : tensors.layers) {
    loads.layers.push_back(LayerBytes(layer));
  }
  loads.first_stage = tensors.token_embedding->bytes();
  loads.last_stage = tensors.output->bytes() + tensors.output_norm->bytes();
  std::vector<double> stage_speeds;
  for (int32_t stage = 0; stage < cut.pipeline_parallel; ++stage) {
    const auto ranks = speeds.subspan(static_cast<size_t>(stage * cut.tensor_parallel),
                                      static_cast<size_t>(cut.tensor_parallel));
    stage_speeds.push_back(std::accumulate(ranks.begin(), ranks.end(), 0.0));
  }
  return DealLayers(loads, stage_speeds);
}

// [begin, end) in units to [begin, end) in elements, the last unit cut off at `limit`.
Range Scale(const Range& units, int64_t unit_size, int64_t limit) {
  return {std::min(units.begin * unit_size, limit), std::min(units.end * unit_size, limit)};
}

int64_t WidestMlp(const ModelConfig& config) {
  return *std::max_element(config.ffn_dims.begin(), config.ffn_dims.end());
}

// The columns of each place of a stage in each of its layers, whose leaves are divided layer by
// layer; empty if all layers are alike. Shape: [places][layers].
std::vector<std::vector<Range>> DivideMlp(const Model& model, const Range& layers,
                                          std::span<const double> speeds) {
  std::vector<std::vector<Range>> columns(speeds.size());
  if (model.config().ffn_dims.size() <= 1) return columns;
  const int64_t leaf_width = model.leaves().mlp_leaf_width;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    const int64_t ffn_dim = model.config().ffn_dim(layer);
    const std::vector<Range> leaves = DealUnits(model::MlpLeafCount(ffn_dim, leaf_width), speeds);
    for (size_t place = 0; place < speeds.size(); ++place) {
      columns[place].push_back(Scale(leaves[place], leaf_width, ffn_dim));
    }
  }
  return columns;
}

int64_t WeightBytes(const Model& model, const RankShard& shard, bool first, bool last) {
  const model::ModelTensors& tensors = model.tensors();
  int64_t bytes = 0;
  for (int64_t i = shard.layers.begin; i < shard.layers.end; ++i) {
    const model::LayerTensors& layer = tensors.layers[static_cast<size_t>(i)];
    for (const model::TensorSpec& tensor : layer.spec.tensors) {
      const TensorPart part = PartOf(tensor, i, shard);
      bytes += part.rows.count() * RowBytes(layer[tensor.role].dtype, part.cols.count());
    }
  }
  if (first) {
    bytes += shard.vocab_rows.count() * tensors.token_embedding->row_bytes();
  }
  if (last) {
    bytes += tensors.output_norm->bytes();
    bytes += first && IsTied(model) ? 0 : shard.vocab_rows.count() * tensors.output->row_bytes();
  }
  return bytes;
}

int64_t BytesPerStep(const Model& model, const RankShard& shard, const Cut& cut) {
  const ModelConfig& config = model.config();
  const int64_t peers = cut.tensor_parallel - 1;
  const auto gathered = [&](int64_t bytes) { return bytes * peers / cut.tensor_parallel; };
  int64_t sums = 0;
  for (int64_t i = shard.layers.begin; i < shard.layers.end; ++i) {
    sums += model.tensors().layers[static_cast<size_t>(i)].spec.sum_count();
  }
  int64_t bytes = sums * gathered(2 * 8 * (config.hidden_dim + 1));
  if (shard.stage == 0) {
    bytes += gathered(4 * config.hidden_dim);
  }
  if (shard.stage + 1 < cut.pipeline_parallel) {
    bytes += 4 * config.hidden_dim;
  } else {
    bytes += gathered(4 * config.vocab_size);
  }
  return bytes;
}

void CheckMemory(const Model& model, const RankShard& shard, const PlanOptions& options) {
  if (options.memory_bytes_max == 0) {
    return;
  }
  // The product may exceed int64; the comparison below does not form it.
  const int64_t left = options.memory_bytes_max - shard.weight_bytes;
  if (left >= 0 &&
      options.kv_cache_tokens <= left / std::max<int64_t>(1, shard.kv_bytes_per_token)) {
    return;
  }
  const double needed =
      static_cast<double>(shard.weight_bytes) +
      static_cast<double>(options.kv_cache_tokens) * static_cast<double>(shard.kv_bytes_per_token);
  const std::string needed_text =
      needed < 9e15 ? std::to_string(static_cast<int64_t>(needed)) : Str(needed);
  Throw(ErrorCode::kInvalidArgument, model.path(), ": rank ", shard.rank, " needs ", needed_text,
        " bytes (", shard.weight_bytes, " of weights and ", options.kv_cache_tokens,
        " cached tokens of ", shard.kv_bytes_per_token, "), its memory is ",
        options.memory_bytes_max,
        ": use more ranks, lower kv-cache-tokens, or raise memory-bytes-max");
}

}  // namespace

const Range& RankShard::MlpColumns(int64_t layer) const {
  if (layer_mlp_columns.empty()) return mlp_columns;
  return layer_mlp_columns.at(static_cast<size_t>(layer - layers.begin));
}

int64_t RankShard::MlpColumnsMax() const {
  int64_t most = 0;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    most = std::max(most, MlpColumns(layer).count());
  }
  return most;
}

TensorPart PartOf(const model::TensorSpec& tensor, int64_t layer, const RankShard& shard) {
  const auto units = [&]() -> Range {
    switch (tensor.unit) {
      case model::CutUnit::kHeads:
        return shard.heads;
      case model::CutUnit::kKvHeads:
        return shard.kv_heads;
      case model::CutUnit::kMlpColumns:
        return shard.MlpColumns(layer);
      case model::CutUnit::kNone:
        break;
    }
    return {};
  }();
  const Range cut = {units.begin * tensor.unit_size, units.end * tensor.unit_size};
  TensorPart part = {{0, tensor.rows}, {0, tensor.cols}};
  if (tensor.cut == model::TensorCut::kColumnParallel) part.rows = cut;
  if (tensor.cut == model::TensorCut::kRowParallel) part.cols = cut;
  return part;
}

std::vector<RankShard> PlanCut(const Model& model, const PlanOptions& options) {
  CheckCut(model, options);
  const ModelConfig& config = model.config();
  const LeafGeometry& leaves = model.leaves();
  const Cut& cut = options.cut;
  const auto place_count = static_cast<size_t>(cut.tensor_parallel);
  std::vector<double> speeds = options.rank_speeds;
  speeds.resize(place_count * static_cast<size_t>(cut.pipeline_parallel), 1.0);
  const std::vector<Range> stages = PlanStages(model, speeds, cut);
  const int64_t heads_per_kv_head = config.head_count / config.kv_head_count;
  std::vector<RankShard> shards;
  for (int32_t stage = 0; stage < cut.pipeline_parallel; ++stage) {
    const bool first = stage == 0;
    const bool last = stage + 1 == cut.pipeline_parallel;
    const std::span<const double> places(speeds.data() + static_cast<size_t>(stage) * place_count,
                                         place_count);
    const std::vector<Range> attention = DealUnits(leaves.attention_leaf_count, places);
    const std::vector<Range> mlp = DealUnits(leaves.mlp_leaf_count, places);
    const auto mlp_columns = DivideMlp(model, stages[static_cast<size_t>(stage)], places);
    const std::vector<Range> vocab = DealUnits(leaves.vocab_unit_count, places);
    for (size_t place = 0; place < place_count; ++place) {
      RankShard shard;
      shard.rank = static_cast<int32_t>(shards.size());
      shard.stage = stage;
      shard.layers = stages[static_cast<size_t>(stage)];
      shard.attention_leaves = attention[place];
      shard.heads = Scale(attention[place], leaves.heads_per_leaf, config.head_count);
      shard.kv_heads = {shard.heads.begin / heads_per_kv_head,
                        (shard.heads.end - 1) / heads_per_kv_head + 1};
      shard.mlp_leaves = mlp[place];
      shard.mlp_columns = Scale(mlp[place], leaves.mlp_leaf_width, WidestMlp(config));
      shard.layer_mlp_columns = mlp_columns[place];
      if (first || last) {
        shard.vocab_rows = Scale(vocab[place], model::kVocabUnitRows, config.vocab_size);
      }
      shard.weight_bytes = WeightBytes(model, shard, first, last);
      shard.kv_bytes_per_token = MakeKvLayout(model, shard, options.kv_dtype).token_bytes();
      shard.bytes_per_step = BytesPerStep(model, shard, cut);
      CheckMemory(model, shard, options);
      shards.push_back(shard);
    }
  }
  return shards;
}

int32_t LargestTensorParallel(const LeafGeometry& leaves) {
  int64_t largest = INT32_MAX;
  for (const auto& [name, count] : UnitCounts(leaves)) {
    largest = std::min(largest, count);
  }
  return static_cast<int32_t>(largest);
}

}  // namespace shoal::plan
