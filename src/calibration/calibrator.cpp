// Runs the model over the samples and lets observers see the wanted values.
//
// What decides bytes: the samples and their grouping into runs, since the runtime's float results
// may differ in the last digit between batch sizes. So the batch follows from the model and the
// data alone (the first sample runs by itself and shows how much its activations are), never from
// the memory budget or the number of threads. Those decide how many runs are in flight at once and
// how many values are observed in one pass over the data (the others are shown to nobody then, so
// that the runtime executes the same graph). Observers give the same result in whatever order runs
// come (histograms and their sums are exact; channel sums are added in the order of runs).
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "calibration/observers.h"
#include "calibration/run_memory.h"
#include "calibration/run_schedule.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::uint64_t kDefaultBudget = std::uint64_t{256} << 20;
constexpr std::size_t kNamedInWarning = 8;

struct Watch {
  std::vector<std::string> names;
  std::vector<std::optional<ChannelSums::Axis>> channels;  // one per name
  // Of the names from `first` on, as many as are observed at a time; they can not move.
  std::size_t first = 0;
  std::deque<ValueObserver> observers;

  void begin(std::size_t from, std::size_t count) {
    first = from;
    observers.clear();
    for (std::size_t i = from; i < std::min(from + count, names.size()); ++i) {
      observers.emplace_back(channels[i]);
    }
  }
  ValueObserver* observer(std::size_t i) {
    return i >= first && i - first < observers.size() ? &observers[i - first] : nullptr;
  }
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
    watch.channels.push_back(channels);
  }
  return watch;
}

// Executes the runs of a schedule on some threads. The failure of the earliest run counts.
class Runs {
 public:
  Runs(Session& session, DataSource& data, Watch& watch, Progress& progress)
      : session_(session), data_(data), watch_(watch), progress_(progress) {}

  // Runs that are in flight together take at most so many bytes, unless one alone takes more. What
  // a run takes is estimated from the size of its inputs.
  void limit(std::uint64_t bytes, double bytes_per_input_byte) {
    limit_ = bytes;
    bytes_per_input_byte_ = bytes_per_input_byte;
  }
  // This is pass `pass` of `passes` over the data, which only the progress shows.
  void pass(std::int64_t pass, std::int64_t passes) {
    pass_ = pass;
    passes_ = passes;
  }

