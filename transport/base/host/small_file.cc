#include "transport/base/host/small_file.h"

#include <algorithm>
#include <fstream>

#include "transport/base/error.h"

namespace shoal {

std::string ReadSmallFile(const std::string& path, size_t bytes_max) {
  constexpr size_t kPartBytes = 64 * 1024;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  while (file && text.size() <= bytes_max) {
    const size_t before = text.size();
    text.resize(before + kPartBytes);
    file.read(text.data() + before, kPartBytes);
    text.resize(before + static_cast<size_t>(file.gcount()));
  }
  if (text.size() > bytes_max) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected at most ", bytes_max,
          " bytes, found more");
  }
  if (!file.is_open() || file.bad()) Throw(ErrorCode::kInvalidArgument, path, ": cannot be read");
  return text;
}

}  // namespace shoal
