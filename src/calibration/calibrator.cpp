// Runs the model over the samples and lets observers see the wanted values.
//
// What decides bytes: the samples and their grouping into runs, since the runtime's float results
// may differ in the last digit between batch sizes. So the batch follows from the model and the
// data alone (the first sample runs by itself and shows how much its activations are), never from
// the memory budget or the number of threads. Those decide how many runs are in flight at once,
// and observers give the same result in whatever order runs come (histograms and their sums
// are exact; channel sums are added in the order of runs).
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "calibration/observers.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kDefaultBudget = std::uint64_t{256} << 20;
// Activations of one run that are looked at: little enough for the cache, enough to make the fixed
// costs of a run small.
constexpr std::uint64_t kRunBytes = 2 << 20;
constexpr std::int64_t kMaxBatch = 64;
// How many samples are enough: those whose activations fill the wanted bytes, but kUsualSamples
// unless these pass kMostBytes, and kLeastSamples in any case. Small layers need samples, since
// each gives them few values; large layers have seen it all after some dozens.
constexpr std::int64_t kLeastSamples = 20;
constexpr std::int64_t kUsualSamples = 32;
constexpr std::uint64_t kMostBytes = 512 << 20;
constexpr std::int64_t kMaxFixedBatch = 1 << 16;
constexpr std::size_t kNamedInWarning = 8;

struct Watch {
  std::vector<std::string> names;
  std::deque<ValueObserver> observers;  // one per name; they can not move
};

// Float values of the top graph, each once, in the order of the request.
Result<Watch> make_watch(const Model& model, const CalibrationRequest& request) {
  std::map<std::string_view, const Value*> known;
  const auto list = [&](const Value* value) {
    if (value != nullptr) known.emplace(value->name(), value);
  };
  const Graph& graph = model.graph();
  for (const Value* value : graph.inputs()) list(value);
  for (const Value* value : graph.initializers()) list(value);
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    for (const Value* value : node->outputs()) list(value);
  }
  const std::set<std::string_view> second(request.channel_values.begin(),
                                          request.channel_values.end());
  const std::set<std::string_view> last(request.last_axis_values.begin(),
                                        request.last_axis_values.end());
  Watch watch;
  std::set<std::string_view> seen;
  for (const std::string& name : request.values) {
    const auto found = known.find(name);
    if (found == known.end()) {
      return Error(Code::kInput, "value-not-found",
                   "the model's top graph has no value of this name", {{}, {}, name});
    }
    const TypeInfo* type = found->second->type();
    const DTypeInfo* element = type == nullptr ? nullptr : find_dtype(type->element);
    if (element != nullptr && !element->floating) {
      return Error(Code::kInput, "value-not-float",
                   "only float values can be observed, this is " + dtype_name(type->element),
                   {{}, {}, name});
    }
    if (!seen.insert(name).second) continue;
    std::optional<ChannelSums::Axis> channels;
    if (last.contains(name)) channels = ChannelSums::Axis::kLast;
    if (second.contains(name)) channels = ChannelSums::Axis::kSecond;
    watch.names.push_back(name);
    watch.observers.emplace_back(channels);
  }
  return watch;
}

// Which samples make which run.
struct Schedule {
  std::int64_t samples = 0;
  std::int64_t first = 1;   // samples of run 0
  std::int64_t batch = 1;   // of the others
  bool wrap = false;        // the model fixes the batch: the last run begins again with sample 0
  std::int64_t picked = 0;  // runs after run 0 that are taken, spread evenly; 0: all

  std::int64_t all_runs() const {
    return samples <= first ? 1 : 1 + (samples - first + batch - 1) / batch;
  }
  std::int64_t runs() const { return picked > 0 ? 1 + picked : all_runs(); }
  std::int64_t begin(std::int64_t run) const {
    if (run == 0) return 0;
    const std::int64_t nth = picked > 0 ? (run - 1) * (all_runs() - 1) / picked : run - 1;
    return first + nth * batch;
  }
  std::int64_t size(std::int64_t run) const {
    const std::int64_t wanted = run == 0 ? first : batch;
    return wrap ? wanted : std::min(wanted, samples - begin(run));
  }
};

Result<Tensor> join_rows(const Tensor& left, const Tensor& right) {
  std::vector<std::int64_t> dims(left.dims().begin(), left.dims().end());
  if (dims.empty()) return left;  // a scalar that belongs to every sample
  dims[0] += right.dims()[0];
  std::vector<std::byte> bytes;
  bytes.reserve(static_cast<std::size_t>(left.byte_size() + right.byte_size()));
  for (const Tensor* part : {&left, &right}) {
    MCOMPRESS_ASSIGN(const Pinned pin, part->storage()->pin(0, part->byte_size()));
    bytes.insert(bytes.end(), pin.bytes().begin(), pin.bytes().end());
  }
  return make_bytes_tensor(left.dtype(), std::move(dims), std::move(bytes));
}

