#include "worker/forward/choice/token_chooser.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace shoal::forward {

TokenChooser::TokenChooser(const ChooserParts& parts, const OutputWeights& output,
                           plan::Range vocab, const model::ModelConfig& config,
                           const math::ChoiceKernels& kernels, int32_t thread_count,
                           const LogitsSink& on_logits)
    : parts_(parts),
      output_(output),
      vocab_(vocab),
      vocab_size_(config.vocab_size),
      layer_count_(config.layer_count),
      on_logits_(on_logits),
      samplers_(thread_count, engine::Sampler(kernels)) {}

engine::StepResult TokenChooser::Choose(const engine::StepPlan& plan) {
  engine::StepResult result;
  result.step = plan.step;
  result.items.resize(plan.items.size());
  for (size_t i = 0; i < plan.items.size(); ++i) result.items[i].slot = plan.items[i].slot;
  wanted_.List(parts_.rows, parts_.sequences, /*all_logits=*/on_logits_ != nullptr, result);
  if (wanted_.by_maximum.empty()) parts_.exchange.CompareDigests();  // Nothing takes them along.
  const auto tiles = [](Tile wanted, const auto& process) {
    for (size_t begin = 0; begin < wanted.size(); begin += kLogitTileRows) {
      process(wanted.subspan(begin, std::min<size_t>(kLogitTileRows, wanted.size() - begin)));
    }
  };
  tiles(wanted_.by_maximum, [&](Tile tile) { ChooseByMaximum(tile, result); });
  tiles(wanted_.from_all, [&](Tile tile) { ChooseFromAll(tile, result); });
  parts_.rows.ReportBadRows(plan, result);
  return result;
}

void TokenChooser::ComputeLogits(Tile tile) {
  logit_rows_.clear();
  for (const WantedRow& wanted : tile) logit_rows_.push_back(wanted.row);
  parts_.ops.Logits(output_.norm, output_.matrix, logit_rows_, output_.next);
}

// Rows of one sequence with penalties or a grammar stay on one thread: its state follows them one
// by one.
template <typename Function>
void TokenChooser::ForEachChoice(Tile tile, const Function& choose) {
  choice_begins_.clear();
  for (size_t i = 0; i < tile.size(); ++i) {
    const uint32_t slot = parts_.rows[tile[i].row].slot;
    const bool follows = i > 0 && parts_.rows[tile[i - 1].row].slot == slot &&
                         tile[i].prompt_index < 0 && parts_.rules.HasState(slot);
    if (!follows) choice_begins_.push_back(static_cast<int64_t>(i));
  }
  const auto unit_count = static_cast<int64_t>(choice_begins_.size());
  choice_begins_.push_back(static_cast<int64_t>(tile.size()));
  parts_.executor.ForEach(unit_count, [&](int64_t begin, int64_t end, int32_t thread) {
    for (int64_t i = choice_begins_[begin]; i < choice_begins_[end]; ++i) choose(i, thread);
  });
}

void TokenChooser::ChooseByMaximum(Tile tile, engine::StepResult& result) {
  ComputeLogits(tile);
  const size_t vocab_rows = vocab_.count();
  const auto ranks = static_cast<size_t>(parts_.exchange.ranks());
  candidates_.resize(tile.size() * (1 + ranks));
  const std::span<engine::Candidate> own = std::span(candidates_).first(tile.size());
  const std::span<engine::Candidate> all = std::span(candidates_).subspan(tile.size());
  ForEachChoice(tile, [&](int64_t i, int32_t thread) {
    own[i] = samplers_[thread].BestOfRange(
        {parts_.activations.logits.data() + i * vocab_rows, vocab_rows},
        static_cast<int32_t>(vocab_.begin), parts_.rules.Of(parts_.rows[tile[i].row]));
  });
  parts_.exchange.GatherPieces(std::as_bytes(own), std::as_writable_bytes(all));
  for (size_t i = 0; i < tile.size(); ++i) {
    engine::Candidate best = all[i];
    for (size_t rank = 1; rank < ranks; ++rank) {
      best = engine::Better(best, all[rank * tile.size() + i]);
    }
    Row& row = parts_.rows[tile[i].row];
    result.items[row.item].chosen[tile[i].chosen_index].token = best.token;
    if (best.token < 0) row.Blame(layer_count_);
  }
}

void TokenChooser::ChooseFromAll(Tile tile, engine::StepResult& result) {
  ComputeLogits(tile);
  Activations& activations = parts_.activations;
  parts_.exchange.GatherLogits(activations.logits.data(), static_cast<int64_t>(tile.size()),
                               activations.gathered.data(), activations.all_logits.data());
  if (!parts_.exchange.is_first()) return;
  const auto logits_of = [&](int64_t i) {
    return std::span<float>(activations.all_logits.data() + i * vocab_size_, vocab_size_);
  };
  if (on_logits_ != nullptr) {
    for (size_t i = 0; i < tile.size(); ++i) {
      const Row& row = parts_.rows[tile[i].row];
      on_logits_(parts_.sequences.at(row.slot).id, row.position, logits_of(i));
    }
  }
  ForEachChoice(tile, [&](int64_t i, int32_t thread) {
    Row& row = parts_.rows[tile[i].row];
    if (!ChooseOne(tile[i], logits_of(i), samplers_[thread], result.items[row.item])) {
      row.Blame(layer_count_);
    }
  });
}

bool TokenChooser::ChooseOne(const WantedRow& wanted, std::span<float> logits,
                             engine::Sampler& sampler, engine::ItemResult& item) {
  const Row& row = parts_.rows[wanted.row];
  const SequenceState& sequence = parts_.sequences.at(row.slot);
  if (wanted.prompt_index >= 0) {
    std::optional<TokenLogprobs> logprobs = sampler.ComputeLogprobs(
        logits, sequence.tokens[row.position + 1], std::max(0, sequence.params.top_logprobs));
    if (logprobs) item.prompt_logprobs[wanted.prompt_index] = *std::move(logprobs);
    return logprobs.has_value();
  }
  std::optional<engine::Chosen> chosen =
      sampler.Choose(logits, parts_.rules.Of(row), sequence.params.top_logprobs);
  if (!chosen) return false;
  item.chosen[wanted.chosen_index] = {chosen->token, std::move(chosen->logprobs)};
  return true;
}

}  // namespace shoal::forward
