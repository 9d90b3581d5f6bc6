#pragma once

// A clock the test moves, and what always holds of a region.

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/region.h"
#include "coordinator/store/journal.h"
#include "transport/base/clock.h"

namespace shoal::core {

class ManualClock : public Clock {
 public:
  TimeNs now() const override { return now_; }
  void Advance(int64_t milliseconds) { now_ += milliseconds * kMillisecondNs; }
  void AdvanceTo(TimeNs time) { now_ = time; }

 private:
  TimeNs now_ = kSecondNs;
};

// Random bits that are the same in every run.
std::function<uint64_t()> MakeTestRandom(uint64_t seed = 1);

// Rank `rank` of a well-formed group.
RankRegistration MakeRank(uint64_t group_id, int32_t rank = 0, int32_t tensor_parallel = 1,
                          int32_t pipeline_parallel = 1);

// By which a leader is given it.
SubmitAction SubmitOf(const Canary& canary);

// What a group answers to its canary, all at once. Groups of one version say the same;
// `flipped_bits` of one number are not as they should be.
SequenceUpdate AnswerCanary(const SubmitAction& canary, uint32_t flipped_bits = 0);

// The digest of that.
std::string CanaryDigestOf(const RankRegistration& rank);

// A group of one rank that is ready. Its rank's connection has the group's number.
Group MakeReadyGroup(uint64_t number);

// The actions of one kind, in order.
template <typename T>
std::vector<T> Select(const std::vector<Action>& actions) {
  std::vector<T> selected;
  for (const Action& action : actions) {
    if (const T* match = std::get_if<T>(&action)) selected.push_back(*match);
  }
  return selected;
}

// Call Observe with all actions of a region, in order, and Check after every event.
class RegionInvariants {
 public:
  void Submitted(StreamId stream);
  // A listener hears all of it, from now on.
  void Resumed(StreamId stream);
  void Cancelled(StreamId stream);
  void Detached(StreamId stream);
  void Observe(const std::vector<Action>& actions);
  void Check(const Region& region);

  // Streams that somebody listens to and that have had no end.
  const std::set<StreamId>& open() const { return open_; }

 private:
  void End(StreamId stream);
  void ObserveDelivery(const DeliverAction& deliver);
  void CheckStreams(const Region& region);
  void CheckGrowth(const Region& region);

  store::Journal journal_;
  std::set<StreamId> open_;
  std::set<StreamId> known_;
  std::map<StreamId, std::vector<int32_t>> past_;  // Tokens of streams in the journal, or once.
  std::map<StreamId, int64_t> heard_;              // Tokens that its listener has.
  std::map<uint64_t, uint64_t> epochs_;            // Of each group number, the newest.
  int64_t checks_ = 0;
  int64_t requests_total_ = 0;
  int64_t group_losses_total_ = 0;
  SchedulerStats totals_;
};

}  // namespace shoal::core
