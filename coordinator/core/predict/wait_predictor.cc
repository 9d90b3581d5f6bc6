#include "coordinator/core/predict/wait_predictor.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace shoal::core {
namespace {

// How far one outcome moves what is learned.
constexpr double kCorrectionRate = 0.01;
constexpr double kCorrectionStepMax = 0.5;  // So that a single odd one counts for little.
constexpr double kCorrectionMax = 3;        // A factor of 20.
// What an answer's length counts for once the next one is known.
constexpr double kLengthMemory = 0.99;
// A layout is made again when a group has reported since and it is at least so old for each job in
// it: making it takes about a fiftieth of that.
constexpr TimeNs kLayoutNsPerJob = 20'000;
// It is never older.
constexpr TimeNs kLayoutAgeMax = 100 * kMillisecondNs;

double Seconds(TimeNs time) { return static_cast<double>(time) / static_cast<double>(kSecondNs); }

TimeNs Nanoseconds(double seconds) {
  return static_cast<TimeNs>(std::min(seconds, 1e6) * static_cast<double>(kSecondNs));
}

}  // namespace

void WaitPredictor::Learn(const Group& group, const SchedulerStats& stats) {
  Learned& learned = learned_[group.number];
  learned.cost.Learn(stats);
  learned.known_sequence = learned.last_sequence;
  if (!group.sequences.empty()) learned.last_sequence = *group.sequences.rbegin();
  const auto layout = layouts_.find(group.key);
  if (layout != layouts_.end()) layout->second.stale = true;
}

void WaitPredictor::Forget(uint64_t group) {
  learned_.erase(group);
  std::erase_if(layouts_, [group](const auto& entry) {
    return std::ranges::find(entry.second.groups, group) != entry.second.groups.end();
  });
}

std::optional<WaitAnswer> WaitPredictor::Predict(const WaitQuestion& question,
                                                 const GroupMap& groups, const Streams& streams) {
  const Layout* layout = FindLayout(question, groups, streams);
  if (layout == nullptr) return std::nullopt;
  const auto by_class = static_cast<size_t>(question.service_class);
  const SlotPlan::Next next = layout->plans[by_class].FindNext();
  const uint64_t number = layout->groups[next.group];
  const Group& group = groups.at(number);
  const StepCost& cost = learned_.at(number).cost;
  const double age = Seconds(question.now - layout->time);
  const double start = std::max(0.0, next.start - age);
  WaitAnswer answer;
  answer.queued = start > 0;
  const auto slots = static_cast<double>(group.shape().sequences_max);
  const auto given = static_cast<double>(group.sequences.size() + 1);
  const double step = cost.StepOf(answer.queued ? slots : std::min(slots, given));
  // What comes in the middle of a step waits for its end.
  const double rest = answer.queued || group.sequences.empty() ? 0 : cost.mean_step() / 2;
  const double first = std::max(start, next.prompts_done - age) + rest +
                       static_cast<double>(question.prompt_tokens) * cost.row() + step;
  const double correction = std::exp(corrections_[by_class][answer.queued ? 1 : 0]);
  answer.laid_out = Nanoseconds(first);
  answer.first_token = Nanoseconds(first * correction);
  return answer;
}

void WaitPredictor::NoteTaken(const WaitQuestion& question) {
  const auto found = layouts_.find(question.key);
  if (found == layouts_.end()) return;
  Layout& layout = found->second;
  ++layout.jobs;
  const Job job{question.service_class, static_cast<double>(question.prompt_tokens),
                LengthLeft(question.key, question.tokens_max)};
  for (size_t of = static_cast<size_t>(question.service_class); of < layout.plans.size(); ++of) {
    layout.plans[of].Add(job);
  }
}

