#pragma once

// Proof that both ends of a fresh connection belong to the same group.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace shoal::link {

// 32 hexadecimal digits that nobody can guess.
std::string RandomToken();

// Three messages: the listening side sends a challenge, the dialling side answers with a code over
// both sides' nonces and ranks under the group's token, the listening side confirms with another.
// The token itself is never sent, and a recorded hello is worth nothing.
struct HelloChallenge {
  std::array<char, 8> magic;
  std::array<uint8_t, 16> nonce;
};

struct HelloAnswer {
  int32_t from;
  int32_t to;
  std::array<uint8_t, 16> nonce;
  std::array<uint8_t, 32> code;  // HMAC-SHA256.
};

struct HelloConfirmation {
  std::array<uint8_t, 32> code;
};

HelloChallenge MakeChallenge();
bool IsChallenge(const HelloChallenge& challenge);
HelloAnswer MakeAnswer(const std::string& token, const HelloChallenge& challenge, int32_t from,
                       int32_t to);
bool IsAnswer(const std::string& token, const HelloChallenge& challenge, const HelloAnswer& answer);
HelloConfirmation MakeConfirmation(const std::string& token, const HelloChallenge& challenge,
                                   const HelloAnswer& answer);
bool IsConfirmation(const std::string& token, const HelloChallenge& challenge,
                    const HelloAnswer& answer, const HelloConfirmation& confirmation);

}  // namespace shoal::link
