#pragma once

// Who will have which place when: what is ahead of a request, laid out over the groups' slots.

#include <cstdint>
#include <vector>

#include "transport/base/overload/service_class.h"

namespace shoal::core {

// What a request has still to have done.
struct Job {
  ServiceClass service_class = ServiceClass::kCritical;
  double rows = 0;    // Of its prompt.
  double tokens = 0;  // Of its answer, as is expected.
};

// What a group offers, as StepCost says.
struct SlotPace {
  int32_t slots = 1;
  double step_full = 0;  // Seconds of a step with all slots taken.
  double row = 0;        // Seconds of a prompt's row.
};

// List scheduling: each job takes the slot that is free first. While the prompt of one is computed
// all others of its group wait, which is as if it took all slots for that long. In seconds from the
// plan's making on. Threading: none.
class SlotPlan {
 public:
  explicit SlotPlan(std::vector<SlotPace> groups);

  // It has a place in that group, or waits there.
  void AddPlaced(size_t group, const Job& job);
  // It takes whatever is free first.
  void Add(const Job& job);

  // When the next one would start, where, and when the prompts before its own are done there.
  struct Next {
    double start = 0;
    size_t group = 0;
    double prompts_done = 0;
  };
  Next FindNext() const;

 private:
  struct Group {
    SlotPace pace;
    std::vector<double> free;  // When each slot is; a heap, the first one in front.
    double prompts_done = 0;
  };

  std::vector<Group> groups_;
};

}  // namespace shoal::core
