#pragma once

// The pairs of a long piece that may merge, in the order in which they do.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <vector>

namespace shoal::text {

// Order: the lowest rank first; of one rank the lowest position. Cost: a heap of ranks, with one
// line of positions for each. Long pieces have few ranks and many positions, and nearly all lines
// are filled in order: so a step costs little, however long the piece is.
class MergeQueue {
 public:
  struct Entry {
    int32_t rank;
    int32_t position;
  };

  // Ranks lie below `rank_count`. Leaves the queue empty.
  void Reset(size_t rank_count) {
    if (line_of_rank_.size() != rank_count) line_of_rank_.assign(rank_count, -1);
  }

  void Push(Entry entry) {
    int32_t& index = line_of_rank_[entry.rank];
    if (index < 0) {
      index = TakeLine();
      ranks_.push_back(entry.rank);
      std::push_heap(ranks_.begin(), ranks_.end(), std::greater());
    }
    Line& line = lines_[index];
    line.sorted &= line.positions.empty() || line.positions.back() <= entry.position;
    line.positions.push_back(entry.position);
  }

  std::optional<Entry> Pop() {
    while (!ranks_.empty()) {
      const int32_t rank = ranks_.front();
      Line& line = lines_[line_of_rank_[rank]];
      if (line.done < std::ssize(line.positions)) {
        if (!line.sorted) {
          std::sort(line.positions.begin() + line.done, line.positions.end());
          line.sorted = true;
        }
        return Entry{rank, line.positions[line.done++]};
      }
      line.positions.clear();
      line.done = 0;
      free_lines_.push_back(line_of_rank_[rank]);
      line_of_rank_[rank] = -1;
      std::pop_heap(ranks_.begin(), ranks_.end(), std::greater());
      ranks_.pop_back();
    }
    return std::nullopt;
  }

 private:
  struct Line {
    std::vector<int32_t> positions;
    ptrdiff_t done = 0;
    bool sorted = true;
  };

  int32_t TakeLine() {
    if (free_lines_.empty()) {
      lines_.emplace_back();
      return static_cast<int32_t>(lines_.size()) - 1;
    }
    const int32_t index = free_lines_.back();
    free_lines_.pop_back();
    return index;
  }

  std::vector<int32_t> line_of_rank_;  // -1: none.
  std::vector<Line> lines_;
  std::vector<int32_t> free_lines_;  // Empty ones, which keep their memory.
  std::vector<int32_t> ranks_;       // Of all lines in use; a heap with the lowest on top.
};

}  // namespace shoal::text
