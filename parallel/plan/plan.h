#pragma once

// How a model is cut over the ranks of a group. Pure functions: the same facts give the same plan on
// every rank, so nobody has to send it.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

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
  Range heads;       // Query heads: those of its attention leaves.
  Range kv_heads;    // The key/value heads its query heads read; neighbours may share one.
  Range mlp_leaves;
  Range mlp_columns;  // Columns of the down projection (rows of gate and up) of its leaves.
  Range vocab_rows;   // Of the embedding (first stage) and the output head (last stage).
  int64_t weight_bytes = 0;        // As in the file.
  int64_t kv_bytes_per_token = 0;
  int64_t bytes_per_step = 0;  // Sent to other ranks for one decode row.
};

struct Cut {
  int32_t tensor_parallel = 1;
  int32_t pipeline_parallel = 1;
  int32_t rank_count() const { return tensor_parallel * pipeline_parallel; }
};

// Relative speeds of the ranks; empty means equal. Shares are dealt in proportion, and every rank
// owns at least one of each kind of unit and one layer.
struct PlanOptions {
  Cut cut;
  std::vector<double> rank_speeds;
  int64_t kv_element_bytes = 2;
  int64_t memory_bytes_max = 0;  // Per rank; 0: no limit.
  int64_t kv_cache_tokens = 0;   // Counted against memory_bytes_max.
};

// Result: one shard per rank, in rank order; together they tile layers, leaves and vocabulary.
// Errors: kInvalidArgument when the cut has more ranks than the model has leaves or layers (names the
// unit that limits it and the largest degree), or when a shard exceeds memory (names the rank, the
// bytes it needs, the bytes there are, and what to change).
std::vector<RankShard> PlanCut(const model::Model& model, const PlanOptions& options);

// The smallest of attention leaves, MLP leaves and vocabulary units.
int32_t LargestTensorParallel(const model::LeafGeometry& leaves);

// {"ranks": [...]} as README.md documents it, and the same as a table for people.
nlohmann::ordered_json ToJson(std::span<const RankShard> shards);
std::string ToTable(const model::Model& model, std::span<const RankShard> shards);

}  // namespace shoal::plan
