#pragma once

// A request that a leader was given, or will be, and what has come of it so far.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/generation_service.h"
#include "transport/base/generation/generation.h"
#include "transport/base/group.h"

namespace shoal::core {

// What this coordinator calls a stream, or a canary, to a group's leader; never used again.
using SequenceId = uint64_t;

// What a leader said that it must not say.
struct UpdateFault {
  LossCause cause = LossCause::kProtocol;  // Or kWrongAnswer: other tokens than there were.
  std::string what{};
};

// Plain data with the questions that only concern one request.
struct GenerationState {
  GenerationState() = default;
  // Of which nothing has come.
  explicit GenerationState(Request granted);

  // What is wrong with an update from a group whose token ids are below `vocab_size`. One may tell
  // again what is here already; it may leave nothing out.
  std::optional<UpdateFault> FindFault(const SequenceUpdate& update, int32_t vocab_size) const;
  // Takes from the update what is here already. The update is as FindFault wants it.
  void Trim(SequenceUpdate& update) const;
  // The update was trimmed.
  void Apply(const SequenceUpdate& update);

  // Positions of the prompt whose log-probabilities the request asks for.
  int64_t prompt_logprobs_wanted() const;

  Request request;                   // As it was granted, with its seed.
  std::vector<int32_t> tokens;       // So far.
  int64_t prompt_logprobs_left = 0;  // Of prompt_logprobs_wanted, those that nobody has reported.

 private:
  std::optional<UpdateFault> FindTokensFault(const SequenceUpdate& update) const;
  std::optional<UpdateFault> FindLogprobsFault(const SequenceUpdate& update) const;
  // Of the alternatives at each position.
  std::optional<UpdateFault> FindTopFault(const SequenceUpdate& update, int32_t vocab_size) const;
};

}  // namespace shoal::core
