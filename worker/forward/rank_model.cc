// The layers of a step. What happens after the last one, choosing tokens, is in choose_tokens.cc.

#include "worker/forward/rank_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/format/pack.h"
#include "parallel/model/files/mapped_file.h"
#include "transport/base/check.h"
#include "worker/forward/numerics.h"

namespace shoal::forward {
namespace {

// Query rows that one attention call covers in prefill: enough to share the reading of keys, few
// enough to spread a chunk over the threads.
constexpr int64_t kAttentionRows = 16;
// Panels one thread takes at a time, at least: 16 rows of 576 4-bit weights are 6 KiB.
constexpr int64_t kPanelGrain = 4;
// Weights that one thread takes at a time, about, of a large matrix that few rows use: a few
// microseconds of reading, which is how long another thread may wait for it at the end.
constexpr int64_t kPartBytes = 128 * 1024;
// Embedding rows that may be read between two releases of their pages. The kernel maps many pages
// around each that is touched, 64 KiB or, with large folios, 2 MiB.
constexpr int64_t kMappedEmbeddings = 64;

// Every leaf must stay below this, so that the sum of all cannot leave 62 bits.
float LeafLimit(int64_t leaf_count) {
  const int log2_ceil = std::bit_width(static_cast<uint64_t>(leaf_count - 1));
  return std::ldexp(1.0F, 30 - log2_ceil);
}

int64_t RowsMax(const RankOptions& options) {
  return options.prefill_chunk_tokens + options.sequences_max;
}

// True if no matrix before readers[index] wants its input in the same groups.
bool IsFirstOfGroup(std::span<const DType> readers, size_t index) {
  return std::none_of(readers.begin(), readers.begin() + index, [&](DType before) {
    return InputGroup(before) == InputGroup(readers[index]);
  });
}

}  // namespace

RankModel::RankModel(const model::Model& model, std::span<const plan::RankShard> shards,
                     const RankOptions& options, const cpu::KernelTable& kernels,
                     device::ThreadTeam& team, comm::Communicator& group, comm::Communicator& stage)
    : model_(model),
      shards_(shards.begin(), shards.end()),
      shard_(shards_[options.rank]),
      options_(options),
      kernels_(kernels),
      team_(team),
      group_(group),
      stage_(stage),
      first_stage_(shard_.stage == 0),
      last_stage_(shard_.stage == options.cut.pipeline_parallel - 1),
      reports_(last_stage_ && stage.rank() == 0),
      fast_(options.numerics == Numerics::kFast && stage.size() > 1),
      weights_(model, shards_, options.rank, team),
      kv_pool_(options.kv_dtype, shard_.layers.count(), shard_.kv_heads.count(),
               model.config().head_dim, options.kv_block_count),
      sequences_(options.sequences_max),
      activations_(model, shard_, RowsMax(options), team.thread_count(), stage.size()),
      samplers_(team.thread_count(), engine::Sampler(kernels.choice)),
      histories_(options.sequences_max),
      grammar_cache_([&model] { return text::grammar::GrammarVocabulary::Make(model); }),
      grammars_(options.sequences_max) {
  const std::vector<double> frequencies = ModelRopeFrequencies(model.config());
  CheckStoredFrequencies(model, frequencies);
  rope_ = math::BuildRopeTable(frequencies, kRopeGain, options.context_tokens);
  numerics_id_ = NumericsId(model, SumOverRanks(weights_.digest(), group_), options.kv_dtype,
                            frequencies, options.numerics);
  rows_.reserve(RowsMax(options));
  if (fast_) activations_.float_sums.resize(activations_.all.fixed.size());
}

std::optional<engine::StepResult> RankModel::Run(const engine::StepPlan& plan) {
  sequences_.Apply(plan);
  if (last_stage_) StartGrammars(plan);
  ListRows(plan);
  DealRows();
  if (!rows_.empty()) {
    if (first_stage_) {
      Embed();
    } else {
      ReceiveResidual();
    }
    for (int64_t layer = BeginLayers(); layer < shard_.layers.count(); ++layer) {
      if (last_stage_ && layer + 1 == shard_.layers.count()) KeepWantedRows(layer);
      if (rows_.empty()) break;
      Attend(layer);
      FinishLayer(layer);
    }
    if (last_stage_) GatherResults();
  }
  if (!last_stage_) return std::nullopt;
  engine::StepResult result = MakeResult(plan);
  if (!reports_) return std::nullopt;
  return result;
}

void RankModel::ListRows(const engine::StepPlan& plan) {
  rows_.clear();
  dropped_bad_rows_.clear();
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const engine::StepItem& item = plan.items[i];
    const int64_t prompt_count = sequences_.at(item.slot).prompt_count;
    for (uint32_t r = 0; r < item.row_count; ++r) {
      const int64_t position = int64_t{item.position_begin} + r;
      rows_.push_back({.item = static_cast<uint32_t>(i),
                       .slot = item.slot,
                       .position = position,
                       .bad_layer = -1,
                       .chooses = item.sample && r + 1 + item.drafts.size() >= item.row_count,
                       .scores_the_next = item.prompt_logits && position + 1 < prompt_count});
    }
  }
  SHOAL_CHECK(static_cast<int64_t>(rows_.size()) <= activations_.rows_max, rows_.size(), " rows");
}

