#pragma once

// Between the project's own structs and the messages that carry them.

#include <span>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/group.h"
#include "transport/rpc/client.h"
#include "transport/wire/generation.capnp.h"
#include "transport/wire/service.capnp.h"
#include "transport/wire/worker.capnp.h"

namespace shoal::rpc {

std::string ToString(::capnp::Text::Reader text);

std::vector<int32_t> ReadTokens(::capnp::List<int32_t>::Reader list);
template <typename Init>  // Init: an initX(size) of a List(Int32) field
void WriteTokens(std::span<const int32_t> tokens, Init init) {
  auto list = init(static_cast<unsigned>(tokens.size()));
  for (unsigned i = 0; i < tokens.size(); ++i) list.set(i, tokens[i]);
}

void Write(const GenerationParams& params, wire::GenerationParams::Builder to);
// Errors: those below throw kInvalidArgument for a message whose parts do not fit together.
GenerationParams Read(wire::GenerationParams::Reader from);

void Write(const SequenceUpdate& update, wire::SequenceUpdate::Builder to);
SequenceUpdate Read(wire::SequenceUpdate::Reader from);

void Write(const RankRegistration& rank, wire::RankRegistration::Builder to);
RankRegistration Read(wire::RankRegistration::Reader from);

void Write(const SchedulerStats& stats, wire::SchedulerStats::Builder to);
SchedulerStats Read(wire::SchedulerStats::Reader from);

void Write(const GenerateRequest& request, wire::GenerateRequest::Builder to);
GenerateRequest Read(wire::GenerateRequest::Reader from);

void Write(const ModelInfo& model, wire::ModelInfo::Builder to);
ModelInfo Read(wire::ModelInfo::Reader from);

void Write(const StatusInfo& status, wire::Status::Builder to);
StatusInfo Read(wire::Status::Reader from);

}  // namespace shoal::rpc
