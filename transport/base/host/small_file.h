#pragma once

// Files that people write.

#include <cstddef>
#include <string>

namespace shoal {

// The whole of it. Errors: kInvalidArgument, naming the file, if it cannot be read or has more than
// so many bytes, as what never ends has.
std::string ReadSmallFile(const std::string& path, size_t bytes_max);

}  // namespace shoal
