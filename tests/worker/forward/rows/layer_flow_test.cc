// Which task a thread gets when, checked against what each task reads.

#include "worker/forward/rows/layer_flow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "worker/forward/rows/row_tile.h"

namespace shoal::forward {
namespace {

using Task = LayerFlow::Task;

std::string Name(const Task& task) {
  return (task.is_tile ? "tile " : "call ") + std::to_string(task.index) + " of layer " +
         std::to_string(task.layer);
}

// A step's rows, and which of its tasks have finished.
struct Step {
  // Calls read on to the next multiple of rows_of_block.
  Step(int64_t row_count, int64_t tile_count, int64_t rows_of_call, int64_t rows_of_block,
       int64_t layer_count)
      : layers(layer_count), done((layer_count + 1) * 2) {
    for (int64_t i = 0; i < tile_count; ++i) tiles.push_back(PartOf(row_count, i, tile_count));
    for (int64_t row = 0; row < row_count; row += rows_of_call) {
      const int64_t end = std::min(row + rows_of_call, row_count);
      const int64_t block_end = (end + rows_of_block - 1) / rows_of_block * rows_of_block;
      calls.push_back({.rows = {row, end}, .read_end = std::min(block_end, row_count)});
    }
    for (auto& stage : done) stage = std::vector<std::atomic<int>>(tiles.size() + calls.size());
  }

  std::atomic<int>& Done(int64_t layer, bool is_tile, int64_t index) {
    return done[(layer + 1) * 2 + (is_tile ? 1 : 0)][index];
  }

  // The first task that `task` reads and that has not finished; empty if there is none.
  std::string Missing(const Task& task) {
    for (int64_t i = 0; i < static_cast<int64_t>(task.is_tile ? calls.size() : tiles.size()); ++i) {
      if (task.is_tile) {
        const plan::Range rows = calls[i].rows;
        const bool of_its_rows =
            rows.begin < tiles[task.index].end && tiles[task.index].begin < rows.end;
        if (task.layer < 0 || !of_its_rows || Done(task.layer, false, i) == 1) continue;
        return Name({task.layer, false, i});
      }
      const bool is_read = tiles[i].begin < calls[task.index].read_end;
      if (!is_read || Done(task.layer - 1, true, i) == 1) continue;
      return Name({task.layer - 1, true, i});
    }
    return "";
  }

  LayerFlow Flow(int32_t threads) { return {tiles, calls, layers, threads}; }

  // How many tasks have not finished exactly once.
  int64_t CountWrong() {
    int64_t wrong = 0;
    for (int64_t layer = -1; layer < layers; ++layer) {
      for (size_t i = 0; i < tiles.size(); ++i) wrong += Done(layer, true, i) != 1;
      for (size_t i = 0; layer >= 0 && i < calls.size(); ++i) wrong += Done(layer, false, i) != 1;
    }
    return wrong;
  }

  int64_t layers;
  std::vector<plan::Range> tiles;
  std::vector<LayerFlow::Call> calls;
  std::vector<std::vector<std::atomic<int>>> done;  // [layer and kind][index]
};

// Takes and finishes tasks until there is none. Result: what was missing for one, or nothing.
std::string RunAll(Step& step, LayerFlow& flow, int32_t thread, uint32_t seed) {
  std::mt19937 random(seed);
  std::string missing;
  while (const std::optional<Task> task = flow.Take(thread)) {
    const std::string missed = step.Missing(*task);
    if (!missed.empty()) missing = Name(*task) + " came before " + missed;
    for (uint32_t i = random() % 8; i > 0; --i) std::this_thread::yield();
    ++step.Done(task->layer, task->is_tile, task->index);
    flow.Finish(*task);
  }
  return missing;
}

TEST(LayerFlow, HandsOutEveryTaskOnceAndAfterWhatItReads) {
  // Calls that end where tiles do, and calls that do not.
  for (const int64_t rows_of_call : {16, 7}) {
    for (const int32_t threads : {1, 2, 3, 4}) {
      for (uint32_t seed = 0; seed < 20; ++seed) {
        Step step(128, 2 * threads, rows_of_call, 32, 5);
        LayerFlow flow = step.Flow(threads);
        std::vector<std::string> missing(threads);
        std::vector<std::thread> others;
        for (int32_t t = 1; t < threads; ++t) {
          others.emplace_back([&, t] { missing[t] = RunAll(step, flow, t, seed * 8 + t); });
        }
        missing[0] = RunAll(step, flow, 0, seed * 8);
        for (std::thread& other : others) other.join();
        for (const std::string& text : missing) EXPECT_EQ(text, "");
        EXPECT_EQ(step.CountWrong(), 0);
      }
    }
  }
}

TEST(LayerFlow, OneThreadDoesAllIfTheOthersDoNotCome) {
  Step step(96, 6, 16, 32, 3);
  LayerFlow flow = step.Flow(3);
  EXPECT_EQ(RunAll(step, flow, 1, 0), "");
  EXPECT_EQ(step.CountWrong(), 0);
  EXPECT_FALSE(flow.Take(0).has_value());
}

TEST(LayerFlow, GoesOnBesideAThreadThatIsHeldUp) {
  Step step(64, 4, 16, 16, 2);  // A call for each tile.
  LayerFlow flow = step.Flow(2);
  const Task held = flow.Take(1).value();
  EXPECT_EQ(Name(held), "tile 1 of layer -1");
  std::vector<std::string> taken;
  // What comes next reads the rows of tile 1, so the thread would wait.
  while (taken.size() < 4) {
    const Task task = flow.Take(0).value();
    taken.push_back(Name(task));
    flow.Finish(task);
  }
  EXPECT_EQ(taken, (std::vector<std::string>{"tile 0 of layer -1", "tile 2 of layer -1",
                                             "tile 3 of layer -1", "call 0 of layer 0"}));
  flow.Finish(held);
  EXPECT_EQ(Name(flow.Take(0).value()), "call 2 of layer 0");
}

TEST(LayerFlow, WithoutLayersThereIsWhatComesBeforeThem) {
  Step step(64, 4, 16, 16, 0);
  LayerFlow flow = step.Flow(2);
  EXPECT_EQ(RunAll(step, flow, 0, 0), "");
  EXPECT_EQ(step.CountWrong(), 0);
}

}  // namespace
}  // namespace shoal::forward
