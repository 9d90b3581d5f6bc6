// The simulated network itself: what it promises, it keeps, or the simulator would find nothing.

#include "tests/coordinator/core/net_sim/net/link.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace shoal::core::net_sim {
namespace {

class LinkTest : public ::testing::Test {
 protected:
  LinkTest() {
    for (const Side side : {Side::kRank, Side::kCoordinator}) {
      link_->OnLost(side, [this, side] { heard_ += side == Side::kRank ? 'r' : 'c'; });
    }
  }
  void Send(char letter, Side from = Side::kRank) {
    link_->Send(from, [this, letter] { heard_ += letter; });
  }
  void RunFor(int64_t milliseconds) {
    const TimeNs end = loop_.now() + milliseconds * kMillisecondNs;
    while (loop_.RunNext(end)) {
    }
  }

  VirtualLoop loop_;
  Chance chance_{1};
  std::shared_ptr<Link> link_ = std::make_shared<Link>(
      loop_, chance_, LinkOptions{.delay_ms_max = 50, .user_timeout_ms = 2'000});
  std::string heard_;
};

TEST_F(LinkTest, BringsAllInOrder) {
  for (const char letter : {'1', '2', '3', '4', '5'}) Send(letter);
  RunFor(1'000);
  EXPECT_EQ(heard_, "12345");
}

TEST_F(LinkTest, TellsTheOtherEndOfACloseAfterWhatCameBefore) {
  Send('1');
  link_->Close(Side::kRank);
  Send('2');
  RunFor(1'000);
  EXPECT_EQ(heard_, "1c");
}

TEST_F(LinkTest, LosesWhatIsUnderWayWhenItBreaks) {
  Send('1');
  link_->Reset();
  RunFor(1'000);
  EXPECT_EQ(heard_.size(), 2u);
  EXPECT_NE(heard_.find('r'), std::string::npos);
  EXPECT_NE(heard_.find('c'), std::string::npos);
}

TEST_F(LinkTest, OnlyDelaysWhatAShortStallHolds) {
  link_->Stall(Side::kCoordinator, true);
  Send('1');
  RunFor(1'000);
  EXPECT_EQ(heard_, "");
  Send('2');
  link_->Stall(Side::kCoordinator, false);
  RunFor(1'000);
  EXPECT_EQ(heard_, "12");
}

TEST_F(LinkTest, BreaksForTheSenderWhenAStallLasts) {
  link_->Stall(Side::kCoordinator, true);
  Send('1');
  RunFor(3'000);
  EXPECT_EQ(heard_, "r");
  link_->Stall(Side::kCoordinator, false);
  RunFor(1'000);
  EXPECT_EQ(heard_, "r1c");
}

TEST_F(LinkTest, StallsOneWayOnly) {
  link_->Stall(Side::kCoordinator, true);
  Send('1', Side::kCoordinator);
  RunFor(1'000);
  EXPECT_EQ(heard_, "1");
}

TEST_F(LinkTest, MayBreakForOneEndOnly) {
  link_->ResetFor(Side::kCoordinator);
  RunFor(10'000);
  EXPECT_EQ(heard_, "c");
  Send('1');
  RunFor(1'000);
  EXPECT_EQ(heard_, "c");
  RunFor(2'000);
  EXPECT_EQ(heard_, "cr");
}

}  // namespace
}  // namespace shoal::core::net_sim
