#pragma once

// Between the project's own structs and the messages that carry them.

#include <span>
#include <string>
#include <vector>

#include "transport/base/generation/generation.h"
#include "transport/base/generation/prefix_hash.h"
#include "transport/base/generation/sequence_request.h"
#include "transport/base/generation/stream_error.h"
#include "transport/base/group.h"
#include "transport/base/overload/record.h"
#include "transport/rpc/client.h"
#include "transport/wire/generation.capnp.h"
#include "transport/wire/service.capnp.h"
#include "transport/wire/worker.capnp.h"

namespace shoal::rpc {

std::string ToString(::capnp::Text::Reader text);
// All of it, also what stands after a NUL. Refers to `text`.
::capnp::Text::Reader ToText(const std::string& text);

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

// Without the epoch, which is its sender's.
void Write(const SequenceRequest& request, wire::Leader::SubmitParams::Builder to);
SequenceRequest Read(wire::Leader::SubmitParams::Reader from);

void Write(const HeldStream& held, wire::HeldStream::Builder to);
HeldStream Read(wire::HeldStream::Reader from);

void Write(const RankRegistration& rank, wire::RankRegistration::Builder to);
RankRegistration Read(wire::RankRegistration::Reader from);

void Write(const PrefixReport& report, wire::PrefixReport::Builder to);
PrefixReport Read(wire::PrefixReport::Reader from);

void Write(const SchedulerStats& stats, wire::SchedulerStats::Builder to);
SchedulerStats Read(wire::SchedulerStats::Reader from);

// Into and out of the request that they belong to; `tenant` stays out.
void Write(const RequestTerms& terms, wire::GenerateRequest::Builder to);
RequestTerms ReadTerms(wire::GenerateRequest::Reader from);

void Write(const GenerateRequest& request, wire::GenerateRequest::Builder to);
GenerateRequest Read(wire::GenerateRequest::Reader from);

// What reads it turns it into an Error at once, whatever the reason is called.
void Write(const StreamError& error, wire::Busy::Builder to);

void Write(const ServedModel& model, wire::ModelInfo::Builder to);
ServedModel Read(wire::ModelInfo::Reader from);

void Write(const RankStatus& rank, wire::RankStatus::Builder to);
RankStatus Read(wire::RankStatus::Reader from);

void Write(const GroupStatus& group, wire::GroupStatus::Builder to);
GroupStatus Read(wire::GroupStatus::Reader from);

void Write(const RegionStatus& status, wire::Status::Builder to);
RegionStatus Read(wire::Status::Reader from);

// Errors of reading: kInvalidArgument for a kind, class or reason that this build does not know.
void Write(const Record& record, wire::Record::Builder to);
Record Read(wire::Record::Reader from);

void Write(const RecordPage& page, wire::RecordPage::Builder to);
RecordPage Read(wire::RecordPage::Reader from);

}  // namespace shoal::rpc
