#pragma once

// The one place that sets up glog. Use glog's LOG(INFO) and friends elsewhere; everything goes to
// stderr, because stdout carries only what a program promises to print.

#include <string>
#include <string_view>

namespace shoal {

struct LogOptions {
  int level = 0;         // glog severity: 0 info, 1 warning, 2 error.
  bool verbose = false;  // VLOG(1).
  bool json = false;     // One JSON object a line instead of glog's text.
};

// Reads the form of the SHOAL_LOG variable: a comma list of at most one level (debug, info, warn,
// error) and `json`. Errors: kInvalidArgument, naming the word.
LogOptions ParseLogOptions(std::string_view text);

// Call once, first in main(); reads SHOAL_LOG. `program` must outlive the process.
void StartLogging(const char* program);

}  // namespace shoal
