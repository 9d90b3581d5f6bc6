#include "tests/coordinator/core/net_sim/net/context.h"

#include <iterator>

namespace shoal::core::net_sim {

namespace {

constexpr const char* kBugNames[] = {"none",
                                     "resumes_one_token_short",
                                     "takes_old_epochs",
                                     "does_not_trim",
                                     "loses_parked",
                                     "uses_draining_groups",
                                     "forgets_release",
                                     "forgets_detached",
                                     "forgets_boot",
                                     "repeats_prompt_logprobs",
                                     "counts_parked",
                                     "ticks_for_deadlines",
                                     "forgets_held_deadlines",
                                     "refunds_twice",
                                     "refills_on_reload",
                                     "takes_retries_for_first",
                                     "keeps_too_much",
                                     "breaker_stays_open",
                                     "breaker_opens_early",
                                     "keeps_failing",
                                     "ejects_sound",
                                     "serves_worse_first",
                                     "forgets_in_flight"};
static_assert(std::size(kBugNames) == kPlantedBugs);

}  // namespace

const char* ToString(PlantedBug bug) { return kBugNames[static_cast<int>(bug)]; }

Swarm::Swarm(Chance& chance) {
  for (int64_t& rate : rates) rate = chance.OneIn(3) ? chance.Draw(1, 8) : 0;
  fault_every_ms = chance.Draw(300, 4'000);
  // Few seeds are long: a rank that was stopped for a minute must be able to wake.
  chaos_ms = rate(Fault::kStop) > 0 && chance.OneIn(10) ? 70'000 : chance.Draw(4'000, 16'000);
  keys = static_cast<size_t>(chance.OneIn(3) ? chance.Draw(2, 3) : 1);
  groups_per_key = chance.Draw(1, 3);
  ranks_max = static_cast<int32_t>(chance.Draw(1, 3));
  step_ms = chance.Draw(30, 200);
  relaunch_ms_max = chance.OneIn(4) ? 12'000 : chance.Draw(300, 3'000);
  request_every_ms = chance.Draw(100, 1'000);
  tokens_max = chance.Draw(1, 60);
  resumable = static_cast<double>(chance.Draw(0, 4)) / 4;
  impatient = static_cast<double>(chance.Draw(0, 3)) / 10;
  restless = static_cast<double>(chance.Draw(0, 3)) / 4;
  link.delay_ms_min = chance.Draw(0, 3);
  link.delay_ms_max = link.delay_ms_min + (chance.OneIn(4) ? 80 : chance.Draw(0, 8));
  if (chance.OneIn(6)) link.misdeliver = 0.01;
  managed = chance.OneIn(2);
  heartbeats_missed_max = static_cast<int32_t>(chance.Draw(4, 8));
  canary_interval_ms = chance.OneIn(2) ? chance.Draw(1'000, 5'000) : 0;
  resume_timeout_ms = chance.OneIn(8) ? 0 : chance.Draw(2'000, 8'000);
  rejoin_grace_ms = chance.OneIn(5) ? 0 : chance.Draw(100, 600);
  orphan_grace_ms = chance.Draw(2'000, 8'000);
  drain_timeout_ms = chance.Draw(500, 4'000);
  queue_requests_max = static_cast<int32_t>(chance.Draw(0, 6));
  const int64_t favoured = chance.Draw(0, 7);
  if (favoured <= 1) FavourContinuity(chance);
  if (favoured == 2) FavourOverload(chance);
  digests_known = rate(Fault::kUnsound) > 0 || chance.OneIn(2);
  overload.Draw(chance, chaos_ms);
  if (favoured == 2) overload.Favour(chance);
}

// Long streams whose clients come back, through coordinators and connections that go.
void Swarm::FavourContinuity(Chance& chance) {
  for (int64_t& rate : rates) rate = chance.OneIn(6) ? 1 : 0;
  for (const Fault fault : {Fault::kCrash, Fault::kReset, Fault::kStall}) {
    rates[static_cast<int>(fault)] = chance.Draw(0, 4);
  }
  fault_every_ms = chance.Draw(1'000, 4'000);
  tokens_max = 60;
  resumable = 1;
  impatient = 0.05;
  rejoin_grace_ms = chance.Draw(200, 600);
  ranks_max = 3;
}

// More than there is room for, in groups of which some fail and some are slow, and little else.
void Swarm::FavourOverload(Chance& chance) {
  for (int64_t& rate : rates) rate = chance.OneIn(8) ? 1 : 0;
  rates[static_cast<int>(chance.OneIn(2) ? Fault::kSlow : Fault::kFail)] = chance.Draw(4, 8);
  fault_every_ms = chance.Draw(500, 2'000);
  chaos_ms = chance.Draw(10'000, 20'000);
  keys = 1;
  groups_per_key = 4;
  ranks_max = 1;
  step_ms = chance.Draw(10, 40);
  request_every_ms = chance.Draw(30, 150);
  tokens_max = chance.Draw(5, 30);
}

}  // namespace shoal::core::net_sim
