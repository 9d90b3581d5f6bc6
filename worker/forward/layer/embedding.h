#pragma once

// The first stage's beginning: the rows of the embedding that a step's tokens are.

#include <cstdint>

#include "parallel/model/model.h"
#include "parallel/plan/plan.h"
#include "worker/forward/ops/ops.h"
#include "worker/forward/rows/stage_exchange.h"

namespace shoal::forward {

// Reads the rows from the mapped file; this rank holds some of the vocabulary.
class Embedding {
 public:
  Embedding(const model::Tensor& table, plan::Range held) : table_(table), held_(held) {}

  // residual = the tokens' embeddings, of the rows that this rank finishes.
  void Run(Ops& ops, StageExchange& exchange, Activations& activations, const RowTile& all_rows);

 private:
  const model::Tensor& table_;
  const plan::Range held_;
  int64_t mapped_rows_ = 0;  // Read since their pages were released.
};

}  // namespace shoal::forward
