#pragma once

// Sends calls to an HTTP endpoint when they are due, repeats what was refused, and notes what came
// of each. A call's times count from when it was due, however late this program or the server was.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "coordinator/cli/bench/overload/traffic.h"
#include "coordinator/cli/support/http_client.h"
#include "transport/base/clock.h"

namespace shoal::cli {

// What became of an attempt or a call, beside the codes that the server gives.
constexpr const char* kWhole = "whole";                   // All of the answer came.
constexpr const char* kClientTimeout = "client_timeout";  // Its client hung up at its deadline.
// Untyped ends: nobody said why.
constexpr const char* kConnectFailed = "connect_failed";
constexpr const char* kBrokeOff = "broke_off";
constexpr const char* kIncomplete = "incomplete";  // An end, but of less than was asked for.
constexpr const char* kUntyped = "untyped";        // An error without a code.

struct CallRecord {
  TrafficTenant tenant = TrafficTenant::kNormal;
  bool angry = false;
  TimeNs due = 0;          // After the start, as all times here.
  TimeNs first_token = 0;  // Of the attempt that was answered; 0: none was.
  TimeNs end = 0;          // Of its last attempt.
  int32_t attempts = 0;
  int32_t admitted = 0;  // Attempts that the server began to answer.
  bool degraded = false;
  std::string outcome;  // Of its last attempt.

  // The whole answer of the model that was asked for; its client waits no longer than its deadline.
  bool good() const { return outcome == kWhole && !degraded; }
};

struct LoadRecords {
  std::vector<CallRecord> calls;            // In the order of the calls.
  std::map<std::string, int64_t> attempts;  // By outcome.
  std::vector<double> rejections_ms;        // From an attempt's being due to its refusal.
  std::vector<double> lateness_ms;          // From a call's being due to its being sent.
  int64_t retries_withheld = 0;             // Refused, and the client's rules said: enough.
};

struct ClientOptions {
  HttpAddress server;
  std::array<std::string, kTrafficTenants> api_keys;
  bool patient = true;        // As RetryRules.
  uint64_t first_prompt = 0;  // Prompts are numbered from here; equal numbers are equal prompts.
  uint64_t seed = 1;
};

// Threading: the caller's thread does all of it. Result: when every call has ended, which is at its
// deadline at the latest.
LoadRecords RunOpenLoop(const ClientOptions& options, std::span<const Call> calls);

// As many clients as `clients` send the calls one after another, each its next one when the last
// was answered, for `seconds`; a call is due when it is sent. Nobody repeats anything. Result: of
// the calls that were sent.
LoadRecords RunClosedLoop(const ClientOptions& options, std::span<const Call> calls,
                          int64_t clients, double seconds);

}  // namespace shoal::cli
