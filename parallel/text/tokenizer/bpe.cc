// A word has few symbols: each merge looks at all its pairs. The symbols of longer pieces are a
// linked list, and a queue holds the pairs that may merge. A merge makes entries of its neighbours
// stale; they are recognised when they surface, not searched for.

#include "parallel/text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "parallel/text/utf8.h"

namespace shoal::text {
namespace {

constexpr uint64_t kNoPair = UINT64_MAX;  // Of a free entry.

uint64_t PairOf(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// The golden ratio's multiplier spreads neighbouring ids over the top bits.
uint64_t HashOf(uint64_t pair) { return pair * 0x9E3779B97F4A7C15; }

constexpr int32_t kNoMerge = INT32_MAX;
constexpr size_t kFewSymbols = 24;

}  // namespace

Bpe::Bpe(const TokenizerSpec& spec) : characters_(spec.characters) {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const VocabToken& token = spec.tokens[id];
    if (!token.mergeable) continue;
    if (token.bytes.size() == 1) {
      byte_ids_[static_cast<uint8_t>(token.bytes[0])] = static_cast<int32_t>(id);
    }
    if (spec.ignore_merges) whole_pieces_.emplace(token.bytes, static_cast<int32_t>(id));
  }
  const size_t entries = std::bit_ceil(2 * spec.merges.size() + 2);
  entries_.assign(entries, {kNoPair, 0, 0});
  hash_shift_ = 64 - std::countr_zero(entries);
  for (const Merge& merge : spec.merges) {
    const uint64_t pair = PairOf(merge.left, merge.right);
    // A pair that is listed twice has its last rank, as in the tokenizers library.
    entries_[EntryOf(pair)] = {pair, merge.rank, merge.merged};
    rank_count_ = std::max(rank_count_, static_cast<size_t>(merge.rank) + 1);
  }
}

// Where the pair stands, or would.
size_t Bpe::EntryOf(uint64_t pair) const {
  size_t at = HashOf(pair) >> hash_shift_;
  while (entries_[at].pair != pair && entries_[at].pair != kNoPair)
    at = (at + 1) & (entries_.size() - 1);
  return at;
}

const Bpe::Entry* Bpe::Find(int32_t left, int32_t right) const {
  const uint64_t pair = PairOf(left, right);
  const Entry& entry = entries_[EntryOf(pair)];
  return entry.pair == pair ? &entry : nullptr;
}

void Bpe::AppendCharacter(std::string_view bytes, char32_t code_point, bool& unknown_due,
                          std::vector<int32_t>& parts) const {
  if (const auto found = characters_->ids.find(code_point); found != characters_->ids.end()) {
    if (std::exchange(unknown_due, false)) parts.push_back(*characters_->unknown);
    parts.push_back(found->second);
    return;
  }
  const auto id_of = [this](char byte) {
    return characters_->byte_ids[static_cast<uint8_t>(byte)];
  };
  if (std::all_of(bytes.begin(), bytes.end(), [&](char byte) { return id_of(byte) >= 0; })) {
    std::transform(bytes.begin(), bytes.end(), std::back_inserter(parts), id_of);
  } else if (characters_->unknown) {
    const bool first = !std::exchange(unknown_due, true);
    if (!first && !characters_->fuse_unknown) parts.push_back(*characters_->unknown);
  }
}

// An unknown character's token comes where the next character with a token of its own does, after
// bytes that lie between: so it is in the tokenizers library.
void Bpe::AppendCharacters(std::string_view piece, std::vector<int32_t>& parts) const {
  bool unknown_due = false;
  for (size_t at = 0; at < piece.size();) {
    const Utf8Step step = DecodeUtf8(piece.substr(at));
    if (step.kind == Utf8Step::Kind::kCharacter) {
      AppendCharacter(piece.substr(at, step.length), step.code_point, unknown_due, parts);
    } else {
      // No vocabulary has a token for what is no character.
      constexpr char32_t kNoCharacter = 0xFFFFFFFF;
      for (size_t i = 0; i < step.length; ++i) {
        AppendCharacter(piece.substr(at + i, 1), kNoCharacter, unknown_due, parts);
      }
    }
    at += step.length;
  }
  if (unknown_due) parts.push_back(*characters_->unknown);
}

void Bpe::Encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (piece.size() == 1 && !characters_) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[0])];
    if (id >= 0) ids.push_back(id);
    return;
  }
  if (!whole_pieces_.empty()) {
    const auto it = whole_pieces_.find(piece);
    if (it != whole_pieces_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  scratch.parts.clear();
  if (characters_) AppendCharacters(piece, scratch.parts);
  for (size_t i = 0; i < piece.size() && !characters_; ++i) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[i])];
    if (id >= 0) scratch.parts.push_back(id);
  }
  if (scratch.parts.size() <= kFewSymbols) {
    MergeFew(scratch, ids);
  } else {
    MergeMany(scratch, ids);
  }
}

Bpe::Symbol Bpe::MakeSymbol(int32_t id, int32_t next) const {
  const Entry* merge = Find(id, next);
  return merge == nullptr ? Symbol{id, kNoMerge, -1} : Symbol{id, merge->rank, merge->merged};
}

void Bpe::MergeFew(Scratch& scratch, std::vector<int32_t>& ids) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  symbols.clear();
  for (size_t i = 0; i < scratch.parts.size(); ++i) {
    const int32_t next = i + 1 < scratch.parts.size() ? scratch.parts[i + 1] : -1;
    symbols.push_back(MakeSymbol(scratch.parts[i], next));
  }
  while (symbols.size() > 1) {
    const auto first =
        std::min_element(symbols.begin(), symbols.end(),
                         [](const Symbol& a, const Symbol& b) { return a.rank < b.rank; });
    if (first->rank == kNoMerge) break;
    const auto after = symbols.erase(first + 1);
    *first = MakeSymbol(first->merged, after == symbols.end() ? -1 : after->id);
    if (first != symbols.begin()) *(first - 1) = MakeSymbol((first - 1)->id, first->id);
  }
  for (const Symbol& symbol : symbols) ids.push_back(symbol.id);
}

void Bpe::MergeMany(Scratch& scratch, std::vector<int32_t>& ids) const {
  std::vector<LinkedSymbol>& symbols = scratch.linked_symbols;
  symbols.clear();
  for (const int32_t id : scratch.parts) {
    const auto position = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  }
  symbols.back().next = -1;

  scratch.queue.Reset(rank_count_);
  const auto push = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Entry* merge = Find(symbols[left].id, symbols[symbols[left].next].id);
    if (merge != nullptr) scratch.queue.Push({merge->rank, left});
  };
  for (size_t i = 0; i < symbols.size(); ++i) push(static_cast<int32_t>(i));
  while (const std::optional<MergeQueue::Entry> entry = scratch.queue.Pop()) {
    LinkedSymbol& left = symbols[entry->position];
    if (left.id < 0 || left.next < 0) continue;
    LinkedSymbol& right = symbols[left.next];
    const Entry* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->rank != entry->rank) continue;
    left.id = merge->merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = entry->position;
    push(left.previous);
    push(entry->position);
  }
  for (int32_t at = 0; at >= 0; at = symbols[at].next) ids.push_back(symbols[at].id);
}

}  // namespace shoal::text