Result<std::vector<NamedTensor>> read_run(DataSource& data, const Schedule& schedule,
                                          std::int64_t run) {
  std::int64_t wanted = schedule.size(run);
  std::int64_t begin = schedule.begin(run);
  std::vector<NamedTensor> feeds;
  while (wanted > 0) {
    const std::int64_t count = std::min(wanted, schedule.samples - begin);
    MCOMPRESS_ASSIGN(std::vector<NamedTensor> part, data.batch(begin, count));
    if (feeds.empty()) {
      feeds = std::move(part);
    } else {
      for (std::size_t i = 0; i < feeds.size(); ++i) {
        MCOMPRESS_ASSIGN(feeds[i].tensor, join_rows(feeds[i].tensor, part[i].tensor));
      }
    }
    wanted -= count;
    begin = 0;
  }
  return feeds;
}

// Executes the runs of a schedule on some threads. The failure of the earliest run counts.
class Runs {
 public:
  Runs(Session& session, DataSource& data, Watch& watch, Progress& progress)
      : session_(session), data_(data), watch_(watch), progress_(progress) {}

  Status execute(const Schedule& schedule, std::int64_t from, std::int64_t to, int threads) {
    next_ = from;
    to_ = to;
    for (std::int64_t run = from; run < to; ++run) {
      ranges_.emplace_back(schedule.begin(run), schedule.size(run));
    }
    std::vector<std::thread> helpers;
    for (int i = 1; i < threads && i < to - from; ++i) {
      helpers.emplace_back([&] { work(schedule); });
    }
    work(schedule);
    for (std::thread& helper : helpers) helper.join();
    if (failed_run_) return *std::move(failure_);
    return ok_status();
  }

  std::int64_t done() const { return done_; }
  // The samples of all runs, as first and count.
  const std::vector<std::pair<std::int64_t, std::int64_t>>& ranges() const { return ranges_; }
  // Bytes of the values seen so far.
  std::uint64_t seen_bytes() const { return seen_bytes_; }
  const std::set<std::size_t>& not_float() const { return not_float_; }
  // The model refused a run of several samples.
  bool batch_refused() const { return batch_refused_; }

 private:
  void work(const Schedule& schedule) {
    for (;;) {
      std::int64_t run = 0;
      std::vector<NamedTensor> feeds;
      {
        const std::lock_guard lock(guard_);
        if (next_ >= to_ || failed_run_) return;
        run = next_++;
        if (progress_.cancelled()) {
          return fail(run, Error(Code::kCancelled, "cancelled", "calibration was interrupted"));
        }
        auto read = read_run(data_, schedule, run);  // one thread at a time, in order
        if (!read.ok()) return fail(run, std::move(read).error());
        feeds = std::move(read).value();
      }
      Status status = guarded_run(run, feeds, schedule.size(run));
      const std::lock_guard lock(guard_);
      if (!status.ok()) {
        const Code code = status.error().code;
        const bool refused = code == Code::kInput || code == Code::kUnsupported;
        batch_refused_ = batch_refused_ || (refused && schedule.size(run) > 1);
        return fail(run, std::move(status).error());
      }
      done_ += schedule.size(run);
      progress_.update("calibrate", static_cast<std::uint64_t>(std::min(done_, schedule.samples)),
                       static_cast<std::uint64_t>(schedule.samples), "samples");
    }
  }

  // An exception must not leave a thread.
  Status guarded_run(std::int64_t run, std::span<const NamedTensor> feeds, std::int64_t samples) {
    try {
      std::vector<bool> seen(watch_.names.size());
      std::uint64_t bytes = 0;
      MCOMPRESS_TRY(session_.observe(feeds, [&](std::size_t i, const TensorView& view) {
        if (i >= seen.size() || seen[i]) return ok_status();
        bytes += view.bytes.size();
        seen[i] = watch_.observers[i].see(run, view, samples);
        if (!seen[i]) {
          const std::lock_guard lock(guard_);
          not_float_.insert(i);
        }
        return ok_status();
      }));
      for (std::size_t i = 0; i < seen.size(); ++i) {
        if (!seen[i]) watch_.observers[i].skip(run);
      }
      const std::lock_guard lock(guard_);
      seen_bytes_ += bytes;
      return ok_status();
    } catch (const std::bad_alloc&) {
      return Error(Code::kInternal, "out-of-memory", "there is not enough memory to calibrate");
    }
  }

