#define PCRE2_CODE_UNIT_WIDTH 8

#include "parallel/text/search/search_pattern.h"

#include <pcre2.h>

#include "transport/base/check.h"
#include "transport/base/error.h"

namespace shoal::text {
namespace {

constexpr uint32_t kStepsMax = 100'000;

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

template <typename T, auto kFree>
using Owned = std::unique_ptr<T, Free<kFree>>;

}  // namespace

struct SearchPattern::Parts {
  Owned<pcre2_code_8, pcre2_code_free_8> code;
  Owned<pcre2_match_data_8, pcre2_match_data_free_8> data;
  Owned<pcre2_match_context_8, pcre2_match_context_free_8> context;
  size_t group_count = 0;
};

SearchPattern::SearchPattern(const std::string& pattern) : parts_(std::make_unique<Parts>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  parts_->code.reset(pcre2_compile_8(
      reinterpret_cast<PCRE2_SPTR8>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
  if (parts_->code == nullptr) {
    PCRE2_UCHAR8 message[256];
    pcre2_get_error_message_8(error, message, sizeof(message));
    Throw(ErrorCode::kInvalidArgument, "byte ", offset,
          " of the expression: ", reinterpret_cast<const char*>(message));
  }
  parts_->data.reset(pcre2_match_data_create_from_pattern_8(parts_->code.get(), nullptr));
  parts_->context.reset(pcre2_match_context_create_8(nullptr));
  SHOAL_CHECK(parts_->data != nullptr && parts_->context != nullptr, "out of memory");
  pcre2_set_match_limit_8(parts_->context.get(), kStepsMax);
  uint32_t groups = 0;
  pcre2_pattern_info_8(parts_->code.get(), PCRE2_INFO_CAPTURECOUNT, &groups);
  parts_->group_count = groups;
}

SearchPattern::~SearchPattern() = default;
SearchPattern::SearchPattern(SearchPattern&&) noexcept = default;
SearchPattern& SearchPattern::operator=(SearchPattern&&) noexcept = default;

size_t SearchPattern::group_count() const { return parts_->group_count; }

std::optional<size_t> SearchPattern::GroupOf(const std::string& name) const {
  const int group = pcre2_substring_number_from_name_8(parts_->code.get(),
                                                       reinterpret_cast<PCRE2_SPTR8>(name.c_str()));
  if (group <= 0) return std::nullopt;
  return static_cast<size_t>(group);
}

std::optional<std::vector<std::string>> SearchPattern::Find(std::string_view text) const {
  const int found = pcre2_match_8(parts_->code.get(), reinterpret_cast<PCRE2_SPTR8>(text.data()),
                                  text.size(), 0, 0, parts_->data.get(), parts_->context.get());
  if (found < 0) return std::nullopt;
  const PCRE2_SIZE* ranges = pcre2_get_ovector_pointer_8(parts_->data.get());
  std::vector<std::string> groups(parts_->group_count + 1);
  for (size_t i = 0; i < static_cast<size_t>(found); ++i) {
    if (ranges[2 * i] == PCRE2_UNSET || ranges[2 * i] > ranges[2 * i + 1]) continue;
    groups[i] = text.substr(ranges[2 * i], ranges[2 * i + 1] - ranges[2 * i]);
  }
  return groups;
}

}  // namespace shoal::text