void WaitPredictor::NoteOutcome(const WaitAnswer& predicted, ServiceClass service_class,
                                TimeNs waited) {
  // A wait of nothing has no share of itself.
  const double actual = Seconds(std::max<TimeNs>(waited, 1'000));
  errors_.Note(std::abs(Seconds(predicted.first_token) - actual) / actual);
  double& correction = corrections_[static_cast<size_t>(service_class)][predicted.queued ? 1 : 0];
  const double laid_out = std::max(Seconds(predicted.laid_out), 1e-6);
  const double difference = std::log(actual / laid_out) - correction;
  correction += kCorrectionRate * std::clamp(difference, -kCorrectionStepMax, kCorrectionStepMax);
  correction = std::clamp(correction, -kCorrectionMax, kCorrectionMax);
}

void WaitPredictor::NoteLength(const ModelKey& key, int64_t tokens, bool by_itself) {
  Lengths& lengths = lengths_[key];
  lengths.tokens = lengths.tokens * kLengthMemory + static_cast<double>(tokens);
  lengths.ends = lengths.ends * kLengthMemory + (by_itself ? 1 : 0);
}

// As if each token were as likely to be the last one, however many came before it.
double WaitPredictor::LengthLeft(const ModelKey& key, int64_t tokens_left) const {
  const auto most = static_cast<double>(std::max<int64_t>(tokens_left, 0));
  const auto found = lengths_.find(key);
  if (found == lengths_.end() || found->second.ends == 0) return most;
  const double per_token = found->second.ends / std::max(found->second.tokens, 1.0);
  return -std::expm1(-per_token * most) / per_token;
}

WaitPredictor::Layout* WaitPredictor::FindLayout(const WaitQuestion& question,
                                                 const GroupMap& groups, const Streams& streams) {
  const auto found = layouts_.find(question.key);
  if (found != layouts_.end()) {
    const TimeNs age = question.now - found->second.time;
    const TimeNs due =
        std::min(static_cast<TimeNs>(found->second.jobs) * kLayoutNsPerJob, kLayoutAgeMax);
    if (age <= due || (!found->second.stale && age < kLayoutAgeMax)) return &found->second;
    layouts_.erase(found);
  }
  Layout layout = MakeLayout(question, groups, streams);
  if (layout.groups.empty()) return nullptr;
  return &layouts_.insert_or_assign(question.key, std::move(layout)).first->second;
}

WaitPredictor::Layout WaitPredictor::MakeLayout(const WaitQuestion& question,
                                                const GroupMap& groups,
                                                const Streams& streams) const {
  Layout layout{.time = question.now};
  std::vector<SlotPace> paces;
  std::vector<std::vector<Job>> placed;
  for (const auto& [number, group] : groups) {
    const auto learned = learned_.find(number);
    if (group.state != GroupState::kReady || group.key != question.key ||
        learned == learned_.end() || !learned->second.cost.known()) {
      continue;
    }
    const StepCost& cost = learned->second.cost;
    const int32_t slots = group.shape().sequences_max;
    layout.groups.push_back(number);
    paces.push_back({slots, cost.StepOf(slots), cost.row()});
    placed.push_back(PlacedJobs(group, streams));
    layout.jobs += placed.back().size();
  }
  if (paces.empty()) return layout;
  const std::vector<Job> waiting = WaitingJobs(question.key, streams);
  layout.jobs += waiting.size();
  for (int of = 0; of < kServiceClasses; ++of) {
    SlotPlan& plan = layout.plans.emplace_back(paces);
    const auto ahead = [of](const Job& job) { return static_cast<int>(job.service_class) <= of; };
    for (size_t group = 0; group < placed.size(); ++group) {
      for (const Job& job : placed[group]) {
        if (ahead(job)) plan.AddPlaced(group, job);
      }
    }
    for (const Job& job : waiting) {
      if (ahead(job)) plan.Add(job);
    }
  }
  return layout;
}

Job WaitPredictor::JobOf(const Stream& stream) const {
  const auto tokens = std::ssize(stream.tokens);
  return {stream.grant.service_class, static_cast<double>(std::ssize(stream.request.prompt)),
          LengthLeft(stream.key, stream.request.params.tokens_max - tokens)};
}

std::vector<Job> WaitPredictor::PlacedJobs(const Group& group, const Streams& streams) const {
  std::vector<Job> jobs;
  const SequenceId reported_to = learned_.at(group.number).known_sequence;
  double reported_rows = 0;
  for (const SequenceId sequence : group.sequences) {
    const std::optional<StreamId> id = streams.FindId(sequence);
    if (!id) continue;  // A canary, or cancelled.
    const Stream& stream = streams.all().at(*id);
    jobs.push_back(JobOf(stream));
    // One that lost its group has its answer so far to be computed, too.
    const bool answers = !stream.tokens.empty() && !stream.stalls;
    if (answers) jobs.back().rows = 0;
    if (sequence <= reported_to) reported_rows += jobs.back().rows;
  }
  std::ranges::stable_sort(jobs, {}, &Job::service_class);
  // Of the rows that its leader knows of some are done, or were found in its cache.
  const int64_t left = group.stats ? group.stats->prompt_rows_left : 0;
  double done = std::max(0.0, reported_rows - static_cast<double>(left));
  for (Job& job : jobs) {
    const double taken = std::min(done, job.rows);
    job.rows -= taken;
    done -= taken;
  }
  return jobs;
}

std::vector<Job> WaitPredictor::WaitingJobs(const ModelKey& key, const Streams& streams) const {
  std::vector<Job> jobs;
  const FairQueue& queue = streams.waiting(key);
  jobs.reserve(queue.size());
  // The better class first, and then as they came: about as they are served, whatever their
  // tenants.
  std::set<std::pair<ServiceClass, uint64_t>> order;
  for (const auto& [size, arrival] : queue.by_size()) {
    order.emplace(queue.at(arrival).service_class, arrival);
  }
  for (const auto& [service_class, arrival] : order) {
    jobs.push_back(JobOf(streams.all().at(queue.at(arrival).stream)));
  }
  return jobs;
}

}  // namespace shoal::core
