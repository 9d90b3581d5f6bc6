#include "coordinator/gateway/resume/cursor.h"

// Fields, then the first 16 bytes of their HMAC-SHA256, in base64url. Numbers are in groups of
// seven bits, the lowest first.

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "transport/base/check.h"

namespace shoal::gateway {
namespace {

constexpr uint8_t kCursorVersion = 1;
constexpr size_t kCodeBytes = 16;
// The same key must not serve for anything else: this is part of what the code covers.
constexpr std::string_view kPurpose = "shoal answer cursor";
constexpr std::string_view kBase64Digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

constexpr uint8_t kUsageWrittenFlag = 1;
constexpr uint8_t kRecomputingFlag = 2;
constexpr uint8_t kDoneFlag = 4;

std::string ToBase64Url(std::string_view bytes) {
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<uint8_t>(c);
    for (count += 8; count >= 6; count -= 6) text += kBase64Digits[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kBase64Digits[bits << (6 - count) & 63];
  return text;
}

// None if that is not the one way to write some bytes.
std::optional<std::string> FromBase64Url(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kBase64Digits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  if (count >= 6 || (bits & ((1U << count) - 1)) != 0) return std::nullopt;
  return bytes;
}

class FieldWriter {
 public:
  void Byte(uint8_t value) { bytes_ += static_cast<char>(value); }
  void Number(uint64_t value) {
    for (; value >= 128; value >>= 7) Byte(static_cast<uint8_t>(value | 128));
    Byte(static_cast<uint8_t>(value));
  }
  void Fixed(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) Byte(static_cast<uint8_t>(value >> shift));
  }
  void Bytes(const Digest& digest) { bytes_.append(digest.begin(), digest.end()); }
  void Text(std::string_view text) {
    Number(text.size());
    bytes_ += text;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// After something that is not there, everything is zero and `good` false.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  uint8_t Byte() {
    if (rest_.empty()) good_ = false;
    if (!good_) return 0;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  uint64_t Number() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      value |= uint64_t{byte & 127U} << shift;
      if (byte < 128) return value;
    }
    good_ = false;
    return 0;
  }
  int64_t Count() {
    const uint64_t value = Number();
    if (value > uint64_t{std::numeric_limits<int64_t>::max()}) good_ = false;
    return good_ ? static_cast<int64_t>(value) : 0;
  }
  uint64_t Fixed() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 8) value |= uint64_t{Byte()} << shift;
    return value;
  }
  Digest Bytes() {
    Digest digest{};
    for (uint8_t& byte : digest) byte = Byte();
    return digest;
  }
  std::string Text() {
    const uint64_t size = Number();
    if (size > rest_.size()) good_ = false;
    if (!good_) return "";
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }
  bool good() const { return good_; }
  bool at_end() const { return good_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool good_ = true;
};

void WriteChoice(FieldWriter& out, const ChoicePosition& choice) {
  const auto count = [&out](int64_t value) { out.Number(static_cast<uint64_t>(value)); };
  if (!choice.ended) return count(choice.units * 2);
  count(choice.completion_tokens * 2 + 1);
  count(choice.cached_tokens);
  count(choice.resumes);
}

ChoicePosition ReadChoice(FieldReader& in) {
  ChoicePosition choice;
  const int64_t number = in.Count();
  choice.ended = number % 2 == 1;
  if (!choice.ended) {
    choice.units = number / 2;
    return choice;
  }
  choice.completion_tokens = number / 2;
  choice.cached_tokens = in.Count();
  choice.resumes = in.Count();
  return choice;
}

std::optional<Cursor> ReadCursor(std::string_view fields) {
  FieldReader in(fields);
  if (in.Byte() != kCursorVersion) return std::nullopt;
  Cursor cursor;
  const uint8_t door = in.Byte();
  if (door > static_cast<uint8_t>(CursorDoor::kRpc)) return std::nullopt;
  cursor.door = static_cast<CursorDoor>(door);
  const uint8_t flags = in.Byte();
  cursor.usage_written = (flags & kUsageWrittenFlag) != 0;
  cursor.recomputing = (flags & kRecomputingFlag) != 0;
  cursor.done = (flags & kDoneFlag) != 0;
  cursor.created = in.Count();
  cursor.answer.high = in.Fixed();
  cursor.answer.low = in.Fixed();
  cursor.seed = in.Fixed();
  cursor.kv_cache_tokens = in.Count();
  cursor.request = in.Bytes();
  cursor.model = in.Bytes();
  cursor.numerics_id = in.Text();
  const int64_t choice_count = in.Count();
  if (!in.good() || choice_count > kResumableSequencesMax) return std::nullopt;
  for (int64_t i = 0; i < choice_count; ++i) cursor.choices.push_back(ReadChoice(in));
  if (!in.at_end()) return std::nullopt;
  return cursor;
}

