#pragma once

// How a region is to behave.

#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "transport/base/generation/canary.h"

namespace shoal::core {

struct RegionOptions {
  // The region's own model, which requests get that name none. Empty: what has been ready the
  // longest.
  std::string model_name;
  bool other_models = false;       // Whether others may join, too; where none is its own, any may.
  std::string served_model_name;   // What clients call the region's own model. Empty: its own name.
  int64_t context_tokens_max = 0;  // Caps what the groups offer. 0: no cap.
  // Requests for one version of a model that wait here while all groups of it are full.
  int32_t queue_requests_max = 1024;
  int64_t heartbeat_ms = 100;
  // A rank that has been silent for heartbeat_ms x this is lost. A rank that dies is noticed by its
  // connection, at once; this is for one that is stopped or unreachable. 20 (2 s) rather than 4,
  // because on a machine with more busy ranks than cores a live rank's heartbeat can be late by
  // half a second, and a group taken out by mistake costs all its streams.
  int32_t heartbeats_missed_max = 20;
  int64_t progress_timeout_ms = 30'000;  // Work pending, yet progress stands still: the rank hangs.
  int64_t join_timeout_ms = 60'000;      // From a group's first rank to its canary's end.
  std::vector<int32_t> canary_prompt{std::begin(kCanaryPrompt), std::end(kCanaryPrompt)};
  // By numerics id: what the digest of a group's canary must be (Canary::Digest). Of those that are
  // not here, that of the first group to be ready.
  std::map<std::string, std::string> canary_digests;
};

}  // namespace shoal::core