  void fail(std::int64_t run, Error error) {
    if (failed_run_ && *failed_run_ < run) return;
    failed_run_ = run;
    failure_ = std::move(error);
  }

  Session& session_;
  DataSource& data_;
  Watch& watch_;
  Progress& progress_;
  std::mutex guard_;
  std::int64_t next_ = 0, to_ = 0, done_ = 0;
  std::uint64_t seen_bytes_ = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges_;
  std::set<std::size_t> not_float_;
  bool batch_refused_ = false;
  std::optional<std::int64_t> failed_run_;
  std::optional<Error> failure_;
};

Result<Schedule> make_schedule(const DataSource& data, const CalibrationRequest& request,
                               const CalibratorOptions& options) {
  Schedule schedule;
  schedule.samples = data.count();
  if (request.samples > 0) schedule.samples = std::min(schedule.samples, request.samples);
  const std::int64_t fixed = data.fixed_batch();
  if (fixed > kMaxFixedBatch) {
    return Error(Code::kUnsupported, "batch-size",
                 "the model wants " + std::to_string(fixed) + " samples at once");
  }
  if (fixed > 0) {
    schedule.first = schedule.batch = fixed;
    schedule.wrap = fixed > 1;
  } else if (data.can_batch() && options.batch > 0) {
    schedule.first = schedule.batch = options.batch;
  }
  return schedule;
}

// Leaves runs out, evenly, when fewer samples are enough.
void pick_runs(Schedule& schedule, std::uint64_t bytes_per_sample, std::uint64_t wanted_bytes) {
  const auto filling = [&](std::uint64_t bytes) {
    return static_cast<std::int64_t>(bytes / std::max<std::uint64_t>(bytes_per_sample, 1));
  };
  const std::int64_t wanted = std::max(
      {kLeastSamples, filling(wanted_bytes), std::min(kUsualSamples, filling(kMostBytes))});
  const std::int64_t rest = schedule.all_runs() - 1;
  const std::int64_t needed =
      (std::max<std::int64_t>(wanted - schedule.first, 0) + schedule.batch - 1) / schedule.batch;
  if (needed > 0 && needed < rest) schedule.picked = needed;
}

std::string mebibytes(std::uint64_t bytes) {
  return fixed(static_cast<double>(bytes) / (1 << 20), 2) + " MiB";
}

// All runs. Those after the first may hold several samples.
Status observe_all(Runs& runs, const Watch& watch, Schedule schedule, bool choose_batch,
                   const CalibrationRequest& request, const CalibratorOptions& options,
                   Diagnostics& diagnostics) {
  MCOMPRESS_TRY(runs.execute(schedule, 0, 1, 1));
  const std::uint64_t bytes = std::max<std::uint64_t>(runs.seen_bytes(), 1);
  if (choose_batch) {
    schedule.batch =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(kRunBytes / bytes), 1, kMaxBatch);
  }
  if (request.enough_bytes > 0 && !schedule.wrap) {
    pick_runs(schedule, bytes / static_cast<std::uint64_t>(schedule.first), request.enough_bytes);
  }
  // A run keeps part of what is seen in memory, at most all of it.
  const std::uint64_t budget = options.memory_budget > 0 ? options.memory_budget : kDefaultBudget;
  const std::uint64_t in_flight = bytes / static_cast<std::uint64_t>(schedule.first) *
                                  static_cast<std::uint64_t>(schedule.batch);
  const std::uint64_t fitting = budget / std::max<std::uint64_t>(in_flight, 1);
  const unsigned wanted = options.threads > 0 ? static_cast<unsigned>(options.threads)
                                              : std::thread::hardware_concurrency();
  const auto threads =
      static_cast<int>(std::clamp<std::uint64_t>(fitting, 1, std::max(wanted, 1U)));
  // What follows from model and data alone: the report is the same on every machine.
  diagnostics.note("calibration-plan",
                   std::to_string(schedule.runs()) + " runs of up to " +
                       std::to_string(std::max(schedule.first, schedule.batch)) +
                       " samples, with " + mebibytes(in_flight) +
                       " of observed activations each, as many at once as " + mebibytes(budget) +
                       " hold");
  if (in_flight > budget) {
    diagnostics.warn(
        "calibration-over-budget",
        "one run has " + mebibytes(in_flight) + " of activations, the budget is " +
            mebibytes(budget),
        {},
        "runs are not made smaller, so that results do not depend on the budget; raise "
        "--memory-budget");
  }
  MCOMPRESS_TRY(runs.execute(schedule, 1, schedule.runs(), threads));
  if (schedule.wrap && schedule.samples % schedule.batch != 0) {
    diagnostics.note("calibration-wrapped",
                     "the model wants " + std::to_string(schedule.batch) +
                         " samples at once: the last run is filled with the first of the " +
                         std::to_string(schedule.samples) + " samples again");
  }
  for (const std::size_t i : runs.not_float()) {
    diagnostics.warn("value-not-float", "this value is no float tensor and was not observed",
                     {{}, {}, watch.names[i]});
  }
  return ok_status();
}

