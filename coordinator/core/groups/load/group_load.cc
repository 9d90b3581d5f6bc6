#include "coordinator/core/groups/load/group_load.h"

#include <algorithm>

namespace shoal::core {
namespace {

constexpr TimeNs kShareWindowNs = kSecondNs;
// Enough steps to say how long one takes, and enough time for the clock to say so.
constexpr int64_t kPaceSteps = 8;
constexpr int64_t kPaceBusyUs = 100'000;
// How much of the pace is that of the newest window.
constexpr double kPaceNewest = 0.3;

double Blend(double old, double newest) { return old + kPaceNewest * (newest - old); }

}  // namespace

void GroupLoad::SetWork(uint64_t sequence, int64_t tokens) {
  int64_t& work = work_[sequence];
  work_tokens_ += tokens - work;
  work = tokens;
  last_given_ = std::max(last_given_, sequence);
}

void GroupLoad::Forget(uint64_t sequence) {
  const auto work = work_.extract(sequence);
  if (!work.empty()) work_tokens_ -= work.mapped();
}

void GroupLoad::Learn(const SchedulerStats& stats, TimeNs now) {
  // One that counts from 0 again is another process than before.
  const bool fresh = !newest_ || stats.busy_us_total < newest_->busy_us_total ||
                     stats.steps_total < newest_->steps_total;
  newest_ = stats;
  if (fresh) {
    share_from_ = pace_from_ = stats;
    share_since_ = now;
    return;
  }
  if (now - share_since_ >= kShareWindowNs) {
    share_ = BusyShare(now);
    share_from_ = stats;
    share_since_ = now;
  }
  const int64_t steps = stats.steps_total - pace_from_.steps_total;
  const int64_t busy_us = stats.busy_us_total - pace_from_.busy_us_total;
  const int64_t rows = stats.prompt_rows_total - pace_from_.prompt_rows_total +
                       stats.generated_tokens_total - pace_from_.generated_tokens_total;
  if (steps < kPaceSteps || busy_us < kPaceBusyUs) return;
  const double step_us = static_cast<double>(busy_us) / static_cast<double>(steps);
  const double row_us =
      static_cast<double>(busy_us) / static_cast<double>(std::max<int64_t>(rows, 1));
  pace_ = pace_ ? GroupPace{Blend(pace_->step_us, step_us), Blend(pace_->row_us, row_us), now}
                : GroupPace{step_us, row_us, now};
  pace_from_ = stats;
}

double GroupLoad::BusyShare(TimeNs now) const {
  if (!newest_ || now - share_since_ < kShareWindowNs) return share_;
  const double busy_us = static_cast<double>(newest_->busy_us_total - share_from_.busy_us_total);
  return std::clamp(busy_us * 1'000 / static_cast<double>(now - share_since_), 0.0, 1.0);
}

}  // namespace shoal::core
