// Choosing a row of kernels: the fastest that runs, the one that is forced, never another.

#include "kernels/cpu/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/base/error.h"

namespace shoal::cpu {
namespace {

ErrorCode CodeOf(uint32_t features, std::string_view forced) {
  try {
    SelectKernelTable(features, forced);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "chose a row for '" << forced << "'";
  return ErrorCode::kFailed;
}

TEST(SelectKernelTable, TakesTheFastestRowThatRuns) {
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni | kAmxInt8, "").name, "amx");
  EXPECT_EQ(SelectKernelTable(kAvx2 | kAvx512Vnni, "").name, "avx512vnni");
  EXPECT_EQ(SelectKernelTable(kAvx2, "").name, "avx2");
  EXPECT_EQ(SelectKernelTable(kBaseline, "").name, "scalar");
}

TEST(SelectKernelTable, TakesTheForcedRow) {
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
    for (const auto function : table.linear) EXPECT_NE(function, nullptr) << table.name;
    for (const auto function : table.leaf_linear) EXPECT_NE(function, nullptr) << table.name;
    EXPECT_TRUE(table.quantize_row && table.quantize_groups && table.largest_bits &&
                table.quantize_group && table.rms_norm && table.rope_adjacent &&
                table.rope_half_split && table.silu_mul && table.add_fixed && table.add_dots &&
                table.store_kv && table.attention)
        << table.name;
  }
}

// A row that quietly borrows the scalar one's function is slow where it matters most.
TEST(AllKernelTables, ShareNoLinearOrAttentionEntryWithScalar) {
  const KernelTable& scalar = AllKernelTables().back();
  for (const KernelTable& table : AllKernelTables().first(AllKernelTables().size() - 1)) {
    for (int i = 0; i < kDTypeCount; ++i) {
      EXPECT_NE(table.linear[i], scalar.linear[i]) << table.name;
      EXPECT_NE(table.leaf_linear[i], scalar.leaf_linear[i]) << table.name;
    }
    EXPECT_NE(table.attention, scalar.attention) << table.name;
  }
}

TEST(DescribeKernelTables, NamesEveryRowAndItsScalarEntries) {
  const std::string text = DescribeKernelTables();
  for (const KernelTable& table : AllKernelTables()) {
    EXPECT_THAT(text, ::testing::HasSubstr(std::string(table.name)));
  }
  EXPECT_THAT(text, ::testing::HasSubstr("  leaf_linear Q4_1\n"));
  EXPECT_THAT(text, ::testing::HasSubstr("  scalar entries: none\n"));
}

TEST(DescribeKernelTables, SaysWhatTheAmxRowBorrows) {
  const std::string text = DescribeKernelTables();
  const std::string amx = text.substr(0, text.find("\navx512vnni"));
  EXPECT_THAT(amx,
              ::testing::HasSubstr("note: linear layers of fewer than 10 rows (INT8: 8) run the "
                                   "avx512vnni row's functions\n"));
  EXPECT_THAT(amx, ::testing::HasSubstr("  avx512vnni entries: linear F32, "));
  EXPECT_THAT(amx, ::testing::Not(::testing::HasSubstr("leaf_linear Q4_1, ")));
}

}  // namespace
}  // namespace shoal::cpu
