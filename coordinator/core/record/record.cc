#include "coordinator/core/record/record.h"

#include <string>
#include <string_view>

namespace shoal::core {

Record RejectionOf(const RequestTerms& terms, const StreamError& why) {
  Record record{.kind = RecordKind::kRejected,
                .request = terms.name,
                .tenant = terms.tenant,
                .service_class = terms.service_class,
                .reason = why.reason,
                .detail = why.message};
  const auto add = [&](std::string_view name, int64_t value, std::string_view source) {
    record.figures.push_back({std::string(name), static_cast<double>(value), std::string(source)});
  };
  if (terms.deadline_ms > 0) add("deadline_ms", terms.deadline_ms, "the request");
  if (terms.attempt > 1) add("attempt", terms.attempt, "the request");
  if (why.predicted_wait_ms >= 0) {
    add("predicted_wait_ms", why.predicted_wait_ms, "the groups' reports");
  }
  if (why.retry_after_ms > 0) add("retry_after_ms", why.retry_after_ms, "what it was told");
  return record;
}

}  // namespace shoal::core
