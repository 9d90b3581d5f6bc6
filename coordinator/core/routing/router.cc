#include "coordinator/core/routing/router.h"

#include <array>

#include "coordinator/core/groups/routing.h"

namespace shoal::core {

std::string_view ToString(RoutingPolicy policy) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "wlc_seed", "minres_seed", "least_conn", "p2c_least_tokens", "prefix_aware"};
  return kNames.at(static_cast<size_t>(policy));
}

Router::Router(RoutingPolicy policy) : policy_(policy) {}

std::optional<uint64_t> Router::Choose(const RouteQuestion& question, const GroupMap& groups,
                                       const Guard& /*guard*/, TimeNs /*now*/) const {
  return ChooseGroup(groups, question.key, question.tokens, question.service_class,
                     question.on_trial);
}

}  // namespace shoal::core
