#pragma once

// Parameters of which no field has its default, and what two of them differ in, for tests of what
// must carry every field. They know no field by name.

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/generation/fields.h"

namespace shoal::test {

// Gives each field a value of its own. It need not be one that CheckParams takes.
class SetEveryField {
 public:
  void operator()(const ParamField&, double& value) { value = 0.123456789 + Next(); }
  void operator()(const ParamField&, int32_t& value) { value = -1'000'000'000 - Next(); }
  void operator()(const ParamField&, uint32_t& value) { value = 4'000'000'000U + Next(); }
  void operator()(const ParamField&, int64_t& value) { value = -(int64_t{1} << 60) - Next(); }
  void operator()(const ParamField&, uint64_t& value) { value = ~uint64_t{0} - Next(); }
  void operator()(const ParamField&, bool& value) { value = !value; }
  void operator()(const ParamField&, std::string& value) { value = {'s', '\0', Letter()}; }
  void operator()(const ParamField&, std::vector<int32_t>& value) { value = {-1, 7, Next()}; }
  void operator()(const ParamField&, std::vector<LogitBias>& value) {
    value = {{49'151, -100.0F}, {Next(), 0.1F}};
  }
  void operator()(const ParamField&, GrammarSource& value) {
    value = {GrammarKind::kChoice, {'g', '\0', Letter()}};
  }
  void operator()(const ParamField&, SamplingParams& value) { ForEachField(value, *this); }

 private:
  uint8_t Next() { return ++last_; }
  char Letter() { return static_cast<char>('a' + Next() % 26); }

  uint8_t last_ = 0;
};

inline GenerationParams EveryFieldSet() {
  GenerationParams params;
  SetEveryField set;
  ForEachField(params, set);
  return params;
}

// The names of the fields whose values differ; of `sampling` those of its own.
template <typename Params>
std::vector<std::string_view> DifferentFields(const Params& left, const Params& right) {
  std::vector<std::string_view> names;
  ForEachField(left, [&](const ParamField& field, const auto& a) {
    ForEachField(right, [&](const ParamField& other, const auto& b) {
      if constexpr (std::same_as<decltype(a), decltype(b)>) {
        if (field.name != other.name || a == b) return;
        if constexpr (std::same_as<decltype(a), const SamplingParams&>) {
          for (const std::string_view name : DifferentFields(a, b)) names.push_back(name);
        } else {
          names.push_back(field.name);
        }
      }
    });
  });
  return names;
}

}  // namespace shoal::test
