#pragma once

// Argument checks and the arithmetic of Split, the same for all implementations of Communicator.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/comm/communicator.h"

namespace shoal::comm {

struct SplitPlan {
  // The parent's ranks with this rank's color, ordered by (key, rank): the new communicator's.
  std::vector<int32_t> members;
  int32_t rank = 0;  // This rank's position among them.
};

// Collective on `parent`.
SplitPlan PlanSplit(Communicator& parent, int32_t color, int32_t key);

// Aborts the process if the arguments of a ReduceScatter or AllGather do not fit each other.
void CheckPieces(const Communicator& comm, std::span<const int64_t> counts, size_t total,
                 size_t piece);
void CheckExchange(const Communicator& comm, size_t sent, std::span<const int64_t> send_counts,
                   size_t received, std::span<const int64_t> receive_counts);

}  // namespace shoal::comm
