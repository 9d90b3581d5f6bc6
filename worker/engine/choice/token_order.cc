#include "worker/engine/choice/token_order.h"

#include <algorithm>
#include <bit>

namespace shoal::engine {
namespace {

// A heap of the first so far, the last of them in front: one pass that rarely touches the heap.
void FirstByHeap(std::span<const float> logits, size_t keep, std::vector<uint64_t>& orders) {
  for (size_t token = 0; token < keep; ++token) {
    orders.push_back(OrderOf(logits[token], static_cast<int32_t>(token)));
  }
  std::make_heap(orders.begin(), orders.end());
  float last = logits[static_cast<size_t>(TokenOf(orders.front()))];
  for (size_t token = keep; token < logits.size(); ++token) {
    if (!(logits[token] > last)) continue;  // Of equal logits the earlier token has the lower id.
    std::pop_heap(orders.begin(), orders.end());
    orders.back() = OrderOf(logits[token], static_cast<int32_t>(token));
    std::push_heap(orders.begin(), orders.end());
    last = logits[static_cast<size_t>(TokenOf(orders.front()))];
  }
}

}  // namespace

uint64_t OrderOf(float logit, int32_t token) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0F);
  const uint32_t rising = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return (uint64_t{~rising} << 32) | static_cast<uint32_t>(token);
}

void FirstTokens(std::span<const float> logits, size_t keep, std::vector<uint64_t>& orders) {
  constexpr size_t kHeapMax = 256;
  orders.clear();
  if (keep <= kHeapMax) return FirstByHeap(logits, keep, orders);
  orders.reserve(logits.size());
  for (size_t token = 0; token < logits.size(); ++token) {
    orders.push_back(OrderOf(logits[token], static_cast<int32_t>(token)));
  }
  if (keep == orders.size()) return;
  std::nth_element(orders.begin(), orders.begin() + static_cast<ptrdiff_t>(keep), orders.end());
  orders.resize(keep);
}

}  // namespace shoal::engine
