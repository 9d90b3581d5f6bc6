#pragma once

// A folder for a test's files.

#include <cstdlib>
#include <filesystem>
#include <string>

#include "transport/base/check.h"

namespace shoal::test {

// Empty at first; removed with all it holds at the end.
class ScratchFolder {
 public:
  ScratchFolder() : path_((std::filesystem::temp_directory_path() / "shoal_test_XXXXXX").string()) {
    SHOAL_CHECK(mkdtemp(path_.data()) != nullptr, "cannot make ", path_);
  }
  ~ScratchFolder() {
    std::error_code
        ignored;  // A destructor must not throw; what is left is in the temporary folder.
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace shoal::test
