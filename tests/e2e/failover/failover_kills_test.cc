// Ranks are killed at random moments, again and again, and no client can tell: every stream is,
// byte by byte, the one that it is when nothing dies. SHOAL_FAILOVER_KILLS and SHOAL_FAILOVER_SEED
// say how many kills and from which seed on.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/e2e/failover/failover_run.h"
#include "tests/support/model/model_writer.h"
#include "tests/support/scratch_folder.h"

namespace shoal::test {
namespace {

int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoll(text);
}

// Two layers of 64: a step is a fraction of a millisecond, so that streams are short and kills
// many.
ModelSpec TinySpec() {
  ModelSpec spec = Q8_0Spec();
  spec.name = "tiny";
  return spec;
}

std::string Tail(const std::string& path) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return text.substr(text.size() > 4000 ? text.size() - 4000 : 0);
}

struct KillsCase {
  std::string name;
  int64_t percent;  // Of all kills.
  KvDType kv_dtype = KvDType::kF16;
  int64_t coordinator_kills_percent = 0;
};

void PrintTo(const KillsCase& kills, std::ostream* out) { *out << kills.name; }

class FailoverKills : public ::testing::TestWithParam<KillsCase> {};

TEST_P(FailoverKills, ChangeNoStream) {
  const ScratchFolder folder;
  const std::string path = WriteModel(TinySpec(), folder.path());
  const auto model = model::Model::Open(path);
  FailoverOptions options;
  options.seed = static_cast<uint64_t>(FromEnvironment("SHOAL_FAILOVER_SEED", 1));
  options.kills = FromEnvironment("SHOAL_FAILOVER_KILLS", 1000) * GetParam().percent / 100;
  options.kv_dtype = GetParam().kv_dtype;
  options.coordinator_kills_percent = GetParam().coordinator_kills_percent;
  options.folder = folder.path();
  const std::string repeat = Str("to repeat: SHOAL_FAILOVER_SEED=", options.seed,
                                 " SHOAL_FAILOVER_KILLS=", options.kills * 100 / GetParam().percent,
                                 " failover_kills_test");
  SCOPED_TRACE(repeat);
  const FailoverOutcome outcome = RunFailover(*model, path, options);
  std::cout << "failover " << GetParam().name << " seed " << options.seed << " kills "
            << outcome.kills << " answers " << outcome.answers << " disturbed " << outcome.disturbed
            << " resumes " << outcome.resumes << " lost " << outcome.lost << " changed "
            << outcome.changed << " unplanned " << outcome.unplanned << std::endl;
  for (const std::string& detail : outcome.details) ADD_FAILURE() << detail;
  EXPECT_EQ(outcome.lost, 0);
  EXPECT_EQ(outcome.changed, 0);
  EXPECT_GE(outcome.kills, options.kills);
  EXPECT_GT(outcome.disturbed, options.kills / kKillsPerDisturbed)
      << "the kills met too few streams to prove much";
  if (HasFailure()) {
    std::cout << "the coordinator's last words:\n"
              << Tail(folder.path() + "/coordinator.log") << "\nthose of ranks:\n"
              << Tail(folder.path() + "/ranks.log") << std::endl;
  }
}

INSTANTIATE_TEST_SUITE_P(Regions, FailoverKills,
                         ::testing::Values(KillsCase{"KvF16", 40},
                                           KillsCase{"KvInt8", 15, KvDType::kInt8},
                                           KillsCase{"KvF32", 15, KvDType::kF32},
                                           KillsCase{"KvBf16", 10, KvDType::kBF16},
                                           KillsCase{"Resumable", 20, KvDType::kF16, 15}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace shoal::test
