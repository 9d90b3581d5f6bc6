#pragma once

// What a region wants done by the shell around it.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/group.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/groups/versions.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/sequence_request.h"

namespace shoal::core {

struct SubmitAction {
  ConnectionId leader;
  uint64_t epoch;
  SequenceRequest request;
};
struct CancelAction {
  ConnectionId leader;
  uint64_t epoch;
  SequenceId sequence;
};
// What came of a sequence that has ended need not be held any more, if it is: the leader knows.
struct ReleaseAction {
  ConnectionId leader;
  uint64_t epoch;
  SequenceId sequence;
};
struct StopAction {
  ConnectionId leader;
  uint64_t epoch;
};
struct CloseAction {
  ConnectionId connection;
  std::string why;
};
// Only of streams that somebody listens to, as FailAction. update.finish says whether it is the
// stream's last; a client that comes back is told all of it once more.
struct DeliverAction {
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
  ModelKey key;
  VersionChoice serving;  // Of its model: what takes new requests from now on.
};
// It is out. Of kDrained it was no loss: it has left as it was asked to.
struct GroupLostAction {
  uint64_t group;
  LossCause cause;
  std::string why;
};

// What it takes to continue a stream elsewhere. A journal hears of a stream's begin before any
// group does, of tokens before the DeliverAction that shows them, and of the end after the stream's
// last.
struct JournalBegin {
  Request request;  // As it was granted, with its seed.
  ModelKey key;     // The stream may go on only there: elsewhere its tokens would be others.
};
struct JournalTokens {  // The next ones.
  std::vector<int32_t> tokens;
};
struct JournalEnd {};
struct JournalAction {
  StreamId stream;
  std::variant<JournalBegin, JournalTokens, JournalEnd> what;
};

using Action =
    std::variant<SubmitAction, CancelAction, ReleaseAction, StopAction, CloseAction, DeliverAction,
                 FailAction, GroupReadyAction, GroupLostAction, JournalAction>;

}  // namespace shoal::core
