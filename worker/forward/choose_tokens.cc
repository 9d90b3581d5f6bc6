// The end of the last stage: logits of the rows that need them, and what is chosen from them.

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"
#include "worker/engine/choice/sampler.h"
#include "worker/forward/rank_model.h"

namespace shoal::forward {

engine::StepResult RankModel::MakeResult(const engine::StepPlan& plan) {
  engine::StepResult result;
  result.step = plan.step;
  result.items.resize(plan.items.size());
  for (size_t i = 0; i < plan.items.size(); ++i) result.items[i].slot = plan.items[i].slot;
  ChooseTokens(result);
  // An item's first bad row, be it a layer or the logits that went wrong: the one that smaller
  // chunks would have met first.
  for (const std::vector<Row>* rows : {&dropped_bad_rows_, &rows_}) {
    for (const Row& row : *rows) {
      engine::ItemResult& item = result.items[row.item];
      const int64_t bad_row = row.position - plan.items[row.item].position_begin;
      if (row.bad_layer < 0 || (item.bad_row >= 0 && item.bad_row < bad_row)) continue;
      item.bad_row = static_cast<int32_t>(bad_row);
      item.detail = Str("layer ", row.bad_layer, ", position ", row.position);
    }
  }
  return result;
}

void RankModel::ChooseTokens(engine::StepResult& result) {
  by_maximum_.clear();
  from_all_.clear();
  for (size_t r = 0; r < rows_.size(); ++r) {
    const Row& row = rows_[r];
    engine::ItemResult& item = result.items[row.item];
    if (row.scores_the_next) {
      from_all_.push_back({.row = static_cast<int64_t>(r),
                           .prompt_index = static_cast<int64_t>(item.prompt_logprobs.size()),
                           .chosen_index = -1});
      item.prompt_logprobs.emplace_back();
    }
    if (row.chooses) {
      const GenerationParams& params = sequences_.at(row.slot).params;
      const bool all = options_.on_logits != nullptr || params.top_logprobs >= 0 ||
                       !engine::ChoosesByMaximum(params.sampling);
      (all ? from_all_ : by_maximum_)
          .push_back({.row = static_cast<int64_t>(r),
                      .prompt_index = -1,
                      .chosen_index = static_cast<int64_t>(item.chosen.size())});
      item.chosen.emplace_back();
    }
  }
  const auto tiles = [](std::span<const Wanted> wanted, const auto& process) {
    for (size_t begin = 0; begin < wanted.size(); begin += kLogitTileRows) {
      process(wanted.subspan(begin, std::min<size_t>(kLogitTileRows, wanted.size() - begin)));
    }
  };
  tiles(by_maximum_, [&](std::span<const Wanted> tile) { ChooseByMaximum(tile, result); });
  tiles(from_all_, [&](std::span<const Wanted> tile) { ChooseFromAll(tile, result); });
}

void RankModel::CheckGrammar(const GrammarSource& source) {
  if (source.kind != GrammarKind::kNone) static_cast<void>(grammar_cache_.Get(source));
}

// Sequences that go on after a preemption start anew, with the tokens of their answer so far.
void RankModel::StartGrammars(const engine::StepPlan& plan) {
  for (const uint32_t slot : plan.ends) grammars_[slot].reset();
  for (const engine::SequenceStart& start : plan.starts) {
    const GrammarSource& source = start.params.grammar;
    if (source.kind != GrammarKind::kNone)
      grammars_[start.slot].emplace(grammar_cache_.Get(source));
  }
}

// Logits count as the layer behind the last one.
void RankModel::MarkBadLogits(Row& row) const {
  if (row.bad_layer < 0) row.bad_layer = model_.config().layer_count;
}

// Every rank follows the same tokens, so all apply the same rules, each to its part of the
// vocabulary.
engine::ChoiceRules RankModel::RulesOf(const Row& row) {
  const SequenceState& sequence = sequences_.at(row.slot);
  const SamplingParams& sampling = sequence.params.sampling;
  const int64_t position = row.position + 1;
  engine::ChoiceRules rules = {.sampling = sampling, .position = static_cast<uint32_t>(position)};
  if (engine::HasPenalties(sampling)) {
    engine::TokenHistory& history = histories_[row.slot];
    history.Follow(std::span(sequence.tokens).first(position), sequence.prompt_count);
    rules.history = &history;
  }
  if (position - sequence.prompt_count < sampling.min_tokens) {
    rules.withheld = sequence.params.stop_ids;
  }
  if (std::optional<engine::GrammarState>& grammar = grammars_[row.slot]) {
    rules.allowed =
        grammar->Allowed(std::span(sequence.tokens).first(position).subspan(sequence.prompt_count));
  }
  return rules;
}

void RankModel::ComputeLogits(std::span<const Wanted> tile) {
  const int64_t cols = model_.config().hidden_dim;
  const PackedMatrix& output = weights_.output();
  const int64_t tile_rows = tile.size();
  for (int64_t i = 0; i < tile_rows; ++i) {
    float* normed = activations_.all.normed.data() + i * cols;
    kernels_.rows.rms_norm(activations_.residual.data() + tile[i].row * cols,
                           weights_.output_norm(), model_.config().norm_epsilon, cols, normed);
    QuantizeRow(output.dtype, normed, cols, activations_.all, i);
  }
  const Product product = {&output, activations_.logits.data(), output.rows};
  Work work = AllRows();
  work.rows = {0, tile_rows};
  Multiply({&product, 1}, work, StartOf(0));
}

// Rows of one sequence with penalties or a grammar stay on one thread: its state follows them one
// by one.
void RankModel::ForEachChoice(std::span<const Wanted> tile,
                              const std::function<void(int64_t i, int32_t thread)>& choose) {
  choice_begins_.clear();
  for (size_t i = 0; i < tile.size(); ++i) {
    const uint32_t slot = rows_[tile[i].row].slot;
    const bool has_state =
        engine::HasPenalties(sequences_.at(slot).params.sampling) || grammars_[slot].has_value();
    const bool follows =
        i > 0 && rows_[tile[i - 1].row].slot == slot && tile[i].prompt_index < 0 && has_state;
    if (!follows) choice_begins_.push_back(static_cast<int64_t>(i));
  }
  const auto unit_count = static_cast<int64_t>(choice_begins_.size());
  choice_begins_.push_back(static_cast<int64_t>(tile.size()));
  team_.ParallelFor(unit_count, 1, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = choice_begins_[begin]; i < choice_begins_[end]; ++i) choose(i, thread);
  });
}

