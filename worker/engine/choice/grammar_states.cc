#include "worker/engine/choice/grammar_states.h"

#include <algorithm>

#include "parallel/text/grammar/grammar.h"

namespace shoal::engine {
namespace {

using text::grammar::CompileGrammar;
using text::grammar::GrammarMatcher;
using text::grammar::MaskedGrammar;

// Grammars kept for requests to come, and the memory of all before they are let go.
constexpr size_t kUnusedMax = 16;
constexpr size_t kUnusedBytesMax = size_t{32} << 20;

// So many tokens can be taken back at no cost: more than speculation drafts in a step.
constexpr size_t kPointsMax = 32;

}  // namespace

std::shared_ptr<MaskedGrammar> GrammarCache::Get(const GrammarSource& source) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.source == source; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front().grammar;
  }
  if (vocabulary_ == nullptr) vocabulary_ = make_vocabulary_();
  auto grammar = std::make_shared<MaskedGrammar>(
      CompileGrammar(source, vocabulary_->single_bytes()), vocabulary_);
  DropUnused();
  entries_.push_front({source, grammar});
  return grammar;
}

void GrammarCache::DropUnused() {
  size_t count = 0;
  size_t bytes = 0;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool unused = entry->grammar.use_count() == 1;
    bytes += entry->grammar->memory_bytes();
    count += unused ? 1 : 0;
    const bool drop = unused && (count > kUnusedMax || bytes > kUnusedBytesMax);
    entry = drop ? entries_.erase(entry) : std::next(entry);
  }
}

GrammarState::GrammarState(std::shared_ptr<MaskedGrammar> grammar) : grammar_(std::move(grammar)) {}

std::span<const uint64_t> GrammarState::Allowed(std::span<const int32_t> generated) {
  Follow(generated);
  Point& point = points_.back();
  mask_ = point.broken ? grammar_->end_mask() : point.matcher.Allowed();
  return mask_->words;
}

void GrammarState::Follow(std::span<const int32_t> generated) {
  const auto differ =
      std::mismatch(tokens_.begin(), tokens_.end(), generated.begin(), generated.end());
  const auto common = static_cast<size_t>(differ.first - tokens_.begin());
  for (; tokens_.size() > common && !points_.empty(); tokens_.pop_back()) points_.pop_back();
  if (points_.empty()) {
    tokens_.clear();
    points_.push_back({GrammarMatcher(grammar_)});
  }
  for (size_t i = tokens_.size(); i < generated.size(); ++i) {
    Point next = points_.back();
    next.broken = next.broken || !next.matcher.Accept(generated[i]);
    points_.push_back(std::move(next));
    tokens_.push_back(generated[i]);
    if (points_.size() > kPointsMax) points_.pop_front();
  }
}

}  // namespace shoal::engine
