#include "coordinator/gateway/resume/request_digest.h"

// SHA-256, cut. Everything is hashed with its length or in a fixed size, so that no two requests
// read the same.

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>

#include "transport/base/check.h"
#include "transport/base/generation/fields.h"

namespace shoal::gateway {
namespace {

class Hasher {
 public:
  Hasher() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    SHOAL_CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  template <typename Number>
  requires(std::is_arithmetic_v<Number> || std::is_enum_v<Number>) void Add(const Number& value) {
    Bytes(&value, sizeof(value));
  }
  void Add(std::string_view text) {
    Add(uint64_t{text.size()});
    Bytes(text.data(), text.size());
  }
  void Add(const std::string& text) { Add(std::string_view(text)); }
  void Add(const std::vector<int32_t>& ids) {
    Add(uint64_t{ids.size()});
    Bytes(ids.data(), ids.size() * sizeof(int32_t));
  }
  void Add(const std::vector<LogitBias>& biases) {
    Add(uint64_t{biases.size()});
    for (const LogitBias& bias : biases) {
      Add(bias.token);
      Add(bias.bias);
    }
  }
  void Add(const GrammarSource& grammar) {
    Add(grammar.kind);
    Add(grammar.text);
  }
  void Add(const SamplingParams& params) { AddFields(params); }
  void Add(const GenerationParams& params) { AddFields(params); }

  // Of answers whose parts are told apart; without, nothing is added.
  void AddSyntax(const ApiRequest& request, const PromptPlan& prompt) {
    if (!prompt.splits()) return;
    const text::AnswerSyntax& syntax = prompt.syntax;
    Add(std::string_view("told apart"));
    Add(syntax.tools ? static_cast<int32_t>(*syntax.tools) : -1);
    Add(syntax.reasoning_begin);
    Add(syntax.reasoning_end);
    Add(syntax.begins_in_reasoning);
    Add(request.shows_reasoning);
    Add(request.tools.parallel);
    Add(request.tools.legacy);
  }

  // Last, so that without one the digest is what it would be without keys.
  void AddOwner(std::string_view owner) {
    if (!owner.empty()) Add(owner);
  }

  Digest Take() {
    std::array<unsigned char, 32> whole{};
    unsigned int length = 0;
    SHOAL_CHECK(EVP_DigestFinal_ex(context_.get(), whole.data(), &length) == 1);
    Digest digest{};
    std::copy_n(whole.begin(), digest.size(), digest.begin());
    return digest;
  }

 private:
  template <typename Params>
  void AddFields(const Params& params) {
    ForEachField(params, [this](const ParamField&, const auto& value) { Add(value); });
  }
  void Bytes(const void* data, size_t size) {
    SHOAL_CHECK(EVP_DigestUpdate(context_.get(), data, size) == 1);
  }

  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

Digest DigestText(std::string_view text) {
  Hasher hasher;
  hasher.Add(text);
  return hasher.Take();
}

Digest DigestRequest(const ApiRequest& request, std::span<const PromptPlan> prompts,
                     std::string_view owner) {
  Hasher hasher;
  hasher.Add(request.stream);
  hasher.Add(request.include_usage);
  hasher.Add(request.continuous_usage);
  hasher.Add(request.answers_per_prompt);
  hasher.Add(uint64_t{request.stop.size()});
  for (const std::string& stop : request.stop) hasher.Add(stop);
  hasher.Add(request.shows_stop);
  hasher.Add(request.shows_special);
  hasher.Add(request.echo);
  hasher.Add(request.return_token_ids);
  hasher.Add(uint64_t{prompts.size()});
  for (const PromptPlan& prompt : prompts) {
    hasher.Add(prompt.ids);
    hasher.Add(prompt.text);
    hasher.Add(prompt.bos_added);
    hasher.Add(prompt.params);
    hasher.AddSyntax(request, prompt);
  }
  hasher.AddOwner(owner);
  return hasher.Take();
}

Digest DigestRequest(const std::vector<int32_t>& prompt, const GenerationParams& params,
                     bool has_text, std::string_view owner) {
  Hasher hasher;
  hasher.Add(prompt);
  hasher.Add(params);
  hasher.Add(has_text);
  hasher.AddOwner(owner);
  return hasher.Take();
}

}  // namespace shoal::gateway
