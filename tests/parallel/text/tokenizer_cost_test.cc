// What encoding costs, in counted work: the same for every kind of text.

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <random>

#include "parallel/model/model.h"
#include "parallel/text/tokenizer/bpe.h"
#include "parallel/text/tokenizer/tokenizer.h"
#include "parallel/text/utf8.h"

namespace {

thread_local int64_t allocation_count = 0;

}  // namespace

// The program's own, so that tests can count: each that may allocate, or a sanitizer would see
// memory of its own allocator freed by another. Not inlined: the compiler would see a pair that
// does not match.
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocation_count;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void* operator new(size_t bytes) {
  void* memory = operator new(bytes, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void* operator new[](size_t bytes) { return operator new(bytes); }
[[gnu::noinline]] void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return operator new(bytes, std::nothrow);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}

namespace shoal::text {
namespace {

std::string Repeated(std::string_view part, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += part;
  return text;
}

// All 256 bytes, "aa" and "aaaa", two spaces and four; <x> is a control token. Of the pre-tokenizer
// that normalizes as well, and of the one with two expressions.
std::unique_ptr<Tokenizer> Bytes(const char* pre_tokenizer) {
  std::vector<std::string> tokens;
  const auto add = [&](uint32_t first, uint32_t last) {
    for (uint32_t c = first; c <= last; ++c) AppendUtf8(c, tokens.emplace_back());
  };
  add(0x21, 0x7E);
  add(0xA1, 0xAC);
  add(0xAE, 0x143);
  for (const char* token : {"aa", "aaaa", "\u0120\u0120", "\u0120\u0120\u0120\u0120", "<x>"}) {
    tokens.emplace_back(token);
  }
  std::vector<int> types(tokens.size(), 1);
  types.back() = 3;
  return Tokenizer::FromMetadata(
      {{"tokenizer.ggml.model", "gpt2"},
       {"tokenizer.ggml.pre", pre_tokenizer},
       {"tokenizer.ggml.tokens", tokens},
       {"tokenizer.ggml.token_type", types},
       {"tokenizer.ggml.merges", {"a a", "aa aa", "\u0120 \u0120", "\u0120\u0120 \u0120\u0120"}}},
      model::TokenizerSource::kGgufMetadata);
}

TEST(TokenizerCost, IsNoAllocationForEachPieceWhateverTheText) {
  constexpr size_t kBytes = 64 * 1024;
  for (const char* pre_tokenizer : {"smollm", "llama-bpe"}) {
    const auto tokenizer = Bytes(pre_tokenizer);
    for (const char* part : {"some words, ", "31415926", "12.5,3.75,100\n", " ", "\n", "a", "a1",
                             "-", "<", "<x>", "<x", "模型", "😀", "\xFF", "\xFFz"}) {
      const std::string text = Repeated(part, kBytes);
      const int64_t before = allocation_count;
      const size_t id_count = tokenizer->Encode(text, SpecialTokens::kRecognized).size();
      // The lists of pieces and ids grow some twenty times each.
      EXPECT_LT(allocation_count - before, 200) << pre_tokenizer << " " << part;
      EXPECT_GE(id_count, kBytes / 4);
    }
  }
}

// Looking through all ranges for each segment takes some 10^10 steps: this test would run into its
// time limit.
TEST(TokenizerCost, IsNotQuadraticInTheRangesOfAChat) {
  constexpr size_t kMessages = 200'000;
  const std::string text = Repeated("<x>e\u0301", 6 * kMessages);
  std::vector<ByteRange> plain;
  for (size_t i = 0; i < kMessages; ++i) plain.push_back({6 * i + 3, 6 * i + 6});
  EXPECT_EQ(Bytes("qwen2")->EncodeMarked(text, plain).size(), 3 * kMessages);
}

// Merges the leftmost of the pairs with the lowest rank until none is left.
std::vector<int32_t> MergedOneByOne(const TokenizerSpec& spec, std::vector<int32_t> ids) {
  while (true) {
    size_t best = 0;
    const Merge* best_merge = nullptr;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (const Merge& merge : spec.merges) {
        const bool fits = merge.left == ids[i] && merge.right == ids[i + 1];
        if (!fits || (best_merge != nullptr && merge.rank >= best_merge->rank)) continue;
        best = i;
        best_merge = &merge;
      }
    }
    if (best_merge == nullptr) return ids;
    ids[best] = best_merge->merged;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

// Four letters and random merges, in orders that no training gives: a merge may make a pair that
// comes before it.
TEST(Bpe, MergesInTheOrderOfRanksAndPositions) {
  std::mt19937 random(7);
  const auto draw = [&](size_t count) { return static_cast<int32_t>(random() % count); };
  for (int round = 0; round < 300; ++round) {
    TokenizerSpec spec;
    for (const char* letter : {"a", "b", "c", "d"}) {
      spec.tokens.push_back({.bytes = letter, .mergeable = true});
    }
    for (int i = 0; i < 24; ++i) {
      const int32_t left = draw(spec.tokens.size());
      const int32_t right = draw(spec.tokens.size());
      const std::string bytes = spec.tokens[left].bytes + spec.tokens[right].bytes;
      spec.merges.push_back({left, right, static_cast<int32_t>(spec.tokens.size())});
      spec.tokens.push_back({.bytes = bytes, .mergeable = true});
    }
    std::vector<Merge> merges;
    for (const Merge& merge : spec.merges) {
      const bool listed = std::any_of(merges.begin(), merges.end(), [&](const Merge& other) {
        return other.left == merge.left && other.right == merge.right;
      });
      if (!listed) merges.push_back(merge);
    }
    std::shuffle(merges.begin(), merges.end(), random);
    // A rank each as lists have it, or some that several share as scores may.
    const int32_t sharers = 1 + round % 3;
    for (size_t i = 0; i < merges.size(); ++i) merges[i].rank = static_cast<int32_t>(i) / sharers;
    spec.merges = merges;
    const Bpe bpe(spec);
    Bpe::Scratch scratch;
    for (const size_t length : {1, 2, 3, 23, 24, 25, 26, 100, 7, 60}) {
      std::string piece;
      std::vector<int32_t> letters;
      for (size_t i = 0; i < length; ++i) {
        letters.push_back(draw(4));
        piece += static_cast<char>('a' + letters.back());
      }
      std::vector<int32_t> ids;
      bpe.Encode(piece, scratch, ids);
      ASSERT_EQ(ids, MergedOneByOne(spec, letters)) << round << " " << piece;
    }
  }
}

}  // namespace
}  // namespace shoal::text