void RankModel::Embed() {
  const model::Tensor& table = *model_.tensors().token_embedding;
  const int64_t hidden_dim = model_.config().hidden_dim;
  float* residual = activations_.residual.data();
  ForRows(AllRows(), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t token = sequences_.at(rows_[r].slot).tokens[rows_[r].position];
      float* row = residual + r * hidden_dim;
      if (shard_.vocab_rows.begin <= token && token < shard_.vocab_rows.end) {
        DequantizeRow(table.dtype, table.row(token), hidden_dim, row);
      } else {
        std::fill(row, row + hidden_dim, 0.0F);
      }
    }
  });
  mapped_embeddings_ += rows_.size();
  if (mapped_embeddings_ >= kMappedEmbeddings) {
    model::ReleasePages({table.data, static_cast<size_t>(table.bytes())});
    mapped_embeddings_ = 0;
  }
  if (stage_.size() == 1) return;
  // Copies each row from its owner: the others add the integer 0 to its bits, which changes
  // nothing, not even -0 (a floating zero would).
  int64_t* words = activations_.all.fixed.data();
  const int64_t count = rows_.size() * hidden_dim;
  for (int64_t i = 0; i < count; ++i) words[i] = std::bit_cast<uint32_t>(residual[i]);
  SumFixed(hidden_dim);
  for (int64_t i = own_rows_.begin * hidden_dim; i < own_rows_.end * hidden_dim; ++i) {
    residual[i] = std::bit_cast<float>(static_cast<uint32_t>(words[i]));
  }
}

ActivationRows RankModel::Input(DType dtype, const float* values, int64_t cols, int64_t count,
                                LayerRows& at, int64_t first) {
  ActivationRows input = {.values = values, .rows = count, .cols = cols};
  if (IsQuantized(dtype)) {
    const int64_t groups = InputGroups(dtype, cols);
    const QuantizedRows& quantized = at.Quantized(dtype);
    input.quants = quantized.quants.data() + first * cols;
    input.scales = quantized.scales.data() + first * groups;
    input.sums = quantized.sums.data() + first * groups;
  }
  return input;
}

void RankModel::QuantizeRow(DType dtype, const float* values, int64_t cols, LayerRows& to,
                            int64_t row) {
  if (!IsQuantized(dtype)) return;
  const int64_t groups = InputGroups(dtype, cols);
  QuantizedRows& quantized = to.Quantized(dtype);
  int8_t* quants = quantized.quants.data() + row * cols;
  float* scales = quantized.scales.data() + row * groups;
  int32_t* sums = quantized.sums.data() + row * groups;
  if (quantized.group == 32) {
    kernels_.quantize.row(values, cols, quants, scales, sums);
  } else {
    kernels_.quantize.groups(values, cols, cols / groups, quants, scales, sums);
  }
}

