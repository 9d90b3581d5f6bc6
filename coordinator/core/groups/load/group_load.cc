#include "coordinator/core/groups/load/group_load.h"

#include <algorithm>
#include <numeric>

#include "transport/base/check.h"

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

void GroupLoad::Give(uint64_t sequence, const GivenWork& work) {
  const bool is_new = work_.emplace(sequence, work).second;
  SHOAL_CHECK(is_new, "sequence ", sequence, " was given already");
  ++counts_[static_cast<size_t>(work.service_class)];
  tokens_[static_cast<size_t>(work.service_class)] += work.tokens;
  last_given_ = std::max(last_given_, sequence);
}

void GroupLoad::SetWork(uint64_t sequence, int64_t tokens) {
  GivenWork& work = work_.at(sequence);
  tokens_[static_cast<size_t>(work.service_class)] += tokens - work.tokens;
  work.tokens = tokens;
}

void GroupLoad::Forget(uint64_t sequence) {
  const auto found = work_.extract(sequence);
  if (found.empty()) return;
  const GivenWork& work = found.mapped();
  --counts_[static_cast<size_t>(work.service_class)];
  tokens_[static_cast<size_t>(work.service_class)] -= work.tokens;
}

size_t GroupLoad::CountStreams(ServiceClass service_class) const {
  const auto end = counts_.begin() + static_cast<int>(service_class) + 1;
  return std::accumulate(counts_.begin(), end, size_t{0});
}

int64_t GroupLoad::WorkTokens(ServiceClass service_class) const {
  const auto end = tokens_.begin() + static_cast<int>(service_class) + 1;
  return std::accumulate(tokens_.begin(), end, int64_t{0});
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
