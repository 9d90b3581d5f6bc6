#pragma once

// What a rank's part of the forward pass is set up with, and what may watch it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "kernels/format/packed.h"
#include "parallel/model/layer_spec.h"
#include "parallel/plan/plan.h"
#include "worker/forward/numerics.h"
#include "worker/forward/planted_fault.h"

namespace shoal::forward {

using LogitsSink =
    std::function<void(uint64_t id, int64_t position, std::span<const float> logits)>;

using model::LayerInput;

// `values`: [rows][cols], of some of a step's rows. Called for each of them once for each input, in
// any order and by several threads at once.
using InputSink = std::function<void(int64_t layer, LayerInput input, std::span<const float> values,
                                     int64_t cols)>;

struct RankOptions {
  plan::Cut cut;
  int32_t rank = 0;
  KvDType kv_dtype = KvDType::kF16;
  Numerics numerics = Numerics::kExact;
  int64_t kv_block_count = 0;
  int64_t context_tokens = 0;  // Positions that the rope table covers.
  int32_t sequences_max = 32;
  int64_t prefill_chunk_tokens = 512;
  // Steps of so many rows divide them among the stage's ranks between the matrices.
  int64_t sequence_parallel_rows_min = 64;
  // Sees the logits of every row that a plan asks for, on the first rank of the last stage; set on
  // every rank of a group or on none. For digests and tests.
  LogitsSink on_logits = {};
  // Sees the inputs of this rank's matrices before they are quantised, those rows and columns of
  // them that it computes itself. Changes nothing about how they are computed: in the last layer,
  // rows whose logits nobody wants have an input for keys and values only.
  InputSink on_input = {};
  // For tests.
  std::optional<PlantedFault> planted_fault = {};

  int64_t rows_max() const { return prefill_chunk_tokens + sequences_max; }
};

}  // namespace shoal::forward
