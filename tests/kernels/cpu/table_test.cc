// Choosing a variant: the fastest that runs, the one that is forced, never another.

#include "kernels/cpu/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "transport/base/error.h"

namespace shoal::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ErrorCode CodeOf(uint32_t features, std::string_view forced) {
  try {
    SelectKernelTable(features, forced);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "chose a variant for '" << forced << "'";
  return ErrorCode::kFailed;
}

TEST(SelectKernelTable, TakesTheFastestVariantThatRuns) {
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni | kAmxInt8, "").name, "amx");
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni, "").name, "avx512vnni");
  EXPECT_EQ(SelectKernelTable(kAvx2, "").name, "avx2");
  EXPECT_EQ(SelectKernelTable(kBaseline, "").name, "scalar");
}

TEST(SelectKernelTable, TakesTheForcedVariant) {
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni, "scalar").name, "scalar");
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni, "avx2").name, "avx2");
}

TEST(SelectKernelTable, NeverFallsBack) {
  EXPECT_EQ(CodeOf(kBaseline, "avx2"), ErrorCode::kMissingHardware);
  EXPECT_EQ(CodeOf(kAvx2, "avx512vnni"), ErrorCode::kMissingHardware);
  EXPECT_EQ(CodeOf(kAvx2 | kAvx512Vnni, "amx"), ErrorCode::kMissingHardware);
  EXPECT_EQ(CodeOf(kAvx2 | kAmxInt8, "amx"), ErrorCode::kMissingHardware);
  EXPECT_EQ(CodeOf(kAvx2 | kAvx512Vnni, "avx1024"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(kAvx2 | kAvx512Vnni, "AVX2"), ErrorCode::kInvalidArgument);
}

TEST(AllKernelTables, AreCompleteAndEndWithScalar) {
  ASSERT_EQ(AllKernelTables().back().name, "scalar");
  EXPECT_EQ(AllKernelTables().back().required_features, kBaseline);
  for (const KernelTable& table : AllKernelTables()) {
    for (const KernelEntry& entry : EntriesOf(table)) {
      EXPECT_NE(entry.function, nullptr) << table.name << " " << entry.name;
    }
    EXPECT_TRUE(table.probe.read && table.probe.byte_dots && table.probe.fmas) << table.name;
  }
}

// The names of the entries that two tables share.
std::vector<std::string> SharedEntries(const KernelTable& table, const KernelTable& other) {
  const std::vector<KernelEntry> entries = EntriesOf(table);
  const std::vector<KernelEntry> others = EntriesOf(other);
  std::vector<std::string> names;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].function == others[i].function) names.push_back(entries[i].name);
  }
  return names;
}

// A variant that quietly borrows the scalar one's function is slow where it matters most.
TEST(AllKernelTables, ShareNothingWithScalar) {
  const KernelTable& scalar = AllKernelTables().back();
  for (const KernelTable& table : AllKernelTables().first(AllKernelTables().size() - 1)) {
    EXPECT_THAT(SharedEntries(table, scalar), IsEmpty()) << table.name;
  }
}

TEST(AllKernelTables, AmxIsAvx512VnniButForTheLinearLayersOfFourFormats) {
  const KernelTable& amx = AllKernelTables()[0];
  const KernelTable& avx512vnni = AllKernelTables()[1];
  ASSERT_EQ(amx.name, "amx");
  ASSERT_EQ(avx512vnni.name, "avx512vnni");
  const std::vector<std::string> shared = SharedEntries(amx, avx512vnni);
  std::vector<std::string> own;
  for (const KernelEntry& entry : EntriesOf(amx)) {
    if (std::ranges::find(shared, entry.name) == shared.end()) own.push_back(entry.name);
  }
  EXPECT_THAT(own,
              ElementsAre("linear Q8_0", "leaf_linear Q8_0", "linear Q4_0", "leaf_linear Q4_0",
                          "linear Q4_1", "leaf_linear Q4_1", "linear INT8", "leaf_linear INT8"));
}

}  // namespace
}  // namespace shoal::cpu
