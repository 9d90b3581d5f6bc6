// What ranks make of each other's rows, against what one of them alone would make.

#include "worker/forward/rows/stage_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/trial/rank_runner.h"
#include "transport/base/error.h"

namespace shoal::forward {
namespace {

constexpr int64_t kWidth = 24;  // Sixteen outputs, a count of invalid leaves and zeros.
constexpr int64_t kOutputs = kWidth - kFixedTail;
constexpr int64_t kFew = 5;
constexpr int64_t kMany = 11;  // Not divisible by the number of ranks.
constexpr int64_t kManyMin = 8;

// A rank's part of a sum: large numbers of both signs, and here and there an invalid leaf.
int64_t PartOfSum(int32_t rank, int64_t row, int64_t column) {
  if (column == kOutputs) return (row + rank) % 3 == 0 ? row + 1 : 0;
  if (column > kOutputs) return 0;
  const int64_t size = (int64_t{1} << 40) + 12345 * row + column;
  return (rank + column) % 2 == 0 ? size * (rank + 1) : -size;
}

int64_t WholeSum(int32_t ranks, int64_t row, int64_t column) {
  int64_t sum = 0;
  for (int32_t rank = 0; rank < ranks; ++rank) sum += PartOfSum(rank, row, column);
  return sum;
}

float ValueOf(int64_t row, int64_t column) {
  if (column == 1) return -0.0F;
  if (column == 2) return std::numeric_limits<float>::denorm_min();
  return static_cast<float>(row) + 1.0F / static_cast<float>(column + 3);
}

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

StageExchangeOptions Options(const comm::Communicator& group, int32_t ranks_per_stage) {
  StageExchangeOptions options = {.rank = group.rank(),
                                  .ranks_per_stage = ranks_per_stage,
                                  .rows_max = kMany,
                                  .hidden_dim = kOutputs,
                                  .sequence_parallel_rows_min = kManyMin,
                                  .fast = false,
                                  .vocab_rows = {}};
  for (int64_t rank = 0; rank < ranks_per_stage; ++rank) {  // Parts of different sizes.
    options.vocab_rows.push_back({rank * (rank + 7), (rank + 1) * (rank + 8)});
  }
  return options;
}

// Each row of an item of its own.
void ListRows(int64_t count, StepRows& rows) {
  engine::StepPlan plan;
  plan.starts = {{.slot = 0,
                  .id = 1,
                  .tokens = std::vector<int32_t>(count),
                  .prompt_count = static_cast<uint32_t>(count),
                  .params = {},
                  .blocks = {}}};
  plan.items = {{.slot = 0,
                 .position_begin = 0,
                 .row_count = static_cast<uint32_t>(count),
                 .sample = false,
                 .prompt_logits = false,
                 .new_blocks = {0},
                 .drafts = {}}};
  SequenceTable sequences(1);
  sequences.Apply(plan);
  rows.List(plan, sequences);
}

class StageExchangeTest : public testing::TestWithParam<int32_t> {
 protected:
  // On each rank of a stage, with few rows and with many.
  using Body = std::function<std::string(StageExchange&, int32_t rank, int64_t rows)>;

  // Result: what the ranks complain of.
  static std::string Run(int32_t ranks, const Body& body, bool fast = false) {
    std::string complaints;
    const auto results =
        test::RunRanks(ranks, test::RankKind::kShm, [&](comm::Communicator& group) {
          const auto stage = group.Split(0, group.rank());
          StageExchangeOptions options = Options(group, ranks);
          options.fast = fast;
          StageExchange exchange(group, *stage, options);
          std::string wrong;
          for (const int64_t rows : {kFew, kMany}) {
            exchange.Begin(rows);
            const bool is_parallel = ranks > 1 && rows == kMany && !fast;
            if (exchange.is_sequence_parallel() != is_parallel) wrong += "wrongly divided ";
            wrong += body(exchange, group.rank(), rows);
          }
          return wrong;
        });
    for (const test::RankResult& result : results) complaints += result.bytes;
    return complaints + test::Describe(results);
  }
  std::string Run(const Body& body, bool fast = false) const { return Run(GetParam(), body, fast); }
};

TEST_P(StageExchangeTest, OwnRowsTileTheStep) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t rows) -> std::string {
              const plan::Range own = exchange.own_rows();
              if (!exchange.is_sequence_parallel()) {
                return own == plan::Range{0, rows} ? "" : "not all rows";
              }
              const int32_t ranks = exchange.ranks();
              const plan::Range expected = {rows * rank / ranks, rows * (rank + 1) / ranks};
              return own == expected ? "" : "other rows";
            }),
            "");
}

