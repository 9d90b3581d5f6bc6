#include "coordinator/gateway/ladder/knowledge_base.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>
#include <utility>

#include "coordinator/gateway/json/json_writer.h"
#include "parallel/text/search/words.h"
#include "transport/base/check.h"
#include "transport/base/error.h"
#include "transport/base/utf8.h"

namespace shoal::gateway {
namespace {

constexpr double kK1 = 1.2;
constexpr double kB = 0.75;
constexpr size_t kParagraphBytesMax = 4 * 1024;

std::string_view Trimmed(std::string_view line) {
  const size_t begin = line.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
}

// How much of a text that is too long stands in its first part.
size_t FirstPart(std::string_view text) {
  if (text.size() <= kParagraphBytesMax) return text.size();
  const size_t space = text.find_last_of(" \n", kParagraphBytesMax);
  if (space != std::string_view::npos && space > 0) return space;
  size_t end = kParagraphBytesMax;
  while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) Throw(ErrorCode::kInvalidArgument, path.string(), ": cannot be read");
  std::string read = text.str();
  if (!IsWellFormedUtf8(read)) {
    Throw(ErrorCode::kInvalidArgument, path.string(), ": expected UTF-8, found other bytes");
  }
  return read;
}

// Errors: kInvalidArgument.
std::vector<std::filesystem::path> ListTexts(const std::string& folder,
                                             const KnowledgeOptions& options) {
  std::vector<std::filesystem::path> files;
  int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator entry(folder, error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string extension = entry->path().extension().string();
    if (extension != ".txt" && extension != ".md") continue;
    if (!entry->is_regular_file(error)) continue;
    bytes += static_cast<int64_t>(entry->file_size(error));
    files.push_back(entry->path());
    if (std::ssize(files) > options.files_max) {
      Throw(ErrorCode::kInvalidArgument, folder, ": expected at most ", options.files_max,
            " texts: raise files_max, or leave some out");
    }
    if (bytes > options.bytes_max) {
      Throw(ErrorCode::kInvalidArgument, folder, ": expected at most ", options.bytes_max,
            " bytes of text: raise bytes_max, or leave some out");
    }
  }
  if (error) Throw(ErrorCode::kInvalidArgument, folder, ": ", error.message());
  std::ranges::sort(files);
  return files;
}

}  // namespace

std::vector<Paragraph> SplitParagraphs(std::string_view text, const std::string& name) {
  std::vector<Paragraph> paragraphs;
  std::string current;
  bool only_headings = true;
  const auto end = [&] {
    std::string_view rest = current;
    while (!rest.empty()) {
      const size_t length = FirstPart(rest);
      paragraphs.push_back({std::string(Trimmed(rest.substr(0, length))),
                            Str(name, ", paragraph ", paragraphs.size() + 1)});
      rest.remove_prefix(length);
      rest = Trimmed(rest);
    }
    current.clear();
    only_headings = true;
  };
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    const std::string_view line = Trimmed(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    const bool is_heading = line.starts_with('#');
    if ((line.empty() && !only_headings) || (is_heading && !only_headings)) end();
    if (line.empty()) continue;
    if (!current.empty()) current += '\n';
    current += line;
    only_headings = only_headings && is_heading;
  }
  if (!only_headings) end();
  return paragraphs;
}

KnowledgeBase::KnowledgeBase(std::vector<Paragraph> paragraphs, const KnowledgeOptions& options)
    : options_(options), paragraphs_(std::move(paragraphs)) {
  double words_total = 0;
  for (size_t i = 0; i < paragraphs_.size(); ++i) {
    const std::vector<std::string> words = text::SplitWords(paragraphs_[i].text, SIZE_MAX);
    std::map<std::string_view, uint32_t> counts;
    for (const std::string& word : words) ++counts[word];
    for (const auto& [word, count] : counts) {
      index_[std::string(word)].push_back({static_cast<uint32_t>(i), count});
    }
    lengths_.push_back(static_cast<uint32_t>(words.size()));
    words_total += static_cast<double>(words.size());
  }
  if (!paragraphs_.empty()) mean_length_ = words_total / static_cast<double>(paragraphs_.size());
}

KnowledgeBase KnowledgeBase::ReadFolder(const std::string& folder,
                                        const KnowledgeOptions& options) {
  std::vector<Paragraph> paragraphs;
  for (const std::filesystem::path& path : ListTexts(folder, options)) {
    const std::string name = std::filesystem::relative(path, folder).string();
    for (Paragraph& paragraph : SplitParagraphs(ReadText(path), name)) {
      paragraphs.push_back(std::move(paragraph));
    }
  }
  if (paragraphs.empty()) {
    Throw(ErrorCode::kInvalidArgument, folder,
          ": expected texts in files whose names end in .txt or .md, found no paragraph");
  }
  return {std::move(paragraphs), options};
}

double KnowledgeBase::Idf(size_t paragraphs_with_it) const {
  const auto n = static_cast<double>(paragraphs_with_it);
  return std::log(1 + (static_cast<double>(paragraphs_.size()) - n + 0.5) / (n + 0.5));
}

std::optional<KnowledgeBase::Hit> KnowledgeBase::Find(std::string_view question) const {
  if (question.size() > kQuestionBytesMax) return std::nullopt;
  const std::vector<std::string> all = text::SplitWords(question, kQuestionWordsMax);
  const std::set<std::string> words(all.begin(), all.end());
  std::map<uint32_t, std::pair<double, double>> found;  // By paragraph: score, idf of its words.
  double idf_total = 0;
  for (const std::string& word : words) {
    const auto postings = index_.find(word);
    const double idf = Idf(postings == index_.end() ? 0 : postings->second.size());
    idf_total += idf;
    if (postings == index_.end()) continue;
    for (const Posting& posting : postings->second) {
      const auto count = static_cast<double>(posting.count);
      const double length = lengths_[posting.paragraph] / mean_length_;
      auto& [score, covered] = found[posting.paragraph];
      score += idf * count * (kK1 + 1) / (count + kK1 * (1 - kB + kB * length));
      covered += idf;
    }
  }
  std::optional<Hit> best;
  for (const auto& [paragraph, sums] : found) {
    if (best && sums.first <= best->score) continue;
    best = Hit{paragraph, sums.first, sums.second / idf_total};
  }
  return best;
}

std::optional<TextAnswer> KnowledgeBase::Answer(std::string_view question) const {
  const std::optional<Hit> hit = Find(question);
  if (!hit || hit->score < options_.score_min || hit->coverage < options_.coverage_min) {
    return std::nullopt;
  }
  const Paragraph& paragraph = paragraphs_[hit->paragraph];
  return TextAnswer{paragraph.text, paragraph.source};
}

}  // namespace shoal::gateway
