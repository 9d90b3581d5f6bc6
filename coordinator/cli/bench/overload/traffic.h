#pragma once

// What the clients of an overload benchmark want, and when: rates over time, tenants, and lengths
// with a heavy tail. Pure; the same seed gives the same calls everywhere.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/cli/bench/load/arrivals.h"
#include "transport/base/clock.h"

namespace shoal::cli {

// The tenants of the benchmark; each has a key, and its name's class.
enum class TrafficTenant : uint8_t { kVip, kNormal, kBatch };
constexpr size_t kTrafficTenants = 3;

struct TenantTraits {
  std::string_view name;           // In the tenants file.
  std::string_view service_class;  // Its requests'.
  int64_t deadline_ms;             // From when a request is due to the end of its answer.
};
constexpr std::array<TenantTraits, kTrafficTenants> kTenantTraits = {
    TenantTraits{"vip", "critical_plus", 2'000}, TenantTraits{"normal", "critical", 2'000},
    TenantTraits{"batch", "sheddable", 4'000}};

enum class LoadShape : uint8_t {
  kSteady,        // One rate.
  kStep,          // 1, then 6 times as much: a product launch.
  kSurge,         // 1, then 5 times as much, then 1.
  kEightyTwenty,  // 80 % of the requests in 20 % of the time.
  kPulse,         // 1, then 15 times as much with 83 % of the rest in its first quarter.
  kAngry,         // Steady, and some clients ask again at once, as often as it takes.
  kStorm,         // As kAngry, then half of the capacity.
};
constexpr size_t kLoadShapes = 7;
std::string_view ToText(LoadShape shape);

// From the end of the piece before on.
struct RatePiece {
  double seconds = 0;
  double requests_per_second = 0;

  bool operator==(const RatePiece&) const = default;
};

// The shape over `seconds`, with `peak` requests per second where it is highest. Not for kStorm.
std::vector<RatePiece> ShapePieces(LoadShape shape, double seconds, double peak);

// A number in [0, 1) of a stream of its own: the same on every machine.
class UniformNumbers {
 public:
  explicit UniformNumbers(uint64_t seed) : state_(seed) {}
  double Next();

 private:
  uint64_t state_;
};

// A Poisson process whose rate the pieces say.
std::vector<TimeNs> ArrivalTimes(std::span<const RatePiece> pieces, UniformNumbers& numbers);

// Lengths by a Pareto distribution that is cut off on both sides: most are short, a few are long.
struct LengthTail {
  int64_t lowest = 1;
  int64_t highest = 1;
  double alpha = 1.2;

  double Mean() const;
  int64_t Draw(double uniform) const;
};

struct Call {
  TimeNs due = 0;  // After the start.
  TrafficTenant tenant = TrafficTenant::kNormal;
  bool angry = false;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;

  bool operator==(const Call&) const = default;
};

struct TrafficOptions {
  double capacity = 0;     // Requests per second; vip asks for a fifth of it at most.
  double angry_share = 0;  // Of the calls that are not vip's.
  LengthTail prompts{};
  LengthTail outputs{};
  uint64_t seed = 1;
};

// By time. Vip asks for a fifth of the load, and of the capacity at most: who is served first must
// be able to be served. Of the rest, three fifths are normal's and two fifths batch's.
std::vector<Call> PlanCalls(std::span<const RatePiece> pieces, const TrafficOptions& options);

}  // namespace shoal::cli
