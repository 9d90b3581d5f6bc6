// The symbols of a piece are a linked list, and a heap holds the pairs that may merge. A merge
// makes entries of its neighbours stale; they are recognised when they surface, not searched for.

#include "parallel/text/bpe.h"

#include <algorithm>
#include <queue>

namespace shoal::text {
namespace {

struct Symbol {
  int32_t id;  // -1: merged into the one before.
  int32_t previous;
  int32_t next;
};

struct Candidate {
  int32_t rank;
  int32_t position;  // Of the left symbol.
  int32_t merged;

  // The heap's top is the largest, so the order is turned round.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const TokenizerSpec& spec) {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const VocabToken& token = spec.tokens[id];
    if (!token.mergeable) continue;
    if (token.bytes.size() == 1) {
      byte_ids_[static_cast<uint8_t>(token.bytes[0])] = static_cast<int32_t>(id);
    }
    if (spec.ignore_merges) whole_pieces_.emplace(token.bytes, static_cast<int32_t>(id));
  }
  merges_.reserve(spec.merges.size());
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const Merge& merge = spec.merges[rank];
    // A pair that is listed twice has its last rank, as in the tokenizers library.
    merges_[PairKey(merge.left, merge.right)] = {static_cast<int32_t>(rank), merge.merged};
  }
}

const Bpe::Result* Bpe::Find(int32_t left, int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (!whole_pieces_.empty()) {
    const auto it = whole_pieces_.find(std::string(piece));
    if (it != whole_pieces_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  MergeAll(piece, ids);
}

void Bpe::MergeAll(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id < 0) continue;
    const auto position = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::vector<Candidate> initial;
  initial.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    if (const Result* result = Find(symbols[i].id, symbols[i + 1].id)) {
      initial.push_back({result->rank, static_cast<int32_t>(i), result->merged});
    }
  }
  std::priority_queue<Candidate> candidates({}, std::move(initial));
  const auto push = [&](int32_t left) {
    const Result* result = Find(symbols[left].id, symbols[symbols[left].next].id);
    if (result != nullptr) candidates.push({result->rank, left, result->merged});
  };
  while (!candidates.empty()) {
    const Candidate top = candidates.top();
    candidates.pop();
    Symbol& left = symbols[top.position];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Result* now = Find(left.id, right.id);
    if (now == nullptr || now->merged != top.merged) continue;
    left.id = top.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = top.position;
    if (left.previous >= 0) push(left.previous);
    if (left.next >= 0) push(top.position);
  }
  for (int32_t at = 0; at >= 0; at = symbols[at].next) ids.push_back(symbols[at].id);
}

}  // namespace shoal::text