  Status execute(const RunSchedule& schedule, std::int64_t from, std::int64_t to, int threads) {
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
  void work(const RunSchedule& schedule) {
    for (;;) {
      std::int64_t run = 0;
      std::vector<NamedTensor> feeds;
      std::uint64_t bytes = 0;
      {
        std::unique_lock lock(guard_);
        if (next_ >= to_ || failed_run_) return;
        run = next_++;
        if (progress_.cancelled()) {
          return fail(run, Error(Code::kCancelled, "cancelled", "calibration was interrupted"));
        }
        auto read = read_run(data_, schedule, run);  // one thread at a time, in order
        if (!read.ok()) return fail(run, std::move(read).error());
        feeds = std::move(read).value();
        bytes = static_cast<std::uint64_t>(static_cast<double>(input_bytes(feeds)) *
                                           bytes_per_input_byte_);
        room_.wait(lock, [&] { return in_flight_ == 0 || in_flight_ + bytes <= limit_; });
        in_flight_ += bytes;
      }
      Status status = guarded_run(run, feeds, schedule.size(run));
      feeds.clear();
      const std::lock_guard lock(guard_);
      in_flight_ -= bytes;
      room_.notify_all();
      if (!status.ok()) {
        const Code code = status.error().code;
        const bool refused = code == Code::kInput || code == Code::kUnsupported;
        batch_refused_ = batch_refused_ || (refused && schedule.size(run) > 1);
        return fail(run, std::move(status).error());
      }
      done_ += schedule.size(run);
      const std::int64_t shown = std::min(done_, schedule.samples) + pass_ * schedule.samples;
      progress_.update("calibrate", static_cast<std::uint64_t>(shown),
                       static_cast<std::uint64_t>(schedule.samples * passes_), "samples");
    }
  }

  // An exception must not leave a thread.
  Status guarded_run(std::int64_t run, std::span<const NamedTensor> feeds, std::int64_t samples) {
    try {
      std::vector<bool> shown(watch_.names.size()), seen(watch_.names.size());
      std::uint64_t bytes = 0;
      MCOMPRESS_TRY(session_.observe(feeds, [&](std::size_t i, const TensorView& view) {
        if (i >= shown.size() || shown[i]) return ok_status();
        shown[i] = true;
        bytes += view.bytes.size();
        ValueObserver* const observer = watch_.observer(i);
        if (observer == nullptr) return ok_status();
        seen[i] = observer->see(run, view, samples);
        if (!seen[i]) {
          const std::lock_guard lock(guard_);
          not_float_.insert(i);
        }
        return ok_status();
      }));
      for (std::size_t i = 0; i < seen.size(); ++i) {
        ValueObserver* const observer = watch_.observer(i);
        if (observer != nullptr && !seen[i]) observer->skip(run);
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
  std::condition_variable room_;
  std::uint64_t limit_ = ~std::uint64_t{0}, in_flight_ = 0;
  double bytes_per_input_byte_ = 0;
  std::int64_t next_ = 0, to_ = 0, done_ = 0, pass_ = 0, passes_ = 1;
  std::uint64_t seen_bytes_ = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges_;
  std::set<std::size_t> not_float_;
  bool batch_refused_ = false;
  std::optional<std::int64_t> failed_run_;
  std::optional<Error> failure_;
};

int wanted_threads(const CalibratorOptions& options) {
  const unsigned processors = std::max(std::thread::hardware_concurrency(), 1U);
  return options.threads > 0 ? options.threads : static_cast<int>(processors);
}

// What the first run takes, found by running it for nobody.
Result<RunMemory> probe(Session& session, DataSource& data, const RunSchedule& schedule) {
  MCOMPRESS_ASSIGN(const std::vector<NamedTensor> feeds, read_run(data, schedule, 0));
  RunMemory memory;
  memory.input = input_bytes(feeds);
  MCOMPRESS_TRY(session.observe(feeds, [&](std::size_t, const TensorView& view) {
    memory.shown += view.bytes.size();
    return ok_status();
  }));
  MCOMPRESS_ASSIGN(const MemoryUse use, session.memory_use());
  memory.work = use.peak_bytes;
  return memory;
}

// How the samples are run.
struct Work {
  RunSchedule schedule;
  bool choose_batch = false;          // from what the first sample shows
  std::optional<RunMemory> measured;  // of run 0, where a budget was given
  MemoryShares shares;                // where `measured`
};

// What follows from model, data and budget alone: the report is the same on every machine.
void note_plan(const Work& work, std::uint64_t shown, std::uint64_t budget,
               Diagnostics& diagnostics) {
  const RunSchedule& schedule = work.schedule;
  std::string text = std::to_string(schedule.runs()) + " runs of up to " +
                     std::to_string(std::max(schedule.first, schedule.batch)) + " samples, with " +
                     memory_text(shown) + " of observed activations each, as many at once as " +
                     memory_text(budget) + " hold";
  if (work.measured) {
    text += ": a run takes " + memory_text(work.shares.run) + ", statistics " +
            memory_text(work.shares.statistics) + ", in " + std::to_string(work.shares.passes) +
            (work.shares.passes == 1 ? " pass" : " passes") + " over the data";
  }
  diagnostics.note("calibration-plan", std::move(text));
  if (work.measured && work.shares.least > budget) {
    diagnostics.warn(
        "calibration-over-budget",
        "calibration needs at least " + memory_text(work.shares.least) + ", the budget is " +
            memory_text(budget) + ": it takes " +
            memory_text(work.shares.run + work.shares.statistics) + ", one run " +
            memory_text(work.shares.run) + " and statistics " + memory_text(work.shares.statistics),
        {},
        "runs are not made smaller, so that results do not depend on the budget; raise "
        "--memory-budget");
  }
}

// One pass over all runs. Those after the first may hold several samples.
Status observe_all(Runs& runs, const Watch& watch, Work& work, const CalibrationRequest& request,
                   const CalibratorOptions& options, Diagnostics& diagnostics) {
  RunSchedule& schedule = work.schedule;
  const bool first_pass = watch.first == 0;
  MCOMPRESS_TRY(runs.execute(schedule, 0, 1, 1));
  const auto first_samples = static_cast<std::uint64_t>(schedule.first);
  const std::uint64_t bytes = std::max<std::uint64_t>(runs.seen_bytes(), 1);
  if (first_pass && work.choose_batch) schedule.batch = batch_for(bytes);
  if (first_pass && request.enough_bytes > 0 && !schedule.wrap) {
    pick_runs(schedule, bytes / first_samples, request.enough_bytes);
  }
  const std::uint64_t shown = bytes / first_samples * static_cast<std::uint64_t>(schedule.batch);
  const std::uint64_t budget = options.memory_budget > 0 ? options.memory_budget : kDefaultBudget;
  std::uint64_t fitting = budget / std::max<std::uint64_t>(shown, 1);
  if (work.measured) {
    fitting = work.shares.at_once;
    runs.limit(work.shares.for_runs, work.measured->per_input_byte());
  }
  const auto threads = static_cast<int>(
      std::clamp<std::uint64_t>(fitting, 1, static_cast<std::uint64_t>(wanted_threads(options))));
  if (first_pass) note_plan(work, shown, budget, diagnostics);
  MCOMPRESS_TRY(runs.execute(schedule, 1, schedule.runs(), threads));
  if (first_pass && schedule.wrap && schedule.samples % schedule.batch != 0) {
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

// Passes over the data until every value has been observed; says whether the model refused a run
// of several samples.
Status observe_values(Session& session, DataSource& data, Watch& watch, Work work,
                      const CalibrationRequest& request, const CalibratorOptions& options,
                      CalibrationTable& table, bool& batch_refused, Diagnostics& diagnostics,
                      Progress& progress) {
  std::size_t together = watch.names.size();
  if (work.measured) {
    const auto first = static_cast<std::uint64_t>(work.schedule.first);
    const std::int64_t batch =
        work.choose_batch ? batch_for(work.measured->shown / first) : work.schedule.batch;
    work.shares = share_memory(options.memory_budget, watch.names.size(),
                               work.measured->of(static_cast<std::uint64_t>(batch), first));
    together = work.shares.values;
  }
  for (std::size_t from = 0, pass = 0; from < watch.names.size(); from += together, ++pass) {
    watch.begin(from, together);
    Runs runs(session, data, watch, progress);
    runs.pass(static_cast<std::int64_t>(pass),
              work.measured ? static_cast<std::int64_t>(work.shares.passes) : 1);
    Status status = observe_all(runs, watch, work, request, options, diagnostics);
    batch_refused = runs.batch_refused();
    if (!status.ok()) return status;
    table.samples = runs.done();
    table.observed = runs.ranges();
    for (std::size_t i = from; i - from < watch.observers.size(); ++i) {
      table.set(watch.names[i], watch.observers[i - from].stats());
    }
  }
  watch.begin(0, 0);
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
  MCOMPRESS_ASSIGN(const RunSchedule schedule, make_schedule(data, request, options));
  if (schedule.samples < 1) {
    return Error(Code::kInput, "data-empty", "there are no calibration samples");
  }
  CalibrationTable table;
  if (!watch.names.empty()) {
    SessionOptions session_options;
    session_options.threads = 1;  // several runs at once instead, which changes no result
    session_options.observed = watch.names;
    // Under a budget each value is allocated by itself and given back: what is held is known, and
    // nothing is kept in store.
    session_options.count_memory = options.memory_budget > 0;
    MCOMPRESS_ASSIGN(const auto session, runtime.open(model, session_options));
    Work work{schedule, data.can_batch() && options.batch <= 0 && data.fixed_batch() == 0, {}, {}};
    if (options.memory_budget > 0) {
      MCOMPRESS_ASSIGN(work.measured, probe(*session, data, schedule));
    }
    const auto observe = [&](bool& refused) {
      return observe_values(*session, data, watch, work, request, options, table, refused,
                            diagnostics, progress);
    };
    bool refused = false, ignored = false;
    Status status = observe(refused);
    if (!status.ok() && work.choose_batch && refused) {
      // A model may call its batch axis free and yet be made for one sample.
      work.choose_batch = false;
      Status single = observe(ignored);
      if (single.ok()) {
        diagnostics.note("calibration-unbatched", "the model runs one sample at a time only: " +
                                                      status.error().diagnostic.message);
      }
      status = std::move(single);
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
