#pragma once

// The streams that have not ended: all that it takes to continue each, where it runs, and in which
// order those are served that wait for the same model.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "coordinator/core/groups/model.h"
#include "coordinator/core/predict/wait_answer.h"
#include "coordinator/core/queue/fair_queue.h"
#include "coordinator/core/streams/generation_state.h"
#include "coordinator/core/tenants/tenants.h"
#include "transport/base/clock.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// Why a stream waits that had a group already.
struct Parked {
  // None: that group has done nothing with it, for it had no room, or ended before it had it.
  std::optional<LossCause> cause = LossCause::kRankDied;
  std::string why{};  // "group 1 (...) was lost: rank 0 (...): its connection closed"
};

// Streams that nobody listens to.
constexpr size_t kDetachedStreamsMax = 1'024;

// What a stream brought besides its tokens; only of resumable ones. Bounded by their own length.
struct Kept {
  std::vector<TokenLogprobs> logprobs{};
  std::vector<TokenLogprobs> prompt_logprobs{};
  int64_t cached_tokens = 0;
};

// Plain data.
struct Stream : GenerationState {
  explicit Stream(Request granted) : GenerationState(std::move(granted)) {}

  // Remembers what an update brought besides its tokens.
  void Keep(const SequenceUpdate& update);
  // Tokens that it may still cost a group: its prompt, until its first token is there, and the rest
  // of its answer at its longest.
  int64_t work_left() const;
  // It lost so many groups that the next one may be its doing: no other such stream is beside it.
  bool on_trial() const;

  ModelKey key;                         // Only groups of it may answer.
  int64_t tokens_needed = 0;            // Prompt and answer at their longest.
  std::optional<int64_t> tokens_asked;  // Before tokens_max was cut to the context. None: unknown.
  uint64_t arrival = 0;  // The later it came, the higher; its turn, however often it waits.
  std::optional<uint64_t> group;  // None: waiting.
  SequenceId sequence = 0;        // In its group; new with every group. 0: waiting.
  std::optional<Parked> parked;   // While it waits for its next group.
  int32_t groups_lost = 0;
  int32_t groups_lost_max = 0;      // Then it ends.
  int32_t groups_had = 0;           // That took it, and may have worked on it.
  int32_t resumes = 0;              // Groups that went on with it.
  int32_t preemptions = 0;          // That its group has told of.
  std::optional<uint64_t> gave_up;  // The last group that gave it up and went on.
  // While it waits and no group that is ready could ever hold it: since when.
  std::optional<TimeNs> stranded_since;
  TimeNs token_time = 0;  // Of its last token; before its first one, of its coming.
  bool stalls = false;    // It was resumed, and its next token is due.
  // Since when nobody listens; none: somebody does.
  std::optional<TimeNs> detached_since;
  Kept kept;
  bool cached_told = false;        // Its listener knows how many tokens of the prompt were cached.
  Grant grant;                     // What it was charged.
  std::optional<TimeNs> deadline;  // When it ends at the latest.
  std::optional<TimeNs> group_deadline;  // As its group was told; at least that.
  TimeNs arrival_time = 0;
  std::optional<WaitAnswer> predicted;  // When it came.
};
using StreamMap = std::map<StreamId, Stream>;
using DeadlineSet = std::set<std::pair<TimeNs, StreamId>>;  // The next one first.

// A stream without a group waits; one that waits has no group. Threading: none; owned by Region.
class Streams {
 public:
  // `random`: 64 bits that nobody can guess. Sequences are above `boot`. `groups_lost_max`: as
  // Stream's.
  Streams(std::function<uint64_t()> random, uint64_t boot, int32_t groups_lost_max);

  // Never given out before: for a canary, which is no stream.
  SequenceId TakeSequence() { return ++last_sequence_; }
  SequenceId last_sequence() const { return last_sequence_; }
  // Another coordinator has given that one out: later ones are above it.
  void SkipTo(SequenceId sequence);
  // How those that wait are served, from now on.
  void Configure(const FairRules& rules);
  // It waits for its turn (FairQueue). Its id is the request's, which no other stream has, or else
  // drawn.
  StreamId Add(Stream stream);
  // What waits leaves its queue for a group, as a sequence that no stream has had here. Result: the
  // stream.
  Stream& Place(StreamId id, uint64_t group, SequenceId sequence);
  // It leaves its group and waits again, before those that had none yet.
  void Park(StreamId id, Parked why);
  // It has ended, wherever it was. Result: the stream as it was.
  Stream Remove(StreamId id);

  // It has its first token.
  void NoteAnswered(StreamId id);
  // Those that have none, by arrival: the first has waited for it the longest.
  const std::map<uint64_t, StreamId>& unanswered() const { return unanswered_; }
  // Those that nobody listens to.
  size_t detached_count() const;
  // That nobody has.
  StreamId DrawId();
  // Null if there is none.
  Stream* Find(StreamId id);
  // None if no stream has that sequence any more, or it is a canary's.
  std::optional<StreamId> FindId(SequenceId sequence) const;

  const StreamMap& all() const { return streams_; }
  // Of every stream that has a group.
  const std::map<SequenceId, StreamId>& sequences() const { return ids_; }
  // Each key has a queue of its own, so that what is served of one model never counts as having
  // passed what waits for another.
  const FairQueue& waiting(const ModelKey& key) const;
  const std::map<ModelKey, FairQueue>& waiting() const { return waiting_; }
  // Of those that wait for that key, who is next and is not set aside; none: nobody.
  std::optional<StreamId> Next(const ModelKey& key, ServiceClass worst) const;
  // Next passes it over until Restore. It must be what Next gave.
  void SetAside(StreamId id);
  void Restore(const ModelKey& key);
  // It has ended, and used so many tokens less than it was taken to need.
  void GiveBack(const Stream& ended, int64_t tokens);
  // While it waits: no group that is ready could ever hold it, since then; or one could.
  void SetStranded(StreamId id, std::optional<TimeNs> since);
  const std::set<StreamId>& stranded() const { return stranded_; }
  size_t waiting_count() const;

 private:
  void Wait(StreamId id, const Stream& stream);
  // No longer, wherever it stood in its queue: because it is served, or has ended.
  void StopWaiting(StreamId id, Stream& stream, bool served);

  const std::function<uint64_t()> random_;
  const int32_t groups_lost_max_;
  SequenceId last_sequence_;
  uint64_t last_arrival_ = 0;
  StreamMap streams_;
  std::map<SequenceId, StreamId> ids_;  // Of every stream that has a group.
  FairRules rules_;
  std::map<ModelKey, FairQueue> waiting_;  // None is empty.
  std::set<StreamId> stranded_;            // Those with a stranded_since.
  std::map<uint64_t, StreamId> unanswered_;
};

}  // namespace shoal::core
