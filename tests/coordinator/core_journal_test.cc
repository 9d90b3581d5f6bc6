// The journal keeps what a stream needs to go on elsewhere, and no more.

#include <gtest/gtest.h>

#include "coordinator/store/journal.h"

namespace shoal::store {
namespace {

TEST(Journal, KeepsTheRequestAndAllTokensUntilTheStreamEnds) {
  Journal journal;
  GenerationParams params;
  params.sampling.seed = 42;
  journal.Open(3, {{1, 2}, params, "id", {}});
  journal.Append(3, std::vector<int32_t>{7, 8});
  journal.Append(3, std::vector<int32_t>{9});
  const JournalEntry* entry = journal.Find(3);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->prompt, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(entry->params.sampling.seed, 42u);
  EXPECT_EQ(entry->numerics_id, "id");
  EXPECT_EQ(entry->tokens, (std::vector<int32_t>{7, 8, 9}));
  journal.Close(3);
  EXPECT_EQ(journal.Find(3), nullptr);
  EXPECT_EQ(journal.size(), 0u);
}

}  // namespace
}  // namespace shoal::store
