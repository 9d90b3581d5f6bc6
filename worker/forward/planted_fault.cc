#include "worker/forward/planted_fault.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <utility>

#include "transport/base/error.h"

namespace shoal::forward {
namespace {

constexpr const char* kVariable = "SHOAL_PLANT_FAULT";
constexpr int kExitStatus = 9;

constexpr std::pair<std::string_view, FaultKind> kKinds[] = {{"wrong-sum", FaultKind::kWrongSum},
                                                             {"exit", FaultKind::kExit},
                                                             {"hang", FaultKind::kHang},
                                                             {"oom", FaultKind::kOutOfMemory}};

[[noreturn]] void Refuse(std::string_view text, const std::string& why) {
  Throw(ErrorCode::kInvalidArgument, kVariable, " is ", text, ": ", why,
        "; expected KIND:rank=R,step=N with KIND one of wrong-sum, exit, hang and oom, and if "
        "wanted layer=L of wrong-sum and once=FILE");
}

template <typename Number>
Number ParseNumber(std::string_view text, std::string_view key, std::string_view digits) {
  Number number{};
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc() || stop != end || digits.front() == '-') {
    Refuse(text, Str(key, " is ", digits, ", which is no whole number from 0"));
  }
  return number;
}

FaultKind ParseKind(std::string_view text, std::string_view name) {
  for (const auto& [known, kind] : kKinds) {
    if (known == name) return kind;
  }
  Refuse(text, Str("it knows no fault named ", name));
}

void ParsePart(std::string_view text, std::string_view part, PlantedFault& fault) {
  const size_t equals = part.find('=');
  if (equals == std::string_view::npos || equals + 1 == part.size()) {
    Refuse(text, Str("\"", part, "\" is not NAME=VALUE"));
  }
  const std::string_view key = part.substr(0, equals);
  const std::string_view value = part.substr(equals + 1);
  if (key == "rank") {
    fault.rank = ParseNumber<int32_t>(text, key, value);
  } else if (key == "step") {
    fault.step = ParseNumber<uint64_t>(text, key, value);
  } else if (key == "layer" && fault.kind == FaultKind::kWrongSum) {
    fault.layer = ParseNumber<int64_t>(text, key, value);
  } else if (key == "once") {
    fault.once = value;
  } else {
    Refuse(text, Str("it has no ", key));
  }
}

// Result: false if somebody has.
bool MakeFirst(const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0 && errno != EEXIST) {
    Throw(ErrorCode::kInvalidArgument, kVariable, " names ", path,
          ", which cannot be made: ", strerror(errno));
  }
  if (fd >= 0) close(fd);
  return fd >= 0;
}

}  // namespace

PlantedFault ParsePlantedFault(std::string_view text) {
  PlantedFault fault;
  const size_t colon = text.find(':');
  fault.kind = ParseKind(text, text.substr(0, colon));
  std::string_view rest =
      colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  std::set<std::string_view> keys;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view part = rest.substr(0, comma);
    ParsePart(text, part, fault);
    const std::string_view key = part.substr(0, part.find('='));
    if (!keys.insert(key).second) Refuse(text, Str("it has ", key, " twice"));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  for (const std::string_view key : {"rank", "step"}) {
    if (!keys.contains(key)) Refuse(text, Str("it lacks ", key));
  }
  return fault;
}

std::optional<PlantedFault> PlantedFaultOfEnvironment() {
  const char* text = std::getenv(kVariable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return ParsePlantedFault(text);
}

FaultSwitch::FaultSwitch(const std::optional<PlantedFault>& fault,
                         std::span<const plan::RankShard> shards, int32_t rank) {
  if (!fault) return;
  const auto ranks = static_cast<int32_t>(shards.size());
  if (fault->rank >= ranks) {
    Throw(ErrorCode::kInvalidArgument, kVariable, " names rank ", fault->rank, ", there are ",
          ranks);
  }
  const plan::Range layers = shards[static_cast<size_t>(fault->rank)].layers;
  layer_ = fault->layer.value_or(layers.begin);
  if (layer_ < layers.begin || layer_ >= layers.end) {
    Throw(ErrorCode::kInvalidArgument, kVariable, " names layer ", layer_, ", rank ", fault->rank,
          " has those from ", layers.begin, " to ", layers.end - 1);
  }
  if (fault->rank == rank) fault_ = fault;
}

void FaultSwitch::Strike() {
  const PlantedFault fault = *std::exchange(fault_, std::nullopt);
  if (!fault.once.empty() && !MakeFirst(fault.once)) return;
  LOG(WARNING) << kVariable << " strikes rank " << fault.rank;
  switch (fault.kind) {
    case FaultKind::kWrongSum:
      armed_layer_.store(layer_);
      return;
    case FaultKind::kExit:
      _exit(kExitStatus);
    case FaultKind::kHang:
      while (true) pause();
    case FaultKind::kOutOfMemory:
      throw std::bad_alloc();
  }
}

}  // namespace shoal::forward
