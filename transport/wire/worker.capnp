@0xa4c98f13e7d2506b;
# What the ranks of a group and the coordinator say to each other.
#
# Every rank dials the coordinator on a connection of its own, proves that it knows the group token
# (gate.capnp) and registers. The ranks that were started together carry the same `groupId`; when
# all `size` of them are there, the coordinator sends one canary request through the leader (rank
# 0), and when its token has come back the group takes requests.
#
# A rank whose connection breaks has a short time to register again, with the `groupId` it had: it
# then goes on where it was (`continued`). It is lost when it does not come back in time, when its
# heartbeats stay away, when its progress counter stands still while it has work, or by its own last
# words (`fault`). A lost rank takes its group along: the coordinator closes the connections of all
# its ranks and refuses them as stale, and each of them ends. A lost group is never repaired, only
# started anew.
#
# Ranks whose coordinator is gone dial until there is one again, and hand over to it what they hold.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("shoal::wire");

using Gen = import "generation.capnp";

using Epoch = UInt64;
# Numbers the groups a coordinator has seen, rising, drawn when the first rank of a group registers.
# Every later message carries it. One that carries another epoch than its connection's is refused
# with FAILED, so that what a group left behind can never reach its successor.

interface WorkerPort {
  register @0 (rank :RankRegistration, leader :Leader) -> (outcome :RegisterOutcome);
  # Joins. `leader` is given by rank 0 only. Returns once the coordinator has noted the rank; the
  # group may still be incomplete. Once per connection.
}

struct RankRegistration {
  groupId @0 :UInt64;
  # Drawn at random by rank 0 and shared among the ranks before any of them dials.
  rank @1 :Int32;
  size @2 :Int32;              # tensorParallel * pipelineParallel.
  tensorParallel @3 :Int32;
  pipelineParallel @4 :Int32;
  host @5 :Text;
  pid @6 :Int64;
  isa @7 :Text;                # The kernels' row: "avx512vnni".
  threadCount @8 :Int32;
  modelName @9 :Text;
  # File or folder name without .gguf. Where the coordinator was given one, it must be the same.
  numericsId @10 :Text;        # 32 hex digits; equal for all groups of a region.
  contextTokens @11 :Int64;
  kvCacheTokens @12 :Int64;    # Of the whole group: the longest sequence it can ever hold.
  sequencesMax @13 :Int32;     # Sequences a step can hold.
  queueRequestsMax @14 :Int32;
  # Requests the leader takes beyond those: the coordinator never has more than sequencesMax +
  # queueRequestsMax in flight to one group.
  vocabSize @15 :Int32;        # Token ids are below it.
  groupNumber @16 :Int64 = -1; # The managed group whose place it takes; -1: none.
  lastEpoch @17 :Epoch;        # Of the rank's last membership, of any coordinator; 0: none.
}

struct RegisterOutcome {
  union {
    accepted @0 :Accepted;
    refused @1 :Refusal;
  }
}

struct Accepted {
  epoch @0 :Epoch;
  group @1 :UInt64;            # The group's number, for logs; a restarted group gets a free one.
  session @2 :RankSession;
  updates @3 :UpdateSink;      # For the leader only; null for the others.
  heartbeatMs @4 :UInt32 = 100;
  # How often to call `heartbeat`.
  continued @5 :Bool;
  # The coordinator still had this group: sequences go on under their ids, and the leader sends
  # again what it does not know to have been taken. Otherwise a leader calls `handOver`, also if it
  # holds nothing, and cancels all that it did not hand over.
  orphanGraceMs @6 :UInt32 = 30000;
  # How long a leader goes on with resumable streams while it has no coordinator.
  drainTimeoutMs @7 :UInt32 = 30000;
  # How long a leader that was told to end waits for `stop` after it has called `drain`.
}

struct Refusal {
  reason @0 :Reason;
  message @1 :Text;            # For people: what was expected, what was found, what to change.

  enum Reason {
    retry @0;                  # Not now: try again until the join deadline.
    mismatch @1;               # Another model or numerics than the region's: no retry can help.
    stale @2;                  # This group was already given up: end, and start a new one.
  }
}

interface RankSession {
  heartbeat @0 (epoch :Epoch, progress :UInt64, pending :Bool) -> ();
  # The rank lives. `progress` is any number that changes whenever the rank gets on with its work;
  # `pending` says that it has work. Sent from a thread that the work cannot hold up.

  drain @1 (epoch :Epoch) -> ();
  # By the leader that was told to end: give the group no more work, take its streams away, and call
  # `stop` then.

