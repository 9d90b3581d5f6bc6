#pragma once

// Shows on stderr how far a benchmark is.

#include <cstdint>
#include <string>

#include "transport/base/clock.h"

namespace shoal::cli {

// Writes to stderr: on a terminal one line that changes, otherwise a line now and then.
// Threading: one thread.
class Progress {
 public:
  Progress();
  // Ends the changing line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows `text` if the last one is old enough.
  void Show(const std::string& text);
  // Shows it in any case.
  void ShowNow(const std::string& text);

 private:
  SteadyClock clock_;
  bool terminal_;
  bool open_ = false;  // The terminal's last line is one that changes and has no line break yet.
  TimeNs shown_ = 0;
};

}  // namespace shoal::cli
