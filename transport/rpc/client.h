#pragma once

// For upstream programs in C++: ask a coordinator for a generation and read its tokens as they
// come.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "transport/base/error.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/prompt.h"
#include "transport/base/group.h"
#include "transport/base/overload/record.h"
#include "transport/base/overload/request_terms.h"
#include "transport/client/retry_policy.h"

namespace shoal::rpc {

struct ClientOptions {
  std::string address{};  // HOST:PORT of the coordinator's RPC port.
  std::string api_key{};  // Empty if the coordinator has no keys.
  int64_t connect_timeout_ms = 10'000;
  // How long a generation whose connection is lost tries to go on over another one. 0: not at all.
  int64_t resume_timeout_ms = 30'000;
  // Whether and when a generation of which nothing was heard is asked for again.
  client::RetryOptions retry{};
  // Random numbers from 0 up to, and without, 1, for the waits between attempts. Null: its own.
  std::function<double()> retry_draw = nullptr;
};

// A generation that was refused, or that could not go on, in the server's own words.
struct BusyError : Error {
  BusyError(ErrorCode code, const std::string& message, std::string reason_said)
      : Error(code, message), reason(std::move(reason_said)) {}

  std::string reason;              // As ToString(BusyReason); others of servers that know more.
  int64_t retry_after_ms = 0;      // 0: asking again as it is, is of no use.
  int64_t predicted_wait_ms = -1;  // Until its first token, had it been taken. -1: unknown.
  int32_t attempts = 1;            // How often this client asked.
};

struct GenerateRequest {
  std::string model;  // As Models names it. Empty: the region's own.
  PromptInput prompt;
  ChatForm chat{};  // Of a conversation.
  GenerationParams params;
  bool seed_given = false;  // Otherwise the coordinator draws params.sampling.seed.
  // Its stream outlives its reader, and can be gone on with by a cursor. Client does both itself.
  bool resumable = false;
  std::string cursor{};  // Not empty: of the generation to go on with, of the very same request.
  int64_t tokens_taken = 0;  // What its reader has of it.
  int64_t prompt_logprobs_taken = 0;
  // `tenant` is not sent: the API key says it. `attempt` is that of the first attempt; Client
  // counts on from it, and takes what time has passed off `deadline_ms`.
  RequestTerms terms{};

  bool operator==(const GenerateRequest&) const = default;
};

// Tokens as they came, and for a text or a conversation the text they complete. The
// log-probabilities of a long prompt come in several chunks, before the first token.
struct GenerateChunk {
  SequenceUpdate update;
  std::string text;
};

struct GenerateResult {
  FinishReason finish = FinishReason::kNone;
  std::string detail;
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  uint64_t seed = 0;
  int32_t resumes = 0;      // How often another group went on with it.
  int32_t reconnects = 0;   // How often this client came back for it.
  int32_t attempts = 1;     // How often it was asked for, before it was taken.
  bool recomputed = false;  // Nobody knew it any more then: it was generated anew, exactly.
  // Another model answered than the one that was asked for, because that one could not; it cannot
  // be gone on with over another connection.
  bool degraded = false;
  std::string model_used{};  // Empty if it is not degraded.
  int32_t rung = 0;          // Of the coordinator's ladder.
};

constexpr size_t kBatchConcurrencyMax = 64;

struct BatchOptions {
  size_t concurrency = 8;   // Requests under way at once, each over a connection of its own.
  int64_t deadline_ms = 0;  // For all of them together; what is not whole then is cut off. 0: none.
  int64_t idle_timeout_ms = 60'000;  // As Generate's.
};

// What came of one request of a batch: of one that ended with an error, what came before it.
struct BatchItem {
  GenerateResult result{};
  std::vector<int32_t> tokens{};
  std::string text{};
  std::optional<BusyError> error{};  // With an empty reason if the server said nothing.
};

// One connection at a time, used from one thread; every call waits for its answer.
class Client {
 public:
  // Errors: kCannotJoin if the coordinator cannot be reached or refuses the key.
  explicit Client(const ClientOptions& options);
  ~Client();

  // Calls `on_chunk` for each piece; false from it ends the generation (result: kCancelled).
  // `idle_timeout_ms`: the longest wait for the next piece. When the connection is lost, it goes on
  // over a new one as if nothing had been: each token, and the text of it, is handed on once.
  // Errors, each once ClientOptions::retry has given up: BusyError with kOverloaded if the
  // coordinator is busy, with kInvalidArgument if the request is wrong, with kPeerFailed if the
  // group was lost on the way or refused the request, or if the coordinator that came back cannot
  // go on with it, and with kDeadlineExceeded if the request's own time is over; also BusyError,
  // without asking and with the reason client_throttled, while it refuses most of what is asked;
  // kInvalidArgument if the request is larger than a message, kPeerLost if no coordinator came back
  // for resume_timeout_ms, kCannotJoin if there is none, kDeadlineExceeded.
  GenerateResult Generate(const GenerateRequest& request,
                          const std::function<bool(const GenerateChunk&)>& on_chunk,
                          int64_t idle_timeout_ms = 60'000);

  // Each a request of its own, whatever its prompt says: the results are in the order of the
  // requests, and what becomes of one is nothing to the others. They share this client's throttle
  // and retry budget. Errors: kInvalidArgument for a concurrency that is not 1 to
  // kBatchConcurrencyMax or a deadline below 0; all else is in the items, of an empty batch none.
  std::vector<BatchItem> GenerateBatch(const std::vector<GenerateRequest>& requests,
                                       const BatchOptions& options = {});

  // Errors of both: kPeerLost, kDeadlineExceeded after connect_timeout_ms.
  std::vector<ServedModel> Models();
  RegionStatus Status();

  // What the coordinator remembers of what it decided: all pages of it, in one. `query.tenant` is
  // not sent: the API key says it. Errors: as those of Models, for each page, and kInvalidArgument
  // if this build does not know a name in it.
  RecordPage Records(RecordQuery query);

  // As core::GenerationService::Drain: takes a group out of service. Errors: as those, and
  // kInvalidArgument, saying why it cannot be.
  void Drain(uint64_t group, bool restart, const std::string& group_token = "");

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::rpc
