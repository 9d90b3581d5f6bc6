#include "worker/forward/rows/layer_flow.h"

#include <algorithm>
#include <thread>

namespace shoal::forward {

LayerFlow::LayerFlow(std::span<const plan::Range> tiles, std::span<const Call> calls,
                     int64_t layers, int32_t thread_count)
    : tiles_(tiles.size()),
      tile_shares_(thread_count),
      call_shares_(thread_count),
      phase_count_(1 + 2 * layers),
      phases_(thread_count, 0),
      claimed_(phase_count_ * thread_count) {
  for (size_t tile = 0; tile < tiles.size(); ++tile) {
    tile_shares_[tile % thread_count].push_back(static_cast<int64_t>(tile));
  }
  for (size_t call = 0; call < calls.size(); ++call) {
    const auto tile_of = [&](int64_t row) {
      return std::find_if(tiles.begin(), tiles.end(),
                          [=](const plan::Range& tile) { return row < tile.end; }) -
             tiles.begin();
    };
    const plan::Range rows = calls[call].rows;
    const plan::Range own = {tile_of(rows.begin), tile_of(rows.end - 1) + 1};
    for (int64_t tile = own.begin; tile < own.end; ++tile) ++tiles_[tile].calls;
    calls_.push_back({own, tile_of(calls[call].read_end - 1) + 1});
    call_shares_[own.begin % thread_count].push_back(static_cast<int64_t>(call));
  }
}

std::optional<LayerFlow::Task> LayerFlow::Take(int32_t thread) {
  const auto share_count = static_cast<int64_t>(tile_shares_.size());
  for (int64_t& phase = phases_[thread]; phase < phase_count_; ++phase) {
    const bool is_tile = phase % 2 == 0;
    for (int64_t i = 0; i < share_count; ++i) {
      const int64_t share = (thread + i) % share_count;
      const std::vector<int64_t>& tasks = (is_tile ? tile_shares_ : call_shares_)[share];
      const int64_t next =
          claimed_[phase * share_count + share].fetch_add(1, std::memory_order_relaxed);
      if (next >= static_cast<int64_t>(tasks.size())) continue;
      const Task task = {.layer = (phase + 1) / 2 - 1, .is_tile = is_tile, .index = tasks[next]};
      while (!IsReady(task)) std::this_thread::yield();
      return task;
    }
  }
  return std::nullopt;
}

bool LayerFlow::IsReady(const Task& task) const {
  if (task.is_tile) {
    const Tile& tile = tiles_[task.index];
    return tile.finished_calls.load(std::memory_order_acquire) == (task.layer + 1) * tile.calls;
  }
  return std::all_of(
      tiles_.begin(), tiles_.begin() + calls_[task.index].read_end,
      [&](const Tile& tile) { return tile.finished.load(std::memory_order_acquire) > task.layer; });
}

void LayerFlow::Finish(const Task& task) {
  if (task.is_tile) {
    tiles_[task.index].finished.store(task.layer + 2, std::memory_order_release);
    return;
  }
  const plan::Range own = calls_[task.index].own;
  for (int64_t tile = own.begin; tile < own.end; ++tile) {
    tiles_[tile].finished_calls.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace shoal::forward
