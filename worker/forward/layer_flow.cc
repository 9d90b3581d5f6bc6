#include "worker/forward/layer_flow.h"

#include <algorithm>
#include <thread>

namespace shoal::forward {

LayerFlow::LayerFlow(std::span<const plan::Range> parts, std::span<const Call> calls,
                     int64_t layers, int32_t thread_count)
    : parts_(parts.size()),
      part_shares_(thread_count),
      call_shares_(thread_count),
      stage_count_(1 + 2 * layers),
      stages_(thread_count, 0),
      claimed_(stage_count_ * thread_count) {
  for (size_t part = 0; part < parts.size(); ++part) {
    part_shares_[part % thread_count].push_back(static_cast<int64_t>(part));
  }
  for (size_t call = 0; call < calls.size(); ++call) {
    const auto part_of = [&](int64_t row) {
      return std::find_if(parts.begin(), parts.end(),
                          [=](const plan::Range& part) { return row < part.end; }) -
             parts.begin();
    };
    const plan::Range rows = calls[call].rows;
    const plan::Range own = {part_of(rows.begin), part_of(rows.end - 1) + 1};
    for (int64_t part = own.begin; part < own.end; ++part) ++parts_[part].calls;
    calls_.push_back({own, part_of(calls[call].read_end - 1) + 1});
    call_shares_[own.begin % thread_count].push_back(static_cast<int64_t>(call));
  }
}

std::optional<LayerFlow::Task> LayerFlow::Take(int32_t thread) {
  const auto share_count = static_cast<int64_t>(part_shares_.size());
  for (int64_t& stage = stages_[thread]; stage < stage_count_; ++stage) {
    const bool is_part = stage % 2 == 0;
    for (int64_t i = 0; i < share_count; ++i) {
      const int64_t share = (thread + i) % share_count;
      const std::vector<int64_t>& tasks = (is_part ? part_shares_ : call_shares_)[share];
      const int64_t next =
          claimed_[stage * share_count + share].fetch_add(1, std::memory_order_relaxed);
      if (next >= static_cast<int64_t>(tasks.size())) continue;
      const Task task = {.layer = (stage + 1) / 2 - 1, .is_part = is_part, .index = tasks[next]};
      while (!IsReady(task)) std::this_thread::yield();
      return task;
    }
  }
  return std::nullopt;
}

bool LayerFlow::IsReady(const Task& task) const {
  if (task.is_part) {
    const Part& part = parts_[task.index];
    return part.finished_calls.load(std::memory_order_acquire) == (task.layer + 1) * part.calls;
  }
  return std::all_of(
      parts_.begin(), parts_.begin() + calls_[task.index].read_end,
      [&](const Part& part) { return part.finished.load(std::memory_order_acquire) > task.layer; });
}

void LayerFlow::Finish(const Task& task) {
  if (task.is_part) {
    parts_[task.index].finished.store(task.layer + 2, std::memory_order_release);
    return;
  }
  const plan::Range own = calls_[task.index].own;
  for (int64_t part = own.begin; part < own.end; ++part) {
    parts_[part].finished_calls.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace shoal::forward