std::string_view DoorName(CursorDoor door) {
  switch (door) {
    case CursorDoor::kCompletions:
      return "/v1/completions";
    case CursorDoor::kChat:
      return "/v1/chat/completions";
    case CursorDoor::kRpc:
      return "the RPC port";
  }
  return "unknown";
}

}  // namespace

CursorCodec::CursorCodec(std::string key) : key_(std::move(key)) {
  SHOAL_CHECK(key_.size() == kCursorKeyBytes, "a key of ", key_.size(), " bytes");
}

std::string CursorCodec::Code(std::string_view fields) const {
  const std::string text = Str(kPurpose, fields);
  std::array<unsigned char, 32> code{};
  unsigned int length = 0;
  const auto* done =
      HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), code.data(), &length);
  SHOAL_CHECK(done != nullptr && length == code.size());
  return {code.begin(), code.begin() + kCodeBytes};
}

std::string CursorCodec::Encode(const Cursor& cursor) const {
  FieldWriter out;
  out.Byte(kCursorVersion);
  out.Byte(static_cast<uint8_t>(cursor.door));
  out.Byte((cursor.usage_written ? kUsageWrittenFlag : 0) |
           (cursor.recomputing ? kRecomputingFlag : 0) | (cursor.done ? kDoneFlag : 0));
  out.Number(static_cast<uint64_t>(cursor.created));
  out.Fixed(cursor.answer.high);
  out.Fixed(cursor.answer.low);
  out.Fixed(cursor.seed);
  out.Number(static_cast<uint64_t>(cursor.kv_cache_tokens));
  out.Bytes(cursor.request);
  out.Bytes(cursor.model);
  out.Text(cursor.numerics_id);
  out.Number(cursor.choices.size());
  for (const ChoicePosition& choice : cursor.choices) WriteChoice(out, choice);
  return ToBase64Url(out.bytes() + Code(out.bytes()));
}

std::variant<Cursor, StreamError> CursorCodec::Decode(std::string_view text, int64_t now) const {
  const auto invalid = [](const std::string& why) {
    return MakeStreamError(BusyReason::kCursorInvalid,
                           Str("the cursor ", why, ": send the request without it"));
  };
  if (text.size() > kCursorTextBytesMax) {
    return invalid(Str("has ", text.size(), " characters, expected at most ", kCursorTextBytesMax));
  }
  const std::optional<std::string> bytes = FromBase64Url(text);
  const std::string damaged =
      "is damaged, or was given out under another key (a coordinator keeps its key in --state-dir)";
  if (!bytes || bytes->size() < kCodeBytes) return invalid(damaged);
  const std::string_view fields = std::string_view(*bytes).substr(0, bytes->size() - kCodeBytes);
  const std::string code = Code(fields);
  if (CRYPTO_memcmp(code.data(), bytes->data() + fields.size(), kCodeBytes) != 0) {
    return invalid(damaged);
  }
  std::optional<Cursor> cursor = ReadCursor(fields);
  if (!cursor) return invalid("is of another version of this server");
  if (now > cursor->created && now - cursor->created > kCursorSeconds) {
    return MakeStreamError(
        BusyReason::kCursorExpired,
        Str("the cursor is of an answer that began ", now - cursor->created,
            " seconds ago; it held for ", kCursorSeconds, ": send the request without it"));
  }
  return *std::move(cursor);
}

std::string FindMismatch(const Cursor& cursor, CursorDoor door, const Digest& model,
                         const Digest& request, size_t choice_count) {
  if (cursor.door != door) {
    return Str("the cursor is of an answer of ", DoorName(cursor.door), ", not of ",
               DoorName(door));
  }
  if (cursor.model != model) return "the cursor is of an answer of another model";
  if (cursor.request != request || cursor.choices.size() != choice_count) {
    return "the cursor is of the answer to another request, or to that of another API key: send "
           "the very request that it came from";
  }
  return "";
}

}  // namespace shoal::gateway
