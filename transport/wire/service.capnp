@0xc2518de06fa7394b;
# What upstream programs ask of a coordinator. transport/rpc/client.h speaks it for C++ programs.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("shoal::wire");

using Gen = import "generation.capnp";
using Worker = import "worker.capnp";

interface Coordinator {
  generate @0 (request :GenerateRequest, sink :TokenSink) -> (outcome :GenerateOutcome);
  # Takes the request, or says why not; then `sink` hears nothing. The tokens go to `sink`, in
  # order. Dropping `generation`, or the connection, cancels: the sequence is gone within one step.
  # A resumable one goes on for a while instead.

  status @1 () -> (status :Status);
  models @2 () -> (models :List(ModelInfo));
  # Every version of every model: the region's own model first, and of each name first the version
  # that takes new requests.

  drain @3 (group :UInt64, restart :Bool, groupToken :Data) -> (refusal :Text);
  # Takes a group out of service without losing its streams; it ends with status 0. Returns when
  # that was begun (`refusal` empty) or why it was not. `restart`: a managed group is started anew.
  # `groupToken`: what ranks must show, if the coordinator asks for one; an API key is not enough.

  records @4 (request :Text, sinceMs :Int64, after :UInt64) -> (page :RecordPage);
  # What the coordinator remembers of what it decided: of one request (its name, or its stream's
  # id; empty: all), not older than `sinceMs` (0: all), with a number above `after`. A key of a
  # named tenant sees that tenant's own, and those of groups and of the region.
}

struct RecordPage {
  records @0 :List(Record);    # The latest last.
  more @1 :Bool;               # Ask again, after the last one's number.
  nowUnixMs @2 :Int64;
  oldestUnixMs @3 :Int64;      # Of the oldest that is remembered.
  forgotten @4 :UInt64;        # Records that had to go for newer ones.
}

struct Record {
  number @0 :UInt64;
  timeNs @1 :Int64;            # Only differences mean anything.
  unixMs @2 :Int64;
  kind @3 :Text;               # admitted, rejected, ..., as transport/base/overload/record.h says.
  streamHigh @4 :UInt64;
  streamLow @5 :UInt64;        # Both 0: of no stream.
  request @6 :Text;
  tenant @7 :Text;
  serviceClass @8 :Text;       # Empty: of none.
  group @9 :Int64 = -1;        # -1: of none.
  reason @10 :Text;            # As Busy has it. Empty: none.
  detail @11 :Text;
  figures @12 :List(Figure);

  struct Figure {
    name @0 :Text;
    value @1 :Float64;
    source @2 :Text;
  }
}

struct GenerateRequest {
  prompt :union {
    tokens @0 :List(Int32);    # Taken as they are.
    text @1 :Text;             # Encoded with the model's BOS rule; special tokens recognised.
    chat @2 :List(ChatMessage); # Put through the model's chat template.
  }
  params @3 :Gen.GenerationParams;
  # With `text` or `chat` the model's end-of-sequence ids are added to the stop ids. With `tokens`
  # they are the sender's to name, and a grammar needs all of them.
  seedGiven @4 :Bool;          # False: the coordinator draws the seed.
  model @5 :Text;              # A name of `models`. Empty: the region's own.
  resumable @6 :Bool;          # The outcome then has a cursor, and the stream outlives its reader.
  cursor @7 :Text;
  # Not empty: go on with the generation that was given this cursor, for the very same request. The
  # sink hears of what comes after the next two.
  tokensTaken @8 :Int64;
  promptLogprobsTaken @9 :Int64;
  name @10 :Text;              # What records call the request. Empty: the coordinator names it.
  serviceClass @11 :Text;
  # critical_plus, critical, sheddable_plus or sheddable; at most the tenant's own. Empty: that.
  deadlineMs @12 :Int64;       # From its coming on; 0: none. Then the generation ends.
  attempt @13 :Int32 = 1;      # 2 for the first retry.
  session @14 :Text;           # Generations of one go to the same group, if that is well.
  mayDegrade @15 :Bool = true; # A lower rung of the coordinator's ladder may answer it.
  # Of a chat, for its template; the answer's text comes as the model writes it, calls too.
  tools @16 :Text;             # A JSON array, as OpenAI's `tools`. Empty: none.
  templateVariables @17 :Text; # A JSON object. Empty: none.
  continuesLast @18 :Bool;     # The answer goes on with the last message, an assistant's.
  beginsAnswer @19 :Bool = true; # The prompt ends with how an answer begins.
}

struct ChatMessage {
  role @0 :Text;               # system, developer, user, assistant, tool or function.
  content @1 :Text;
  name @2 :Text;               # Of who speaks, for templates that show it. Null: none.
  toolCalls @3 :Text;
  # What an assistant called: a JSON array of {"id", "type": "function", "function": {"name",
  # "arguments": JSON as text}}. Empty: nothing.
  toolCallId @4 :Text;         # Of the call whose result this is. Null: none.
  reasoning @5 :Text;          # What the assistant thought before it spoke. Null: nothing.
}