void RankModel::ChooseByMaximum(std::span<const Wanted> tile, engine::StepResult& result) {
  ComputeLogits(tile);
  const size_t vocab_rows = shard_.vocab_rows.count();
  candidates_.resize(tile.size() * (1 + stage_.size()));
  const std::span<engine::Candidate> own = std::span(candidates_).first(tile.size());
  const std::span<engine::Candidate> all = std::span(candidates_).subspan(tile.size());
  ForEachChoice(tile, [&](int64_t i, int32_t thread) {
    own[i] = samplers_[thread].BestOfRange(
        {activations_.logits.data() + i * vocab_rows, vocab_rows},
        static_cast<int32_t>(shard_.vocab_rows.begin), RulesOf(rows_[tile[i].row]));
  });
  if (stage_.size() > 1) {
    counts_.assign(stage_.size(), own.size_bytes());
    stage_.AllGather(std::as_bytes(own), counts_, std::as_writable_bytes(all));
  } else {
    std::copy(own.begin(), own.end(), all.begin());
  }
  for (size_t i = 0; i < tile.size(); ++i) {
    engine::Candidate best = all[i];
    for (int32_t rank = 1; rank < stage_.size(); ++rank) {
      best = engine::Better(best, all[rank * tile.size() + i]);
    }
    Row& row = rows_[tile[i].row];
    result.items[row.item].chosen[tile[i].chosen_index].token = best.token;
    if (best.token < 0) MarkBadLogits(row);
  }
}

void RankModel::GatherLogits(int64_t tile_rows) {
  const int64_t vocab_size = model_.config().vocab_size;
  if (stage_.size() == 1) {
    std::copy_n(activations_.logits.data(), tile_rows * vocab_size, activations_.all_logits.data());
    return;
  }
  counts_.resize(stage_.size());
  const plan::RankShard* const stage_shards = &shards_[options_.rank - stage_.rank()];
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    counts_[rank] = tile_rows * stage_shards[rank].vocab_rows.count() * sizeof(float);
  }
  stage_.AllGather(
      std::as_bytes(std::span(activations_.logits.data(), tile_rows * shard_.vocab_rows.count())),
      counts_, std::span(activations_.gathered.data(), tile_rows * vocab_size * sizeof(float)));
  if (!reports_) return;
  const auto* source = reinterpret_cast<const float*>(activations_.gathered.data());
  for (int32_t rank = 0; rank < stage_.size(); ++rank) {
    const plan::Range vocab = stage_shards[rank].vocab_rows;
    for (int64_t i = 0; i < tile_rows; ++i, source += vocab.count()) {
      std::copy_n(source, vocab.count(),
                  activations_.all_logits.data() + i * vocab_size + vocab.begin);
    }
  }
}

void RankModel::ChooseFromAll(std::span<const Wanted> tile, engine::StepResult& result) {
  ComputeLogits(tile);
  GatherLogits(tile.size());
  if (!reports_) return;
  const int64_t vocab_size = model_.config().vocab_size;
  const auto logits_of = [&](int64_t i) {
    return std::span<float>(activations_.all_logits.data() + i * vocab_size, vocab_size);
  };
  if (options_.on_logits != nullptr) {
    for (size_t i = 0; i < tile.size(); ++i) {
      const Row& row = rows_[tile[i].row];
      options_.on_logits(sequences_.at(row.slot).id, row.position, logits_of(i));
    }
  }
  ForEachChoice(tile, [&](int64_t i, int32_t thread) {
    Row& row = rows_[tile[i].row];  // No row is wanted twice.
    if (!ChooseOne(tile[i], logits_of(i), samplers_[thread], result.items[row.item])) {
      MarkBadLogits(row);
    }
  });
}

bool RankModel::ChooseOne(const Wanted& wanted, std::span<float> logits, engine::Sampler& sampler,
                          engine::ItemResult& item) {
  const Row& row = rows_[wanted.row];
  const SequenceState& sequence = sequences_.at(row.slot);
  if (wanted.prompt_index >= 0) {
    std::optional<TokenLogprobs> logprobs = sampler.ComputeLogprobs(
        logits, sequence.tokens[row.position + 1], std::max(0, sequence.params.top_logprobs));
    if (logprobs) item.prompt_logprobs[wanted.prompt_index] = *std::move(logprobs);
    return logprobs.has_value();
  }
  std::optional<engine::Chosen> chosen =
      sampler.Choose(logits, RulesOf(row), sequence.params.top_logprobs);
  if (!chosen) return false;
  item.chosen[wanted.chosen_index] = {chosen->token, std::move(chosen->logprobs)};
  return true;
}

}  // namespace shoal::forward
