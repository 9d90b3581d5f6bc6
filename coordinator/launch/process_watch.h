#pragma once

// Sees the end of a process that is not a child of this one.

#include <sys/types.h>

#include <utility>

namespace shoal::launch {

// Holds a process by a descriptor, so that its number means the same process as long as this lives.
class ProcessWatch {
 public:
  // A process that has gone already, or cannot be watched, counts as running for ever: whoever
  // wants to know of its end learns it in another way.
  explicit ProcessWatch(pid_t pid);
  ProcessWatch(ProcessWatch&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  ProcessWatch& operator=(ProcessWatch&&) = delete;
  ~ProcessWatch();

  // Whether it has ended, be it a zombie or gone. Never waits.
  bool HasEnded() const;

 private:
  int descriptor_ = -1;
};

}  // namespace shoal::launch
