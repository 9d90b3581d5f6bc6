// The list of the parameters' fields: it has them all, and their ranges are what is checked.

#include "transport/base/generation/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/support/every_field.h"
#include "transport/base/error.h"

namespace shoal {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

struct Anything {
  template <typename T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};

// How many fields an aggregate has: as many as can initialise it.
template <typename T, typename... Fields>
consteval size_t FieldCount() {
  if constexpr (requires { T{Fields{}..., Anything{}}; }) {
    return FieldCount<T, Fields..., Anything>();
  } else {
    return sizeof...(Fields);
  }
}

template <typename Params>
void ExpectEveryFieldIsVisited() {
  Params params;
  std::set<std::string_view> names;
  std::set<const void*> addresses;
  ForEachField(params, [&](const ParamField& field, const auto& value) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name << " comes twice";
    EXPECT_TRUE(addresses.insert(&value).second) << field.name << " is another field's";
  });
  EXPECT_EQ(addresses.size(), FieldCount<Params>()) << "a field of the struct is not visited";
}

TEST(ForEachField, VisitsEveryFieldOfTheStructs) {
  ExpectEveryFieldIsVisited<SamplingParams>();
  ExpectEveryFieldIsVisited<GenerationParams>();
}

// What the tests of the codecs rest on.
TEST(EveryFieldSet, DiffersFromTheDefaultsInEveryField) {
  const GenerationParams every = test::EveryFieldSet();
  EXPECT_THAT(test::DifferentFields(every, GenerationParams()),
              SizeIs(FieldCount<SamplingParams>() + FieldCount<GenerationParams>() - 1));
  EXPECT_THAT(test::DifferentFields(every, every), IsEmpty());
}

std::string Refusal(const GenerationParams& params) {
  try {
    CheckParams(params);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

// Sets the field of that name, where it is a number.
void Set(GenerationParams& params, std::string_view name, double number) {
  const auto set = [&](const ParamField& field, auto& value) {
    using Value = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_arithmetic_v<Value>) {
      if (field.name == name) value = static_cast<Value>(number);
    }
  };
  ForEachField(params, set);
  ForEachField(params.sampling, set);
}

TEST(CheckParams, HoldsEveryNumberToTheRangeOfItsField) {
  int checked = 0;
  const auto check = [&](const ParamField& field, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_arithmetic_v<Value>) {
      if (!std::isfinite(field.lowest)) return;
      ++checked;
      const auto refusal = [&](double number) {
        GenerationParams params;
        Set(params, field.name, number);
        return Refusal(params);
      };
      const auto names_it = StartsWith(Str(field.name, " is "));
      const double step = std::is_integral_v<Value> ? 1 : 0.001;
      EXPECT_THAT(refusal(field.lowest - step), names_it);
      EXPECT_EQ(refusal(field.highest), "") << field.name;
      if (field.above_lowest) {
        EXPECT_THAT(refusal(field.lowest), names_it);
      } else {
        EXPECT_EQ(refusal(field.lowest), "") << field.name;
      }
      if (field.highest < INT32_MAX) {
        EXPECT_THAT(refusal(field.highest + step), names_it);
      }
      if constexpr (std::is_floating_point_v<Value>) {
        EXPECT_THAT(refusal(std::nan("")), names_it);
      }
    }
  };
  const GenerationParams defaults;
  ForEachField(defaults, check);
  ForEachField(defaults.sampling, check);
  EXPECT_GE(checked, 10);
}

TEST(CheckParams, BoundsEveryListAndText) {
  GenerationParams params;
  params.stop_ids.resize(kStopIdsMax + 1);
  EXPECT_THAT(Refusal(params), StartsWith("stop_ids has 1025 tokens: expected at most 1024"));
  params = {};
  params.cache_salt.resize(kCacheSaltBytesMax + 1);
  EXPECT_THAT(Refusal(params), StartsWith("cache_salt has 257 bytes: expected at most 256"));
  params = {};
  params.grammar.kind = static_cast<GrammarKind>(9);
  EXPECT_THAT(Refusal(params), StartsWith("grammar is of kind 9"));
}

TEST(CheckParams, RefusesAGrammarsTextWhoseKindTakesNone) {
  for (const GrammarKind kind : {GrammarKind::kNone, GrammarKind::kJsonObject}) {
    GenerationParams params;
    params.grammar = {kind, "a+"};
    EXPECT_THAT(Refusal(params), StartsWith("grammar has a text of 2 bytes"));
    params.grammar.text.clear();
    EXPECT_EQ(Refusal(params), "");
  }
}

}  // namespace
}  // namespace shoal