// The largest magnitude of a row is that of its parts' on all ranks.
template <typename Make>
void RankModel::QuantizeColumnShard(const PackedMatrix& weights, const float* values,
                                    const Work& work, Make make) {
  const int64_t cols = weights.cols;
  const int64_t first = work.rows.begin;
  LayerRows& to = *work.own.rows;
  if (!QuantizesTogether(weights)) {
    const int64_t shift = work.own.begin;
    ForRows(work, [=, this, &weights, &to](int64_t begin, int64_t end, int32_t) {
      for (int64_t r = begin; r < end; ++r) {
        make(r);
        QuantizeRow(weights.dtype, values + (r - first) * cols, cols, to, r - shift);
      }
    });
    return;
  }
  SHOAL_CHECK(!work.alone, "the ranks exchange what they know of all rows");
  int64_t* largest = activations_.largest_bits.data();
  ForRows(work, [=, this](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      make(r);
      largest[r] = kernels_.quantize.largest_bits(values + r * cols, cols);
    }
  });
  stage_.AllReduceMax(std::span(largest, rows_.size()));
  QuantizedRows& quantized = to.Quantized(weights.dtype);
  ForRows(work, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      kernels_.quantize.group(values + r * cols, cols, static_cast<uint32_t>(largest[r]),
                              quantized.quants.data() + r * cols, &quantized.scales[r],
                              &quantized.sums[r]);
    }
  });
}

RankModel::NormedInput RankModel::AttentionInput(int64_t layer) const {
  const LayerWeights& weights = weights_.layers()[layer];
  return {.norm = weights.attention_norm,
          .readers = {weights.query.dtype, weights.key.dtype, weights.value.dtype}};
}

RankModel::NormedInput RankModel::MlpInput(int64_t layer) const {
  const LayerWeights& weights = weights_.layers()[layer];
  return {.norm = weights.ffn_norm,
          .readers = {weights.gate.dtype, weights.up.dtype, weights.up.dtype}};
}

void RankModel::NormRow(const NormedInput& input, int64_t row, const RowSpace& to) {
  const int64_t cols = model_.config().hidden_dim;
  float* normed = to.rows->normed.data() + (row - to.begin) * cols;
  kernels_.rows.rms_norm(activations_.residual.data() + row * cols, input.norm,
                         model_.config().norm_epsilon, cols, normed);
  for (size_t i = 0; i < input.readers.size(); ++i) {
    if (!IsFirstOfGroup(input.readers, i)) continue;
    QuantizeRow(input.readers[i], normed, cols, *to.rows, row - to.begin);
  }
}

int64_t RankModel::BeginLayers() {
  const int64_t parts = PartCount(rows_.size(), team_.thread_count());
  if (stage_.size() == 1 && parts > 1 && options_.on_input == nullptr) {
    return FlowThroughLayers(parts);
  }
  const NormedInput input = AttentionInput(0);
  Work work = AllRows();
  work.rows = own_rows_;
  ForRows(work, [this, &input, &work](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) NormRow(input, r, work.shared);
  });
  GatherInput(input);
  ForWorks(/*whole=*/false, [this](const Work& all) { ProjectQkv(0, all); });
  return 0;
}

void RankModel::GatherInput(const NormedInput& input) {
  if (!scattered_) return;
  const int64_t cols = model_.config().hidden_dim;
  for (size_t i = 0; i < input.readers.size(); ++i) {
    if (!IsFirstOfGroup(input.readers, i)) continue;
    const DType dtype = input.readers[i];
    if (!IsQuantized(dtype)) {
      GatherRows(activations_.all.normed.data(), cols);
      continue;
    }
    const int64_t groups = InputGroups(dtype, cols);
    QuantizedRows& rows = activations_.all.Quantized(dtype);
    GatherRows(rows.quants.data(), cols);
    GatherRows(rows.scales.data(), groups);
    GatherRows(rows.sums.data(), groups);
  }
}

