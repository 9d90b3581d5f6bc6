#pragma once

// What of a request a rung can honour, and how its answer is made. Pure.

#include <optional>
#include <string>
#include <vector>

#include "coordinator/gateway/answer/generation_answer.h"
#include "coordinator/gateway/ladder/answer_cache.h"
#include "coordinator/gateway/ladder/degrader.h"

namespace shoal::gateway {

// What it asks, if a text that nothing computes can answer it: one prompt that is a text or a
// conversation (its last message of a user), and no log-probabilities, token ids, echo or grammar.
std::optional<std::string> FindQuestion(const ApiRequest& request);

// Whether the answer is text alone: then one that was given before can be given again.
bool IsTextAlone(const ApiRequest& request);
// Of a request whose answer is always the same; none if it may differ each time. Equal ones may
// come with other groups there, streamed or not.
std::optional<Digest> DigestForCache(const AnswerSetup& setup);

// An answer of that text to each of the request's choices, cut as the request wants it: before its
// stop strings, and where the tokenizer (may be null) counts max_tokens.
CachedAnswer MakeTextAnswer(const AnswerSetup& setup, const std::string& text);

// The request as a model's rung takes it. Errors: ApiError, if it cannot.
AnswerSetup MakeRungSetup(AnswerSetup setup, const ModelRung& rung);
// Long texts are not worked on in the event loop's own thread.
size_t PromptBytes(const ApiRequest& request);

// The whole answer: a body, or events up to [DONE].
std::string FormatTextBody(const AnswerFormat& format, const CachedAnswer& answer);
std::string FormatTextEvents(const AnswerFormat& format, const CachedAnswer& answer);

}  // namespace shoal::gateway
