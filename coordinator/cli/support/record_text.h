#pragma once

// Words for people, of times and of the figures of records.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/base/overload/record.h"

namespace shoal::cli {

// "2026-01-31T12:00:00.123Z".
std::string TimeText(int64_t unix_ms);
// "1.5 s", "12 min": to two digits.
std::string DurationText(int64_t ms);
// Of "500ms", "30s", "10m" or "2h". Errors: kInvalidArgument, naming the flag.
int64_t ParseDurationMs(const std::string& flag, const std::string& text);
// Whole numbers as they are, others to three digits or one after the point: "0.25", "192.7".
std::string FigureText(double value);
// "tokens 12 (the request), ..."; empty without any.
std::string FiguresText(const std::vector<RecordFigure>& figures);

}  // namespace shoal::cli
