#include "coordinator/core/guard/guard.h"

#include <utility>

namespace shoal::core {

Guard::Guard(GuardRules rules, bool active) : rules_(std::move(rules)), active_(active) {}

std::optional<StreamError> Guard::FindRefusal(ServiceClass /*service_class*/,
                                              TimeNs /*now*/) const {
  return std::nullopt;
}

double Guard::ShareOf(uint64_t /*group*/, TimeNs /*now*/) const { return 1; }

void Guard::NoteSuccess(uint64_t /*group*/, TimeNs /*now*/) {}

void Guard::NoteError(uint64_t /*group*/, TimeNs /*now*/) {}

void Guard::Forget(uint64_t /*group*/) {}

void Guard::Tick(const GroupMap& /*groups*/, TimeNs /*now*/) {}

}  // namespace shoal::core
