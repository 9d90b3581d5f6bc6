#pragma once

// How long a request that comes now will wait for its first token.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/predict/slot_plan.h"
#include "coordinator/core/predict/step_cost.h"
#include "coordinator/core/predict/wait_answer.h"
#include "coordinator/core/predict/wait_errors.h"
#include "coordinator/core/streams/streams.h"
#include "transport/base/clock.h"

namespace shoal::core {

// What is asked about.
struct WaitQuestion {
  ModelKey key;
  ServiceClass service_class = ServiceClass::kCritical;
  int64_t prompt_tokens = 0;
  int64_t tokens_max = 0;
  TimeNs now = 0;
};

// Lays out what is ahead of the request, of its class and better ones, over the slots of the key's
// groups, at the rates that those have shown (slot_plan.h, step_cost.h). What that leaves out, such
// as better ones that are still to come and the way to the group, is learned from how long those of
// its class have waited so far. Threading: none; owned by Region.
class WaitPredictor {
 public:
  // A group has reported how it stands.
  void Learn(const Group& group, const SchedulerStats& stats);
  void Forget(uint64_t group);
  // None while no group of the key that is ready has been measured.
  std::optional<WaitAnswer> Predict(const WaitQuestion& question, const GroupMap& groups,
                                    const Streams& streams);
  // It was taken: those that come next are behind it.
  void NoteTaken(const WaitQuestion& question);
  // A stream of that class that was predicted to wait so long has had its first token after
  // `waited`.
  void NoteOutcome(const WaitAnswer& predicted, ServiceClass service_class, TimeNs waited);
  // An answer of the key has ended: by itself, or at its tokens_max.
  void NoteLength(const ModelKey& key, int64_t tokens, bool by_itself);

  WaitErrorStatus errors() const { return errors_.status(); }

 private:
  struct Learned {
    StepCost cost;
    // The last that the group had been given when it reported last, and the time before: that one
    // its leader knows of, however long it was under way.
    SequenceId last_sequence = 0;
    SequenceId known_sequence = 0;
  };
  // For each class, what is ahead of it.
  struct Layout {
    TimeNs time = 0;
    bool stale = false;  // A group has reported since.
    size_t jobs = 0;
    std::vector<uint64_t> groups{};
    std::vector<SlotPlan> plans{};  // By class.
  };

  Layout* FindLayout(const WaitQuestion& question, const GroupMap& groups, const Streams& streams);
  Layout MakeLayout(const WaitQuestion& question, const GroupMap& groups,
                    const Streams& streams) const;
  // What the group was given, in the order in which it will go on with it.
  std::vector<Job> PlacedJobs(const Group& group, const Streams& streams) const;
  // What waits for groups of the key, in the order in which it is handed out.
  std::vector<Job> WaitingJobs(const ModelKey& key, const Streams& streams) const;
  Job JobOf(const Stream& stream) const;
  // Of an answer that may become so much longer, how much longer it will be.
  double LengthLeft(const ModelKey& key, int64_t tokens_left) const;

  std::map<uint64_t, Learned> learned_;  // By group.
  std::map<ModelKey, Layout> layouts_;
  // Of the last answers, later ones counting for more: their tokens, and how many ended by
  // themselves.
  struct Lengths {
    double tokens = 0;
    double ends = 0;
  };
  std::map<ModelKey, Lengths> lengths_;
  // By class, and whether it has to wait for a place: the logarithm of what waits come to as a
  // share of what the layout says.
  std::array<std::array<double, 2>, kServiceClasses> corrections_{};
  WaitErrors errors_;
};

}  // namespace shoal::core
