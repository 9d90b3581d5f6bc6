// A file that is read again beside the loop, however long that takes.

#include "coordinator/shell/reload/policy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <sstream>
#include <vector>

#include "tests/support/patience.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Text(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class PolicyFileTest : public ::testing::Test {
 protected:
  ~PolicyFileTest() noexcept override = default;

  // Its whole text is applied, unless it is "bad".
  std::unique_ptr<PolicyFile> Make() {
    return std::make_unique<PolicyFile>(
        path_,
        [this, path = path_, readings = readings_]() -> PolicyFile::Apply {
          ++*readings;
          const std::string text = Text(path);
          if (text == "bad") Throw(ErrorCode::kInvalidArgument, path, ", line 1: is bad");
          return [this, text] {
            applied_.push_back(text);
            return Str(text.size(), " bytes");
          };
        },
        timer_, [this](core::Record record) { records_.push_back(std::move(record)); });
  }
  void Write(const std::string& text) const { std::ofstream(path_) << text; }
  void Wait(int64_t milliseconds) {
    timer_.afterDelay(milliseconds * kj::MILLISECONDS).wait(io_.waitScope);
  }
  bool WaitUntil(const std::function<bool()>& reached) {
    for (int64_t waited = 0; !reached(); waited += 5) {
      if (waited > test::kPatienceMs) return false;
      Wait(5);
    }
    return true;
  }

  test::ScratchFolder folder_;
  const std::string path_ = folder_.path() + "/policy";
  const std::shared_ptr<std::atomic<int>> readings_ = std::make_shared<std::atomic<int>>(0);
  kj::AsyncIoContext io_ = kj::setupAsyncIo();
  kj::Timer& timer_ = io_.provider->getTimer();
  std::vector<std::string> applied_;
  std::vector<core::Record> records_;
};

TEST_F(PolicyFileTest, IsAppliedAndRecorded) {
  const auto file = Make();
  Write("new");
  file->ReadAgain();
  EXPECT_THAT(applied_, IsEmpty()) << "not in the call";
  ASSERT_TRUE(WaitUntil([&] { return !records_.empty(); }));
  EXPECT_THAT(applied_, ElementsAre("new"));
  EXPECT_EQ(records_[0].kind, core::RecordKind::kPolicyLoaded);
  EXPECT_EQ(records_[0].detail, path_ + ": 3 bytes");
}

TEST_F(PolicyFileTest, IsRefusedByLineAndTriedAgain) {
  const auto file = Make();
  Write("bad");
  file->ReadAgain();
  ASSERT_TRUE(WaitUntil([&] { return !records_.empty(); }));
  EXPECT_THAT(applied_, IsEmpty());
  EXPECT_EQ(records_[0].kind, core::RecordKind::kPolicyRefused);
  EXPECT_THAT(records_[0].detail, HasSubstr("line 1: is bad"));
  Write("good");
  file->ReadAgain();
  ASSERT_TRUE(WaitUntil([&] { return records_.size() == 2; }));
  EXPECT_THAT(applied_, ElementsAre("good"));
}

// A pipe without a writer is a disk that does not answer.
TEST_F(PolicyFileTest, HoldsTheLoopUpForNoMomentWhileItIsRead) {
  const auto file = Make();
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  file->ReadAgain();
  ASSERT_TRUE(WaitUntil([&] { return *readings_ == 1; }));
  file->ReadAgain();
  file->ReadAgain();
  Wait(50);  // Which it could not, if the loop waited for the file.
  EXPECT_EQ(*readings_, 1) << "one at a time";
  EXPECT_THAT(applied_, IsEmpty());
  Write("first");
  ASSERT_TRUE(WaitUntil([&] { return *readings_ == 2; })) << "what was asked for meanwhile";
  Write("second");
  ASSERT_TRUE(WaitUntil([&] { return applied_.size() == 2; }));
  EXPECT_THAT(applied_, ElementsAre("first", "second"));
  Wait(50);
  EXPECT_EQ(*readings_, 2) << "two that ask during one reading get one more";
}

TEST_F(PolicyFileTest, DoesNotWaitForAReadingWhenItGoes) {
  auto file = Make();
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  file->ReadAgain();
  ASSERT_TRUE(WaitUntil([&] { return *readings_ == 1; }));
  file.reset();
  Write("late");  // Ends the reading; nobody is there to hear of it.
  Wait(50);
  EXPECT_THAT(applied_, IsEmpty());
  EXPECT_THAT(records_, SizeIs(0));
}

}  // namespace
}  // namespace shoal::gateway
