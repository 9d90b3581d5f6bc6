#pragma once

// How a model is cut over the ranks of a group. Pure functions: the same facts give the same plan
// on every rank, so nobody has to send it.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "kernels/format/packed.h"
#include "parallel/model/model.h"

namespace shoal::plan {

// Half-open.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// What one rank owns. Rank = stage * tensor_parallel + its place within the stage.
struct RankShard {
  int32_t rank = 0;
  int32_t stage = 0;
  Range layers;
  Range attention_leaves;
  Range heads;        // Query heads: those of its attention leaves.
  Range kv_heads;     // The key/value heads its query heads read; neighbours may share one.
  Range mlp_leaves;   // Of the widest layer's.
  Range mlp_columns;  // Columns of its down projection (rows of gate and up) in those leaves.
  // The same of each of its layers, where they differ; empty: as above in all.
  std::vector<Range> layer_mlp_columns;
  Range vocab_rows;  // Of the embedding (first stage) and the output head (last stage).
  // Of the rank's rows and columns, as in the file. Norms count on every rank that uses them, a
  // tied embedding once where a stage is both first and last.
  int64_t weight_bytes = 0;
  // Of all kv_heads, also those that a neighbour holds too.
  int64_t kv_bytes_per_token = 0;
  // Sent to other ranks for one decode row, predicted: two sums of hidden_dim + 1 integers a layer,
  // the embedding row, the residual to the next stage, the logits; a collective over N ranks sends
  // (N - 1) / N of its bytes, a sum twice that.
  int64_t bytes_per_step = 0;

  // Of a layer of the model, and the most of any of its layers.
  const Range& MlpColumns(int64_t layer) const;
  int64_t MlpColumnsMax() const;
};

// The rectangle of a layer's tensor that a rank holds.
struct TensorPart {
  Range rows;
  Range cols;
};

TensorPart PartOf(const model::TensorSpec& tensor, int64_t layer, const RankShard& shard);

struct Cut {
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  int32_t rank_count() const { return tensor_parallel * pipeline_parallel; }
};

// `rank_speeds`: relative, one per rank, or empty for equal ones. Units are dealt to the ranks of a
// stage in proportion, earlier ranks first where that leaves a tie, and every rank owns at least
// one of each kind. Layers are dealt to stages so that the slowest stage has the least bytes per
// speed, embedding and output head included.
struct PlanOptions {
  Cut cut;
  std::vector<double> rank_speeds;
  KvDType kv_dtype = KvDType::kF16;
  int64_t memory_bytes_max = 0;  // Per rank; 0: no limit.
  int64_t kv_cache_tokens = 0;   // Counted against memory_bytes_max.
};

// Result: one shard per rank, in rank order; together they tile layers, leaves and vocabulary.
// Errors: kInvalidArgument when the cut has more ranks than the model has leaves or layers (names
// the unit that limits it and the largest degree), or when a shard exceeds memory (names the rank,
// the bytes it needs, the bytes there are, and what to change).
std::vector<RankShard> PlanCut(const model::Model& model, const PlanOptions& options);

// The smallest of attention leaves, MLP leaves and vocabulary units.
int32_t LargestTensorParallel(const model::LeafGeometry& leaves);

// {"ranks": [...]} as README.md documents it, and the same as a table for people.
nlohmann::ordered_json ToJson(std::span<const RankShard> shards);
std::string ToTable(const model::Model& model, std::span<const RankShard> shards);

}  // namespace shoal::plan