template <typename Function>
void RankModel::ForWorks(bool whole, const Function& function) {
  const int64_t rows = rows_.size();
  const int64_t parts = PartCount(rows, team_.thread_count());
  // on_input is shown all rows at once.
  if (whole || parts == 1 || options_.on_input != nullptr) return function(AllRows());
  const bool exchanged = stage_.size() > 1;
  team_.ReadAhead({});  // Every thread begins with the first panels: it has no share.
  team_.ParallelFor(parts, 1, [=, this, &function](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) {
      const plan::Range part = PartOf(rows, i, parts);
      const RowSpace own = {&activations_.parts[thread], part.begin};
      function(Work{part, true, exchanged ? RowSpace{&activations_.all} : own, own});
    }
  });
}

// Many rows are dealt to the threads as ForRows deals them: what a thread computes here it works on
// later, and no core waits for memory that another one holds. Few rows are read by all.
template <typename Function>
void RankModel::ForParts(int64_t panels, int64_t bytes, int64_t rows, int64_t panels_min,
                         std::span<const std::byte> next, Function function) {
  const int64_t threads = team_.thread_count();
  const int64_t row_parts = threads == 1 ? 1 : PartCount(rows, threads);
  const int64_t parts = threads == 1    ? 1
                        : row_parts > 1 ? 4 * threads
                                        : std::max(8 * threads, bytes / kPartBytes);
  const int64_t panel_parts =
      std::clamp(parts / row_parts, int64_t{1}, std::max(panels / panels_min, int64_t{1}));
  // Of many rows every thread begins with the first panels, and has no share to read ahead.
  team_.ReadAhead(row_parts == 1 ? next : std::span<const std::byte>());
  team_.ParallelFor(row_parts * panel_parts, 1, [=](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      function(PartOf(rows, i / panel_parts, row_parts),
               PartOf(panels, i % panel_parts, panel_parts));
    }
  });
}

std::span<const std::byte> RankModel::StartOf(int64_t layer) const {
  if (layer < shard_.layers.count()) {
    const LayerWeights& weights = weights_.layers()[layer];
    return MemoryOf(weights.query, weights.value);
  }
  return last_stage_ ? MemoryOf(weights_.output(), weights_.output()) : StartOf(0);
}

void RankModel::Multiply(std::span<const Product> products, const Work& work,
                         std::span<const std::byte> next) {
  int64_t panels = 0;
  int64_t bytes = 0;
  for (const Product& product : products) {
    panels += PanelCount(product.weights->rows);
    bytes += MemoryOf(*product.weights, *product.weights).size();
  }
  LayerRows* inputs = work.shared.rows;
  const int64_t first = work.rows.begin - work.shared.begin;
  if (work.alone) {
    return MultiplyPart(products, *inputs, first, {0, work.rows.count()}, {0, panels});
  }
  std::array<Product, kProductsMax> copies;  // For the other threads, with what uses them.
  const size_t product_count = products.size();
  SHOAL_CHECK(product_count <= kProductsMax, product_count, " products");
  std::copy(products.begin(), products.end(), copies.begin());
  ForParts(panels, bytes, work.rows.count(), kPanelGrain, next,
           [=, this](plan::Range rows, plan::Range part) {
             MultiplyPart(std::span(copies).first(product_count), *inputs, first, rows, part);
           });
}

void RankModel::MultiplyPart(std::span<const Product> products, LayerRows& at, int64_t first,
                             plan::Range rows, plan::Range panels) {
  const int64_t cols = model_.config().hidden_dim;
  const float* normed = at.normed.data() + first * cols;
  int64_t before = 0;  // Panels of the products before.
  for (const Product& product : products) {
    const int64_t count = PanelCount(product.weights->rows);
    const int64_t from = std::max(panels.begin - before, int64_t{0});
    const int64_t to = std::min(panels.end - before, count);
    before += count;
    if (from >= to) continue;
    const DType dtype = product.weights->dtype;
    const ActivationRows input = Input(dtype, normed, cols, rows.end, at, first);
    kernels_.linear.whole[static_cast<size_t>(dtype)]({.weights = product.weights,
                                                       .input = &input,
                                                       .row_begin = rows.begin,
                                                       .row_end = rows.end,
                                                       .panel_begin = from,
                                                       .panel_end = to,
                                                       .output = product.output,
                                                       .output_stride = product.output_stride});
  }
}

