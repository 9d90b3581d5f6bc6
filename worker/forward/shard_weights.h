#pragma once

// The weights of one rank, packed for its kernels, read from the mapped model file.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/buffer.h"
#include "kernels/device/thread_team.h"
#include "kernels/format/packed.h"
#include "parallel/model/digest.h"
#include "parallel/model/model.h"
#include "parallel/plan/plan.h"

namespace shoal::forward {

// Column-parallel matrices hold this rank's outputs and all of K; row-parallel ones
// (attention_output, down) hold all outputs and this rank's part of K.
struct LayerWeights {
  const float* attention_norm = nullptr;  // [hidden_dim]
  PackedMatrix query;                     // [heads * head_dim][hidden_dim]
  PackedMatrix key;                       // [kv_heads * head_dim][hidden_dim]
  PackedMatrix value;                     // [kv_heads * head_dim][hidden_dim]
  PackedMatrix attention_output;          // [hidden_dim][heads * head_dim]
  const float* ffn_norm = nullptr;        // [hidden_dim]
  PackedMatrix gate;                      // [mlp_columns][hidden_dim]
  PackedMatrix up;                        // [mlp_columns][hidden_dim]
  PackedMatrix down;                      // [hidden_dim][mlp_columns]
};

// The matrices that a step multiplies with one after another, from `first` to `last`, as memory.
std::span<const std::byte> MemoryOf(const PackedMatrix& first, const PackedMatrix& last);

// The matrices lie in memory in the order in which a step reads them. Immutable after construction.
class ShardWeights {
 public:
  // Reads and packs what `shards[rank]` owns, and no other tensor bytes. Errors: kInvalidArgument
  // for a non-finite scale, naming tensor and block.
  ShardWeights(const model::Model& model, std::span<const plan::RankShard> shards, int32_t rank,
               device::ThreadTeam& team);

  std::span<const LayerWeights> layers() const { return layers_; }
  const float* output_norm() const { return output_norm_; }  // Last stage only.
  const PackedMatrix& output() const {
    return output_;
  }  // [vocab_rows][hidden_dim]; last stage only.
  // This rank's part of the model's weight digest: the units it owns and no lower rank does.
  const model::WeightDigest& digest() const { return digest_; }
  int64_t packed_bytes() const { return memory_.bytes(); }

 private:
  class Packer;

  device::Buffer memory_;
  std::vector<std::vector<float>> norms_;
  std::vector<LayerWeights> layers_;
  const float* output_norm_ = nullptr;
  PackedMatrix output_;
  model::WeightDigest digest_;
};

}  // namespace shoal::forward
