#include "transport/base/generation.h"

namespace shoal {

std::string_view ToString(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kNumericError:
      return "numeric_error";
  }
  return "unknown";
}

}  // namespace shoal
