#pragma once

// What clients ask for in the tests of failure: a mix of everything that a stream may carry.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/rpc/client.h"

namespace shoal::test {

struct Ask {
  std::string path;  // Of the HTTP request. Empty: over RPC.
  std::string body;  // Its JSON.
  bool streamed = false;
  bool resumable = false;        // Over HTTP; over RPC the request says it.
  rpc::GenerateRequest request;  // Over RPC.
};

struct AskOptions {
  uint64_t seed = 1;
  size_t count = 0;
  int32_t vocab_size = 0;
  int64_t context_tokens = 0;
  int64_t tokens_max = 64;  // Of an answer.
  bool resumable = false;   // All of them: over RPC, or streamed.
};

// The same for the same options.
std::vector<Ask> MakeAsks(const AskOptions& options);

// What the client got. Equal answers have equal `bytes`: tokens, texts, log-probabilities as bits,
// ends, usage; nothing that depends on when something came.
struct Answer {
  std::string bytes;
  std::string error;    // Not empty: the stream was lost.
  int64_t resumes = 0;  // Of its streams.
  bool begun = true;    // False over RPC: nothing came before the error.
};

struct Door {
  std::string rpc_address;
  uint16_t port = 0;  // HTTP.
};

// Asks at either door, over a connection of its own, and waits for the end.
Answer Get(const Door& door, const Ask& ask);

}  // namespace shoal::test
