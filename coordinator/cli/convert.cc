// shoal convert: needs kernels, so shoal-worker does it.

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "coordinator/cli/support/programs.h"
#include "coordinator/cli/verbs.h"
#include "transport/base/error.h"

namespace shoal::cli {

// Takes this process's place, so that its output, its exit status and a signal are the worker's.
int ConvertVerb(int argc, const char* const* argv) {
  const std::string worker = ProgramPath("shoal-worker");
  std::string verb = "convert";
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::vector<char*> command = {const_cast<char*>(worker.c_str()), verb.data()};
  for (std::string& argument : arguments) command.push_back(argument.data());
  command.push_back(nullptr);
  execv(worker.c_str(), command.data());
  Throw(ErrorCode::kFailed, worker, ": ", std::strerror(errno));
}

}  // namespace shoal::cli
