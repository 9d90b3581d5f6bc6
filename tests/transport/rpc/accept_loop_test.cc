// AcceptLoop against a listener that fails in every way that KJ's does.

#include "transport/rpc/server/accept_loop.h"

#include <gtest/gtest.h>
#include <kj/async-unix.h>
#include <kj/debug.h>
#include <kj/vector.h>

#include <deque>
#include <utility>

namespace shoal::rpc {
namespace {

enum class Outcome { kStream, kThrow, kReject };

// Accepts what it was told to, in order, then nothing more.
class ScriptedReceiver : public kj::ConnectionReceiver {
 public:
  explicit ScriptedReceiver(std::deque<Outcome> script) : script_(std::move(script)) {}

  kj::Promise<kj::Own<kj::AsyncIoStream>> accept() override {
    if (script_.empty()) return kj::NEVER_DONE;
    const Outcome outcome = script_.front();
    script_.pop_front();
    if (outcome == Outcome::kThrow) KJ_FAIL_REQUIRE("too many open files");
    if (outcome == Outcome::kReject) return KJ_EXCEPTION(FAILED, "too many open files");
    auto pipe = kj::newTwoWayPipe();
    others_.add(kj::mv(pipe.ends[1]));
    return kj::mv(pipe.ends[0]);
  }
  uint getPort() override { return 0; }

 private:
  std::deque<Outcome> script_;
  kj::Vector<kj::Own<kj::AsyncIoStream>> others_;
};

class AcceptLoopTest : public ::testing::Test {
 protected:
  ~AcceptLoopTest() noexcept override = default;

  kj::Own<AcceptLoop> Start(std::deque<Outcome> script) {
    return kj::heap<AcceptLoop>(kj::heap<ScriptedReceiver>(std::move(script)), timer_, "a port",
                                [this](kj::Own<kj::AsyncIoStream>) {
                                  ++taken_;
                                  if (taken_ == throws_at_) KJ_FAIL_REQUIRE("not connected");
                                });
  }

  void Advance(int pauses) {
    for (int i = 0; i < pauses; ++i) {
      timer_.advanceTo(timer_.now() + AcceptLoop::kPause);
      wait_scope_.poll();
    }
  }

  kj::UnixEventPort port_;
  kj::EventLoop loop_{port_};
  kj::WaitScope wait_scope_{loop_};
  kj::TimerImpl timer_{kj::origin<kj::TimePoint>()};
  int taken_ = 0;
  int throws_at_ = 0;
};

TEST_F(AcceptLoopTest, PausesAndGoesOnWhenAcceptThrowsOrFails) {
  const auto loop = Start({Outcome::kStream, Outcome::kThrow, Outcome::kThrow, Outcome::kReject,
                           Outcome::kStream, Outcome::kStream});
  wait_scope_.poll();
  EXPECT_EQ(taken_, 1);
  Advance(2);
  EXPECT_EQ(taken_, 1) << "three failures cost three pauses";
  Advance(1);
  EXPECT_EQ(taken_, 3);
}

TEST_F(AcceptLoopTest, LosesOnlyTheConnectionWhoseTakingFails) {
  throws_at_ = 1;
  const auto loop = Start({Outcome::kStream, Outcome::kStream});
  wait_scope_.poll();
  EXPECT_EQ(taken_, 2);
}

TEST_F(AcceptLoopTest, StopsWhenItIsDestroyed) {
  auto loop = Start({Outcome::kThrow, Outcome::kStream});
  wait_scope_.poll();
  loop = nullptr;
  Advance(3);
  EXPECT_EQ(taken_, 0);
}

}  // namespace
}  // namespace shoal::rpc
