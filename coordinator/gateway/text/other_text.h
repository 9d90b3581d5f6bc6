#pragma once

// The text side of the models whose files this coordinator does not read.

#include <optional>

#include "coordinator/gateway/text/text_service.h"
#include "transport/base/group.h"

namespace shoal::gateway {

// None if `own`, the one that this coordinator reads, is the model's. Otherwise one without a
// tokenizer, which says so to whoever asks for text, and without end-of-sequence ids: requests
// bring their own.
std::optional<TextService> OtherText(const ServedModel& model, const TextService& own);

}  // namespace shoal::gateway
