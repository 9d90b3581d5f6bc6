#pragma once

// Where the coordinators are that `shoal run` has started for this user on this machine: their RPC
// ports are whichever were free, and whoever asks them something should not have to look for them.

#include <string>
#include <vector>

namespace shoal::cli {

struct LocalCoordinator {
  std::string rpc;  // "127.0.0.1:41807"
  std::string url;  // "http://127.0.0.1:8000"
};

// The folder for notes of this user: in XDG_RUNTIME_DIR, or else /tmp. Empty if another user made
// it first, or others may write into it: then nothing is noted and nobody found.
std::string NotesFolder();

// A file that says where this process listens, until this object or the process is gone, however it
// ends: others take a note for one of the living as long as it is locked.
class CoordinatorNote {
 public:
  // Where there is no such folder, or no room, there is no note, and a warning in the log.
  CoordinatorNote(const std::string& folder, const LocalCoordinator& where);
  CoordinatorNote(const CoordinatorNote&) = delete;
  CoordinatorNote& operator=(const CoordinatorNote&) = delete;
  ~CoordinatorNote();

 private:
  std::string path_;
  int file_ = -1;
};

// By name of their files. Removes the notes of those that are gone.
std::vector<LocalCoordinator> FindLocalCoordinators(const std::string& folder);

}  // namespace shoal::cli
