#pragma once

// A share of the service that others cannot take away.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace shoal::core {

// Counts in tokens of work that have been served to anybody, `served`, since the start. Whoever has
// the floor and waits is due once its share of what was served since it began to wait covers the
// cost of its next request; so it gets that share, but for one request, however many come before.
// What it gets in its ordinary turn counts, but is not held against it later.
class Floor {
 public:
  // `share` in [0, 1); 0: none.
  void SetShare(double share) { millionths_ = std::llround(share * 1e6); }
  // It waits from now on.
  void Begin(int64_t served) { from_ = served; }
  bool exists() const { return millionths_ > 0; }
  // What must have been served by when its next request is due.
  int64_t DueAt(int64_t cost) const { return from_ + Worth(cost); }
  // It was served that; `served` includes it.
  void Serve(int64_t cost, int64_t served) { from_ = std::min(from_ + Worth(cost), served); }

 private:
  // How much must be served for its share to be `cost`.
  int64_t Worth(int64_t cost) const { return (cost * 1'000'000 + millionths_ - 1) / millionths_; }

  int64_t millionths_ = 0;
  int64_t from_ = 0;
};

}  // namespace shoal::core
