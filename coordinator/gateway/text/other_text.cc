#include "coordinator/gateway/text/other_text.h"

#include "transport/base/check.h"

namespace shoal::gateway {

std::optional<TextService> OtherText(const ServedModel& model, const TextService& own) {
  if (own.model_name.empty() || model.model_name == own.model_name) return std::nullopt;
  TextService text;
  text.model_name = model.model_name;
  text.tokenizer_refusal = Str("this coordinator reads the tokenizer of ", own.model_name, " only");
  text.vocab_size = model.vocab_size;
  return text;
}

}  // namespace shoal::gateway