struct GenerateOutcome {
  union {
    accepted @0 :Accepted;
    refused @1 :Busy;
  }

  struct Accepted {
    generation @0 :Generation;
    promptTokens @1 :Int64;
    seed @2 :UInt64;
    cursor @3 :Text;           # Of a resumable generation: opaque.
    recomputing @4 :Bool;      # Nobody knows the stream any more: it is generated anew, exactly.
    degraded @5 :Bool;         # Another model answers than the one that was asked for; then there
    # is no cursor.
    modelUsed @6 :Text;        # That model's name. Empty if it is not degraded.
    rung @7 :Int32;            # Of the coordinator's ladder. 0 if it is not degraded.
  }
}

interface Generation {
  # Stands for one running generation: holding it keeps the generation alive.

  cancel @0 () -> ();
  # Ends it, also a resumable one, whose reader does not mean to come back.
}

interface TokenSink {
  tokens @0 (update :Gen.SequenceUpdate, text :Text) -> stream;
  # Zero or more tokens and, if the prompt was text or chat, the text they complete. A sink that is
  # slow gets several steps' tokens in one call.

  finish @1 (update :Gen.SequenceUpdate, text :Text) -> ();
  # The last call. May carry tokens too.

  fail @2 (error :Busy) -> ();
  # The last call: the generation cannot continue.
}

struct Busy {
  reason @0 :Text;             # queue_full, no_group, group_lost, too_large, draining, invalid,
  # refused (by the group that was to answer), request_suspect (groups were lost that had it);
  # cursor_invalid, cursor_mismatch, cursor_expired (of a request with a cursor), stream_taken (another
  # program goes on with the generation); quota_exceeded (the tenant's own), kv_full,
  # deadline_unreachable, deadline_exceeded, breaker_open.
  message @1 :Text;
  retryAfterMs @2 :Int64;      # 0: do not retry as is.
  predictedWaitMs @3 :Int64 = -1; # Until the first token, had it been taken; -1: unknown.
}

struct ModelInfo {
  name @0 :Text;
  numericsId @1 :Text;         # Empty until a group has joined.
  contextTokens @2 :Int64;
  kvCacheTokens @3 :Int64;     # Of the largest group that is ready. 0 while there is none.
  groupsReady @4 :Int64;
  requestsWaiting @5 :Int64;
  canaryDigest @6 :Text;       # Of its groups' canaries. Empty until one was ready.
  vocabSize @7 :Int32;         # Token ids are below it. 0 until a group has joined.
  requestsMax @8 :Int64;       # Most requests that can be held at once, running and waiting, by all
  # that are ready. 0 while there is none.
  modelName @9 :Text;          # Its own, as its groups register it.
}

struct Status {
  groups @0 :List(GroupStatus);
  requestsWaiting @1 :Int32;
  requestsTotal @2 :Int64;
  streamsLive @3 :Int64;
  groupLossesTotal @4 :Int64;
  totals @5 :Worker.SchedulerStats;
  # Its counters, of all groups that were ever here: they never fall. The other fields are 0.
  models @6 :List(ModelInfo);  # As the call `models` lists them.
  groupLosses @7 :List(Int64); # By LossCause, as transport/base/group.h has them.
  streamsResumed @8 :List(Int64);
  # Likewise, by why their last group did not end them.
  streamsAdoptedTotal @9 :Int64; # Of another coordinator, whose end they outlived.
  groupRestartsTotal @10 :Int64;
  stalls @11 :List(Int64);     # By the bounds kStallSeconds, not cumulative.
  stallSecondsSum @12 :Float64;
  requestsCoalescedTotal @13 :Int64; # Of requestsTotal: they got the answer of an equal one.
  breakers @14 :List(BreakerStatus);
  requestsRejected @15 :List(Int64); # By BusyReason, as stream_error.h has them.
}

struct BreakerStatus {
  rule @0 :Text;               # "gpu_utilization > 90: reject_low_priority"
  open @1 :Bool;               # Half open too.
}

struct GroupStatus {
  group @0 :UInt64;
  epoch @1 :UInt64;
  name @2 :Text;               # Host, ranks and cut, for people.
  tensorParallel @3 :Int32;
  pipelineParallel @4 :Int32;
  ranks @5 :List(RankStatus);
  state @6 :Worker.GroupState;
  stats @7 :Worker.SchedulerStats;
  modelName @8 :Text;
  numericsId @9 :Text;
  managed @10 :Bool;           # The coordinator starts it anew when it is lost.
  streams @11 :Int64;
  lastLoss @12 :Text;          # Why the last group of this number was lost. Empty: none was.
  restartsTotal @13 :Int64;
  nextStartMs @14 :Int64 = -1; # Of a managed group that waits to be started: from now on. -1: it
  # does not wait.
  ejected @15 :Bool;           # Left out of routing, or tried with one request at a time.
}

struct RankStatus {
  rank @0 :Int32;
  pid @1 :Int64;
  host @2 :Text;
  isa @3 :Text;
  threads @4 :Int32;
  state @5 :Text;              # joined or missing.
  device @6 :Text;             # cpu.
}
