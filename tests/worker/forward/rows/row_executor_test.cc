// That tiles, ranges and parts cover everything once, whoever computes them, and that a layer's
// rows meet when they should.

#include "worker/forward/rows/row_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/plan/plan.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"
#include "transport/base/error.h"
#include "worker/forward/rows/layer_run.h"

namespace shoal::forward {
namespace {

using Counts = std::vector<std::atomic<int>>;

int64_t CountNotOnce(const Counts& counts) {
  return std::count_if(counts.begin(), counts.end(), [](const auto& count) { return count != 1; });
}

constexpr int64_t kRowsMax = 300;

// An executor with its buffers.
class Executors {
 public:
  Executors()
      : model_(model::Model::Open(test::WriteModel(test::Q4_1Spec(), folder_.path()))),
        shard_(plan::PlanCut(*model_, {.cut = {1, 1}, .rank_speeds = {}}).front()),
        all_(*model_, shard_, 1) {}

  // `rows` of them. The buffers are too small to be written to.
  RowExecutor& Make(int32_t threads, int64_t rows, bool ranks_meet) {
    executor_.reset();
    team_ = std::make_unique<device::ThreadTeam>(threads);
    by_thread_.assign(threads, LayerRows(*model_, shard_, 1));
    executor_ = std::make_unique<RowExecutor>(*team_, all_, by_thread_, ranks_meet);
    executor_->Begin(rows);
    return *executor_;
  }

  const LayerRows* all() const { return &all_; }
  const LayerRows* of(int64_t thread) const { return &by_thread_[thread]; }

 private:
  const test::ScratchFolder folder_;
  const std::unique_ptr<model::Model> model_;
  const plan::RankShard shard_;
  LayerRows all_;
  std::vector<LayerRows> by_thread_;
  std::unique_ptr<device::ThreadTeam> team_;
  std::unique_ptr<RowExecutor> executor_;
};

class RowExecutorTest : public testing::TestWithParam<int32_t> {
 protected:
  int32_t threads() const { return GetParam(); }