void RankModel::RotateAndStore(int64_t layer, const Work& work) {
  const int64_t head_dim = model_.config().head_dim;
  const auto rotate = model_.config().rope.layout == model::RopeLayout::kAdjacentPairs
                          ? kernels_.rows.rope_adjacent
                          : kernels_.rows.rope_half_split;
  const int64_t heads = shard_.heads.count();
  const int64_t kv_heads = shard_.kv_heads.count();
  ForRows(work, [=, this](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t position = rows_[r].position;
      const float* cos = rope_.cos.data() + position * (head_dim / 2);
      const float* sin = rope_.sin.data() + position * (head_dim / 2);
      float* query = activations_.query.data() + r * heads * head_dim;
      for (int64_t h = 0; h < heads; ++h) rotate(query + h * head_dim, cos, sin, head_dim);
      const int32_t block = sequences_.at(rows_[r].slot).blocks[position / kKvBlockTokens];
      int64_t overflows = 0;
      for (int64_t h = 0; h < kv_heads; ++h) {
        float* key = activations_.key.data() + (r * kv_heads + h) * head_dim;
        const float* value = activations_.value.data() + (r * kv_heads + h) * head_dim;
        rotate(key, cos, sin, head_dim);
        overflows += kernels_.rows.store_kv(
            options_.kv_dtype, key, value, head_dim, position % kKvBlockTokens,
            kv_pool_.Blocks(layer, h) + block * kv_pool_.block_stride());
      }
      activations_.kv_overflows[r] = overflows;
    }
  });
}

void RankModel::ProjectQkv(int64_t layer, const Work& work) {
  const LayerWeights& weights = weights_.layers()[layer];
  const model::ModelConfig& config = model_.config();
  const int64_t query_dim = shard_.heads.count() * config.head_dim;
  const int64_t kv_dim = shard_.kv_heads.count() * config.head_dim;
  const int64_t first = work.rows.begin;
  const Product products[] = {
      {&weights.query, activations_.query.data() + first * query_dim, query_dim},
      {&weights.key, activations_.key.data() + first * kv_dim, kv_dim},
      {&weights.value, activations_.value.data() + first * kv_dim, kv_dim}};
  ShowInput(layer, LayerInput::kAttention, activations_.all.normed, config.hidden_dim, own_rows_);
  Multiply(products, work, MemoryOf(weights.attention_output, weights.attention_output));
  RotateAndStore(layer, work);
}

void RankModel::Attend(int64_t layer) {
  ListAttentionCalls(layer);
  team_.ParallelFor(attention_calls_.size(), 1, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) RunAttention(attention_calls_[i].call, thread);
  });
}

void RankModel::RunAttention(cpu::AttentionCall call, int32_t thread) {
  call.scratch =
      activations_.attention_scratch.data() + thread * activations_.attention_scratch_floats;
  kernels_.attention.attend(call);
}

RankModel::LeafSum RankModel::AttentionSum(int64_t layer) const {
  const LayerWeights& weights = weights_.layers()[layer];
  const model::LeafGeometry& leaves = model_.leaves();
  return {.weights = weights.attention_output,
          .leaf_cols = leaves.heads_per_leaf * model_.config().head_dim,
          .leaf_count = leaves.attention_leaf_count,
          .layer = shard_.layers.begin + layer,
          .overflows = activations_.kv_overflows,
          .then = MlpInput(layer),
          .next = MemoryOf(weights.gate, weights.up)};
}

