#include "transport/rpc/hand_over_queue.h"

#include <algorithm>
#include <utility>

namespace shoal::rpc {

std::vector<HeldStream> HandOverQueue::Take(size_t bytes_max) {
  std::vector<HeldStream> taken;
  size_t room = bytes_max;
  while (room > 0 && !empty()) {
    HeldStream& part = taken.emplace_back();
    size_t bytes = 0;
    if (rest_.empty()) {
      part.request = std::move(waiting_.front().request);
      bytes = (part.request.prompt.size() + part.request.generated.size()) * sizeof(int32_t);
      rest_.Add(std::move(waiting_.front().all));
      waiting_.pop_front();
    }
    const size_t before = rest_.bytes();
    std::vector<SequenceUpdate> all = rest_.Take(std::max<size_t>(room - std::min(room, bytes), 1));
    part.all = std::move(all.front());
    part.request.id = part.all.id;
    if (!rest_.empty()) break;  // The message is full.
    room -= std::min(room, bytes + before);
  }
  return taken;
}

}  // namespace shoal::rpc