std::string listed(const std::vector<std::string>& names) {
  const std::size_t shown = std::min(names.size(), kNamedInWarning);
  std::string text = std::string("'") + join(std::span(names).first(shown), "', '") + "'";
  if (shown < names.size()) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

// In the order of the request, which is that of the graph: the first is where it begins.
void warn_of_findings(const Watch& watch, const CalibrationTable& table, Diagnostics& diagnostics) {
  std::vector<std::string> broken, empty;
  const ValueStats* first = nullptr;
  for (const std::string& name : watch.names) {
    const ValueStats* stats = table.find(name);
    if (stats == nullptr) continue;
    if (stats->nan_count + stats->infinity_count > 0) {
      if (broken.empty()) first = stats;
      broken.push_back(name);
    }
    if (stats->count == 0) empty.push_back(name);
  }
  if (first != nullptr) {
    const std::string subject = broken.front();
    std::string message = std::to_string(first->nan_count) + " NaN and " +
                          std::to_string(first->infinity_count) +
                          " infinite elements were seen here and left out of the range";
    broken.erase(broken.begin());
    if (!broken.empty()) message += "; such elements are also in " + listed(broken);
    diagnostics.warn("calibration-not-finite", std::move(message), {{}, {}, subject});
  }
  if (!empty.empty()) {
    diagnostics.warn("calibration-nothing-seen",
                     "no finite element was seen in " + listed(empty) + ": there is no range");
  }
}

}  // namespace

Result<CalibrationTable> calibrate(Runtime& runtime, const Model& model, DataSource& data,
                                   const CalibrationRequest& request,
                                   const CalibratorOptions& options, Diagnostics& diagnostics,
                                   Progress& progress) {
  MCOMPRESS_ASSIGN(Watch watch, make_watch(model, request));
  MCOMPRESS_ASSIGN(const Schedule schedule, make_schedule(data, request, options));
  if (schedule.samples < 1) {
    return Error(Code::kInput, "data-empty", "there are no calibration samples");
  }
  CalibrationTable table;
  if (!watch.names.empty()) {
    SessionOptions session_options;
    session_options.threads = 1;  // several runs at once instead, which changes no result
    session_options.observed = watch.names;
    MCOMPRESS_ASSIGN(const auto session, runtime.open(model, session_options));
    const bool choose = data.can_batch() && options.batch <= 0 && data.fixed_batch() == 0;
    Runs runs(*session, data, watch, progress);
    Status status = observe_all(runs, watch, schedule, choose, request, options, diagnostics);
    if (!status.ok() && choose && runs.batch_refused()) {
      // A model may call its batch axis free and yet be made for one sample.
      MCOMPRESS_ASSIGN(watch, make_watch(model, request));
      Runs singles(*session, data, watch, progress);
      Status single = observe_all(singles, watch, schedule, false, request, options, diagnostics);
      if (single.ok()) {
        diagnostics.note("calibration-unbatched", "the model runs one sample at a time only: " +
                                                      status.error().diagnostic.message);
      }
      table.samples = singles.done();
      table.observed = singles.ranges();
      status = std::move(single);
    } else {
      table.samples = runs.done();
      table.observed = runs.ranges();
    }
    if (!status.ok()) return std::move(status).error();
    table.samples = std::min(table.samples, schedule.samples);
    if (table.samples < schedule.samples) {
      diagnostics.note("calibration-enough",
                       "ranges come from " + std::to_string(table.samples) + " of the " +
                           std::to_string(schedule.samples) +
                           " samples, spread evenly: more activations than that do not move them",
                       {}, "--samples N takes the first N instead");
    }
  }
  for (std::size_t i = 0; i < watch.names.size(); ++i) {
    table.set(watch.names[i], watch.observers[i].stats());
  }
  const std::uint64_t digest = data.digest();
  if (digest == 0) {
    // Asked again, the data know which file it was.
    if (auto again = data.sample(0); !again.ok()) return std::move(again).error();
    return Error(Code::kInput, "data-unreadable",
                 data.description() + " could not be read again for the digest of the data");
  }
  table.model_digest = fingerprint(model);
  table.data_digests = {digest};
  if (watch.names.empty()) table.samples = schedule.samples;
  table.runtime = runtime.name();
  warn_of_findings(watch, table, diagnostics);
  return table;
}

}  // namespace mcompress
