#include "passes/common/integer/unit_effects.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/facts.h"
#include "ir/part.h"
#include "passes/common/memory_share.h"
#include "support/executor.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr double kExactDb = 200;
constexpr std::uint64_t kDefaultBudget = std::uint64_t{256} << 20;

bool is_distribution(std::span<const float> row) {
  double sum = 0;
  for (const float value : row) {
    if (!(value >= -1e-4F && value <= 1.0001F)) return false;
    sum += static_cast<double>(value);
  }
  return std::abs(sum - 1) < 1e-3;
}

void to_distribution(std::span<const float> row, bool already, std::vector<double>& out) {
  constexpr double kLeast = 1e-12;
  out.assign(row.begin(), row.end());
  double sum = 0;
  const double top = static_cast<double>(*std::max_element(row.begin(), row.end()));
  for (double& value : out) {
    value = already ? std::max(value, 0.0) : std::exp(value - top);
    sum += value;
  }
  for (double& value : out) value = std::max(value / sum, kLeast);
}

// What one output was in float32, for one sample.
struct KeptOutput {
  std::vector<float> values;
  std::size_t width = 1;
};

struct Sums {
  double signal = 0, noise = 0;
  bool broken = false;

  void add(std::span<const float> expected, const TensorView& view) {
    if (view.bytes.size() != expected.size() * sizeof(float)) {
      broken = true;
      return;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      float value;
      std::memcpy(&value, view.bytes.data() + i * sizeof(float), sizeof value);
      // Where float32 itself is not finite there is nothing to compare.
      if (!std::isfinite(expected[i])) continue;
      const double error = static_cast<double>(value) - static_cast<double>(expected[i]);
      signal += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
      noise += error * error;
    }
    broken = broken || !std::isfinite(noise);
  }
  double ratio() const {
    constexpr double kAllNoise = 1e20;
    if (broken) return kAllNoise;
    if (noise <= 0) return 0;
    return signal > 0 ? std::min(noise / signal, kAllNoise) : kAllNoise;
  }
};

std::uint64_t bytes_of(std::span<const NamedTensor> tensors) {
  std::uint64_t bytes = 0;
  for (const NamedTensor& tensor : tensors) bytes += tensor.tensor.byte_size();
  return bytes;
}

class EffectMeter {
 public:
  EffectMeter(Runtime& runtime, const UnitSource& source, DataSource& data,
              const EffectOptions& options, const Executor& executor, Progress& progress)
      : runtime_(runtime),
        source_(source),
        data_(data),
        options_(options),
        executor_(executor),
        progress_(progress),
        limited_(options.memory_budget > 0),
        budget_(limited_ ? options.memory_budget : kDefaultBudget) {}