TEST_P(StageExchangeTest, SumsOfOwnRowsAndTheirInvalidLeavesAreExact) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t rows) -> std::string {
              std::vector<int64_t> fixed;
              for (int64_t r = 0; r < rows; ++r) {
                for (int64_t c = 0; c < kWidth; ++c) fixed.push_back(PartOfSum(rank, r, c));
              }
              exchange.SumRows(fixed.data(), kWidth);
              const plan::Range own = exchange.own_rows();
              for (int64_t r = own.begin; r < own.end; ++r) {
                for (int64_t c = 0; c < kWidth; ++c) {
                  if (fixed[r * kWidth + c] == WholeSum(exchange.ranks(), r, c)) continue;
                  return Str("row ", r, ", column ", c, " of ", rows, " rows; ");
                }
              }
              return "";
            }),
            "");
}

TEST_P(StageExchangeTest, FastSumsAreAddedInTheOrderOfRanksForAllRows) {
  EXPECT_EQ(Run(
                [&](StageExchange& exchange, int32_t rank, int64_t rows) -> std::string {
                  const auto part = [](int32_t of, int64_t i) {
                    return std::ldexp(1.0F + 0.1F * static_cast<float>(i), of * 20);
                  };
                  std::vector<float> sums(rows * kWidth);
                  for (size_t i = 0; i < sums.size(); ++i) sums[i] = part(rank, i);
                  exchange.SumRows(sums.data(), kWidth);
                  for (size_t i = 0; i < sums.size(); ++i) {
                    float expected = part(0, i);
                    for (int32_t of = 1; of < exchange.ranks(); ++of) expected += part(of, i);
                    if (Bits(sums[i]) != Bits(expected)) return Str("sum ", i, "; ");
                  }
                  return "";
                },
                /*fast=*/true),
            "");
}

TEST_P(StageExchangeTest, TakesEveryBitFromTheRankThatHoldsARow) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t rows) -> std::string {
              std::vector<float> values(rows * kWidth);
              std::vector<int64_t> words(values.size());
              for (int64_t r = 0; r < rows; ++r) {
                if (r % exchange.ranks() != rank) continue;
                for (int64_t c = 0; c < kWidth; ++c) values[r * kWidth + c] = ValueOf(r, c);
              }
              exchange.TakeFromHolders(values.data(), kWidth, words.data());
              const plan::Range own = exchange.own_rows();
              for (int64_t i = own.begin * kWidth; i < own.end * kWidth; ++i) {
                if (Bits(values[i]) != Bits(ValueOf(i / kWidth, i % kWidth))) {
                  return Str("value ", i, " of ", rows, " rows; ");
                }
              }
              return "";
            }),
            "");
}

TEST_P(StageExchangeTest, GathersTheRowsThatOthersFinished) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t, int64_t rows) -> std::string {
              std::vector<float> values(rows * kWidth, NAN);
              std::vector<int8_t> quants(rows * kWidth, -1);
              const plan::Range own = exchange.own_rows();
              for (int64_t i = own.begin * kWidth; i < own.end * kWidth; ++i) {
                values[i] = ValueOf(i / kWidth, i % kWidth);
                quants[i] = static_cast<int8_t>(i % 100);
              }
              exchange.GatherRows(values.data(), kWidth);
              exchange.GatherRows(quants.data(), kWidth);
              for (int64_t i = 0; i < rows * kWidth; ++i) {
                const bool is_right = Bits(values[i]) == Bits(ValueOf(i / kWidth, i % kWidth)) &&
                                      quants[i] == static_cast<int8_t>(i % 100);
                if (!is_right) return Str("value ", i, " of ", rows, " rows; ");
              }
              return "";
            }),
            "");
}

