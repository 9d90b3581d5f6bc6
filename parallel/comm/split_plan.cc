#include "parallel/comm/split_plan.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "transport/base/check.h"

// Argument checks and the arithmetic of Split.

namespace shoal::comm {
namespace {

// The sum of the counts, one for each rank, none negative.
size_t CheckedTotal(const Communicator& comm, std::span<const int64_t> counts) {
  SHOAL_CHECK(counts.size() == static_cast<size_t>(comm.size()), counts.size(), " counts for ",
              comm.size(), " ranks");
  SHOAL_CHECK(std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n >= 0; }));
  return static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
}

}  // namespace

SplitPlan PlanSplit(Communicator& parent, int32_t color, int32_t key) {
  struct Choice {
    int32_t color;
    int32_t key;
    int32_t rank;
  };
  const Choice own{color, key, parent.rank()};
  std::vector<Choice> choices(static_cast<size_t>(parent.size()));
  const std::vector<int64_t> counts(choices.size(), sizeof(Choice));
  parent.AllGather(std::as_bytes(std::span(&own, 1)), counts,
                   std::as_writable_bytes(std::span(choices)));
  std::erase_if(choices, [&](const Choice& choice) { return choice.color != color; });
  std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
    return std::tie(a.key, a.rank) < std::tie(b.key, b.rank);
  });
  SplitPlan plan;
  for (const Choice& choice : choices) {
    if (choice.rank == parent.rank()) plan.rank = static_cast<int32_t>(plan.members.size());
    plan.members.push_back(choice.rank);
  }
  return plan;
}

void CheckPieces(const Communicator& comm, std::span<const int64_t> counts, size_t total,
                 size_t piece) {
  SHOAL_CHECK(CheckedTotal(comm, counts) == total, "counts do not add up to ", total);
  SHOAL_CHECK(static_cast<size_t>(counts[static_cast<size_t>(comm.rank())]) == piece, "a piece of ",
              piece);
}

void CheckExchange(const Communicator& comm, size_t sent, std::span<const int64_t> send_counts,
                   size_t received, std::span<const int64_t> receive_counts) {
  SHOAL_CHECK(CheckedTotal(comm, send_counts) == sent, "send counts do not add up to ", sent);
  SHOAL_CHECK(CheckedTotal(comm, receive_counts) == received, "receive counts do not add up to ",
              received);
  const auto self = static_cast<size_t>(comm.rank());
  SHOAL_CHECK(send_counts[self] == receive_counts[self], "to itself: ", send_counts[self], " and ",
              receive_counts[self]);
}

}  // namespace shoal::comm
