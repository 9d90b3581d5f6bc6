#include "transport/rpc/secret.h"

#include <sstream>

#include "transport/base/error.h"
#include "transport/base/host/small_file.h"

namespace shoal::rpc {
namespace {

constexpr size_t kKeysFileBytesMax = size_t{64} << 20;

}  // namespace

bool SecretsEqual(std::string_view a, std::string_view b) {
  // volatile, because a compiler that understands the loop may leave it at the first difference.
  volatile unsigned char difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference = static_cast<unsigned char>(
        difference | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(other)));
  }
  return difference == 0;
}

std::vector<std::string> ReadKeysFile(const std::string& path) {
  std::istringstream file(ReadSmallFile(path, kKeysFileBytesMax));
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    keys.push_back(line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1));
  }
  if (keys.empty()) Throw(ErrorCode::kInvalidArgument, path, ": has no key, expected one a line");
  return keys;
}

std::string ReadSecretFile(const std::string& path) {
  const std::vector<std::string> keys = ReadKeysFile(path);
  if (keys.size() != 1) {
    Throw(ErrorCode::kInvalidArgument, path, ": expected one line, found ", keys.size());
  }
  return keys.front();
}

}  // namespace shoal::rpc