  Result<EffectRun> run() {
    const Graph& graph = source_.model->graph();
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (!why_no_part(*node).empty()) cuttable_ = false;
      place_.emplace(node->id(), nodes_.size());
      nodes_.push_back(node);
    }
    run_.units.resize(source_.count);
    MCOMPRESS_TRY(remember());
    order_units();
    const std::size_t per_segment = (order_.size() + std::max<std::size_t>(options_.cuts, 1) - 1) /
                                    std::max<std::size_t>(options_.cuts, 1);
    for (std::size_t at = 0; at < order_.size(); at += per_segment) {
      const std::size_t end = std::min(at + per_segment, order_.size());
      own_.clear();
      own_reference_.clear();
      if (cuttable_ && at > 0) advance(start_of(order_[at]));
      remember_own(at, end, end < order_.size() ? start_of(order_[end]) : nodes_.size());
      MCOMPRESS_TRY(measure(at, end));
    }
    return std::move(run_);
  }

 private:
  SessionOptions session_options() const {
    SessionOptions options;
    options.optimisation = Optimisation::kAll;  // the kernels an application would run
    options.count_memory = limited_;            // nothing stays in store between runs
    return options;
  }

  // Shares the budget out: trials may use a quarter, one runs in any case; the rest is for what is
  // kept.
  void share_out(std::uint64_t run) {
    run_.run_bytes = with_room(run);
    const std::uint64_t fitting = budget_ / 4 / std::max<std::uint64_t>(run_.run_bytes, 1);
    run_.at_once = static_cast<std::int64_t>(std::clamp<std::uint64_t>(
        fitting, 1, static_cast<std::uint64_t>(std::max(executor_.threads(), 1))));
    for_kept_ = rest_of(budget_, static_cast<std::uint64_t>(run_.at_once) * run_.run_bytes);
  }
  // Of what is for keeping: half for samples and outputs. Of the rest, values at a cut take three
  // eighths, since those of the cut before are there until they are replaced, and what units make a
  // quarter.
  std::uint64_t most_at_cut() const {
    return limited_ ? rest_of(for_kept_, remembered_) * 3 / 8 : budget_ / 2;
  }
  std::uint64_t most_of_units() const {
    return limited_ ? rest_of(for_kept_, remembered_) / 4 : budget_ / 2;
  }
  void count_kept() {
    std::uint64_t bytes = remembered_;
    for (const auto& sample : cache_) bytes += bytes_of(sample);
    for (const auto& sample : own_reference_) {
      for (const auto& values : sample) bytes += values.size() * sizeof(float);
    }
    run_.kept_bytes = std::max(run_.kept_bytes, bytes);
  }

  struct Part {
    std::unique_ptr<Model> model;
    std::unique_ptr<Session> session;
    std::vector<std::string> fetch;
  };

  std::size_t start_of(std::size_t unit) const {
    const Node* node = source_.first(unit);
    if (node == nullptr) return 0;
    const auto found = place_.find(node->id());
    return found != place_.end() ? found->second : 0;
  }

  void order_units() {
    order_.resize(source_.count);
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::size_t a, std::size_t b) { return start_of(a) < start_of(b); });
  }

  // Samples, and the outputs of the float model. Fewer samples where they would take more than
  // half of what is for keeping.
  Status remember() {
    MCOMPRESS_ASSIGN(const auto session, runtime_.open(*source_.model, session_options()));
    for (const PortInfo& port : session->outputs()) {
      if (port.type.element == DataType::kFloat) outputs_.push_back(port.name);
    }
    const std::int64_t step = std::max<std::int64_t>(data_.fixed_batch(), 1);
    const std::int64_t total = data_.count() / step;
    std::int64_t wanted = std::min(options_.samples, total);
    std::uint64_t bytes = 0;
    for (std::int64_t i = 0; i < wanted; ++i) {
      MCOMPRESS_ASSIGN(auto feeds, data_.batch(i * total / wanted * step, step));
      bytes += bytes_of(feeds);
      std::vector<KeptOutput> kept(outputs_.size());
      MCOMPRESS_TRY(
          session->run(feeds, outputs_, [&](std::size_t output, const TensorView& view) -> Status {
            kept[output].values.resize(view.bytes.size() / sizeof(float));
            std::memcpy(kept[output].values.data(), view.bytes.data(), view.bytes.size());
            if (!view.dims.empty()) kept[output].width = static_cast<std::size_t>(view.dims.back());
            bytes += view.bytes.size();
            return ok_status();
          }));
      if (limited_ && i == 0) {
        MCOMPRESS_ASSIGN(const MemoryUse use, session->memory_use());
        share_out(use.peak_bytes + bytes);  // reading takes the sample once more
        run_.least_bytes = run_.run_bytes + bytes;
      }
      if (limited_ && i > 0 && bytes > for_kept_ / 2) break;
      feeds_.push_back(std::move(feeds));
      reference_.push_back(std::move(kept));
      remembered_ = bytes;
      if (bytes > budget_ / 2) break;
    }
    run_.samples = static_cast<std::int64_t>(feeds_.size());
    return ok_status();
  }

  // Values made before `place` that nodes from there on read.
  std::vector<const Value*> frontier(std::size_t place) const {
    std::vector<const Value*> values;
    std::unordered_set<const Value*> seen;
    for (std::size_t i = place; i < nodes_.size(); ++i) {
      for (const Value* value : nodes_[i]->inputs()) {
        if (value == nullptr || value->is_initializer()) continue;
        const Node* maker = value->producer();
        if (maker != nullptr && place_.at(maker->id()) >= place) continue;
        if (seen.insert(value).second) values.push_back(value);
      }
    }
    return values;
  }

  Result<Part> open_part(const Model& model, std::span<const Node* const> nodes,
                         std::span<const PartInput> inputs,
                         std::span<const Value* const> wanted) const {
    Part part;
    part.model = part_of(model, nodes, inputs, wanted);
    MCOMPRESS_ASSIGN(part.session, runtime_.open(*part.model, session_options()));
    for (const PortInfo& port : part.session->outputs()) part.fetch.push_back(port.name);
    return part;
  }

  // What feeds a part that starts at the present cut; at the start of the graph, the samples.
  std::vector<PartInput> inputs_of(std::span<const std::vector<NamedTensor>> samples,
                                   std::span<const Value* const> values) const {
    std::vector<PartInput> inputs;
    for (std::size_t i = 0; i < values.size(); ++i) {
      PartInput input;
      input.value = values[i];
      for (const auto& sample : samples) {
        const Tensor& tensor = sample[i].tensor;
        if (input.element == DataType::kUndefined) {
          input.element = tensor.dtype();
          input.dims.assign(tensor.dims().begin(), tensor.dims().end());
        }
        for (std::size_t d = 0; d < input.dims.size() && d < tensor.dims().size(); ++d) {
          if (input.dims[d] != tensor.dims()[d]) input.dims[d] = -1;
        }
      }
      inputs.push_back(std::move(input));
    }
    return inputs;
  }

  // The samples as parts name them.
  bool start_cache() {
    if (!cut_values_.empty()) return true;
    const std::vector<const Value*> values = frontier(0);
    std::vector<std::vector<NamedTensor>> kept;
    for (const auto& feeds : feeds_) {
      std::vector<NamedTensor> sample;
      for (const Value* value : values) {
        const auto feed = std::find_if(feeds.begin(), feeds.end(), [&](const NamedTensor& tensor) {
          return tensor.name == value->name();
        });
        if (feed == feeds.end()) return false;
        sample.push_back({part_name(*value), feed->tensor});
      }
      kept.push_back(std::move(sample));
    }
    cut_values_ = values;
    cache_ = std::move(kept);
    return true;
  }

  // Moves the cut to `place`. Stays where it is when that can not be done.
  void advance(std::size_t place) {
    if (place <= cut_ || !start_cache()) return;
    const std::vector<const Value*> values = frontier(place);
    std::vector<const Value*> wanted;
    for (const Value* value : values) {
      if (std::find(cut_values_.begin(), cut_values_.end(), value) == cut_values_.end()) {
        wanted.push_back(value);
      }
    }
    auto made = run_between(place, wanted, most_at_cut());
    if (!made) return;
    std::vector<std::vector<NamedTensor>> next;
    for (std::size_t s = 0; s < cache_.size(); ++s) {
      std::vector<NamedTensor> sample;
      std::size_t fresh = 0;
      for (const Value* value : values) {
        const auto old = std::find(cut_values_.begin(), cut_values_.end(), value);
        if (old != cut_values_.end()) {
          sample.push_back(cache_[s][static_cast<std::size_t>(old - cut_values_.begin())]);
        } else {
          sample.push_back({part_name(*value), (*made)[s][fresh++]});
        }
      }
      next.push_back(std::move(sample));
    }
    cache_ = std::move(next);
    cut_values_ = values;
    cut_ = place;
    ++run_.cuts;
  }

  // Values made between the cut and `place`, for every sample; empty: not to be had, or more than
  // `limit` bytes.
  std::optional<std::vector<std::vector<Tensor>>> run_between(std::size_t place,
                                                              std::span<const Value* const> wanted,
                                                              std::uint64_t limit) const {
    const std::span<const Node* const> nodes = std::span(nodes_).subspan(cut_, place - cut_);
    auto part = open_part(*source_.model, nodes, inputs_of(cache_, cut_values_), wanted);
    if (!part.ok()) return std::nullopt;
    std::vector<std::vector<Tensor>> results;
    std::uint64_t bytes = 0;
    for (const auto& sample : cache_) {
      auto tensors = part->session->run(fed(*part->session, sample), part->fetch);
      if (!tensors.ok() || tensors->size() != wanted.size()) return std::nullopt;
      for (const Tensor& tensor : *tensors) bytes += tensor.byte_size();
      if (bytes / (results.size() + 1) * cache_.size() > limit) return std::nullopt;
      results.push_back(std::move(tensors).value());
    }
    return results;
  }

  // Of the kept values those that the session reads.
  static std::vector<NamedTensor> fed(const Session& session, std::span<const NamedTensor> sample) {
    std::vector<NamedTensor> feeds;
    for (const NamedTensor& tensor : sample) {
      const auto inputs = session.inputs();
      if (std::any_of(inputs.begin(), inputs.end(),
                      [&](const PortInfo& port) { return port.name == tensor.name; })) {
        feeds.push_back(tensor);
      }
    }
    return feeds;
  }

  // What the units of this segment make in float32.
  void remember_own(std::size_t begin, std::size_t end, std::size_t stop) {
    if (!cuttable_ || !start_cache()) return;
    std::vector<const Value*> wanted;
    std::vector<std::size_t> units;
    for (std::size_t i = begin; i < end; ++i) {
      const Value* value = source_.own(order_[i]);
      if (value == nullptr || value->producer() == nullptr) continue;
      const auto maker = place_.find(value->producer()->id());
      if (maker == place_.end() || maker->second < cut_ || maker->second >= stop) continue;
      if (std::find(wanted.begin(), wanted.end(), value) != wanted.end()) continue;
      wanted.push_back(value);
      units.push_back(order_[i]);
    }
    auto made = run_between(stop, wanted, most_of_units());
    if (!made) return;
    for (std::size_t u = 0; u < units.size(); ++u) own_.emplace(units[u], u);
    for (auto& sample : *made) {
      std::vector<std::vector<float>> values;
      for (Tensor& tensor : sample) {
        auto read = read_floats(tensor);
        values.push_back(read.ok() ? std::move(read).value() : std::vector<float>());
        tensor = Tensor();  // not all of them twice
      }
      own_reference_.push_back(std::move(values));
    }
    count_kept();
  }

  Status measure(std::size_t begin, std::size_t end) {
    const auto width = static_cast<std::size_t>(
        limited_ ? run_.at_once : std::max<std::int64_t>(executor_.threads(), 1));
    for (std::size_t at = begin; at < end; at += width) {
      if (progress_.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
      progress_.update("sensitivity", at, order_.size(), "layers");
      const std::size_t count = std::min(width, end - at);
      std::vector<UnitTrial> trials(count);
      for (std::size_t i = 0; i < count; ++i) {
        MCOMPRESS_ASSIGN(trials[i], source_.emit(order_[at + i]));
      }
      std::vector<double> costs(count, 0);
      MCOMPRESS_TRY(
          executor_.try_parallel_for(count, 1, [&](std::size_t from, std::size_t to) -> Status {
            for (std::size_t i = from; i < to; ++i) {
              if (trials[i].model == nullptr) continue;
              MCOMPRESS_TRY(run_trial(order_[at + i], trials[i], costs[i]));
            }
            return ok_status();
          }));
      for (const double cost : costs) run_.passes += cost;
    }
    return ok_status();
  }

  // Where each fetched result belongs: an output of the model, or what the unit makes.
  struct Fetched {
    std::vector<std::size_t> output;  // index into outputs_
    std::size_t own = SIZE_MAX;       // index into the results
  };

  Status run_trial(std::size_t unit, const UnitTrial& trial, double& cost) {
    if (cut_ > 0) {
      Fetched fetched;
      auto part = open_suffix(unit, trial, fetched);
      if (part.ok()) {
        cost = static_cast<double>(nodes_.size() - cut_) / static_cast<double>(nodes_.size());
        return accumulate(unit, *part->session, part->fetch, cache_, fetched);
      }
    }
    cost = 1;
    Fetched fetched;
    SessionOptions options = session_options();
    std::vector<std::string> fetch = outputs_;
    for (std::size_t i = 0; i < outputs_.size(); ++i) fetched.output.push_back(i);
    if (trial.own != nullptr && own_.count(unit) != 0) {
      fetched.own = fetch.size();
      fetch.emplace_back(trial.own->name());
      if (!trial.own->is_graph_output()) options.extra_outputs.push_back(fetch.back());
    }
    MCOMPRESS_ASSIGN(const auto session, runtime_.open(*trial.model, options));
    return accumulate(unit, *session, fetch, feeds_, fetched);
  }

  Result<Part> open_suffix(std::size_t unit, const UnitTrial& trial, Fetched& fetched) const {
    const Graph& graph = trial.model->graph();
    std::vector<const Node*> suffix;
    std::unordered_set<const Node*> inside;
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      const auto known = place_.find(node->id());
      if (known != place_.end() && known->second < cut_) continue;
      suffix.push_back(node);
      inside.insert(node);
    }
    std::vector<PartInput> inputs = inputs_of(cache_, cut_values_);
    const auto& values = IrInternals::values(*trial.model);
    for (PartInput& input : inputs) input.value = &values[input.value->id()];
    std::vector<const Value*> wanted;
    for (const Value* output : graph.outputs()) {
      const auto known = std::find(outputs_.begin(), outputs_.end(), output->name());
      if (known == outputs_.end() || inside.count(output->producer()) == 0) continue;
      wanted.push_back(output);
      fetched.output.push_back(static_cast<std::size_t>(known - outputs_.begin()));
    }
    if (trial.own != nullptr && own_.count(unit) != 0) {
      fetched.own = wanted.size();
      wanted.push_back(trial.own);
    }
    return open_part(*trial.model, suffix, inputs, wanted);
  }

  Status accumulate(std::size_t unit, Session& session, std::span<const std::string> fetch,
                    std::span<const std::vector<NamedTensor>> samples, const Fetched& fetched) {
    std::vector<Sums> sums(outputs_.size());
    Sums own;
    double kl = 0;
    std::size_t rows = 0, equal = 0;
    for (std::size_t s = 0; s < samples.size(); ++s) {
      const auto receive = [&](std::size_t i, const TensorView& view) -> Status {
        if (i == fetched.own) {
          own.add(own_reference_[s][own_.at(unit)], view);
          return ok_status();
        }
        const std::size_t output = fetched.output[i];
        const KeptOutput& kept = reference_[s][output];
        sums[output].add(kept.values, view);
        if (output == 0 && view.bytes.size() == kept.values.size() * sizeof(float)) {
          add_rows(kept, view, kl, rows, equal);
        }
        return ok_status();
      };
      MCOMPRESS_TRY(session.run(fed(session, samples[s]), fetch, receive));
    }
    UnitEffect& effect = run_.units[unit];
    for (const Sums& sum : sums) effect.noise = std::max(effect.noise, sum.ratio());
    if (rows > 0) {
      effect.kl = kl / static_cast<double>(rows);
      effect.agreement = static_cast<double>(equal) / static_cast<double>(rows);
    }
    effect.own_known = fetched.own != SIZE_MAX;
    effect.own_noise = own.ratio();
    return ok_status();
  }

  static void add_rows(const KeptOutput& kept, const TensorView& view, double& kl,
                       std::size_t& rows, std::size_t& equal) {
    if (kept.width < 2 || kept.values.empty()) return;
    const std::span values(reinterpret_cast<const float*>(view.bytes.data()), kept.values.size());
    const std::size_t count = values.size() / kept.width;
    kl += mean_kl(kept.values, values, kept.width) * static_cast<double>(count);
    rows += count;
    for (std::size_t r = 0; r < count; ++r) {
      const auto row = [&](std::span<const float> from) {
        const auto begin = from.begin() + static_cast<std::ptrdiff_t>(r * kept.width);
        return std::max_element(begin, begin + static_cast<std::ptrdiff_t>(kept.width)) - begin;
      };
      if (row(kept.values) == row(values)) ++equal;
    }
  }

  Runtime& runtime_;
  const UnitSource& source_;
  DataSource& data_;
  const EffectOptions& options_;
  const Executor& executor_;
  Progress& progress_;
  bool limited_;
  std::uint64_t budget_, for_kept_ = 0, remembered_ = 0;
  bool cuttable_ = true;
  std::vector<const Node*> nodes_;
  std::unordered_map<std::uint32_t, std::size_t> place_;  // node id -> place in the graph
  std::vector<std::size_t> order_;                        // units, by their first node
  std::vector<std::string> outputs_;
  std::vector<std::vector<NamedTensor>> feeds_;
  std::vector<std::vector<KeptOutput>> reference_;  // [sample][output]
  std::size_t cut_ = 0;
  std::vector<const Value*> cut_values_;
  std::vector<std::vector<NamedTensor>> cache_;                 // [sample][cut value]
  std::unordered_map<std::size_t, std::size_t> own_;            // unit -> place in own_reference_
  std::vector<std::vector<std::vector<float>>> own_reference_;  // [sample][place]
  EffectRun run_;
};

}  // namespace

