#pragma once
// Temporary: calls what the region has already.
#include "coordinator/core/region.h"
namespace shoal::core::net_sim {
template <typename R>
constexpr bool HasDrain() {
  return requires(R & region) { region.Drain(0, true); };
}
template <typename R>
bool CallHandOver(R& region, ConnectionId id, uint64_t epoch, std::vector<HeldStream> streams,
                  bool last) {
  if constexpr (requires { region.HandOver(id, epoch, streams, last); })
    return region.HandOver(id, epoch, streams, last);
  else
    return true;
}
template <typename R>
bool CallLeaderDrains(R& region, ConnectionId id, uint64_t epoch) {
  if constexpr (requires { region.LeaderDrains(id, epoch); })
    return region.LeaderDrains(id, epoch);
  else
    return true;
}
template <typename R>
bool CallFault(R& region, ConnectionId id, uint64_t epoch, LossCause cause) {
  if constexpr (requires { region.Fault(id, epoch, cause, std::string()); })
    return region.Fault(id, epoch, cause, std::string("as it says"));
  else
    return true;
}
template <typename R>
void CallGroupEnded(R& region, uint64_t number) {
  if constexpr (requires { region.GroupEnded(number, std::string()); })
    region.GroupEnded(number, "its processes ended");
}
template <typename R>
std::string CallDrain(R& region, uint64_t number, bool restart) {
  if constexpr (requires { region.Drain(number, restart); })
    return region.Drain(number, restart);
  else
    return "not yet";
}
template <typename R>
void CallDetach(R& region, StreamId id) {
  if constexpr (requires { region.Detach(id); })
    region.Detach(id);
  else
    region.Cancel(id);
}
template <typename R>
std::variant<GenerationService::Resumed, StreamError> CallResume(R& region, Request request) {
  if constexpr (requires { region.Resume(request); })
    return region.Resume(request);
  else
    return MakeStreamError(BusyReason::kRequestSuspect, "not yet");
}
}  // namespace shoal::core::net_sim
