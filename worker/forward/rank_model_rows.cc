// How threads and ranks share the rows between the matrices, and hand them to the next stage.

#include <algorithm>

#include "worker/forward/rank_model.h"

namespace shoal::forward {

void RankModel::ForRows(const Work& work, const device::RangeFunction& function) {
  if (work.alone) return function(work.rows.begin, work.rows.end, 0);
  const int64_t count = work.rows.count();
  const int64_t first = work.rows.begin;
  const int64_t share = count / (4 * team_.thread_count());
  const int64_t grain = std::max(kRowGrain, share / kKvBlockTokens * kKvBlockTokens);
  if (first == 0) return team_.ParallelFor(count, grain, function);
  team_.ParallelFor(count, grain, [first, &function](int64_t begin, int64_t end, int32_t thread) {
    function(first + begin, first + end, thread);
  });
}

int64_t RankModel::FlowThroughLayers(int64_t part_count) {
  // Before the last layer rows are dropped.
  const int64_t layers = shard_.layers.count() - (last_stage_ ? 1 : 0);
  ListAttentionCalls(0);
  std::vector<LayerFlow::Call> calls;
  for (const RowsCall& rows : attention_calls_) calls.push_back(rows.rows);
  std::vector<plan::Range> parts;
  for (int64_t i = 0; i < part_count; ++i) parts.push_back(PartOf(rows_.size(), i, part_count));
  LayerFlow flow(parts, calls, layers, team_.thread_count());
  const NormedInput first_input = AttentionInput(0);
  const auto run_call = [&](const LayerFlow::Task& task, int32_t thread) {
    cpu::AttentionCall call = attention_calls_[task.index].call;
    call.blocks += kv_pool_.Blocks(task.layer, 0) - kv_pool_.Blocks(0, 0);
    RunAttention(call, thread);
  };
  const auto run_part = [&](const LayerFlow::Task& task, int32_t thread) {
    const plan::Range rows = parts[task.index];
    const RowSpace own = {&activations_.parts[thread], rows.begin};
    const Work work = {rows, true, own, own};
    if (task.layer >= 0) return FinishRows(task.layer, work);
    for (int64_t r = rows.begin; r < rows.end; ++r) NormRow(first_input, r, own);
    ProjectQkv(0, work);
  };
  team_.ReadAhead({});  // Every thread begins with the first panels: it has no share.
  team_.ParallelFor(team_.thread_count(), 1, [&](int64_t, int64_t, int32_t thread) {
    while (const std::optional<LayerFlow::Task> task = flow.Take(thread)) {
      task->is_part ? run_part(*task, thread) : run_call(*task, thread);
      flow.Finish(*task);
    }
  });
  return layers;
}

void RankModel::DealRows() {
  const int64_t row_count = rows_.size();
  scattered_ = stage_.size() > 1 && !fast_ && row_count >= options_.scatter_rows_min;
  own_rows_ = scattered_ ? RowsOf(stage_.rank()) : plan::Range{0, row_count};
}

plan::Range RankModel::RowsOf(int32_t stage_rank) const {
  const int64_t row_count = rows_.size();
  return {row_count * stage_rank / stage_.size(), row_count * (stage_rank + 1) / stage_.size()};
}

void RankModel::SumFixed(int64_t stride) {
  if (stage_.size() == 1) return;
  const std::span<int64_t> data(activations_.all.fixed.data(), rows_.size() * stride);
  if (!scattered_) return stage_.AllReduceSum(data);
  counts_.resize(stage_.size());
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    counts_[rank] = RowsOf(rank).count() * stride;
  }
  stage_.ReduceScatterSum(data, counts_,
                          data.subspan(own_rows_.begin * stride, own_rows_.count() * stride));
}

int64_t RankModel::AddRow(const PackedMatrix& weights, int64_t row, const Work& work, float* to) {
  const int64_t hidden_dim = model_.config().hidden_dim;
  const int64_t* sums =
      work.shared.rows->fixed.data() + (row - work.shared.begin) * (hidden_dim + kFixedTail);
  if (!QuantizesWholeRows(weights.dtype)) {
    kernels_.rows.add_fixed(sums, hidden_dim, to);
    return sums[hidden_dim];
  }
  const float scale = work.own.rows->Quantized(weights.dtype).scales[row - work.own.begin];
  return sums[hidden_dim] + kernels_.rows.add_dots(sums, weights, scale, to);
}

void RankModel::AddSums(const LeafSum& sum, const Work& work) {
  const int64_t hidden_dim = model_.config().hidden_dim;
  ForRows(work, [this, &sum, &work, hidden_dim](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t invalid =
          AddRow(sum.weights, r, work, activations_.residual.data() + r * hidden_dim);
      if (invalid != 0 && rows_[r].bad_layer < 0) rows_[r].bad_layer = sum.layer;
      // Not before: AddRow reads the scale of the input that the row had, where this one may go.
      if (sum.then.norm != nullptr) NormRow(sum.then, r, work.shared);
    }
  });
}

void RankModel::ExchangeSums(const LeafSum& sum) {
  if (fast_) return ExchangeFloatSums(sum);
  SumFixed(model_.config().hidden_dim + kFixedTail);
  Work work = AllRows();
  work.rows = own_rows_;
  AddSums(sum, work);
  if (sum.then.norm != nullptr) GatherInput(sum.then);
}