TEST_P(StageExchangeTest, GathersAnInputInEveryFormThatIsRead) {
  const test::ScratchFolder folder;
  // Readers in groups of 16 and of 32.
  const auto model = model::Model::Open(test::WriteModel(test::KQuantsSpec(), folder.path()));
  const auto shard = plan::PlanCut(*model, {.cut = {1, 1}, .rank_speeds = {}}).front();
  const int64_t cols = model->config().hidden_dim;
  const std::vector<DType> readers = {DType::kQ6_K, DType::kQ4_K};
  const int32_t ranks = GetParam();
  const auto results = test::RunRanks(ranks, test::RankKind::kShm, [&](comm::Communicator& group) {
    const auto stage = group.Split(0, group.rank());
    StageExchangeOptions options = Options(group, ranks);
    options.hidden_dim = cols;
    StageExchange exchange(group, *stage, options);
    exchange.Begin(kMany);
    LayerRows rows(*model, shard, kMany);
    const auto fill = [&](auto& values, int64_t width, bool check) {
      int64_t wrong = 0;
      const plan::Range own = exchange.own_rows();
      for (int64_t i = 0; i < kMany * width; ++i) {
        const auto value = static_cast<std::decay_t<decltype(values[0])>>(1 + i % 97);
        if (check) wrong += values[i] != value;
        if (own.begin * width <= i && i < own.end * width) values[i] = value;
      }
      return wrong;
    };
    const auto visit = [&](bool check) {
      int64_t wrong = 0;
      for (const DType dtype : readers) {
        QuantizedRows& quantized = rows.Quantized(dtype);
        wrong += fill(quantized.quants, cols, check);
        wrong += fill(quantized.scales, InputGroups(dtype, cols), check);
        wrong += fill(quantized.sums, InputGroups(dtype, cols), check);
      }
      return wrong;
    };
    visit(/*check=*/false);
    exchange.GatherInput(readers, rows);
    return std::string(visit(/*check=*/true) == 0 ? "" : "other values; ");
  });
  for (const test::RankResult& result : results) EXPECT_EQ(result.bytes, "");
  EXPECT_EQ(test::Describe(results), "");
}

TEST_P(StageExchangeTest, TellsAllRanksTheFirstBadLayer) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t count) -> std::string {
              StepRows rows(kMany);
              ListRows(count, rows);
              if (rank == 0) rows[1].Blame(4);
              if (rank == exchange.ranks() - 1) {
                rows[1].Blame(2);
                rows[3].Blame(0);
              }
              exchange.ShareBadLayers(rows);
              const int64_t first = exchange.ranks() == 1 ? 4 : 2;
              const bool is_right = rows[0].bad_layer == -1 && rows[1].bad_layer == first &&
                                    rows[2].bad_layer == -1 && rows[3].bad_layer == 0;
              return is_right ? "" : "other layers; ";
            }),
            "");
}

TEST_P(StageExchangeTest, GathersCandidatesAndLogits) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t) -> std::string {
              const int32_t ranks = exchange.ranks();
              const std::vector<int32_t> own = {rank, rank + 100};
              std::vector<int32_t> all(own.size() * ranks);
              exchange.GatherPieces(std::as_bytes(std::span(own)),
                                    std::as_writable_bytes(std::span(all)));
              for (int32_t of = 0; of < ranks; ++of) {
                if (all[2 * of] != of || all[2 * of + 1] != of + 100) return "other pieces; ";
              }
              constexpr int64_t kRows = 3;
              const auto part = [](int64_t of) {
                return plan::Range{of * (of + 7), (of + 1) * (of + 8)};
              };
              const int64_t vocab = part(ranks - 1).end;
              std::vector<float> logits;
              for (int64_t r = 0; r < kRows; ++r) {
                for (int64_t t = part(rank).begin; t < part(rank).end; ++t) {
                  logits.push_back(ValueOf(r, t));
                }
              }
              std::vector<std::byte> gathered(kRows * vocab * sizeof(float));
              std::vector<float> joined(kRows * vocab);
              exchange.GatherLogits(logits.data(), kRows, gathered.data(), joined.data());
              for (int64_t i = 0; exchange.is_first() && i < kRows * vocab; ++i) {
                if (Bits(joined[i]) != Bits(ValueOf(i / vocab, i % vocab))) return "other logits; ";
              }
              return "";
            }),
            "");
}

// Result: what a comparison says, by the exchange that takes the digests along.
std::string ErrorOf(const std::function<void()>& compare) {
  try {
    compare();
  } catch (const Error& error) {
    return Str(ToString(error.code()), ": ", error.what());
  }
  return "";
}

TEST_P(StageExchangeTest, ComparesDigestsOnceInAStepAloneOrWithTheFirstPieces) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t count) -> std::string {
              const int32_t ranks = exchange.ranks();
              StepRows rows(kMany);
              ListRows(count, rows);
              std::vector<float> residual(count * kOutputs, 1);
              const std::vector<int32_t> own = {rank};
              std::vector<int32_t> all(ranks);
              const auto gather = [&] {
                exchange.GatherPieces(std::as_bytes(std::span(own)),
                                      std::as_writable_bytes(std::span(all)));
              };
              std::string wrong;
              for (uint64_t step = 1; step <= 4; ++step) {
                const bool damaged = step > 2;
                if (damaged && rank + 1 == ranks) residual[7] = 2;
                exchange.BeginStep(step);
                exchange.DigestRows(rows, residual.data());
                const std::string first = ErrorOf(
                    step % 2 == 0 ? std::function<void()>([&] { exchange.CompareDigests(); })
                                  : std::function<void()>(gather));
                const std::string expected = Str("wrong answer: step ", step, ", stage 0: ");
                const bool fails = damaged && ranks > 1;
                if (first.starts_with(expected) != fails) wrong += Str("step ", step, first, "; ");
                if (!fails && !first.empty()) wrong += first + "; ";
                gather();
                for (int32_t of = 0; of < ranks; ++of) {
                  if (all[of] != of) wrong += "other pieces; ";
                }
                exchange.CompareDigests();
              }
              return wrong;
            }),
            "");
}

