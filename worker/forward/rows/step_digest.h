#pragma once

// Whether the ranks of a stage hold the same bits where they must: one number a rank and step.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "worker/forward/rows/step_rows.h"

namespace shoal::forward {

// Of everything that all ranks of a stage have in a step: what they gathered, and the rows that
// each of them finished for itself. Pure.
class StepDigest {
 public:
  // Of a rank that has found a wrong sum itself; other ranks need not be asked.
  static constexpr uint64_t kWrongSum = UINT64_MAX;

  void Begin() { value_ = 0; }
  void Add(std::span<const std::byte> bytes);
  // Of a row with numbers that are not finite only where that began: what is left of it depends on
  // the instruction set. Shape: residual [rows][width].
  void AddRows(const StepRows& rows, const float* residual, int64_t width);
  void MarkWrongSum() { value_ = kWrongSum; }

  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

// What is wrong with the digests of some ranks, one for each rank of the last stage in each of
// `stages` stages; empty if nothing. Names the step, the first stage whose ranks differ, their
// digests, and which of them are in the minority. Shape: digests [ranks of a stage][stages].
std::string FindDigestDifference(uint64_t step, std::span<const uint64_t> digests, size_t stages);

}  // namespace shoal::forward
