#pragma once

// What a request says of itself besides what to generate: whose it is, how important, by when.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "transport/base/clock.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/overload/service_class.h"

namespace shoal {

constexpr int64_t kDeadlineMsMax = 7 * 24 * 3'600'000LL;
constexpr int32_t kAttemptMax = 1'000;
constexpr size_t kSessionBytesMax = 256;

// None of it changes a bit of the answer.
struct RequestTerms {
  std::string name{};    // What its client and the records call it: X-Request-Id.
  std::string tenant{};  // Set by the door, from the key that was shown. Empty: the default one.
  std::optional<ServiceClass> service_class{};  // As asked for; at most the tenant's own.
  int64_t deadline_ms = 0;  // From its coming on, at most kDeadlineMsMax. 0: none.
  int32_t attempt = 1;      // 1 for the first, 2 for the first retry, ...; at most kAttemptMax.
  std::string session{};    // Requests of one go to the same group, if that is well.
  bool may_degrade = true;  // A lower rung of the ladder may answer it.

  bool operator==(const RequestTerms&) const = default;
};

// Errors: kInvalidArgument, naming the field, its value and its range, if one is out of bounds.
void CheckTerms(const RequestTerms& terms);

// So much of its time has passed before it was read: what is left is its deadline from now on.
// Result: why it is not taken, if nothing is left.
std::optional<StreamError> TakeTime(RequestTerms& terms, TimeNs passed);

}  // namespace shoal
