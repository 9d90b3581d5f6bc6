#pragma once

// Whether a request is taken, and what it is granted.

#include <variant>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/guard/guard.h"
#include "coordinator/core/predict/wait_predictor.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/streams/suspects.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/clock.h"

namespace shoal::core {

// What admission looks at; if the request is taken, and only then, `tenants` is charged and `waits`
// told.
struct AdmissionView {
  const RegionOptions& options;
  const Groups& groups;
  const Streams& streams;
  const Suspects& suspects;
  const Guard& guard;
  WaitPredictor& waits;
  Tenants& tenants;
  TimeNs now = 0;
};

// The stream that the request becomes, of one version of one model, its answer cut to what the
// context leaves room for; or why it is not taken.
std::variant<Stream, StreamError> Admit(Request request, const AdmissionView& view);

}  // namespace shoal::core