RankModel::LeafSum RankModel::MlpSum(int64_t layer) const {
  const model::LeafGeometry& leaves = model_.leaves();
  return {.weights = weights_.layers()[layer].down,
          .leaf_cols = leaves.mlp_leaf_width,
          .leaf_count = leaves.mlp_leaf_count,
          .layer = shard_.layers.begin + layer,
          .overflows = {},
          .then = IsLast(layer) ? NormedInput() : AttentionInput(layer + 1),
          .next = StartOf(layer + 1)};
}

void RankModel::FinishRows(int64_t layer, const Work& work) {
  const LeafSum attention = AttentionSum(layer);
  const LeafSum mlp = MlpSum(layer);
  ProjectAttention(layer, attention, work);
  AddSums(attention, work);
  RunMlp(layer, mlp, work);
  AddSums(mlp, work);
  if (!IsLast(layer)) ProjectQkv(layer + 1, work);
}

void RankModel::FinishLayer(int64_t layer) {
  if (stage_.size() == 1) {
    return ForWorks(/*whole=*/false, [&](const Work& work) { FinishRows(layer, work); });
  }
  const LeafSum attention = AttentionSum(layer);
  const LeafSum mlp = MlpSum(layer);
  ForWorks(QuantizesTogether(attention.weights),
           [&](const Work& work) { ProjectAttention(layer, attention, work); });
  ExchangeSums(attention);
  ForWorks(QuantizesTogether(mlp.weights), [&](const Work& work) { RunMlp(layer, mlp, work); });
  ExchangeSums(mlp);
  if (IsLast(layer)) return;
  ForWorks(/*whole=*/false, [&](const Work& work) { ProjectQkv(layer + 1, work); });
}

void RankModel::ProjectAttention(int64_t layer, const LeafSum& sum, const Work& work) {
  const int64_t cols = sum.weights.cols;
  const float* attention = activations_.attention.data() + work.rows.begin * cols;
  ShowInput(layer, LayerInput::kAttentionOutput, activations_.attention, cols, work.rows);
  QuantizeColumnShard(sum.weights, attention, work, [](int64_t) {});
  SumLeaves(sum, attention, work);
}

void RankModel::ListAttentionCalls(int64_t layer) {
  const model::ModelConfig& config = model_.config();
  const int64_t query_stride = shard_.heads.count() * config.head_dim;
  const int64_t head_group = config.head_count / config.kv_head_count;
  attention_calls_.clear();
  const auto row_count = static_cast<int64_t>(rows_.size());
  for (int64_t begin = 0, end = 0; begin < row_count; begin = end) {
    const Row& first = rows_[begin];
    const auto follows = [&](const Row& row) {
      return row.item == first.item && row.position == first.position + end - begin;
    };
    while (end < row_count && end - begin < kAttentionRows && follows(rows_[end])) ++end;
    const int64_t last_block = rows_[end - 1].position / kKvBlockTokens;
    int64_t read_end = end;
    while (read_end < row_count && rows_[read_end].item == first.item &&
           rows_[read_end].position / kKvBlockTokens == last_block) {
      ++read_end;
    }
    for (int64_t kv_head = shard_.kv_heads.begin; kv_head < shard_.kv_heads.end; ++kv_head) {
      // This rank's query heads among those that read kv_head.
      const int64_t head = std::max(kv_head * head_group, shard_.heads.begin);
      const int64_t head_end = std::min((kv_head + 1) * head_group, shard_.heads.end);
      const int64_t offset = begin * query_stride + (head - shard_.heads.begin) * config.head_dim;
      attention_calls_.push_back(
          {.rows = {.rows = {begin, end}, .read_end = read_end},
           .call = {.dtype = options_.kv_dtype,
                    .head_dim = config.head_dim,
                    .head_count = head_end - head,
                    .position_begin = first.position,
                    .row_count = end - begin,
                    .query = activations_.query.data() + offset,
                    .query_stride = query_stride,
                    .output = activations_.attention.data() + offset,
                    .output_stride = query_stride,
                    .blocks = kv_pool_.Blocks(layer, kv_head - shard_.kv_heads.begin),
                    .block_stride = kv_pool_.block_stride(),
                    .block_table = sequences_.at(first.slot).blocks.data(),
                    .next_head_offset =
                        kv_head + 1 < shard_.kv_heads.end ? kv_pool_.head_bytes() : int64_t{0},
                    .scratch = nullptr}});
    }
  }
}

