#pragma once

// Clients that ask again and again, and ranks that are killed meanwhile.

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/model/model.h"
#include "tests/e2e/failover/asks.h"
#include "tests/e2e/failover/forked/group_keeper.h"

namespace shoal::test {

// Of so many kills that are asked for, one has to meet an answer, or they prove little.
constexpr int64_t kKillsPerDisturbed = 5;

struct FailoverOptions {
  uint64_t seed = 1;
  int64_t kills = 0;  // At least; up to four times as many until enough have met an answer.
  KvDType kv_dtype = KvDType::kF16;
  size_t asks = 96;
  size_t clients = 8;
  int64_t coordinator_kills_percent = 0;  // Of all kills. Above 0, all asks are resumable.
  std::string folder;                     // For logs.
};

struct FailoverOutcome {
  int64_t kills = 0;
  int64_t answers = 0;    // That ended during the kills, and were compared.
  int64_t resumes = 0;    // Of their streams.
  int64_t disturbed = 0;  // Answers with at least one of them.
  int64_t lost = 0;
  int64_t changed = 0;
  int64_t unplanned = 0;             // Groups that ended although nobody killed them.
  std::vector<std::string> details;  // Of the first ones that were lost or changed.
};

// Gets every answer undisturbed, then asks at random while ranks die, and compares. Precondition:
// this process has one thread. Errors: kFailed, kDeadlineExceeded if the region comes to a stop.
FailoverOutcome RunFailover(const model::Model& model, const std::string& model_path,
                            const FailoverOptions& options);

}  // namespace shoal::test
