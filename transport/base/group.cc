#include "transport/base/group.h"

namespace shoal {

std::string_view ToString(LossCause cause) {
  switch (cause) {
    case LossCause::kRankDied:
      return "rank_died";
    case LossCause::kSilent:
      return "silent";
    case LossCause::kStuck:
      return "stuck";
    case LossCause::kWrongAnswer:
      return "wrong_answer";
    case LossCause::kOutOfMemory:
      return "out_of_memory";
    case LossCause::kProtocol:
      return "protocol";
    case LossCause::kNeverReady:
      return "never_ready";
    case LossCause::kDrained:
      return "drained";
  }
  return "unknown";
}

std::string_view ToString(GroupState state) {
  switch (state) {
    case GroupState::kForming:
      return "forming";
    case GroupState::kCanary:
      return "canary";
    case GroupState::kReady:
      return "ready";
    case GroupState::kDraining:
    case GroupState::kStopping:
      return "draining";
    case GroupState::kLost:
      return "lost";
  }
  return "unknown";
}

}  // namespace shoal
