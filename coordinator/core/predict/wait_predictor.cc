#include "coordinator/core/predict/wait_predictor.h"

namespace shoal::core {

void WaitPredictor::Learn(const Group& /*group*/, const SchedulerStats& /*stats*/, TimeNs /*now*/) {
}

void WaitPredictor::Forget(uint64_t /*group*/) {}

std::optional<WaitAnswer> WaitPredictor::Predict(const WaitQuestion& /*question*/,
                                                 const GroupMap& /*groups*/,
                                                 const Streams& /*streams*/) const {
  return std::nullopt;
}

void WaitPredictor::NoteOutcome(int64_t /*predicted_ms*/, int64_t /*actual_ms*/) {}

}  // namespace shoal::core
