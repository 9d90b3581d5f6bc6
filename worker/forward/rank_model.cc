// The layers of a step. What happens after the last one, choosing tokens, is in choose_tokens.cc.

#include "worker/forward/rank_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cpu/pack.h"
#include "parallel/model/mapped_file.h"
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
// Rows that one thread takes at a time, at least, where rows are dealt: tiles of them are full.
constexpr int64_t kPartRows = 64;
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

plan::Range PartOf(int64_t count, int64_t index, int64_t parts) {
  return {count * index / parts, count * (index + 1) / parts};
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
  rope_ = math::BuildRopeTable(frequencies, kRopeGain, options.context_tokens);
  numerics_id_ = NumericsId(model, SumOverRanks(weights_.digest(), group_), options.kv_dtype,
                            frequencies, options.numerics);
  rows_.reserve(RowsMax(options));
  if (fast_) activations_.float_sums.resize(activations_.fixed.size());
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
    MakeFirstInput();
    for (int64_t layer = 0; layer < shard_.layers.count(); ++layer) {
      MakeHeads(layer);
      if (last_stage_ && layer + 1 == shard_.layers.count()) KeepWantedRows(layer);
      if (rows_.empty()) break;
      Attend(layer);
      RunMlp(layer);
    }
    last_stage_ ? GatherResults() : SendResidual();
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
  ForRows(rows_.size(), [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      const int32_t token = sequences_.at(rows_[r].slot).tokens[rows_[r].position];
      float* row = residual + r * hidden_dim;
      if (shard_.vocab_rows.begin <= token && token < shard_.vocab_rows.end) {
        cpu::DequantizeRow(table.dtype, table.row(token), hidden_dim, row);
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
  int64_t* words = activations_.fixed.data();
  const int64_t count = rows_.size() * hidden_dim;
  for (int64_t i = 0; i < count; ++i) words[i] = std::bit_cast<uint32_t>(residual[i]);
  SumFixed(hidden_dim);
  for (int64_t i = own_rows_.begin * hidden_dim; i < own_rows_.end * hidden_dim; ++i) {
    residual[i] = std::bit_cast<float>(static_cast<uint32_t>(words[i]));
  }
}

ActivationRows RankModel::Input(DType dtype, const float* values, int64_t cols, int64_t row_count) {
  ActivationRows input = {.values = values, .rows = row_count, .cols = cols};
  if (IsQuantized(dtype)) {
    const QuantizedRows& quantized = activations_.Quantized(dtype);
    input.quants = quantized.quants.data();
    input.scales = quantized.scales.data();
    input.sums = quantized.sums.data();
  }
  return input;
}

void RankModel::QuantizeRows(DType dtype, const float* values, int64_t cols, int64_t begin,
                             int64_t end) {
  if (!IsQuantized(dtype)) return;
  const int64_t group = QuantizesWholeRows(dtype) ? cols : GroupSize(dtype);
  const int64_t groups = cols / group;
  QuantizedRows& to = activations_.Quantized(dtype);
  for (int64_t r = begin; r < end; ++r) {
    const float* row = values + r * cols;
    int8_t* quants = to.quants.data() + r * cols;
    float* scales = to.scales.data() + r * groups;
    int32_t* sums = to.sums.data() + r * groups;
    if (group == 32) {
      kernels_.quantize_row(row, cols, quants, scales, sums);
    } else {
      kernels_.quantize_groups(row, cols, group, quants, scales, sums);
    }
  }
}

// The largest magnitude of a row is that of its parts' on all ranks.
template <typename Make>
void RankModel::MakeDividedRows(DType dtype, const float* values, int64_t cols, Make make) {
  const int64_t row_count = rows_.size();
  if (!QuantizesWholeRows(dtype) || stage_.size() == 1) {
    ForRows(row_count, [=, this](int64_t begin, int64_t end, int32_t) {
      make(begin, end);
      QuantizeRows(dtype, values, cols, begin, end);
    });
    return;
  }
  int64_t* largest = activations_.largest_bits.data();
  ForRows(row_count, [=, this](int64_t begin, int64_t end, int32_t) {
    make(begin, end);
    for (int64_t r = begin; r < end; ++r) {
      largest[r] = kernels_.largest_bits(values + r * cols, cols);
    }
  });
  stage_.AllReduceMax(std::span(largest, row_count));
  QuantizedRows& to = activations_.Quantized(dtype);
  ForRows(row_count, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t r = begin; r < end; ++r) {
      kernels_.quantize_group(values + r * cols, cols, static_cast<uint32_t>(largest[r]),
                              to.quants.data() + r * cols, &to.scales[r], &to.sums[r]);
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

void RankModel::NormRows(const NormedInput& input, int64_t begin, int64_t end) {
  const int64_t cols = model_.config().hidden_dim;
  float* normed = activations_.normed.data();
  for (int64_t r = begin; r < end; ++r) {
    kernels_.rms_norm(activations_.residual.data() + r * cols, input.norm,
                      model_.config().norm_epsilon, cols, normed + r * cols);
  }
  for (size_t i = 0; i < input.readers.size(); ++i) {
    if (IsFirstOfGroup(input.readers, i)) QuantizeRows(input.readers[i], normed, cols, begin, end);
  }
}

void RankModel::MakeFirstInput() {
  const NormedInput input = AttentionInput(0);
  ForRows(own_rows_.count(), [&](int64_t begin, int64_t end, int32_t) {
    NormRows(input, own_rows_.begin + begin, own_rows_.begin + end);
  });
  GatherInput(input);
}

void RankModel::GatherInput(const NormedInput& input) {
  if (!scattered_) return;
  const int64_t cols = model_.config().hidden_dim;
  for (size_t i = 0; i < input.readers.size(); ++i) {
    if (!IsFirstOfGroup(input.readers, i)) continue;
    const DType dtype = input.readers[i];
    if (!IsQuantized(dtype)) {
      GatherRows(activations_.normed.data(), cols);
      continue;
    }
    const int64_t groups = QuantizesWholeRows(dtype) ? 1 : cols / GroupSize(dtype);
    QuantizedRows& rows = activations_.Quantized(dtype);
    GatherRows(rows.quants.data(), cols);
    GatherRows(rows.scales.data(), groups);
    GatherRows(rows.sums.data(), groups);
  }
}

void RankModel::ForRows(int64_t count, const device::RangeFunction& function) {
  const int64_t share = count / (4 * team_.thread_count());
  team_.ParallelFor(count, std::max(kRowGrain, share / kKvBlockTokens * kKvBlockTokens), function);
}

// Many rows are dealt to the threads as ForRows deals them: what a thread computes here it works on
// later, and no core waits for memory that another one holds. Few rows are read by all.
template <typename Function>
void RankModel::ForParts(int64_t panels, int64_t bytes, int64_t rows, int64_t panels_min,
                         std::span<const std::byte> next, Function function) {
  const int64_t threads = team_.thread_count();
  const int64_t row_parts =
      threads == 1 ? 1 : std::max(rows / (kPartRows * threads) * threads, int64_t{1});
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

void RankModel::Multiply(std::span<const Product> products, const float* values, int64_t cols,
                         int64_t row_count, std::span<const std::byte> next) {
  std::array<Product, kProductsMax> copies;  // For the other threads, with what uses them.
  const size_t product_count = products.size();
  SHOAL_CHECK(product_count <= kProductsMax, product_count, " products");
  std::copy(products.begin(), products.end(), copies.begin());
  int64_t panel_count = 0;
  int64_t bytes = 0;
  for (const Product& product : products) {
    panel_count += PanelCount(product.weights->rows);
    bytes += MemoryOf(*product.weights, *product.weights).size();
  }
  ForParts(panel_count, bytes, row_count, kPanelGrain, next,
           [=, this](plan::Range rows, plan::Range part) {
             int64_t first = 0;  // The product's first panel, counted over all products.
             for (const Product& product : std::span(copies).first(product_count)) {
               const int64_t panels = PanelCount(product.weights->rows);
               const int64_t from = std::max(part.begin - first, int64_t{0});
               const int64_t to = std::min(part.end - first, panels);
               first += panels;
               if (from >= to) continue;
               const ActivationRows input = Input(product.weights->dtype, values, cols, row_count);
               kernels_.linear[static_cast<size_t>(product.weights->dtype)](
                   {.weights = product.weights,
                    .input = &input,
                    .row_begin = rows.begin,
                    .row_end = rows.end,
                    .panel_begin = from,
                    .panel_end = to,
                    .output = product.output,
                    .output_stride = product.output_stride});
             }
           });
}

void RankModel::RotateAndStore(int64_t layer) {
  const int64_t head_dim = model_.config().head_dim;
  const auto rotate = model_.config().rope.layout == model::RopeLayout::kAdjacentPairs
                          ? kernels_.rope_adjacent
                          : kernels_.rope_half_split;
  const int64_t heads = shard_.heads.count();
  const int64_t kv_heads = shard_.kv_heads.count();
  ForRows(rows_.size(), [=, this](int64_t begin, int64_t end, int32_t) {
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
        overflows +=
            kernels_.store_kv(options_.kv_dtype, key, value, head_dim, position % kKvBlockTokens,
                              kv_pool_.Blocks(layer, h) + block * kv_pool_.block_stride());
      }
      activations_.kv_overflows[r] = overflows;
    }
  });
}

void RankModel::MakeHeads(int64_t layer) {
  const LayerWeights& weights = weights_.layers()[layer];
  const model::ModelConfig& config = model_.config();
  const int64_t query_dim = shard_.heads.count() * config.head_dim;
  const int64_t kv_dim = shard_.kv_heads.count() * config.head_dim;
  const Product products[] = {{&weights.query, activations_.query.data(), query_dim},
                              {&weights.key, activations_.key.data(), kv_dim},
                              {&weights.value, activations_.value.data(), kv_dim}};
  ShowInput(layer, LayerInput::kAttention, activations_.normed, config.hidden_dim, own_rows_);
  Multiply(products, activations_.normed.data(), config.hidden_dim, rows_.size(),
           MemoryOf(weights.attention_output, weights.attention_output));
  RotateAndStore(layer);
}

void RankModel::Attend(int64_t layer) {
  const LayerWeights& weights = weights_.layers()[layer];
  const model::ModelConfig& config = model_.config();
  const int64_t query_dim = shard_.heads.count() * config.head_dim;
  ListAttentionCalls(layer);
  team_.ParallelFor(attention_calls_.size(), 1, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = begin; i < end; ++i) {
      cpu::AttentionCall call = attention_calls_[i];
      call.scratch =
          activations_.attention_scratch.data() + thread * activations_.attention_scratch_floats;
      kernels_.attention(call);
    }
  });
  ShowInput(layer, LayerInput::kAttentionOutput, activations_.attention, query_dim,
            {0, static_cast<int64_t>(rows_.size())});
  MakeDividedRows(weights.attention_output.dtype, activations_.attention.data(), query_dim,
                  [](int64_t, int64_t) {});
  AddRowParallel(weights.attention_output, activations_.attention.data(),
                 {.leaf_cols = model_.leaves().heads_per_leaf * config.head_dim,
                  .leaf_count = model_.leaves().attention_leaf_count,
                  .layer = shard_.layers.begin + layer,
                  .overflows = activations_.kv_overflows,
                  .then = MlpInput(layer),
                  .next = MemoryOf(weights.gate, weights.up)});
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
    for (int64_t kv_head = shard_.kv_heads.begin; kv_head < shard_.kv_heads.end; ++kv_head) {
      // This rank's query heads among those that read kv_head.
      const int64_t head = std::max(kv_head * head_group, shard_.heads.begin);
      const int64_t head_end = std::min((kv_head + 1) * head_group, shard_.heads.end);
      const int64_t offset = begin * query_stride + (head - shard_.heads.begin) * config.head_dim;
      attention_calls_.push_back({.dtype = options_.kv_dtype,
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
                                  .next_head_offset = kv_head + 1 < shard_.kv_heads.end
                                                          ? kv_pool_.head_bytes()
                                                          : int64_t{0},
                                  .scratch = nullptr});
    }
  }
}

void RankModel::RunMlp(int64_t layer) {
  const LayerWeights& weights = weights_.layers()[layer];
  const int64_t columns = shard_.mlp_columns.count();
  const Product products[] = {{&weights.gate, activations_.gate.data(), columns},
                              {&weights.up, activations_.up.data(), columns}};
  ShowInput(layer, LayerInput::kMlp, activations_.normed, model_.config().hidden_dim, own_rows_);
  Multiply(products, activations_.normed.data(), model_.config().hidden_dim, rows_.size(),
           MemoryOf(weights.down, weights.down));
  MakeDividedRows(weights.down.dtype, activations_.gate.data(), columns,
                  [=, this](int64_t begin, int64_t end) {
                    float* gate = activations_.gate.data() + begin * columns;
                    kernels_.silu_mul(gate, activations_.up.data() + begin * columns,
                                      (end - begin) * columns, gate);
                  });
  ShowInput(layer, LayerInput::kDown, activations_.gate, columns,
            {0, static_cast<int64_t>(rows_.size())});
  const bool last = layer + 1 == shard_.layers.count();
  AddRowParallel(weights.down, activations_.gate.data(),
                 {.leaf_cols = model_.leaves().mlp_leaf_width,
                  .leaf_count = model_.leaves().mlp_leaf_count,
                  .layer = shard_.layers.begin + layer,
                  .overflows = {},
                  .then = last ? NormedInput() : AttentionInput(layer + 1),
                  .next = StartOf(layer + 1)});
}

void RankModel::ShowInput(int64_t layer, LayerInput input, std::span<const float> values,
                          int64_t cols, plan::Range rows) const {
  if (options_.on_input == nullptr) return;
  options_.on_input(shard_.layers.begin + layer, input,
                    values.subspan(rows.begin * cols, rows.count() * cols), cols);
}

void RankModel::AddRowParallel(const PackedMatrix& weights, const float* input,
                               const LeafSum& sum) {
  const int64_t hidden_dim = model_.config().hidden_dim;
  const int64_t stride = hidden_dim + kFixedTail;
  const int64_t row_count = rows_.size();
  int64_t* fixed = activations_.fixed.data();
  Lines<int64_t>& invalid = activations_.invalid;
  if (sum.overflows.empty()) {
    std::fill_n(invalid.begin(), row_count, 0);
  } else {
    std::copy_n(sum.overflows.begin(), row_count, invalid.begin());
  }
  const ActivationRows rows = Input(weights.dtype, input, weights.cols, row_count);
  const int64_t panels = PanelCount(hidden_dim);
  const auto leaf_linear = kernels_.leaf_linear[static_cast<size_t>(weights.dtype)];
  const PackedMatrix* matrix = &weights;
  const int64_t leaf_cols = sum.leaf_cols;
  const float limit = LeafLimit(sum.leaf_count);
  int64_t* invalid_leaves = invalid.data();
  ForParts(panels, MemoryOf(weights, weights).size(), row_count, kPanelGrain / 2, sum.next,
           [=](plan::Range part_rows, plan::Range part) {
             leaf_linear({.weights = matrix,
                          .input = &rows,
                          .row_begin = part_rows.begin,
                          .row_end = part_rows.end,
                          .panel_begin = part.begin,
                          .panel_end = part.end,
                          .leaf_cols = leaf_cols,
                          .limit = limit,
                          .output = fixed,
                          .output_stride = stride,
                          .invalid = invalid_leaves});
           });
  for (int64_t r = 0; r < row_count; ++r) fixed[r * stride + hidden_dim] = invalid[r];
  fast_ ? AddFloatSums(weights, sum) : AddSums(weights, sum);
  if (sum.then.norm != nullptr) GatherInput(sum.then);
}

}  // namespace shoal::forward
