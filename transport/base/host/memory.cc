#include "transport/base/host/memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

#include "transport/base/error.h"

namespace shoal {

int64_t ParseMemoryBytes(std::string_view meminfo, std::string_view name) {
  constexpr int64_t kKibibyte = 1024;
  const std::string key = Str("\n", name, ":");
  const std::string lines = Str("\n", meminfo);
  const size_t at = lines.find(key);
  if (at != std::string::npos) {
    std::string_view rest = std::string_view(lines).substr(at + key.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    int64_t kibibytes = 0;
    const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), kibibytes);
    if (result.ec == std::errc()) return kibibytes * kKibibyte;
  }
  Throw(ErrorCode::kFailed, "/proc/meminfo: expected a line '", name, ": N kB', found none");
}

int64_t MemoryBytes(std::string_view name) {
  std::ifstream file("/proc/meminfo");
  return ParseMemoryBytes(std::string(std::istreambuf_iterator<char>(file), {}), name);
}

}  // namespace shoal
