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

  status @1 () -> (status :Status);
  models @2 () -> (models :List(ModelInfo));
  # Every version of every model: the region's own model first, and of each name first the version
  # that takes new requests.
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
}

struct ChatMessage {
  role @0 :Text;               # system, developer, user, assistant, tool or function.
  content @1 :Text;
  name @2 :Text;               # Of who speaks, for templates that show it. Null: none.
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
  }
}

interface Generation {
  # Stands for one running generation. It has no methods: holding it keeps the generation alive.
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
  # refused (by the group that was to answer).
  message @1 :Text;
  retryAfterMs @2 :Int64;      # 0: do not retry as is.
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
}

struct GroupStatus {
  group @0 :UInt64;
  epoch @1 :UInt64;
  name @2 :Text;               # Host, ranks and cut, for people.
  tensorParallel @3 :Int32;
  pipelineParallel @4 :Int32;
  ranks @5 :List(Text);
  ready @6 :Bool;
  stats @7 :Worker.SchedulerStats;
  modelName @8 :Text;
  numericsId @9 :Text;
}
