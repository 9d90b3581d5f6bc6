#pragma once

// For upstream programs in C++: ask a coordinator for a generation and read its tokens as they
// come.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::rpc {

struct ClientOptions {
  std::string address{};  // HOST:PORT of the coordinator's RPC port.
  std::string api_key{};  // Empty if the coordinator has no keys.
  int64_t connect_timeout_ms = 10'000;
};

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
};

// Exactly one of tokens, text and chat is set.
struct GenerateRequest {
  std::string model;  // As Models names it. Empty: the region's own.
  std::vector<int32_t> tokens;
  std::string text;
  std::vector<ChatMessage> chat;
  GenerationParams params;
  bool seed_given = false;  // Otherwise the coordinator draws params.sampling.seed.
};

// Tokens as they came, and for `text` and `chat` the text they complete. The log-probabilities of
// a long prompt come in several chunks, before the first token.
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
};

struct ModelInfo {
  std::string name;
  std::string numerics_id;  // Empty until a group has joined.
  int64_t context_tokens = 0;
  int64_t kv_cache_tokens = 0;
  int64_t groups_ready = 0;
  int64_t requests_waiting = 0;
  std::string canary_digest{};  // Of its groups' canaries. Empty until one was ready.
};

struct GroupInfo {
  uint64_t group = 0;
  uint64_t epoch = 0;
  std::string name;  // Host and cut, for people.
  std::string model_name;
  std::string numerics_id;
  int32_t tensor_parallel = 0;
  int32_t pipeline_parallel = 0;
  std::vector<std::string> ranks;  // One line each.
  bool ready = false;
  SchedulerStats stats;
};

struct StatusInfo {
  std::vector<GroupInfo> groups;
  int32_t requests_waiting = 0;  // In the coordinator's own queue.
  int64_t requests_total = 0;
  int64_t streams_live = 0;
  int64_t group_losses_total = 0;
};

// One connection, used from one thread; every call waits for its answer.
class Client {
 public:
  // Errors: kCannotJoin if the coordinator cannot be reached or refuses the key.
  explicit Client(const ClientOptions& options);
  ~Client();

  // Calls `on_chunk` for each piece; false from it ends the generation (result: kCancelled).
  // `idle_timeout_ms`: the longest wait for the next piece.
  // Errors: kOverloaded if the coordinator is busy (the message says why), kInvalidArgument if the
  // request is wrong or larger than a message, kPeerFailed if the group was lost on the way or
  // refused the request, kPeerLost, kDeadlineExceeded.
  GenerateResult Generate(const GenerateRequest& request,
                          const std::function<bool(const GenerateChunk&)>& on_chunk,
                          int64_t idle_timeout_ms = 60'000);

  // Errors of both: kPeerLost, kDeadlineExceeded after connect_timeout_ms.
  std::vector<ModelInfo> Models();
  StatusInfo Status();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::rpc
