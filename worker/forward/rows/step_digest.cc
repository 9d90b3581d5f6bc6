#include "worker/forward/rows/step_digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "transport/base/check.h"

namespace shoal::forward {
namespace {

std::string DigestText(uint64_t digest) {
  if (digest == StepDigest::kWrongSum) return "a sum that is not that of its parts";
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(digest));
  return text;
}

// By rank: whether fewer hold what it holds than hold something else alike. A rank that found a
// wrong sum is never right.
std::vector<bool> FindMinority(std::span<const uint64_t> digests) {
  std::map<uint64_t, int64_t> holders;
  for (const uint64_t digest : digests) {
    if (digest != StepDigest::kWrongSum) ++holders[digest];
  }
  int64_t most = 0;
  int64_t with_most = 0;
  for (const auto& [digest, count] : holders) {
    with_most = count > most ? 1 : with_most + (count == most);
    most = std::max(most, count);
  }
  std::vector<bool> minority;
  for (const uint64_t digest : digests) {
    minority.push_back(digest == StepDigest::kWrongSum ||
                       (with_most == 1 && holders[digest] < most));
  }
  return minority;
}

}  // namespace

void StepDigest::Add(std::span<const std::byte> bytes) {
  if (value_ == kWrongSum) return;
  const uint64_t words[] = {value_, XXH3_64bits(bytes.data(), bytes.size())};
  value_ = XXH3_64bits(words, sizeof(words));
}

void StepDigest::AddRows(const StepRows& rows, const float* residual, int64_t width) {
  for (int64_t r = 0; r < rows.count(); ++r) {
    const int64_t& bad_layer = rows[r].bad_layer;
    Add(bad_layer < 0 ? std::as_bytes(std::span(residual + r * width, width))
                      : std::as_bytes(std::span(&bad_layer, 1)));
  }
}

std::string FindDigestDifference(uint64_t step, std::span<const uint64_t> digests, size_t stages) {
  const size_t ranks = digests.size() / stages;
  std::vector<uint64_t> held(ranks);
  for (size_t stage = 0; stage < stages; ++stage) {
    for (size_t i = 0; i < ranks; ++i) held[i] = digests[i * stages + stage];
    const bool equal = std::count(held.begin(), held.end(), held[0]) == int64_t(ranks);
    if (equal && held[0] != StepDigest::kWrongSum) continue;
    const std::vector<bool> minority = FindMinority(held);
    std::string all;
    std::string wrong;
    for (size_t i = 0; i < ranks; ++i) {
      const std::string name = Str("rank ", stage * ranks + i);
      all += Str(i == 0 ? "" : ", ", name, " has ", DigestText(held[i]));
      if (minority[i]) wrong += Str(wrong.empty() ? "" : ", ", name);
    }
    return Str("step ", step, ", stage ", stage,
               ": ranks that must hold the same bits do not: ", all, "; ",
               wrong.empty() ? "which of them is wrong cannot be told, none is in the minority"
                             : Str("in the minority, so wrong: ", wrong),
               ". Nothing of this step is used. Look for bad memory, a bad link or a program built "
               "otherwise, and start the group again");
  }
  return "";
}

}  // namespace shoal::forward
