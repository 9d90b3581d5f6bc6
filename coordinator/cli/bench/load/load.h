#pragma once

// Sends requests to an HTTP endpoint as they are due, and notes when what came back.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "coordinator/cli/bench/load/arrivals.h"
#include "coordinator/cli/bench/load/latency.h"

namespace shoal::cli {

struct LoadOptions {
  std::string host;
  std::string port;
  std::string api_key;
  std::string model;              // Empty: the server's own choice.
  int64_t connections_max = 256;  // Requests under way at once; further ones wait.
  bool closed_loop = false;       // A request is due when a connection is free.
  int64_t shared_prefix_tokens = 0;
  int64_t silence_ms = 60'000;  // A server that sends nothing for so long has failed the request.
};

// One request's body: a completion of token ids, greedy, streamed, of exactly output_tokens tokens.
// The first shared_prefix_tokens ids are the same for every `index`, the others are not.
std::string RequestBody(const LoadOptions& options, const PlannedRequest& request, int64_t index);

struct LoadProgress {
  int64_t finished = 0;
  int64_t running = 0;
};

// Result: one record for each of `requests`, in their order. One connection for each request.
// Threading: one thread of its own work, the caller's. Errors: kCannotJoin if the first request
// finds nobody listening; later failures are in the records.
std::vector<RequestRecord> RunLoad(const LoadOptions& options,
                                   std::span<const PlannedRequest> requests,
                                   const std::function<void(const LoadProgress&)>& on_progress);

}  // namespace shoal::cli
