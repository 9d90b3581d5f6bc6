#pragma once

// The gateway's own counters, and /metrics as a whole (Prometheus text format 0.0.4).

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordinator/core/generation_service.h"

namespace shoal::gateway {

// Cumulative buckets with fixed upper bounds. Units: seconds.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void Observe(double value);
  // Appends the family: its help, its type and its samples.
  void Write(const std::string& name, std::string_view help, std::string& text) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;  // One more than bounds: the last is +Inf.
  double sum_ = 0;
};

// Threading: owned by the event loop. The labels are our own paths and status codes, so their
// number is bounded.
class GatewayMetrics {
 public:
  GatewayMetrics();

  // `route`: the path pattern, never the raw path. `status` 499: the client hung up first.
  void CountRequest(const std::string& route, int status);

  Histogram first_token_seconds;
  Histogram between_tokens_seconds;
  Histogram request_seconds;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t cancelled = 0;  // Generations whose client hung up.
  uint64_t ignored_fields = 0;

  std::string Write(const RegionStatus& region, size_t connection_count) const;

 private:
  std::map<std::pair<std::string, int>, uint64_t> requests_;
};

}  // namespace shoal::gateway