void RankModel::ExchangeFloatSums(const LeafSum& sum) {
  const int64_t hidden_dim = model_.config().hidden_dim;
  const int64_t stride = hidden_dim + kFixedTail;
  const Work work = AllRows();
  float* parts = activations_.float_sums.data();
  ForRows(work, [=, this, &sum, &work](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      std::fill_n(parts + r * stride, stride, 0.0F);
      const int64_t invalid = AddRow(sum.weights, r, work, parts + r * stride);
      parts[r * stride + hidden_dim] = static_cast<float>(invalid);
    }
  });
  stage_.AllReduceSum(std::span<float>(parts, rows_.size() * stride));
  ForRows(work, [=, this, &sum, &work](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      float* residual = activations_.residual.data() + r * hidden_dim;
      const float* sums = parts + r * stride;
      for (int64_t i = 0; i < hidden_dim; ++i) residual[i] += sums[i];
      if (sums[hidden_dim] != 0 && rows_[r].bad_layer < 0) rows_[r].bad_layer = sum.layer;
      if (sum.then.norm != nullptr) NormRow(sum.then, r, work.shared);
    }
  });
}

template <typename T>
void RankModel::GatherRows(T* data, int64_t width) {
  counts_.resize(stage_.size());
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    counts_[rank] = RowsOf(rank).count() * width * sizeof(T);
  }
  const std::span<T> all(data, rows_.size() * width);
  const std::span<T> own = all.subspan(own_rows_.begin * width, own_rows_.count() * width);
  stage_.AllGather(std::as_bytes(own), counts_, std::as_writable_bytes(all));
}

template void RankModel::GatherRows(float* data, int64_t width);
template void RankModel::GatherRows(int8_t* data, int64_t width);
template void RankModel::GatherRows(int32_t* data, int64_t width);

void RankModel::KeepWantedRows(int64_t layer) {
  const auto is_wanted = [](const Row& row) { return row.chooses || row.scores_the_next; };
  const auto wanted = std::count_if(rows_.begin(), rows_.end(), is_wanted);
  const bool keeps_all = wanted == static_cast<int64_t>(rows_.size());
  if (keeps_all || options_.on_input != nullptr) return;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (activations_.kv_overflows[r] != 0 && rows_[r].bad_layer < 0) {
      rows_[r].bad_layer = shard_.layers.begin + layer;
    }
    activations_.kv_overflows[r] = 0;
  }
  ShareBadLayers();
  const int64_t query_dim = shard_.heads.count() * model_.config().head_dim;
  const int64_t hidden_dim = model_.config().hidden_dim;
  if (scattered_ && wanted > 0) GatherRows(activations_.residual.data(), hidden_dim);
  const auto keep = [](float* rows, int64_t width, size_t from, size_t to) {
    if (from != to) std::copy_n(rows + from * width, width, rows + to * width);
  };
  size_t kept = 0;
  for (size_t r = 0; r < rows_.size(); ++r) {
    if (!is_wanted(rows_[r])) {
      if (rows_[r].bad_layer >= 0) dropped_bad_rows_.push_back(rows_[r]);
      continue;
    }
    keep(activations_.query.data(), query_dim, r, kept);
    keep(activations_.residual.data(), hidden_dim, r, kept);
    rows_[kept++] = rows_[r];
  }
  rows_.resize(kept);
  DealRows();
}

void RankModel::ShareBadLayers() {
  if (stage_.size() == 1) return;
  // The first of the layers is the largest of these, and 0 is none.
  const int64_t behind_all = model_.config().layer_count + 1;
  int64_t* words = activations_.invalid.data();
  for (size_t r = 0; r < rows_.size(); ++r) {
    words[r] = rows_[r].bad_layer < 0 ? 0 : behind_all - rows_[r].bad_layer;
  }
  stage_.AllReduceMax(std::span(words, rows_.size()));
  for (size_t r = 0; r < rows_.size(); ++r) {
    rows_[r].bad_layer = words[r] == 0 ? -1 : behind_all - words[r];
  }
}

void RankModel::GatherResults() {
  if (!scattered_) return;
  ShareBadLayers();
  GatherRows(activations_.residual.data(), model_.config().hidden_dim);
}

// Between stages, rank i of a stage hands the residual, and what is wrong with each row, to rank i
// of the next, which finishes the same rows.
void RankModel::SendRows() {
  if (rows_.empty()) return;
  const int32_t to = options_.rank + options_.cut.tensor_parallel;
  const int64_t hidden_dim = model_.config().hidden_dim;
  int64_t* bad_layers = activations_.invalid.data();
  for (size_t r = 0; r < rows_.size(); ++r) bad_layers[r] = rows_[r].bad_layer;
  group_.Send(std::as_bytes(std::span(activations_.residual.data() + own_rows_.begin * hidden_dim,
                                      own_rows_.count() * hidden_dim)),
              to);
  group_.Send(std::as_bytes(std::span(bad_layers + own_rows_.begin, own_rows_.count())), to);
}

void RankModel::ReceiveResidual() {
  const int32_t from = options_.rank - options_.cut.tensor_parallel;
  const int64_t hidden_dim = model_.config().hidden_dim;
  int64_t* bad_layers = activations_.invalid.data();
  group_.Receive(
      std::as_writable_bytes(std::span(activations_.residual.data() + own_rows_.begin * hidden_dim,
                                       own_rows_.count() * hidden_dim)),
      from);
  group_.Receive(std::as_writable_bytes(std::span(bad_layers + own_rows_.begin, own_rows_.count())),
                 from);
  for (int64_t r = own_rows_.begin; r < own_rows_.end; ++r) rows_[r].bad_layer = bad_layers[r];
}

}  // namespace shoal::forward