  Executors executors_;
};

TEST_P(RowExecutorTest, TilesTileTheRows) {
  for (const bool ranks_meet : {false, true}) {
    for (const int64_t rows : {1, 63, 64, 130, 257, 300}) {
      RowExecutor& executor = executors_.Make(threads(), rows, ranks_meet);
      Counts counts(rows);
      std::atomic<int64_t> tiles{0};
      std::atomic<int64_t> wrong{0};
      executor.ForTiles([&](const RowTile& tile) {
        ++tiles;
        for (int64_t r = tile.rows.begin; r < tile.rows.end; ++r) ++counts[r];
        const bool many = executor.tile_count() > 1;
        const bool own_memory = tile.own.rows != executors_.all();
        wrong += tile.alone != many || own_memory != many || tile.rows.count() == 0;
        wrong += many && (tile.rows.count() > kTileRows || tile.own.begin != tile.rows.begin);
        // What ranks exchange lies where all rows do.
        wrong += (tile.shared.rows == executors_.all()) != (ranks_meet || !many);
      });
      EXPECT_EQ(CountNotOnce(counts), 0) << rows << " rows";
      EXPECT_EQ(wrong, 0) << rows << " rows";
      EXPECT_EQ(tiles, executor.tile_count());
      EXPECT_EQ(tiles > 1, rows > kTileRows && rows >= kTileRows * threads()) << rows << " rows";
      EXPECT_EQ(tiles % (tiles > 1 ? threads() : 1), 0) << rows << " rows";
    }
  }
}

TEST_P(RowExecutorTest, RangesTileTheRowsOfATile) {
  for (const int64_t rows : {1, 5, 64, 300}) {
    RowExecutor& executor = executors_.Make(threads(), rows, /*ranks_meet=*/true);
    for (const plan::Range own : {plan::Range{0, rows}, {rows / 3, rows}, {rows / 2, rows / 2}}) {
      Counts counts(rows);
      executor.ForRows(executor.AllRows().Within(own),
                       [&](int64_t begin, int64_t end, int32_t thread) {
                         EXPECT_LT(thread, threads());
                         for (int64_t r = begin; r < end; ++r) ++counts[r];
                       });
      for (int64_t r = 0; r < rows; ++r) {
        EXPECT_EQ(counts[r], own.begin <= r && r < own.end ? 1 : 0) << r << " of " << rows;
      }
    }
  }
}

TEST_P(RowExecutorTest, WhatOneThreadDoesAloneStaysOnIt) {
  RowExecutor& executor = executors_.Make(threads(), kRowsMax, /*ranks_meet=*/false);
  std::atomic<int64_t> wrong{0};
  executor.ForTiles([&](const RowTile& tile) {
    int calls = 0;
    executor.ForRows(tile, [&](int64_t begin, int64_t end, int32_t) {
      wrong += begin != tile.rows.begin || end != tile.rows.end;
      ++calls;
    });
    executor.ForPanels(tile, {.panels = 7, .bytes = 1 << 20, .panels_min = 2, .next = {}},
                       [&](plan::Range rows, plan::Range panels) {
                         wrong += rows != plan::Range{0, tile.rows.count()};
                         wrong += panels != plan::Range{0, 7};
                         ++calls;
                       });
    wrong += calls != 2;
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(RowExecutorTest, PartsOfAProductTileIt) {
  for (const int64_t rows : {1, 16, 300}) {
    for (const int64_t panels : {1, 9, 200}) {
      RowExecutor& executor = executors_.Make(threads(), rows, /*ranks_meet=*/true);
      Counts counts(rows * panels);
      const PanelWork work = {.panels = panels, .bytes = panels << 14, .panels_min = 4, .next = {}};
      executor.ForPanels(executor.AllRows(), work, [&](plan::Range part, plan::Range columns) {
        for (int64_t r = part.begin; r < part.end; ++r) {
          for (int64_t p = columns.begin; p < columns.end; ++p) ++counts[r * panels + p];
        }
      });
      EXPECT_EQ(CountNotOnce(counts), 0) << rows << " rows, " << panels << " panels";
    }
  }
}

// Layers that note what is done to which rows, and whether what that reads had been done.
class NotedLayers {
 public:
  NotedLayers(int64_t layers, int64_t rows) {
    for (int64_t row = 0; row < rows; row += 16) {
      calls_.push_back({.rows = {row, std::min(row + 16, rows)},
                        .read_end = std::min((row + 32) / 32 * 32, rows)});
    }
    for (auto* notes : {&normed_, &before_, &after_}) {
      for (int64_t layer = 0; layer < layers; ++layer) notes->emplace_back(rows);
    }
    for (int64_t layer = 0; layer < layers; ++layer) attended_.emplace_back(calls_.size());
  }

  std::span<const LayerFlow::Call> calls() const { return calls_; }

  void Before(int64_t layer, const RowPass& pass) const {
    pass.AcrossRanks([&](const RowTile& tile) {
      Note(normed_[layer], tile.rows);
      if (layer > 0) Need(after_[layer - 1], tile.rows, "the layer before");
    });
    pass.ForTiles([&](const RowTile& tile) {
      Need(normed_[layer], tile.rows, "the norm");
      Note(before_[layer], tile.rows);
    });
  }
  void Attend(int64_t layer, int64_t index, int32_t) const {
    Need(before_[layer], {0, calls_[index].read_end}, "keys and values");
    ++attended_[layer][index];
  }
  void After(int64_t layer, const RowPass& pass) const {
    pass.ForTiles([&](const RowTile& tile) {
      for (size_t i = 0; i < calls_.size(); ++i) {
        const plan::Range rows = calls_[i].rows;
        const bool is_read = rows.begin < tile.rows.end && tile.rows.begin < rows.end;
        if (is_read && attended_[layer][i] != 1) Miss("the attention");
      }
    });
    pass.AcrossRanks([&](const RowTile& tile) {
      Note(after_[layer], tile.rows);
      largest_ = std::max(largest_.load(), tile.rows.count());
    });
  }

  // "": each of the layers' rows once, [first of before, end) and [first of after, end).
  std::string Wrong(plan::Range before, plan::Range after) const {
    for (int64_t layer = 0; layer < static_cast<int64_t>(after_.size()); ++layer) {
      const auto expect = [&](const Counts& counts, plan::Range layers) {
        const int once = layers.begin <= layer && layer < layers.end ? 1 : 0;
        return std::all_of(counts.begin(), counts.end(), [=](const auto& n) { return n == once; });
      };
      if (!expect(normed_[layer], before) || !expect(before_[layer], before)) {
        return Str("before layer ", layer);
      }
      if (!expect(attended_[layer], after)) return Str("attention of layer ", layer);
      if (!expect(after_[layer], after)) return Str("after layer ", layer);
    }
    return missed_;
  }
  int64_t largest() const { return largest_; }

 private:
  static void Note(Counts& counts, plan::Range rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) ++counts[r];
  }
  void Need(const Counts& counts, plan::Range rows, const char* what) const {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      if (counts[r] != 1) Miss(what);
    }
  }
  void Miss(const char* what) const {
    const std::lock_guard lock(mutex_);
    missed_ = what;
  }

  std::vector<LayerFlow::Call> calls_;
  mutable std::vector<Counts> normed_, before_, after_, attended_;  // [layer]
  mutable std::atomic<int64_t> largest_{0};  // Tile that something came after the attention of.
  mutable std::mutex mutex_;
  mutable std::string missed_;
};

TEST_P(RowExecutorTest, LayersRunInOrderForEveryRow) {
  constexpr int64_t kLayers = 3;
  for (const bool ranks_meet : {false, true}) {
    for (const int64_t rows : {5, 64, 300}) {
      RowExecutor& executor = executors_.Make(threads(), rows, ranks_meet);
      NotedLayers layers(kLayers, rows);
      RunLayers(executor, layers, {0, false}, {kLayers, false});
      EXPECT_EQ(layers.Wrong({0, kLayers}, {0, kLayers}), "") << rows << " rows";
      const bool alone = !ranks_meet && executor.tile_count() > 1;
      EXPECT_EQ(layers.largest() == rows, !alone) << rows << " rows";
    }
  }
}

TEST_P(RowExecutorTest, ARunMayEndAndBeginAtAnAttention) {
  for (const bool ranks_meet : {false, true}) {
    for (const int64_t layer_count : {1, 3}) {
      for (const int64_t rows : {5, 300}) {
        RowExecutor& executor = executors_.Make(threads(), rows, ranks_meet);
        NotedLayers layers(layer_count, rows);
        RunLayers(executor, layers, {0, false}, {layer_count - 1, true});
        EXPECT_EQ(layers.Wrong({0, layer_count}, {0, layer_count - 1}), "") << rows << " rows";
        RunLayers(executor, layers, {layer_count - 1, true}, {layer_count, false});
        EXPECT_EQ(layers.Wrong({0, layer_count}, {0, layer_count}), "") << rows << " rows";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, RowExecutorTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace shoal::forward
