#include "transport/link/tcp/tcp_hello.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <string_view>

#include "transport/base/error.h"

// Each side's code covers a first word of its own, so that neither can be sent back as the other's.

namespace shoal::link {
namespace {

constexpr std::array<char, 8> kMagic = {'S', 'H', 'O', 'A', 'L', 'T', 'C', '1'};

void FillRandom(std::span<uint8_t> bytes) {
  SHOAL_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
}

template <typename T>
void Append(std::string& text, const T& value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::array<uint8_t, 32> Code(const std::string& token, std::string_view role,
                             const HelloChallenge& challenge, const HelloAnswer& answer) {
  std::string text(role);
  Append(text, challenge.nonce);
  Append(text, answer.nonce);
  Append(text, answer.from);
  Append(text, answer.to);
  std::array<uint8_t, 32> code{};
  unsigned int length = 0;
  const auto* done =
      HMAC(EVP_sha256(), token.data(), static_cast<int>(token.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), code.data(), &length);
  SHOAL_CHECK(done != nullptr && length == code.size());
  return code;
}

bool SameCode(const std::array<uint8_t, 32>& a, const std::array<uint8_t, 32>& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string RandomToken() {
  std::array<uint8_t, 16> bytes;
  FillRandom(bytes);
  std::string text;
  for (const uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

HelloChallenge MakeChallenge() {
  HelloChallenge challenge{.magic = kMagic, .nonce = {}};
  FillRandom(challenge.nonce);
  return challenge;
}

bool IsChallenge(const HelloChallenge& challenge) { return challenge.magic == kMagic; }

HelloAnswer MakeAnswer(const std::string& token, const HelloChallenge& challenge, int32_t from,
                       int32_t to) {
  HelloAnswer answer{.from = from, .to = to, .nonce = {}, .code = {}};
  FillRandom(answer.nonce);
  answer.code = Code(token, "dial", challenge, answer);
  return answer;
}

bool IsAnswer(const std::string& token, const HelloChallenge& challenge,
              const HelloAnswer& answer) {
  return SameCode(answer.code, Code(token, "dial", challenge, answer));
}

HelloConfirmation MakeConfirmation(const std::string& token, const HelloChallenge& challenge,
                                   const HelloAnswer& answer) {
  return {Code(token, "listen", challenge, answer)};
}

bool IsConfirmation(const std::string& token, const HelloChallenge& challenge,
                    const HelloAnswer& answer, const HelloConfirmation& confirmation) {
  return SameCode(confirmation.code, Code(token, "listen", challenge, answer));
}

}  // namespace shoal::link
