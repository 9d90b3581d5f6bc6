// Prompt lookup: what is guessed, and when guessing stops.

#include "worker/engine/schedule/prompt_lookup.h"

#include <gtest/gtest.h>

namespace shoal::engine {
namespace {

using TokenIds = std::vector<int32_t>;

TEST(LookUpDraft, GivesWhatFollowedTheLastEarlierOccurrence) {
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 3, 4, 5, 9, 1, 2, 3, 6, 7, 8, 1, 2, 3}, 2),
            (TokenIds{6, 7}));
}

TEST(LookUpDraft, GivesNothingWithoutAnOccurrenceOrRoom) {
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 3, 4, 2, 3}, 4), TokenIds{});
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 3}, 4), TokenIds{});
  EXPECT_EQ(LookUpDraft(TokenIds{}, 4), TokenIds{});
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 3, 4, 1, 2, 3}, 0), TokenIds{});
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 3, 4, 1, 2, 3}, -1), TokenIds{});
}

TEST(LookUpDraft, GoesOnWithAPeriodThatIsShorterThanTheDraft) {
  EXPECT_EQ(LookUpDraft(TokenIds{7, 7, 7, 7}, 3), (TokenIds{7, 7, 7}));
  EXPECT_EQ(LookUpDraft(TokenIds{1, 2, 1, 2, 1}, 5), (TokenIds{2, 1, 2, 1, 2}));
}

TEST(DraftGauge, DraftsMoreWhileGuessesAreRight) {
  DraftGauge gauge;
  int64_t limit = gauge.limit();
  ASSERT_GT(limit, 0);
  for (int step = 0; step < 6; ++step) {
    gauge.Note(limit, limit);
    EXPECT_GE(gauge.limit(), limit);
    limit = gauge.limit();
  }
  EXPECT_EQ(limit, 16);
}

TEST(DraftGauge, DraftsLittleMoreThanWasRightTheLastTime) {
  DraftGauge gauge;
  for (int step = 0; step < 6; ++step) gauge.Note(gauge.limit(), gauge.limit());
  gauge.Note(16, 4);
  EXPECT_EQ(gauge.limit(), 5);
}

// What wrong guesses cost: rows, of all tokens generated.
TEST(DraftGauge, SpendsLittleOnASequenceWhoseGuessesAreAllWrong) {
  DraftGauge gauge;
  int64_t rows = 0;
  for (int token = 0; token < 2000; ++token) {
    rows += gauge.limit();
    gauge.Note(gauge.limit(), 0);
  }
  EXPECT_GT(rows, 6) << "it tries again";
  EXPECT_LE(rows, 20);
}

TEST(DraftGauge, ComesBackWhenGuessesAreRightAgain) {
  DraftGauge gauge;
  while (gauge.limit() > 0) gauge.Note(gauge.limit(), 0);
  int64_t tokens = 0;
  for (; gauge.limit() == 0; ++tokens) gauge.Note(0, 0);
  EXPECT_EQ(tokens, 64);
  for (int step = 0; step < 8; ++step) gauge.Note(gauge.limit(), gauge.limit());
  EXPECT_EQ(gauge.limit(), 16);
}

TEST(DraftGauge, MindsNoStepsWithoutADraft) {
  DraftGauge gauge;
  const int64_t limit = gauge.limit();
  for (int step = 0; step < 100; ++step) gauge.Note(0, 0);
  EXPECT_EQ(gauge.limit(), limit);
}

}  // namespace
}  // namespace shoal::engine
