#include "tests/coordinator/core/net_sim/net/virtual_loop.h"

#include <algorithm>
#include <utility>

namespace shoal::core::net_sim {

void VirtualLoop::After(int64_t milliseconds, std::function<void()> what) {
  size_t slot = slots_.size();
  if (free_.empty()) {
    slots_.push_back(std::move(what));
  } else {
    slot = free_.back();
    free_.pop_back();
    slots_[slot] = std::move(what);
  }
  const TimeNs at = now_ + std::max<int64_t>(0, milliseconds) * kMillisecondNs;
  heap_.push_back({at, next_order_++, slot});
  std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
}

bool VirtualLoop::RunNext(TimeNs end) {
  if (heap_.empty() || heap_.front().at > end) {
    now_ = std::max(now_, end);
    return false;
  }
  std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
  const Event event = heap_.back();
  heap_.pop_back();
  const std::function<void()> what = std::exchange(slots_[event.slot], nullptr);
  free_.push_back(event.slot);
  now_ = std::max(now_, event.at);
  ++events_total_;
  what();
  return true;
}

}  // namespace shoal::core::net_sim
