#include "coordinator/gateway/api/fields/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/gateway/api/api_error.h"
#include "transport/base/check.h"
#include "transport/base/generation/fields.h"

namespace shoal::gateway {
namespace {

void ReadTemperature(JsonReader& fields, SamplingParams& sampling) {
  // Nearer to 0 than the arithmetic of a choice reaches (kernels/ARITHMETIC.md, section 6): it is
  // 0.
  sampling.temperature = fields.Number("temperature", 0, 100).value_or(1);
  if (sampling.temperature < kTemperatureMin) sampling.temperature = 0;
}

void ReadTopK(JsonReader& fields, SamplingParams& sampling) {
  // -1 is another spelling of "all" among OpenAI-compatible servers.
  const int64_t top_k = fields.Int("top_k", -1, INT32_MAX).value_or(0);
  sampling.top_k = static_cast<int32_t>(top_k < 0 ? 0 : top_k);
}

void ReadTopP(JsonReader& fields, SamplingParams& sampling) {
  // 0 means the most likely token alone. So does the least positive share: the first token that is
  // left has it.
  sampling.top_p = fields.Number("top_p", 0, 1).value_or(1);
  if (sampling.top_p == 0) sampling.top_p = std::numeric_limits<double>::min();
}

void ReadSeed(JsonReader& fields, SamplingParams& sampling) {
  if (const auto seed = fields.Int("seed", INT64_MIN, INT64_MAX)) {
    sampling.seed = static_cast<uint64_t>(*seed);
  }
}

// An object's key: a token id as a decimal number, in its one spelling.
int32_t ReadBiasToken(const std::string& key) {
  int32_t token = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
  if (error != std::errc() || token < 0 || std::to_string(token) != key) {
    throw ApiError("logit_bias",
                   Str("logit_bias has the key \"", key, "\": expected token ids like \"50256\""));
  }
  return token;
}

void ReadLogitBias(JsonReader& fields, SamplingParams& sampling) {
  const nlohmann::ordered_json* const value = fields.Find("logit_bias");
  if (value == nullptr) return;
  JsonReader biases(*value, "logit_bias");
  if (static_cast<int64_t>(value->size()) > kLogitBiasesMax) {
    throw ApiError("logit_bias", Str("logit_bias must have at most ", kLogitBiasesMax,
                                     " tokens, not ", value->size()));
  }
  for (auto member = value->begin(); member != value->end(); ++member) {
    const int32_t token = ReadBiasToken(member.key());
    const auto bias = biases.Number(member.key(), -kLogitBiasMax, kLogitBiasMax);
    if (bias) sampling.logit_bias.push_back({token, static_cast<float>(*bias)});
  }
}

void ReadElsewhere(JsonReader&, SamplingParams&) {}

// A field that is not read by its type and range alone.
struct OwnForm {
  std::string_view name;
  void (*read)(JsonReader& fields, SamplingParams& sampling);
  std::string_view note;  // Empty: its row, if the API has it, is among the others of the table.
};

constexpr OwnForm kOwnForms[] = {
    {"temperature", ReadTemperature, "0 to 100; below 1e-05 it is 0, the most likely token"},
    {"top_k", ReadTopK, "0 or more; 0 and -1: all"},
    {"top_p", ReadTopP, "0 to 1; 0: the most likely token alone"},
    {"seed", ReadSeed, "an int64"},
    {"logit_bias", ReadLogitBias, "an object of at most 1024 token ids, -100 to 100 each"},
    {"choice", ReadElsewhere, ""},
    {"min_tokens", ReadElsewhere, ""},
};

const OwnForm* FindOwnForm(std::string_view name) {
  const auto* const form = std::ranges::find(kOwnForms, name, &OwnForm::name);
  return form == std::end(kOwnForms) ? nullptr : form;
}

// "above 0 to 1"
std::string RangeNote(const ParamField& field) {
  return Str(field.above_lowest ? "above " : "", field.lowest, " to ", field.highest);
}

double ReadNumber(JsonReader& fields, const ParamField& field, double absent) {
  const double value = fields.Number(field.name, field.lowest, field.highest).value_or(absent);
  if (!field.above_lowest || value > field.lowest) return value;
  const std::string name(field.name);
  throw ApiError(name, Str(name, " must be above ", field.lowest, " and at most ", field.highest,
                           ", not ", value));
}

}  // namespace

void ReadSampling(JsonReader& fields, SamplingParams& sampling) {
  ForEachField(sampling, [&](const ParamField& field, auto& value) {
    if (const OwnForm* const form = FindOwnForm(field.name)) return form->read(fields, sampling);
    if constexpr (std::is_same_v<decltype(value), double&>) {
      value = ReadNumber(fields, field, value);
    } else {
      SHOAL_CHECK(false, field.name, " is no number: say in kOwnForms how it is read");
    }
  });
}

std::span<const Parameter> SamplingParameters() {
  static const std::vector<Parameter> kRows = [] {
    static std::deque<std::string> notes;
    std::vector<Parameter> rows;
    const SamplingParams defaults;
    ForEachField(defaults, [&](const ParamField& field, const auto&) {
      const OwnForm* const form = FindOwnForm(field.name);
      if (form != nullptr && form->note.empty()) return;
      rows.push_back({.name = field.name,
                      .note = form != nullptr ? form->note : notes.emplace_back(RangeNote(field))});
    });
    return rows;
  }();
  return kRows;
}

}  // namespace shoal::gateway
