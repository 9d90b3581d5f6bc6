#pragma once

// Where one mpirun keeps what it needs while it runs: its sockets, and the memory that its ranks
// share. What is killed cannot tidy up, so whoever started it does.

#include <string>

namespace shoal::launch {

// A folder of its own, gone with this object; also those that processes left behind which ended
// without a word. Threading: one thread.
class MpirunFolder {
 public:
  // In /dev/shm, since ranks share memory there; in the system's folder for temporary files where
  // that is not to be had. Errors: kFailed, naming the folder, if neither is.
  MpirunFolder();
  ~MpirunFolder();
  MpirunFolder(const MpirunFolder&) = delete;
  MpirunFolder& operator=(const MpirunFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace shoal::launch
