#pragma once

// How a region is to behave.

#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/guard/guard_rules.h"
#include "coordinator/core/routing/routing_policy.h"
#include "coordinator/core/tenants/tenant_policy.h"
#include "transport/base/generation/canary.h"
#include "transport/base/overload/service_class.h"

namespace shoal::core {

// What a region does against overload; each can be turned off, to see what the others hold.
struct Protections {
  bool edge_limit = true;   // Quotas, bounds in flight, shaping.
  bool admission = true;    // Classes, fair queueing, predicted waits, deadlines before work.
  bool routing = true;      // Breakers, ejection, slow start; otherwise groups take turns.
  bool degradation = true;  // The ladder.
};

struct RegionOptions {
  // The region's own model, which requests get that name none. Empty: what has been ready the
  // longest.
  std::string model_name;
  bool other_models = false;       // Whether others may join, too; where none is its own, any may.
  std::string served_model_name;   // What clients call the region's own model. Empty: its own name.
  int64_t context_tokens_max = 0;  // Caps what the groups offer. 0: no cap.
  // Requests for one version of a model that wait here while all groups of it are full.
  int32_t queue_requests_max = 1024;
  // How many requests of a class or better ones a group's leader is given beyond those that its
  // steps hold: enough that it never lacks one, few enough that who is next is decided here.
  int32_t dispatch_ahead = 4;
  int64_t heartbeat_ms = 100;
  // A rank that has been silent for heartbeat_ms x this is lost. A rank that dies is noticed by its
  // connection, at once; this is for one that is stopped or unreachable. 13 (1.3 s, 1.4 s with the
  // tick) rather than 4, because on a machine with more busy ranks than cores a live rank's
  // heartbeat can be late by half a second, and a group taken out by mistake costs work.
  int32_t heartbeats_missed_max = 13;
  int64_t progress_timeout_ms = 30'000;  // Work pending, yet progress stands still: the rank hangs.
  int64_t join_timeout_ms = 60'000;      // From a group's first rank to its canary's end.
  std::vector<int32_t> canary_prompt{std::begin(kCanaryPrompt), std::end(kCanaryPrompt)};
  // By numerics id: what the digest of a group's canary must be (Canary::Digest). Of those that are
  // not here, that of the first group to be ready.
  std::map<std::string, std::string> canary_digests;
  // How often a canary goes through each group that is ready. 0: only before it is.
  int64_t canary_interval_ms = 60'000;
  // How long a stream whose group was lost waits for another one of its key. 0: it fails at once.
  int64_t resume_timeout_ms = 30'000;
  // How long a group whose rank's connection broke waits for it to come back. 0: it is lost at
  // once.
  int64_t rejoin_grace_ms = 200;
  // How long a resumable stream is kept without a client, also once it has ended; and how long
  // leaders hold theirs without a coordinator.
  int64_t orphan_grace_ms = 30'000;
  // How long a group that was told to end may still work on the streams that no other can take.
  int64_t drain_timeout_ms = 30'000;
  // A stream that loses so many groups is suspected of being the cause, and ends.
  int32_t groups_per_stream_max = 3;
  // How long requests with the prompt of a suspected one are refused.
  int64_t suspect_refusal_ms = 600'000;
  // The groups that this coordinator starts: numbers below it are theirs (--group-number).
  uint64_t managed_groups = 0;
  // Upper part of epochs and sequence ids: BootPart of when the coordinator was started.
  uint64_t boot = 0;
  std::shared_ptr<const TenantsPolicy> tenants{};  // Null: everybody is the default tenant.
  RoutingPolicy routing_policy = RoutingPolicy::kPrefixAware;
  GuardRules guard{};
  Protections protections{};
  bool coalesce = true;         // Whether requests that ask the same at once are computed once.
  int64_t unix_ms_at_zero = 0;  // Milliseconds since 1970 when its clock was at 0; for records.
};

// Requests that a leader whose steps hold `sequences_max` has to take beyond those. Where classes
// count it is given few of each and the others wait here, and it needs a place for each that it may
// be given, however many of worse ones it has: where it has none, a better one waits here until
// something ends there. Where they do not count all wait here, or queue_requests_max would count
// twice.
inline int64_t LeaderQueueMax(const RegionOptions& options, int64_t sequences_max) {
  if (!options.protections.admission) return 0;
  return kServiceClasses * (sequences_max + options.dispatch_ahead) - sequences_max;
}

// Larger for a coordinator that was started later, be it by one millisecond. Of the 53 bits that a
// JSON number holds exactly, 41 are the milliseconds until the year 2039, and 12 count what is
// drawn: less than 2^12 in each millisecond of a coordinator's life.
constexpr uint64_t BootPart(int64_t milliseconds_since_1970) {
  return static_cast<uint64_t>(milliseconds_since_1970) << 12;
}

}  // namespace shoal::core
