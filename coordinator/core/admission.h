#pragma once

// Whether a request is taken, and what it is granted.

#include <array>
#include <cstddef>
#include <optional>
#include <variant>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/groups.h"
#include "coordinator/core/guard/guard.h"
#include "coordinator/core/predict/wait_predictor.h"
#include "coordinator/core/queue/capacity_refusals.h"
#include "coordinator/core/region_options.h"
#include "coordinator/core/streams/streams.h"
#include "coordinator/core/streams/suspects.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/clock.h"

namespace shoal::core {

// What admission looks at. If the request is taken, and only then, `tenants` is charged and `waits`
// told; `refusals` hears of it if there is no room for it.
struct AdmissionView {
  const RegionOptions& options;
  const Groups& groups;
  const Streams& streams;
  const Suspects& suspects;
  const Guard& guard;
  WaitPredictor& waits;
  Tenants& tenants;
  CapacityRefusals& refusals;
  TimeNs now = 0;
};

// The stream that the request becomes, of one version of one model, its answer cut to what the
// context leaves room for; or why it is not taken.
std::variant<Stream, StreamError> Admit(Request request, const AdmissionView& view);

// A refusal for lack of room says what was predicted, and to come again when about half of what is
// ahead will be done, and there is room again.
StreamError TellWait(StreamError full, const std::optional<WaitAnswer>& predicted);

// How many places of a full queue each class keeps for its floor.
std::array<size_t, kServiceClasses> KeptPlaces(const TenantsPolicy& policy,
                                               const RegionOptions& options);

// That there is no room for a request of those terms, whatever it asks for and of whichever model;
// none if there may be.
std::optional<StreamError> FindAllFull(const RequestTerms& terms, const AdmissionView& view);

}  // namespace shoal::core
