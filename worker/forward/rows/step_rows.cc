#include "worker/forward/rows/step_rows.h"

#include <algorithm>

#include "transport/base/check.h"

namespace shoal::forward {
namespace {

// More than layers can be.
constexpr int64_t kLayersMax = int64_t{1} << 32;

}  // namespace

StepRows::StepRows(int64_t rows_max) : rows_max_(rows_max) {
  rows_.reserve(rows_max);
  kept_.reserve(rows_max);
}

void StepRows::List(const engine::StepPlan& plan, const SequenceTable& sequences) {
  const int64_t row_count = plan.row_count();
  SHOAL_CHECK(row_count <= rows_max_, row_count, " rows, ", rows_max_, " at most");
  rows_.clear();
  bad_rows_that_left_.clear();
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const engine::StepItem& item = plan.items[i];
    const SequenceState& sequence = sequences.at(item.slot);
    for (uint32_t r = 0; r < item.row_count; ++r) {
      const int64_t position = int64_t{item.position_begin} + r;
      rows_.push_back(
          {.item = static_cast<uint32_t>(i),
           .slot = item.slot,
           .token = sequence.tokens[position],
           .position = position,
           .block_table = sequence.blocks.data(),
           .bad_layer = -1,
           .chooses = item.sample && r + 1 + item.drafts.size() >= item.row_count,
           .scores_the_next = item.prompt_logits && position + 1 < sequence.prompt_count});
    }
  }
}

int64_t StepRows::CountWanted() const {
  return std::count_if(rows_.begin(), rows_.end(), [](const Row& row) { return row.is_wanted(); });
}

std::span<const int64_t> StepRows::KeepWanted() {
  kept_.clear();
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (rows_[r].is_wanted()) {
      rows_[kept_.size()] = rows_[r];
      kept_.push_back(static_cast<int64_t>(r));
    } else if (rows_[r].bad_layer >= 0) {
      bad_rows_that_left_.push_back(rows_[r]);
    }
  }
  rows_.resize(kept_.size());
  return kept_;
}

void StepRows::PutBadLayers(std::span<int64_t> numbers) const {
  for (size_t r = 0; r < rows_.size(); ++r) {
    numbers[r] = rows_[r].bad_layer < 0 ? 0 : kLayersMax - rows_[r].bad_layer;
  }
}

void StepRows::TakeBadLayers(std::span<const int64_t> numbers) {
  for (size_t r = 0; r < rows_.size(); ++r) {
    rows_[r].bad_layer = numbers[r] == 0 ? -1 : kLayersMax - numbers[r];
  }
}

void StepRows::ReportBadRows(const engine::StepPlan& plan, engine::StepResult& result) const {
  for (const std::vector<Row>* rows : {&bad_rows_that_left_, &rows_}) {
    for (const Row& row : *rows) {
      engine::ItemResult& item = result.items[row.item];
      const int64_t bad_row = row.position - plan.items[row.item].position_begin;
      if (row.bad_layer < 0 || (item.bad_row >= 0 && item.bad_row < bad_row)) continue;
      item.bad_row = static_cast<int32_t>(bad_row);
      item.detail = Str("layer ", row.bad_layer, ", position ", row.position);
    }
  }
}

}  // namespace shoal::forward
