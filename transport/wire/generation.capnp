@0xd7e0c5a1f49b3862;
# What a generation asks for and what comes back, in tokens: transport/base/generation/generation.h on the
# wire. The same words serve between coordinator and leader and between coordinator and upstream
# programs.
#
# Compatibility, for every file of this folder: fields are only ever added, at the end. A reader
# treats a missing field as its default, so every default must mean "as before this field existed".

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("shoal::wire");

struct SamplingParams {
  temperature @0 :Float64 = 1; # 0: arg max.
  topK @1 :Int32;              # 0: all.
  topP @2 :Float64 = 1;        # In (0, 1].
  minP @3 :Float64;            # In [0, 1].
  seed @4 :UInt64;
  # Always the effective seed: whoever sends a request without one draws it before this message.
  choice @5 :UInt32;           # Which of a request's parallel answers.
  typicalP @6 :Float64 = 1;    # In (0, 1].
  repetitionPenalty @7 :Float64 = 1; # Above 0; over prompt and generated tokens.
  frequencyPenalty @8 :Float64; # -2 to 2; this and the next over generated tokens.
  presencePenalty @9 :Float64; # -2 to 2.
  biasIds @10 :List(Int32);    # Each token once, at most 1024.
  biases @11 :List(Float32);   # Added to their logits; as many, -100 to 100.
  minTokens @12 :Int64;        # Before so many are generated no stop id is chosen.
}

struct GenerationParams {
  sampling @0 :SamplingParams;
  tokensMax @1 :Int64;         # 0 only with promptLogprobs.
  stopIds @2 :List(Int32);     # Any of them ends the sequence and is delivered as its last token.
  promptLogprobs @3 :Bool;
  topLogprobs @4 :Int32 = -1;  # -1: none; otherwise the token's own and this many best, 0..20.
  priority @5 :Int32;          # Lower ones are served first.
  cacheSalt @6 :Text;          # Only equal salts share cached prefixes.
  grammarKind @7 :GrammarKind; # What the answer must match, and
  grammar @8 :Text;            # its text; at most 64 KiB.
}

enum GrammarKind {
  none @0;
  jsonObject @1;               # Any JSON object; no text.
  jsonSchema @2;
  regex @3;                    # The whole answer matches it.
  choice @4;                   # A JSON array of strings, of which the answer is one.
  parts @5;                    # A JSON array: texts, schemas and regular expressions in a row.
}

struct TokenLogprobs {
  # For a run of positions, flat: a list of structs would take three times the bytes.

  own @0 :List(Float32);       # Of the token itself, one a position.
  topCount @1 :UInt32;         # Entries a position in the two lists below.
  topIds @2 :List(Int32);      # Position-major; descending, ties to the lower id.
  topLogprobs @3 :List(Float32);
}

enum FinishReason {
  none @0;
  stop @1;
  length @2;
  cancelled @3;
  numericError @4;
}

struct SequenceUpdate {
  # What happened to one sequence since the last update: zero or more tokens, then perhaps its end.

  id @0 :UInt64;
  tokens @1 :List(Int32);
  logprobs @2 :TokenLogprobs;       # As many positions as tokens if asked for, else none.
  promptLogprobs @3 :TokenLogprobs;
  # Of prompt[1..], in order, each position once. Many come in several updates, all of them before
  # the first token; the last ones may come with it.
  finish @4 :FinishReason;
  # Anything but `none` ends the sequence: its id is not used again.
  detail @5 :Text;
  # For numericError: where. For cancelled: why the leader refused the request; empty if it was asked
  # to cancel it.
  cachedTokens @6 :Int64;
  # Of the prompt, found in the group's prefix cache; once, with the first token.
  tokensBefore @7 :Int64;
  # Tokens of the answer that came before these, those included that the request brought along.
  promptLogprobsBefore @8 :Int64;
  # Positions of the prompt that came before these.
  resumes @9 :Int32;
  # From the coordinator, with the end: how often another group went on with the stream.
  noRoom @10 :Bool;
  # Of a request that the leader refused: it had no room for one more, so that another group, or this
  # one another time, would take it.
  preemptions @11 :Int32;
  # How often so far the group took the sequence's place for another one. To coordinators only.
}
