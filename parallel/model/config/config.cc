#include "parallel/model/config/config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "parallel/model/files/refuse.h"

// Consistency of a configuration, and the leaves that follow from it.

namespace shoal::model {
namespace {

void CheckSizes(const ModelConfig& config, const std::string& where) {
  constexpr int64_t kSizeMax = INT32_MAX;
  const std::pair<const char*, int64_t> sizes[] = {
      {"layer count", config.layer_count}, {"hidden dimension", config.hidden_dim},
      {"head count", config.head_count},   {"key/value head count", config.kv_head_count},
      {"head dimension", config.head_dim}, {"context", config.context_tokens}};
  const auto check = [&](const char* name, int64_t size) {
    if (size >= 1 && size <= kSizeMax) return;
    Refuse(where, "the ", name, " is ", size, ", expected 1 to ", kSizeMax,
           ": correct it, or convert the model again");
  };
  for (const auto& [name, size] : sizes) check(name, size);
  for (const int64_t ffn_dim : config.ffn_dims) check("feed-forward dimension", ffn_dim);
  const auto widths = static_cast<int64_t>(config.ffn_dims.size());
  if (widths != 1 && widths != config.layer_count) {
    Refuse(where, "there are ", widths, " feed-forward dimensions, expected one for all ",
           config.layer_count, " layers or one for each: correct them, or convert the model again");
  }
  if (config.head_count * config.head_dim > kSizeMax) {
    Refuse(where, config.head_count, " heads of ", config.head_dim,
           " are wider than 2147483647: correct them, or convert the model again");
  }
}

int64_t CeilDivide(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

}  // namespace

void CheckConfig(const ModelConfig& config, const std::string& where) {
  CheckSizes(config, where);
  if (config.kv_head_count > config.head_count || config.head_count % config.kv_head_count != 0) {
    Refuse(where, config.head_count, " query heads cannot share ", config.kv_head_count,
           " key/value heads evenly: correct the head counts, or convert the model again");
  }
  if (config.head_dim % 2 != 0) {
    Refuse(where, "the head dimension is ", config.head_dim,
           ", rope needs an even one: correct it, or convert the model again");
  }
  if (!std::isfinite(config.norm_epsilon) || !(config.norm_epsilon > 0)) {
    Refuse(where, "the norm epsilon is ", config.norm_epsilon,
           ", expected a positive number: correct it, or convert the model again");
  }
  if (!std::isfinite(config.rope.theta) || !(config.rope.theta > 0)) {
    Refuse(where, "the rope base is ", config.rope.theta,
           ", expected a positive number: correct it, or convert the model again");
  }
  if (!std::isfinite(config.rope.linear_factor) || !(config.rope.linear_factor > 0)) {
    Refuse(where, "the rope scaling factor is ", config.rope.linear_factor,
           ", expected a positive number: correct it, or convert the model again");
  }
  for (const int32_t id : config.eos_ids) {
    if (config.vocab_size != 0 && (id < 0 || id >= config.vocab_size)) {
      Refuse(where, "the end-of-sequence id ", id, " is outside the vocabulary of ",
             config.vocab_size, ": correct it, or convert the model again");
    }
  }
}

LeafGeometry ComputeLeaves(const ModelConfig& config, int64_t attention_group, int64_t down_group) {
  if (config.head_dim * config.head_count % attention_group != 0) {
    Throw(ErrorCode::kInvalidArgument, "attention output: ", config.head_count, " heads of ",
          config.head_dim, " are no multiple of the weight format's group of ", attention_group,
          ": convert these tensors to F16");
  }
  for (const int64_t ffn_dim : config.ffn_dims) {
    if (ffn_dim % down_group == 0) continue;
    Throw(ErrorCode::kInvalidArgument, "MLP down: the feed-forward dimension ", ffn_dim,
          " is no multiple of the weight format's group of ", down_group,
          ": convert these tensors to F16");
  }
  LeafGeometry leaves;
  leaves.heads_per_leaf = 1;
  while (leaves.heads_per_leaf * config.head_dim % attention_group != 0) {
    ++leaves.heads_per_leaf;
  }
  leaves.attention_leaf_count = CeilDivide(config.head_count, leaves.heads_per_leaf);
  const auto [narrowest, widest] =
      std::minmax_element(config.ffn_dims.begin(), config.ffn_dims.end());
  leaves.mlp_leaf_width = *widest < 1024 ? 64 : *widest > 8192 ? 256 : 128;
  // Groups are powers of two: the wider of the two is a multiple of the other.
  leaves.mlp_leaf_width = std::max(leaves.mlp_leaf_width, down_group);
  leaves.mlp_leaf_count = MlpLeafCount(*widest, leaves.mlp_leaf_width);
  leaves.mlp_leaf_count_min = MlpLeafCount(*narrowest, leaves.mlp_leaf_width);
  leaves.vocab_unit_count = CeilDivide(config.vocab_size, kVocabUnitRows);
  return leaves;
}

}  // namespace shoal::model
