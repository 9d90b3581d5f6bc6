#pragma once

// What the gateways (HTTP, RPC) need from a region: submit a generation, hear of its tokens, cancel
// it.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/core/record/flight_recorder.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/generation/stream_id.h"
#include "transport/base/group.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::core {

using shoal::StreamId;

// What a client asks for.
struct Request {
  std::vector<int32_t> prompt;  // Not empty, and its ids are in the model's vocabulary.
  GenerationParams params;
  std::string model{};        // As clients call it. Empty: the region's own.
  std::string numerics_id{};  // Empty: whichever version of it takes new requests.
  // Its client may come back for it: it goes on for a while when nobody listens, and its group
  // holds all that came of it for another coordinator.
  bool resumable = false;
  // An equal request of the same tenant would get the same answer: its temperature is 0, or its
  // seed was given. Such are computed once while they are in flight, unless they are resumable.
  bool shares = false;
  std::optional<StreamId> stream{};  // Drawn by whoever asks. None: the region draws one.
  RequestTerms terms{};

  bool operator==(const Request&) const = default;
};

// Owned by whoever submitted; must live until OnFinish, OnError or Cancel. Updates are what the
// request asked for, log-probabilities too: of a group that says anything else OnError is called.
class StreamListener {
 public:
  virtual ~StreamListener() = default;
  // Zero or more tokens; finish is kNone. Updates are small: the log-probabilities of a long prompt
  // come in several, before the first token.
  virtual void OnTokens(const SequenceUpdate& update) = 0;
  // The last update; may carry tokens too. Nothing follows.
  virtual void OnFinish(const SequenceUpdate& update) = 0;
  // The stream cannot continue. Nothing follows.
  virtual void OnError(const StreamError& error) = 0;
};

// The version of the model of that name that takes new requests; of the region's own if the name is
// empty. Null if none of that name is served.
const ServedModel* FindModel(const std::vector<ServedModel>& models, const std::string& name);
// "little, large": each name once.
std::string JoinNames(const std::vector<ServedModel>& models);

// Threading: the coordinator's event loop.
class GenerationService {
 public:
  virtual ~GenerationService() = default;

  // Why a request of those terms would not be taken, whatever it asked for: so that it can be
  // refused before it costs anything. None: Submit says.
  virtual std::optional<StreamError> PreCheck(const RequestTerms& terms) = 0;

  // Takes the request, or says why not (then `listener` hears nothing). The listener is called
  // later, never from inside Submit.
  virtual std::variant<StreamId, StreamError> Submit(Request request, StreamListener& listener) = 0;

  // Goes on with request.stream, which must be given, for a client that comes back. The listener
  // hears all of it from its first token on, later, whoever has heard it before and however it
  // comes to be known here: because it was detached, because its group brought it, or, with
  // Resumed::recomputing, because it is generated anew from the same request. Another listener that
  // it still has hears OnError (kStreamTaken). Errors: as Submit; kInvalid if the stream that is
  // known here is of another request.
  struct Resumed {
    bool recomputing = false;
  };
  virtual std::variant<Resumed, StreamError> Resume(Request request, StreamListener& listener) = 0;

  // The listener hears nothing more; a resumable stream goes on for the region's orphan grace, any
  // other is cancelled. Unknown ids are ignored.
  virtual void Detach(StreamId stream) = 0;

  // The listener hears nothing more. Unknown ids are ignored.
  virtual void Cancel(StreamId stream) = 0;

  // Takes a group out of service without losing its streams (RegionStatus::groups has the numbers).
  // Result: empty if it was begun, otherwise why not. `restart`: a managed group is started anew
  // once it has ended; otherwise it stays away.
  virtual std::string Drain(uint64_t group, bool restart) = 0;

  // As RegionStatus::models. Never empty: the region's own is there before its first group.
  virtual std::vector<ServedModel> models() const = 0;
  virtual RegionStatus status() const = 0;
  // The class that a request of those terms has here: as asked for, at most its tenant's own.
  virtual ServiceClass ClassOf(const RequestTerms& terms) const = 0;
  // Whether a breaker wants requests to be degraded.
  virtual bool DegradeAsked() const = 0;
  // What is remembered of what the region decided.
  virtual RecordPage FindRecords(const RecordQuery& query) const = 0;
  // Remembers something that a door decided.
  virtual void NoteRecord(Record record) = 0;
};

}  // namespace shoal::core
