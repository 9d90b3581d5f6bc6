#include "coordinator/launch/program_path.h"

#include <filesystem>

#include "transport/base/error.h"

namespace shoal::launch {

std::string ProgramPath(const std::string& name) {
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe");
  const std::filesystem::path path = own.parent_path() / name;
  if (!std::filesystem::exists(path)) {
    Throw(ErrorCode::kFailed, path.string(), " is not there: it is built and installed beside ",
          own.filename().string());
  }
  return path;
}

}  // namespace shoal::launch
