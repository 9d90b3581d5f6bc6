#include "coordinator/cli/bench/overload/traffic.h"

#include <algorithm>
#include <cmath>

#include "transport/base/check.h"

namespace shoal::cli {
namespace {

constexpr double kVipShare = 0.2;
constexpr double kNormalShare = 0.6;  // Of what is not vip's.

}  // namespace

std::string_view ToText(LoadShape shape) {
  constexpr std::array<std::string_view, kLoadShapes> kNames = {
      "steady", "step", "surge", "eighty_twenty", "pulse", "angry", "storm"};
  return kNames[static_cast<size_t>(shape)];
}

std::vector<RatePiece> ShapePieces(LoadShape shape, double seconds, double peak) {
  SHOAL_CHECK(shape != LoadShape::kStorm, "a storm has pieces of its own");
  if (shape == LoadShape::kStep) return {{seconds / 3, peak / 6}, {seconds * 2 / 3, peak}};
  if (shape == LoadShape::kSurge) {
    return {{seconds / 4, peak / 5}, {seconds / 2, peak}, {seconds / 4, peak / 5}};
  }
  if (shape == LoadShape::kEightyTwenty) {
    // 0.8 / 0.2 of the mean against 0.2 / 0.8 of it.
    return {{seconds * 0.4, peak / 16}, {seconds * 0.2, peak}, {seconds * 0.4, peak / 16}};
  }
  if (shape == LoadShape::kPulse) {
    // A fifth of the time as always, then the event: 83 % of it in its first quarter.
    const double event = seconds * 0.8;
    const double after = peak * (0.17 / 0.75) / (0.83 / 0.25);
    return {{seconds * 0.2, peak / 15}, {event * 0.25, peak}, {event * 0.75, after}};
  }
  return {{seconds, peak}};
}

double UniformNumbers::Next() {
  // SplitMix64, by Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
  state_ += 0x9e3779b97f4a7c15;
  uint64_t bits = state_;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  bits ^= bits >> 31;
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

std::vector<TimeNs> ArrivalTimes(std::span<const RatePiece> pieces, UniformNumbers& numbers) {
  std::vector<TimeNs> times;
  double begin = 0;
  for (const RatePiece& piece : pieces) {
    const double end = begin + piece.seconds;
    double at = begin;
    // What is left of a gap at a piece's end is drawn anew: gaps have no memory.
    while (piece.requests_per_second > 0) {
      at -= std::log(1 - numbers.Next()) / piece.requests_per_second;
      if (at >= end) break;
      times.push_back(static_cast<TimeNs>(at * static_cast<double>(kSecondNs)));
    }
    begin = end;
  }
  return times;
}

double LengthTail::Mean() const {
  const double low = static_cast<double>(lowest);
  const double high = static_cast<double>(highest);
  if (lowest == highest) return low;
  return std::pow(low, alpha) / (1 - std::pow(low / high, alpha)) * alpha / (alpha - 1) *
         (std::pow(low, 1 - alpha) - std::pow(high, 1 - alpha));
}

int64_t LengthTail::Draw(double uniform) const {
  if (lowest == highest) return lowest;
  const double low = static_cast<double>(lowest);
  const double cut = 1 - std::pow(low / static_cast<double>(highest), alpha);
  const double length = low / std::pow(1 - uniform * cut, 1 / alpha);
  return std::clamp<int64_t>(std::llround(length), lowest, highest);
}

std::vector<Call> PlanCalls(std::span<const RatePiece> pieces, const TrafficOptions& options) {
  std::vector<RatePiece> vip(pieces.begin(), pieces.end());
  std::vector<RatePiece> others(pieces.begin(), pieces.end());
  for (size_t i = 0; i < pieces.size(); ++i) {
    const double rate = pieces[i].requests_per_second;
    vip[i].requests_per_second = kVipShare * std::min(rate, options.capacity);
    others[i].requests_per_second = rate - vip[i].requests_per_second;
  }
  UniformNumbers numbers(options.seed);
  std::vector<Call> calls;
  for (const TimeNs due : ArrivalTimes(vip, numbers)) {
    calls.push_back({.due = due, .tenant = TrafficTenant::kVip});
  }
  for (const TimeNs due : ArrivalTimes(others, numbers)) {
    const bool normal = numbers.Next() < kNormalShare;
    calls.push_back({.due = due,
                     .tenant = normal ? TrafficTenant::kNormal : TrafficTenant::kBatch,
                     .angry = numbers.Next() < options.angry_share});
  }
  std::ranges::stable_sort(calls, {}, &Call::due);
  for (Call& call : calls) {
    call.prompt_tokens = options.prompts.Draw(numbers.Next());
    call.output_tokens = options.outputs.Draw(numbers.Next());
  }
  return calls;
}

}  // namespace shoal::cli
