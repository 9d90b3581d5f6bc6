#include "tests/e2e/failover/forked/forked_rank.h"

#include <unistd.h>

#include <atomic>
#include <utility>

#include "kernels/cpu/table.h"
#include "kernels/device/thread_team.h"
#include "transport/base/clock.h"
#include "transport/base/error.h"
#include "worker/rank/group_member.h"
#include "worker/rank/serving/coordinator_session.h"
#include "worker/rank/serving/end_watch.h"
#include "worker/rank/serving/inbox.h"
#include "worker/rank/serving/step_loop.h"
#include "worker/rank/serving/stop_signal.h"

namespace shoal::test {
namespace {

constexpr int32_t kSequencesMax = 8;
constexpr int32_t kWaitingMax = 64;
constexpr int64_t kStepTimeoutMs = 60'000;
constexpr int64_t kJoinTimeoutMs = 60'000;
constexpr int64_t kFaultMs = 200;

rank::GroupMemberOptions MemberOptions(const model::Model& model, const GroupShape& shape) {
  rank::GroupMemberOptions member;
  member.step_timeout_ms = kStepTimeoutMs;
  member.model.cut = shape.cut;
  member.model.kv_dtype = shape.kv_dtype;
  member.model.kv_block_count = shape.kv_block_count;
  member.model.context_tokens = model.config().context_tokens;
  member.model.sequences_max = kSequencesMax;
  member.model.prefill_chunk_tokens = shape.prefill_chunk_tokens;
  return member;
}

engine::SchedulerOptions LeaderOptions(const model::Model& model, const GroupShape& shape,
                                       const RankPlace& place, const std::string& numerics_id) {
  engine::SchedulerOptions scheduler;
  scheduler.sequences_max = kSequencesMax;
  scheduler.requests_waiting_max = kWaitingMax;
  scheduler.prefill_chunk_tokens = shape.prefill_chunk_tokens;
  scheduler.kv_block_count = shape.kv_block_count;
  scheduler.context_tokens = model.config().context_tokens;
  scheduler.steps_in_flight_max = shape.cut.pipeline_parallel;
  scheduler.speculation_tokens_max = shape.speculation_tokens_max;
  scheduler.prefix_cache = shape.prefix_cache;
  scheduler.prefix_secret = std::to_string(place.group_id);
  scheduler.numerics_id = numerics_id;
  return scheduler;
}

rpc::LinkOptions LinkOptionsOf(const model::Model& model, const GroupShape& shape,
                               const RankPlace& place, const std::string& numerics_id,
                               int32_t rank) {
  rpc::LinkOptions link;
  link.address = place.coordinator;
  link.join_timeout_ms = kJoinTimeoutMs;
  link.rank.group_id = place.group_id;
  link.rank.rank = rank;
  link.rank.size = shape.cut.rank_count();
  link.rank.tensor_parallel = shape.cut.tensor_parallel;
  link.rank.pipeline_parallel = shape.cut.pipeline_parallel;
  link.rank.host = "forked";
  link.rank.pid = getpid();
  link.rank.isa = "any";
  link.rank.thread_count = 1;
  link.rank.model_name = model.name();
  link.rank.numerics_id = numerics_id;
  link.rank.context_tokens = model.config().context_tokens;
  link.rank.kv_cache_tokens = shape.kv_block_count * kKvBlockTokens;
  link.rank.sequences_max = kSequencesMax;
  link.rank.queue_requests_max = kWaitingMax;
  link.rank.vocab_size = static_cast<int32_t>(model.config().vocab_size);
  return link;
}

}  // namespace

void ServeRank(const model::Model& model, const GroupShape& shape, const RankPlace& place,
               comm::Communicator& group) {
  const SteadyClock clock;
  const std::atomic<rank::StopRequest> stop{rank::StopRequest::kNone};
  const cpu::KernelTable& kernels = cpu::SelectKernelTable(cpu::DetectCpuFeatures(), "");
  device::ThreadTeam team(1);
  rank::GroupMember member(model, MemberOptions(model, shape), kernels, team, clock, group);
  const std::string numerics_id = member.model().numerics_id();
  rank::Inbox inbox(kWaitingMax + kSequencesMax);
  rank::CoordinatorSession session(LinkOptionsOf(model, shape, place, numerics_id, group.rank()),
                                   rank::InboxCallbacks(inbox));
  using State = rank::CoordinatorSession::State;
  while (session.WaitWhileJoining(kJoinTimeoutMs) == State::kJoining) {
  }
  if (session.state() == State::kFailed) session.ThrowFailure();
  const rank::EndWatch watch(group, session, stop, clock);
  const rank::LoopContext context{member.step(), team, group, session, clock, stop};
  try {
    if (!member.leads()) return rank::FollowLeader(context);
    engine::Scheduler scheduler(LeaderOptions(model, shape, place, numerics_id));
    rank::LeaderLoop(context, scheduler, inbox, model.config().vocab_size).Run();
  } catch (const Error& error) {  // Rethrown: the others may wait for this rank.
    session.ReportFault(LossCause::kRankDied, error.what(), kFaultMs);
    group.Abort();
    throw;
  }
}

}  // namespace shoal::test