void RankModel::RunMlp(int64_t layer, const LeafSum& sum, const Work& work) {
  const LayerWeights& weights = weights_.layers()[layer];
  const int64_t columns = shard_.mlp_columns.count();
  const int64_t own_first = work.rows.begin - work.own.begin;
  float* gate = work.own.rows->gate.data() + own_first * columns;
  float* up = work.own.rows->up.data() + own_first * columns;
  const Product products[] = {{&weights.gate, gate, columns}, {&weights.up, up, columns}};
  ShowInput(layer, LayerInput::kMlp, activations_.all.normed, model_.config().hidden_dim,
            own_rows_);
  Multiply(products, work, MemoryOf(weights.down, weights.down));
  const int64_t first = work.rows.begin;
  QuantizeColumnShard(weights.down, gate, work, [=, this](int64_t row) {
    float* to = gate + (row - first) * columns;
    kernels_.rows.silu_mul(to, up + (row - first) * columns, columns, to);
  });
  ShowInput(layer, LayerInput::kDown, activations_.all.gate, columns, work.rows);
  SumLeaves(sum, gate, work);
}

void RankModel::ShowInput(int64_t layer, LayerInput input, std::span<const float> values,
                          int64_t cols, plan::Range rows) const {
  if (options_.on_input == nullptr) return;
  options_.on_input(shard_.layers.begin + layer, input,
                    values.subspan(rows.begin * cols, rows.count() * cols), cols);
}

void RankModel::SumLeaves(const LeafSum& sum, const float* input, const Work& work) {
  const int64_t hidden_dim = model_.config().hidden_dim;
  const int64_t count = work.rows.count();
  int64_t* invalid = activations_.invalid.data() + work.rows.begin;
  if (sum.overflows.empty()) {
    std::fill_n(invalid, count, 0);
  } else {
    std::copy_n(sum.overflows.begin() + work.rows.begin, count, invalid);
  }
  const int64_t panels = PanelCount(hidden_dim);
  if (work.alone) {
    SumLeavesPart(sum, input, work, {0, count}, {0, panels});
  } else {
    ForParts(panels, MemoryOf(sum.weights, sum.weights).size(), count, kPanelGrain / 2, sum.next,
             [this, &sum, input, &work](plan::Range rows, plan::Range part) {
               SumLeavesPart(sum, input, work, rows, part);
             });
  }
  const int64_t stride = hidden_dim + kFixedTail;
  int64_t* counts = FixedOf(work) + hidden_dim;
  for (int64_t r = 0; r < count; ++r) counts[r * stride] = invalid[r];
}

void RankModel::SumLeavesPart(const LeafSum& sum, const float* input, const Work& work,
                              plan::Range rows, plan::Range panels) {
  const DType dtype = sum.weights.dtype;
  const ActivationRows activations = Input(dtype, input, sum.weights.cols, rows.end, *work.own.rows,
                                           work.rows.begin - work.own.begin);
  kernels_.linear.leaves[static_cast<size_t>(dtype)](
      {.weights = &sum.weights,
       .input = &activations,
       .row_begin = rows.begin,
       .row_end = rows.end,
       .panel_begin = panels.begin,
       .panel_end = panels.end,
       .leaf_cols = sum.leaf_cols,
       .limit = LeafLimit(sum.leaf_count),
       .output = FixedOf(work),
       .output_stride = model_.config().hidden_dim + kFixedTail,
       .invalid = activations_.invalid.data() + work.rows.begin});
}

}  // namespace shoal::forward
