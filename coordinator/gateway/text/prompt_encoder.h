#pragma once

// The one way in: from what a client sends, over HTTP or RPC, to token ids and parameters that a
// group takes.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/text/request_error.h"
#include "coordinator/gateway/text/text_service.h"
#include "transport/base/generation/generation.h"
#include "transport/base/generation/prompt.h"
#include "transport/base/group.h"

namespace shoal::gateway {

// How an API spells what the encoder may complain of, and what its callers can do about it.
struct ApiWords {
  std::string_view stop_ids;
  std::string_view tokens_max;
  std::string_view instead_of_text;  // Where the model has no tokenizer.
  std::string_view instead_of_chat;  // Where it has no chat template.
};

// Prompts that share their parameters.
struct PromptRequest {
  std::span<const PromptInput> prompts;
  ChatForm chat{};                        // Of those that are conversations.
  std::string field = "prompt";           // Of several prompts, each is prompt[i].
  bool adds_bos = true;                   // To a text, where that is the model's rule.
  bool stops_at_eos = true;               // The model's end-of-sequence ids are stop ids too.
  GenerationParams params{};              // But for tokens_max.
  std::optional<int64_t> tokens_max{};    // None: as many as there is room for.
  bool may_only_echo = false;             // tokens_max may be 0: nothing is asked of a group.
  std::string grammar_field = "grammar";  // Where params.grammar comes from.
};

struct EncodedRequest {
  std::vector<int32_t> ids;
  bool bos_added = false;   // ids[0] is not part of the text.
  GenerationParams params;  // tokens_max and min_tokens cut to the room that the context leaves.
};

// Ids below it are what every group takes: of the model that the tokenizer came with, and of the
// groups.
int32_t VocabSize(const TextService& text, const ServedModel& model);

// The version of the model of that name that takes new requests; of the region's own if the name is
// empty. Errors: RequestError, of kind kUnknownModel, with the names that are served.
const ServedModel& NeedModel(const std::vector<ServedModel>& models, const std::string& name);

// Pure. Threading: any thread, as long as what it was made of lives.
class PromptEncoder {
 public:
  // `own`: the text side that this coordinator reads. Of other models it takes token ids alone.
  // While nothing is known of the served model, lengths are not checked: nobody takes requests.
  PromptEncoder(const TextService& own, const ServedModel& model, const ApiWords& words);
  PromptEncoder(const PromptEncoder&) = delete;
  PromptEncoder& operator=(const PromptEncoder&) = delete;

  // One result for each prompt, in order. Errors: RequestError.
  std::vector<EncodedRequest> Encode(const PromptRequest& request) const;

  const text::Tokenizer* tokenizer() const { return text_.tokenizer; }  // Null: there is none.
  // How its model writes answers.
  const TextService& text() const { return text_; }
  // Compiles it, as the ranks will. Errors: RequestError; mostly of kind kInvalidGrammar.
  void CheckGrammar(const GrammarSource& grammar, const std::string& field) const;
  // Errors: RequestError, of kind kNoTokenizer.
  const text::Tokenizer& NeedTokenizer(const std::string& field) const;

 private:
  // What can be said of the parameters before a prompt is known. Result: with the model's stop ids.
  GenerationParams CheckShared(const PromptRequest& request) const;
  EncodedRequest EncodePrompt(const PromptInput& prompt, const std::string& field,
                              const PromptRequest& request) const;
  EncodedRequest EncodeText(const std::string& prompt, const std::string& field,
                            bool adds_bos) const;
  std::vector<int32_t> EncodeChat(const Conversation& chat, const ChatForm& form,
                                  const std::string& field) const;
  void CheckIds(const std::vector<int32_t>& ids, bool from_text, const std::string& field) const;
  // How many tokens may be generated.
  int64_t GrantLength(int64_t prompt_tokens, std::optional<int64_t> tokens_max,
                      const std::string& field) const;

  const std::optional<TextService> other_;  // None: the model is the text side's own.
  const TextService& text_;
  const ServedModel& model_;
  const ApiWords& words_;
  const int32_t vocab_size_;
};

}  // namespace shoal::gateway
