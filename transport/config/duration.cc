#include "transport/config/duration.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace shoal::config {

std::optional<int64_t> ParseDurationMs(std::string_view text) {
  constexpr double kMostMs = 1e15;
  static constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}};
  if (text == "0") return 0;
  for (const auto& [unit, factor] : kUnits) {
    if (!text.ends_with(unit)) continue;
    double number = 0;
    const char* const last = text.data() + text.size() - unit.size();
    const auto [end, error] = std::from_chars(text.data(), last, number);
    if (error != std::errc() || end != last) continue;
    const double ms = number * static_cast<double>(factor);
    if (!(ms >= 0) || ms > kMostMs) return std::nullopt;
    return std::llround(ms);
  }
  return std::nullopt;
}

}  // namespace shoal::config
