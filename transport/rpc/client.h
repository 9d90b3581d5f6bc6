#pragma once

// For upstream programs in C++: ask a coordinator for a generation and read its tokens as they
// come.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/prompt.h"
#include "transport/base/group.h"
#include "transport/base/overload/record.h"
#include "transport/base/overload/request_terms.h"

namespace shoal::rpc {

struct ClientOptions {
  std::string address{};  // HOST:PORT of the coordinator's RPC port.
  std::string api_key{};  // Empty if the coordinator has no keys.
  int64_t connect_timeout_ms = 10'000;
  // How long a generation whose connection is lost tries to go on over another one. 0: not at all.
  int64_t resume_timeout_ms = 30'000;
};

struct GenerateRequest {
  std::string model;  // As Models names it. Empty: the region's own.
  PromptInput prompt;
  GenerationParams params;
  bool seed_given = false;  // Otherwise the coordinator draws params.sampling.seed.
  // Its stream outlives its reader, and can be gone on with by a cursor. Client does both itself.
  bool resumable = false;
  std::string cursor{};  // Not empty: of the generation to go on with, of the very same request.
  int64_t tokens_taken = 0;  // What its reader has of it.
  int64_t prompt_logprobs_taken = 0;
  RequestTerms terms{};  // `tenant` is not sent: the API key says it.

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
  bool recomputed = false;  // Nobody knew it any more then: it was generated anew, exactly.
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
  // Errors: kOverloaded if the coordinator is busy (the message says why), kInvalidArgument if the
  // request is wrong or larger than a message, kPeerFailed if the group was lost on the way or
  // refused the request, or if the coordinator that came back cannot go on with it, kPeerLost if
  // none came back for resume_timeout_ms, kDeadlineExceeded.
  GenerateResult Generate(const GenerateRequest& request,
                          const std::function<bool(const GenerateChunk&)>& on_chunk,
                          int64_t idle_timeout_ms = 60'000);

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
