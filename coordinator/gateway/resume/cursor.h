#pragma once

// What a client shows to go on with an answer: opaque text that says which answer it was, of which
// request, and how far its client has it.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "transport/base/generation/stream_error.h"
#include "transport/base/generation/stream_id.h"

namespace shoal::gateway {

constexpr size_t kCursorKeyBytes = 32;
constexpr size_t kCursorTextBytesMax = 8 * 1024;
constexpr int64_t kCursorSeconds = 24 * 60 * 60;  // It holds so long.
// Of an answer that can be gone on with: its cursors say how far each of them is.
constexpr int64_t kResumableSequencesMax = 128;

using Digest = std::array<uint8_t, 16>;

enum class CursorDoor : uint8_t { kCompletions, kChat, kRpc };

// How far the client has one choice of the answer.
struct ChoicePosition {
  int64_t units = 0;  // As AnswerPiece::units_end; of one that has not ended.
  bool ended = false;
  // Of one that has ended, what the end of the whole answer tells of it:
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t resumes = 0;

  bool operator==(const ChoicePosition&) const = default;
};

struct Cursor {
  int64_t created = 0;  // Seconds since 1970: the answer's `created`, from which its life counts.
  StreamId answer{};    // The stream of choice k is {high, low + k}.
  CursorDoor door = CursorDoor::kCompletions;
  bool usage_written = false;   // Nothing is left but the stream's end,
  bool done = false;            // nor that: whoever asks all the same gets it alone.
  bool recomputing = false;     // It was generated anew before.
  uint64_t seed = 0;            // The effective one.
  int64_t kv_cache_tokens = 0;  // From which the answer's greatest length was taken.
  // Of all that its bytes come from, but for the next two, and of who asked (request_digest.h).
  Digest request{};
  Digest model{};  // Of its name.
  std::string numerics_id{};
  std::vector<ChoicePosition> choices{};  // None over RPC: its client counts itself.

  bool operator==(const Cursor&) const = default;
};

// Threading: immutable, thread-safe.
class CursorCodec {
 public:
  // `key`: kCursorKeyBytes that nobody else knows.
  explicit CursorCodec(std::string key);

  // Letters, digits, '-' and '_'.
  std::string Encode(const Cursor& cursor) const;

  // `now`: seconds since 1970. Errors: kCursorInvalid for any text that Encode of this key did not
  // give, kCursorExpired.
  std::variant<Cursor, StreamError> Decode(std::string_view text, int64_t now) const;

 private:
  std::string Code(std::string_view fields) const;

  const std::string key_;
};

// Whether the cursor is one of this request. Result: empty, or kCursorMismatch's message, naming
// what differs.
std::string FindMismatch(const Cursor& cursor, CursorDoor door, const Digest& model,
                         const Digest& request, size_t choice_count);

}  // namespace shoal::gateway
