#pragma once

// What the ranks of a stage tell each other about a step's rows, and what one stage hands to the
// next: all that knows a Communicator.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/format/dtype.h"
#include "parallel/comm/communicator.h"
#include "parallel/plan/plan.h"
#include "worker/forward/activations.h"
#include "worker/forward/rows/step_digest.h"
#include "worker/forward/rows/step_rows.h"

namespace shoal::forward {

struct StageExchangeOptions {
  int32_t rank = 0;             // In the group.
  int32_t ranks_per_stage = 1;  // The same for all stages.
  int64_t rows_max = 0;         // Of a step.
  int64_t hidden_dim = 0;
  // Steps of so many rows or more divide them among the ranks.
  int64_t sequence_parallel_rows_min = 64;
  bool fast = false;                    // Sums cross the cut as floats.
  std::vector<plan::Range> vocab_rows;  // Of each rank of the stage.
};

// Row-parallel matrices leave each rank with a part of a sum. Of few rows every rank gets and
// finishes all sums: one all-reduce is the shortest exchange. Many rows are sequence-parallel: the
// sums are scattered, each rank finishes rows of its own, and only what the next matrix reads is
// gathered. Both give the same bits.
// Order:     all ranks of the stage call the same operations in the same order.
// Threading: one thread. Errors: those of the communicators.
class StageExchange {
 public:
  // `group` spans all ranks, `stage` those of this one; both outlive the object.
  StageExchange(comm::Communicator& group, comm::Communicator& stage, StageExchangeOptions options);

  int32_t ranks() const { return stage_.size(); }
  // The first rank of a stage speaks for it.
  bool is_first() const { return stage_.rank() == 0; }
  bool fast() const { return options_.fast; }

  // A step begins, which has rows.
  void BeginStep(uint64_t step);
  // How many rows the step has from now on. Decides which of them this rank finishes.
  void Begin(int64_t row_count);
  bool is_sequence_parallel() const { return sequence_parallel_; }
  // Only their residuals are current on this rank.
  plan::Range own_rows() const { return own_rows_; }

  // Sums over the ranks, for this rank's own rows at least. Shape: [rows][width].
  void SumRows(int64_t* data, int64_t width);
  // For all rows, in the order of the ranks. Shape: [rows][width].
  void SumRows(float* data, int64_t width);
  // The largest of the ranks' numbers. Shape: [rows].
  void MaxRows(int64_t* data);
  // Of each row one rank has the values and the others zeros: this rank's own rows become the
  // values, bit for bit. Shape: [rows][width], `words` likewise.
  void TakeFromHolders(float* values, int64_t width, int64_t* words);

  // Fetches the rows of an input that other ranks finished. `readers`: the matrices' formats, one
  // of those that want it in the same groups.
  void GatherInput(std::span<const DType> readers, LayerRows& all);
  // Fills the other ranks' rows of an array that holds this rank's own, if rows are
  // sequence-parallel. Shape: [rows][width].
  template <typename T>
  void GatherRows(T* data, int64_t width);

  // Tells all ranks what one of them knows: the layer that made a row bad.
  void ShareBadLayers(StepRows& rows);

  // Between stages, rank i of a stage hands the residual of its own rows, what is wrong with each,
  // and the digests so far, to rank i of the next, which finishes the same rows.
  void SendRows(const StepRows& rows, const float* residual);
  void ReceiveRows(StepRows& rows, float* residual);

  // Adds what all ranks have finished, or gathered, to this rank's digest of the step. Shape:
  // residual [rows][hidden_dim].
  void DigestRows(const StepRows& rows, const float* residual);
  // This rank knows of a wrong sum: CompareDigests fails on all ranks.
  void ReportWrongSum() { digest_.MarkWrongSum(); }
  // In the last stage, once in each step and before anything of it is used: whether the ranks of
  // all stages hold equal bits. Does nothing if GatherPieces has done it. Errors: kWrongAnswer, on
  // all ranks of the last stage alike; the group must then end.
  void CompareDigests();

  // All ranks' pieces, of the same size, in the order of ranks. The first time in a step digests
  // go along, and it is CompareDigests too.
  void GatherPieces(std::span<const std::byte> own, std::span<std::byte> all);
  // Joins the ranks' parts of some rows' logits on the first rank. Shapes: logits [rows][this
  // rank's vocabulary]; gathered, if there are several ranks, and all [rows][vocabulary].
  void GatherLogits(const float* logits, int64_t rows, std::byte* gathered, float* all);

 private:
  plan::Range RowsOf(int32_t stage_rank) const;
  bool compares() const { return stage_.size() > 1; }
  // Of this stage and those before it, of this rank and those whose rows it was given.
  std::span<const uint64_t> CloseDigests();
  void CheckDigests();
  // What each rank's own rows count in units of `row_size`.
  std::span<const int64_t> CountOwn(int64_t row_size);

  comm::Communicator& group_;
  comm::Communicator& stage_;
  const StageExchangeOptions options_;
  int64_t row_count_ = 0;
  bool sequence_parallel_ = false;
  plan::Range own_rows_;
  std::vector<int64_t> counts_;      // By rank of the stage.
  std::vector<int64_t> bad_layers_;  // [rows_max, and digests that go along]
  uint64_t step_ = 0;
  bool compared_ = true;  // The digests of this step.
  StepDigest digest_;
  std::vector<uint64_t> digests_;      // By stage, to this one.
  std::vector<uint64_t> all_digests_;  // [ranks of the stage][stages]
  std::vector<std::byte> staged_;      // Pieces with digests.
};

}  // namespace shoal::forward
