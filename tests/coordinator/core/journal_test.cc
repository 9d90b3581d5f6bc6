// The journal keeps what a stream needs to go on elsewhere, and no more.

#include <gtest/gtest.h>

#include "coordinator/store/journal.h"

namespace shoal::store {
namespace {

TEST(Journal, KeepsTheRequestAndAllTokensUntilTheStreamEnds) {
  Journal journal;
  const core::StreamId id{3, 4};
  core::Request request{{1, 2}, {}};
  request.params.sampling.seed = 42;
  journal.Apply({id, core::JournalBegin{request, {"toy", "id"}}});
  journal.Apply({id, core::JournalTokens{{7, 8}}});
  journal.Apply({id, core::JournalTokens{{9}}});
  const JournalEntry* entry = journal.Find(id);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->request, request);
  EXPECT_EQ(entry->key, (core::ModelKey{"toy", "id"}));
  EXPECT_EQ(entry->tokens, (std::vector<int32_t>{7, 8, 9}));
  journal.Apply({id, core::JournalEnd{}});
  EXPECT_EQ(journal.Find(id), nullptr);
  EXPECT_EQ(journal.size(), 0u);
}

}  // namespace
}  // namespace shoal::store
