#pragma once

// The numbers that describe a model, read from a GGUF file's metadata or from config.json, and what
// follows from them alone: how its sums are cut into leaves.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/format/dtype.h"

namespace shoal::model {

// Which elements of a head rope rotates together: (2j, 2j + 1), as GGUF stores llama's queries and
// keys, or (j, j + head_dim / 2), as safetensors checkpoints do.
enum class RopeLayout : uint8_t { kAdjacentPairs, kHalfSplit };

// Llama 3's change of the rope frequencies; it applies at every length.
struct Llama3RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 1;
  int64_t original_context_tokens = 0;
};

struct RopeConfig {
  double theta = 10000;
  RopeLayout layout = RopeLayout::kHalfSplit;
  double linear_factor = 1;  // Positions are divided by it.
  std::optional<Llama3RopeScaling> llama3;
  // GGUF's form of the same: frequency j is divided by frequency_divisors[j]. [head_dim / 2] or
  // empty.
  std::vector<float> frequency_divisors;
};

struct ModelConfig {
  std::string family;  // As layer_spec.h's Family::name.
  int64_t layer_count = 0;
  int64_t hidden_dim = 0;
  int64_t head_count = 0;
  int64_t kv_head_count = 0;
  int64_t head_dim = 0;
  std::vector<int64_t> ffn_dims;  // MLP columns: one for all layers, or one for each.
  int64_t vocab_size = 0;         // Rows of the embedding; may exceed the tokenizer's vocabulary.
  int64_t context_tokens = 0;     // Longest sequence the model was made for.
  float norm_epsilon = 1e-5F;
  RopeConfig rope;
  std::vector<int32_t> eos_ids;  // Tokens that end an answer (end_ids.h).

  int64_t ffn_dim(int64_t layer) const {
    return ffn_dims.size() == 1 ? ffn_dims.front() : ffn_dims.at(static_cast<size_t>(layer));
  }
};

// Checks what every reader of a configuration must: sizes from 1 to 2^31 - 1, whole groups of query
// heads, an even head_dim, finite positive epsilon, theta and rope factor, EOS ids inside the
// vocabulary (skipped while vocab_size is 0). Errors: kInvalidArgument with `where`.
void CheckConfig(const ModelConfig& config, const std::string& where);

// Leaves: the fixed pieces of the two sums that cross a tensor-parallel cut (kernels/ARITHMETIC.md,
// "Sums that cross a cut"). A property of the model, never of the cut.
struct LeafGeometry {
  int64_t heads_per_leaf = 1;  // Attention output; the last leaf may hold fewer heads.
  int64_t attention_leaf_count = 0;
  int64_t mlp_leaf_width = 128;    // Columns of the down projection; the last leaf may be narrower.
  int64_t mlp_leaf_count = 0;      // Of the widest layer's.
  int64_t mlp_leaf_count_min = 0;  // Of the narrowest layer's.
  int64_t vocab_unit_count = 0;    // Units of 64 rows of the output head; the last may be short.
};

constexpr int64_t kVocabUnitRows = 64;

// Whole leaves of an MLP of `ffn_dim` columns, the last one perhaps narrower.
constexpr int64_t MlpLeafCount(int64_t ffn_dim, int64_t leaf_width) {
  return (ffn_dim + leaf_width - 1) / leaf_width;
}

// `attention_group` and `down_group`: the largest GroupSize among the model's attention-output,
// respectively down, tensors. Errors: kInvalidArgument if head_dim * head_count or an ffn_dim is no
// multiple of its group.
LeafGeometry ComputeLeaves(const ModelConfig& config, int64_t attention_group, int64_t down_group);

}  // namespace shoal::model
