#pragma once

// HAProxy on this machine, as a yardstick: in front of an HTTP server, or as one that answers every
// request at once with the same bytes.

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "coordinator/cli/bench/overload/rig.h"
#include "coordinator/cli/support/http_client.h"
#include "coordinator/launch/child_process.h"

namespace shoal::cli {

// The version that is installed, as it says it; none: it is not there.
std::optional<std::string> FindHaproxy();

// What to do where it is not there.
extern const char* const kHaproxyMissing;

// A streamed answer of one token, as our server gives it.
std::string InstantAnswer();

// Nothing of it outlives this object.
class Haproxy {
 public:
  // Passes everything on to that server, over connections that it keeps.
  static std::unique_ptr<Haproxy> InFrontOf(const HttpAddress& server);
  // Answers everything with InstantAnswer.
  static std::unique_ptr<Haproxy> Answering();

  const HttpAddress& address() const { return address_; }
  pid_t pid() const { return child_->pid(); }

 private:
  // `frontend`: the lines that say what becomes of a request. Returns when it listens. Errors:
  // kFailed if it does not.
  explicit Haproxy(const std::string& frontend, const std::string& answer);

  ScratchFolder scratch_;
  HttpAddress address_;
  std::unique_ptr<launch::ChildProcess> child_;
};

}  // namespace shoal::cli
