#include "coordinator/cli/bench/load/progress.h"

#include <unistd.h>

#include <iostream>

namespace shoal::cli {
namespace {

constexpr TimeNs kTerminalNs = 100 * kMillisecondNs;
constexpr TimeNs kLineNs = 5 * kSecondNs;

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1), shown_(clock_.now()) {}

Progress::~Progress() {
  if (open_) std::cerr << std::endl;
}

void Progress::Show(const std::string& text) {
  if (clock_.now() - shown_ >= (terminal_ ? kTerminalNs : kLineNs)) ShowNow(text);
}

void Progress::ShowNow(const std::string& text) {
  shown_ = clock_.now();
  open_ = terminal_;
  if (terminal_) {
    std::cerr << "\r" << text << "\x1b[K" << std::flush;
  } else {
    std::cerr << text << std::endl;
  }
}

}  // namespace shoal::cli
