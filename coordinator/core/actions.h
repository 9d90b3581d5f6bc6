#pragma once

// What a region wants done by the shell around it.

#include <cstdint>
#include <string>
#include <variant>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/group.h"
#include "transport/base/generation.h"

namespace shoal::core {

struct SubmitAction {
  ConnectionId leader;
  uint64_t epoch;
  StreamId stream;
  Request request;
};
struct CancelAction {
  ConnectionId leader;
  uint64_t epoch;
  StreamId stream;
};
struct StopAction {
  ConnectionId leader;
  uint64_t epoch;
};
struct CloseAction {
  ConnectionId connection;
  std::string why;
};
struct DeliverAction {  // update.finish says whether it is the stream's last.
  StreamId stream;
  SequenceUpdate update;
};
struct FailAction {  // The stream's last.
  StreamId stream;
  StreamError error;
};
struct GroupReadyAction {
  uint64_t group;
  std::string name;
};
struct GroupLostAction {
  uint64_t group;
  std::string why;
};
using Action = std::variant<SubmitAction, CancelAction, StopAction, CloseAction, DeliverAction,
                            FailAction, GroupReadyAction, GroupLostAction>;

}  // namespace shoal::core
