// Coordinators of this machine are found as long as they live, and only by who may trust the notes.

#include "coordinator/cli/support/local_coordinators.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace shoal::cli {
namespace {

class LocalCoordinatorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (std::filesystem::temp_directory_path() / "shoal_notes_XXXXXX").string();
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    folder_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
};

TEST_F(LocalCoordinatorsTest, AreFoundWhileTheyLive) {
  EXPECT_TRUE(FindLocalCoordinators(folder_).empty());
  {
    const CoordinatorNote note(folder_, {"127.0.0.1:41807", "http://127.0.0.1:8000"});
    const auto found = FindLocalCoordinators(folder_);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].rpc, "127.0.0.1:41807");
    EXPECT_EQ(found[0].url, "http://127.0.0.1:8000");
  }
  EXPECT_TRUE(FindLocalCoordinators(folder_).empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(LocalCoordinatorsTest, AreNotFoundOnceTheyWereKilled) {
  const pid_t child = fork();
  if (child == 0) {
    const CoordinatorNote note(folder_, {"127.0.0.1:1", "http://127.0.0.1:2"});
    _exit(FindLocalCoordinators(folder_).size() == 1 ? 0 : 1);  // And leaves its note behind.
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_FALSE(std::filesystem::is_empty(folder_));
  EXPECT_TRUE(FindLocalCoordinators(folder_).empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(LocalCoordinatorsTest, AreNotLookedForWhereOthersMayWrite) {
  const std::string notes = folder_ + "/shoal";
  ASSERT_EQ(setenv("XDG_RUNTIME_DIR", folder_.c_str(), 1), 0);
  EXPECT_EQ(NotesFolder(), notes);
  ASSERT_EQ(chmod(notes.c_str(), 0777), 0);
  EXPECT_EQ(NotesFolder(), "");
  std::filesystem::remove_all(notes);
  std::filesystem::create_directory_symlink(folder_, notes);
  EXPECT_EQ(NotesFolder(), "");
  unsetenv("XDG_RUNTIME_DIR");
  EXPECT_TRUE(FindLocalCoordinators("").empty());
  const CoordinatorNote note("", {"127.0.0.1:1", "http://127.0.0.1:2"});  // None, and no harm.
}

TEST_F(LocalCoordinatorsTest, ANoteThatIsNotWholeIsLeftOut) {
  const CoordinatorNote note(folder_, {"127.0.0.1:1", "http://127.0.0.1:2"});
  std::ofstream(folder_ + "/" + std::to_string(getpid()), std::ios::trunc) << "127";
  EXPECT_TRUE(FindLocalCoordinators(folder_).empty());
}

}  // namespace
}  // namespace shoal::cli