TEST_P(StageExchangeTest, FindsAnEmbeddingThatWasDamagedOnTheWay) {
  EXPECT_EQ(Run([&](StageExchange& exchange, int32_t rank, int64_t rows) -> std::string {
              if (exchange.ranks() == 1) return "";
              exchange.BeginStep(1);
              std::vector<float> values(rows * kWidth);
              std::vector<int64_t> words(values.size());
              // Two ranks say that they hold the first value, and their bits add up to more.
              if (rank < 2) values[0] = -1.5F;
              exchange.TakeFromHolders(values.data(), kWidth, words.data());
              return ErrorOf([&] { exchange.CompareDigests(); }).empty() ? "not found; " : "";
            }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Ranks, StageExchangeTest, testing::Values(1, 2, 3));

TEST(StageExchangeBetweenStages, HandsOwnRowsAndWhatIsWrongWithThemToTheNextStage) {
  constexpr int32_t kStageRanks = 2;
  const auto results =
      test::RunRanks(2 * kStageRanks, test::RankKind::kShm, [&](comm::Communicator& group) {
        const bool sends = group.rank() < kStageRanks;
        const auto stage = group.Split(sends ? 0 : 1, group.rank());
        StageExchange exchange(group, *stage, Options(group, kStageRanks));
        std::string wrong;
        for (const int64_t count : {kFew, kMany}) {
          exchange.Begin(count);
          StepRows rows(kMany);
          ListRows(count, rows);
          std::vector<float> residual(count * kOutputs);
          const plan::Range own = exchange.own_rows();
          if (sends) {
            for (int64_t r = own.begin; r < own.end; ++r) {
              if (r % 2 == 0) rows[r].Blame(r);
              for (int64_t c = 0; c < kOutputs; ++c) residual[r * kOutputs + c] = ValueOf(r, c);
            }
            exchange.SendRows(rows, residual.data());
            continue;
          }
          exchange.ReceiveRows(rows, residual.data());
          for (int64_t r = own.begin; r < own.end; ++r) {
            if (rows[r].bad_layer != (r % 2 == 0 ? r : -1)) wrong += Str("layer of row ", r, "; ");
            for (int64_t c = 0; c < kOutputs; ++c) {
              const bool is_right = Bits(residual[r * kOutputs + c]) == Bits(ValueOf(r, c));
              if (!is_right) wrong += Str("row ", r, "; ");
            }
          }
        }
        return wrong;
      });
  for (const test::RankResult& result : results) EXPECT_EQ(result.bytes, "");
  EXPECT_EQ(test::Describe(results), "");
}

TEST(StageExchangeBetweenStages, HandsDigestsOnSoThatTheLastStageNamesTheFirstThatDiffers) {
  constexpr int32_t kStageRanks = 2;
  constexpr int32_t kStages = 3;
  const auto results =
      test::RunRanks(kStages * kStageRanks, test::RankKind::kShm, [&](comm::Communicator& group) {
        const int32_t stage_index = group.rank() / kStageRanks;
        const auto stage = group.Split(stage_index, group.rank());
        StageExchange exchange(group, *stage, Options(group, kStageRanks));
        std::string said;
        for (const int64_t count : {kFew, kMany}) {
          exchange.Begin(count);
          exchange.BeginStep(static_cast<uint64_t>(count));
          StepRows rows(kMany);
          ListRows(count, rows);
          std::vector<float> residual(count * kOutputs, 1);
          if (stage_index > 0) exchange.ReceiveRows(rows, residual.data());
          if (count == kMany && group.rank() == 3) exchange.ReportWrongSum();
          exchange.DigestRows(rows, residual.data());
          if (stage_index + 1 < kStages) {
            exchange.SendRows(rows, residual.data());
          } else {
            said += ErrorOf([&] { exchange.CompareDigests(); });
          }
        }
        return said;
      });
  EXPECT_EQ(test::Describe(results), "");
  for (const int32_t rank : {4, 5}) {
    EXPECT_THAT(results[rank].bytes,
                testing::StartsWith("wrong answer: step 11, stage 1: ranks that must hold"));
    EXPECT_THAT(results[rank].bytes, testing::HasSubstr("so wrong: rank 3."));
  }
}

}  // namespace
}  // namespace shoal::forward