double decibel(double noise) {
  if (noise <= 0) return kExactDb;
  return std::clamp(-10 * std::log10(noise), -kExactDb, kExactDb);
}

double mean_kl(std::span<const float> reference, std::span<const float> output, std::size_t width) {
  if (width == 0 || reference.size() < width || reference.size() != output.size()) return 0;
  const std::size_t rows = reference.size() / width;
  double total = 0;
  std::vector<double> p, q;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto expected = reference.subspan(r * width, width);
    const auto actual = output.subspan(r * width, width);
    const auto finite = [](std::span<const float> row) {
      return std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); });
    };
    if (!finite(expected)) continue;
    if (!finite(actual)) {
      total += std::log(static_cast<double>(width));
      continue;
    }
    const bool already = is_distribution(expected);
    to_distribution(expected, already, p);
    to_distribution(actual, already, q);
    for (std::size_t i = 0; i < width; ++i) total += p[i] * std::log(p[i] / q[i]);
  }
  return std::max(total / static_cast<double>(rows), 0.0);
}

Result<EffectRun> measure_effects(Runtime& runtime, const UnitSource& source, DataSource& data,
                                  const EffectOptions& options, const Executor& executor,
                                  Progress& progress) {
  return EffectMeter(runtime, source, data, options, executor, progress).run();
}

}  // namespace mcompress