  fault @2 (epoch :Epoch, cause :Text, message :Text) -> ();
  # The rank's last words: why it ends itself and with it its group. `cause` is a name of LossCause.
}

interface UpdateSink {
  update @0 (epoch :Epoch, sequences :List(Gen.SequenceUpdate), stats :SchedulerStats,
      prefixes :PrefixReport) -> stream;
  # One call a step carries the tokens of all sequences; where they are many, or log-probabilities
  # of a long prompt, several calls of about 256 KiB do. The leader keeps a bounded number of calls
  # under way, so a coordinator that cannot follow slows the group down instead of filling memory.

  done @1 (epoch :Epoch) -> ();
  # No update follows. Returns when all before it have been taken.

  handOver @2 (epoch :Epoch, streams :List(HeldStream), last :Bool) -> ();
  # After a registration, before any other update; the last call says that this was all.
  # Not `continued`: the resumable streams that the leader holds, in several calls of about 256 KiB
  # if they are long; a long stream's `all` comes in parts, in order: the first with the request, the
  # others with `id` and what follows in `all`. None if it holds none.
  # `continued`: `update` calls come first, with one update for every sequence that the leader knows,
  # also one of which nothing has come yet, from where its request began; then an empty hand-over.
  # What was not told of by then the leader does not know. If the hand-over before was cut off, it is
  # made again, with all resumable streams, after the updates of the others.
}

struct HeldStream {
  # As in transport/base/generation/sequence_request.h.

  id @0 :UInt64;
  prompt @1 :List(Int32);
  params @2 :Gen.GenerationParams;
  generated @3 :List(Int32);
  promptLogprobsGiven @4 :Bool;
  streamHigh @5 :UInt64;
  streamLow @6 :UInt64;
  all @7 :Gen.SequenceUpdate;
  serviceClass @8 :UInt8 = 1;
  deadlineMs @9 :Int64;        # What is left of it now; 0: none.
  tenant @10 :Text;
}

enum GroupState {
  forming @0;                  # Not all ranks are there.
  canary @1;
  ready @2;
  draining @3;
  stopping @4;
  lost @5;                     # A managed group that is not there.
}

struct PrefixReport {
  # How the group's prefix cache has changed since the report before. Only a hint where requests
  # are likely to find their prefix: a coordinator may ignore it.

  full @0 :Bool;               # It begins anew: what was reported before counts no more.
  added @1 :List(UInt64);      # transport/base/generation/prefix_hash.h; 2,048 in both at most.
  removed @2 :List(UInt64);
}

struct SchedulerStats {
  stepsTotal @0 :Int64;
  sequencesRunning @1 :Int32;
  requestsWaiting @2 :Int32;
  kvBlocksUsed @3 :Int64;
  kvBlocksTotal @4 :Int64;
  kvBlocksKept @5 :Int64;
  prefixCacheQueriesTotal @6 :Int64;
  prefixCacheQueryTokensTotal @7 :Int64;
  prefixCacheHitTokensTotal @8 :Int64;
  preemptionsTotal @9 :Int64;
  draftedTokensTotal @10 :Int64;
  acceptedTokensTotal @11 :Int64;
  promptRowsLeft @12 :Int64;
  tokensLeft @13 :Int64;
  promptRowsTotal @14 :Int64;
  generatedTokensTotal @15 :Int64;
  busyUsTotal @16 :Int64;
}

interface Leader {
  # Implemented by rank 0. All calls return at once; what comes of them is in the updates.

  submit @0 (epoch :Epoch, id :UInt64, prompt :List(Int32), params :Gen.GenerationParams,
      generated :List(Int32), promptLogprobsGiven :Bool, streamHigh :UInt64, streamLow :UInt64,
      resumable :Bool, serviceClass :UInt8 = 1, deadlineMs :Int64, tenant :Text) -> ();
  # Starts a sequence, or with `generated` goes on with one: SequenceRequest in
  # transport/base/generation/sequence_request.h. Every one ends with an update whose `finish` is
  # set, a cancelled one too.

  cancel @1 (epoch :Epoch, id :UInt64) -> ();
  # Ends a sequence within one step. Does nothing if it has ended: its last update is under way.

  stop @2 (epoch :Epoch) -> ();
  # The group is dismissed: all its ranks end with exit code 0.

  release @3 (epoch :Epoch, id :UInt64) -> ();
  # The client of a resumable sequence that has ended has all of it: the leader need not hold it.
}
