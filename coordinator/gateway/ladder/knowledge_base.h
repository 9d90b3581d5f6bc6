#pragma once

// Answers by the paragraph of a folder of texts that fits a question best.
//
// Source: S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
// 2009: the sum over the question's distinct words w of
//   idf(w) tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length)), k1 = 1.2, b = 0.75,
// with idf(w) = ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/ladder/text_answer.h"

namespace shoal::gateway {

struct Paragraph {
  std::string text{};
  std::string source{};  // "faq.md, paragraph 3"

  bool operator==(const Paragraph&) const = default;
};

struct KnowledgeOptions {
  double score_min = 0;  // Of the best paragraph; below it there is no answer.
  // Of the idf of all of the question's words, the share of those that the paragraph has. Words
  // that no paragraph has weigh the most: a question about something else has none.
  double coverage_min = 0.5;
  int64_t bytes_max = 64 << 20;  // Of all files.
  int32_t files_max = 10'000;
};

// The texts' paragraphs, which empty lines part. A heading goes with what follows it; what is
// longer than 4 KiB is cut at the end of a word.
std::vector<Paragraph> SplitParagraphs(std::string_view text, const std::string& name);

// Memory: the texts, and about as much for the index. Threading: owned by the event loop. Cost of a
// question: linear in the paragraphs that have any of its words.
class KnowledgeBase {
 public:
  KnowledgeBase(std::vector<Paragraph> paragraphs, const KnowledgeOptions& options);
  // Of all files below it whose names end in .txt or .md, in the order of their names. Errors:
  // kInvalidArgument, naming the folder, the file and the bound, for what cannot be read or is more
  // than the options allow; for a file that is not UTF-8; for a folder without a paragraph.
  static KnowledgeBase ReadFolder(const std::string& folder, const KnowledgeOptions& options);

  struct Hit {
    size_t paragraph = 0;
    double score = 0;
    double coverage = 0;
  };
  // The best one, also where it is below the bounds; of equals the first. None: no word is there.
  std::optional<Hit> Find(std::string_view question) const;
  std::optional<TextAnswer> Answer(std::string_view question) const;
  size_t size() const { return paragraphs_.size(); }

 private:
  struct Posting {
    uint32_t paragraph = 0;
    uint32_t count = 0;
  };

  double Idf(size_t paragraphs_with_it) const;

  const KnowledgeOptions options_;
  std::vector<Paragraph> paragraphs_;
  std::vector<uint32_t> lengths_;  // In words.
  double mean_length_ = 0;
  std::map<std::string, std::vector<Posting>, std::less<>> index_;
};

}  // namespace shoal::gateway
