#include "gate/gate_measure.h"

#include <algorithm>
#include <set>

#include "holdings.h"
#include "layer_forms.h"
#include "mcompress/digest.h"
#include "mcompress/executed.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "try.h"
#include "workload.h"

namespace mcompress::tools {
namespace {

class Gauge {
 public:
  Gauge(const GateSubject& subject, const GateRequest& request, Baseline& facts, Console& console)
      : subject_(subject),
        request_(request),
        facts_(facts),
        console_(console),
        model_(*subject.runtime, *subject.model->model, subject.model->path, request.threads) {
    if (subject.reference != nullptr) {
      reference_.emplace(*subject.runtime, *subject.reference->model, subject.reference->path,
                         request.threads);
    }
  }

  Status run() {
    MCOMPRESS_TRY(holdings());
    MCOMPRESS_TRY(integers());
    MCOMPRESS_TRY(outputs());
    MCOMPRESS_TRY(quality());
    MCOMPRESS_TRY(layers());
    MCOMPRESS_TRY(memory());
    return latency();
  }

 private:
  const Model& model() const { return *subject_.model->model; }
  Judged* other() { return reference_ ? &*reference_ : nullptr; }

  void left_out(std::string_view what, const Error& error) {
    console_.say(std::string(what) + " left out: " + error.diagnostic.message);
  }

  Status holdings() {
    const Holdings holdings = holdings_of(model(), 0);
    facts_.file_bytes = subject_.model->size.total();
    facts_.weight_bytes = holdings.all.bytes;
    facts_.operators.clear();
    for (const auto& [name, count] : holdings.operators) {
      facts_.operators[name] = static_cast<std::int64_t>(count);
    }
    return ok_status();
  }

  Status integers() {
    const Target& target = subject_.target->target();
    if (target.runtime != "onnxruntime") return ok_status();
    auto counted_kernels = count_integer_kernels(*subject_.runtime, model(), target);
    if (!counted_kernels.ok()) {
      if (counted_kernels.error().code != Code::kUnsupported) {
        return std::move(counted_kernels).error().in_file(subject_.model->path);
      }
      left_out("integer kernels", counted_kernels.error());
      return ok_status();
    }
    Baseline::Integers integers;
    integers.planned = counted_kernels->planned;
    integers.integer = counted_kernels->integer;
    integers.conversions = counted_kernels->quantizes + counted_kernels->dequantizes;
    for (const auto& [name, count] : counted_kernels->kernels) integers.kernels[name] = count;
    for (const FloatIsland& island : counted_kernels->stayed_float) {
      integers.in_float.push_back(island.node);
    }
    facts_.integers = std::move(integers);
    return ok_status();
  }

  // The first samples through the model, and through the reference beside it.
  Status outputs() {
    MCOMPRESS_ASSIGN(Session * session, model_.session());
    const std::int64_t step = std::max<std::int64_t>(subject_.data->fixed_batch(), 1);
    const std::int64_t all = std::min(request_.output_samples, subject_.data->count());
    std::int64_t samples = std::max(all - all % step, std::min(step, subject_.data->count()));
    std::vector<std::string> names;
    for (const PortInfo& port : session->outputs()) names.push_back(port.name);
    std::vector<BaselineOutput> outputs(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) outputs[i].name = names[i];
    std::vector<bool> readable(names.size(), true);
    for (std::int64_t first = 0; first + step <= samples; first += step) {
      if (console_.cancelled()) return Error(Code::kCancelled, "cancelled", "stopped on request");
      console_.update("outputs", static_cast<std::uint64_t>(first),
                      static_cast<std::uint64_t>(samples), "samples");
      MCOMPRESS_ASSIGN(const auto feeds, subject_.data->batch(first, step));
      auto results = session->run(feeds, names);
      if (!results.ok()) return std::move(results).error().in_file(subject_.model->path);
      for (std::size_t i = 0; i < names.size(); ++i) {
        const Tensor& tensor = (*results)[i];
        if (tensor.dtype() == DataType::kUndefined || !readable[i]) continue;
        const auto values = read_floats(tensor);
        readable[i] = values.ok();  // texts are not
        if (values.ok()) outputs[i].sketch.add(*values);
      }
      std::int64_t values = 0;
      for (const BaselineOutput& output : outputs) values += output.sketch.values;
      if (request_.most_values > 0 && values >= request_.most_values) samples = first + step;
    }
    facts_.output_samples = samples;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (readable[i]) facts_.outputs.push_back(std::move(outputs[i]));
    }
    if (!reference_) return ok_status();
    MCOMPRESS_ASSIGN(Session * against, reference_->session());
    CompareOptions options;
    options.limit = samples;
    MCOMPRESS_ASSIGN(const Comparison comparison,
                     compare_outputs(*against, *session, *subject_.data, options, console_));
    for (const OutputError& error : comparison.outputs) {
      for (BaselineOutput& output : facts_.outputs) {
        if (output.name != error.output || error.values == 0) continue;
        const bool fits = error.differing_shapes == 0 && error.differing_non_finite == 0;
        output.sqnr_db = fits ? std::clamp(error.sqnr_db, -kEqualDb, kEqualDb) : -kEqualDb;
      }
    }
    return ok_status();
  }

  Status quality() {
    if (subject_.made_up) return ok_status();
    const Labels& labels = subject_.data->labels();
    const bool labelled = labels.numbers.has_value() || !labels.texts.empty();
    if (!labelled && !reference_ && request_.eval.metric == "auto") {
      MCOMPRESS_ASSIGN(Session * session, model_.session());
      MCOMPRESS_ASSIGN(const EvaluateOptions options, evaluate_options(request_.eval, model()));
      if (settled_metric(*session, *subject_.data, options) == Metric::kAuto) {
        console_.say("quality left out: the data have no labels, and there is no reference");
        return ok_status();
      }
    }
    MCOMPRESS_ASSIGN(const Quality quality,
                     judge_quality(other(), model_, *subject_.data, request_.eval, console_));
    facts_.quality = quality.candidate;
    facts_.quality->confusion.clear();
    return ok_status();
  }

  Status layers() {
    if (subject_.reference == nullptr || request_.layer_samples == 0) return ok_status();
    LayerOptions options;
    options.limit = options.own_limit =
        std::max(request_.layer_samples, subject_.data->fixed_batch());
    options.threads = request_.threads;
    const auto found = layer_errors(subject_.runtime, *subject_.reference, model(), *subject_.data,
                                    options, console_);
    if (!found.ok()) {
      const bool none = found.error().diagnostic.id == "no-common-layer";
      if (!none && found.error().code != Code::kUnsupported) return found.error();
      left_out("layers", found.error());
      return ok_status();
    }
    // Floats end there: what is further away is rounding, another on each machine.
    constexpr double kMostDb = 80;
    facts_.layer_samples = request_.layer_samples;
    std::set<std::string> names;
    for (const LayerError& layer : found->layers) {
      if (!layer.own_db) continue;
      // Names of values are unique, those of nodes say more.
      const bool unique = !layer.layer.empty() && names.insert(layer.layer).second;
      facts_.layers.push_back(
          {unique ? layer.layer : layer.value, std::clamp(*layer.own_db, -kMostDb, kMostDb)});
    }
    return ok_status();
  }

  Result<std::vector<NamedTensor>> first_feeds() const {
    const std::int64_t step = std::max<std::int64_t>(subject_.data->fixed_batch(), 1);
    return subject_.data->batch(0, step);
  }

  Status memory() {
    MCOMPRESS_ASSIGN(const auto feeds, first_feeds());
    ShapePins pins;
    for (const NamedTensor& feed : feeds) {
      const auto dims = feed.tensor.dims();
      pins.emplace(feed.name, std::vector<std::int64_t>(dims.begin(), dims.end()));
    }
    const auto workload = workload_of(model(), pins, console_);
    if (workload.ok()) {
      facts_.planned_bytes = workload->memory.peak_bytes;
    } else if (workload.error().code == Code::kUnsupported) {
      left_out("planned memory", workload.error());
    } else {
      return workload.error();
    }
    if (!request_.measure_memory) return ok_status();
    MCOMPRESS_ASSIGN(const Measured measured, measure(model(), feeds, ""));
    facts_.measured_bytes = measured.optimised.session_bytes + measured.optimised.peak_bytes;
    return ok_status();
  }

  Result<double> median_ratio() {
    MCOMPRESS_ASSIGN(const auto feeds, bench_feeds(subject_.data, model(), 0));
    BenchOptions bench;
    bench.loads = 1;
    bench.warm_up = BenchOptions::kUntilStable;
    bench.seconds = request_.seconds;
    std::vector<double> ratios;
    for (std::int64_t i = 0; i < request_.repeats; ++i) {
      MCOMPRESS_ASSIGN(const auto times, judge_latency(other(), model_, feeds, bench, console_));
      if (times.front().p50_ms > 0) {
        ratios.push_back(times.back().p50_ms / times.front().p50_ms);
      }
    }
    if (ratios.empty()) {
      return Error(Code::kUnsupported, "no-latency", "the reference is too fast to be timed",
                   {subject_.reference->path, {}, {}});
    }
    const auto middle = ratios.begin() + static_cast<std::ptrdiff_t>(ratios.size() / 2);
    std::nth_element(ratios.begin(), middle, ratios.end());
    return *middle;
  }

  Status latency() {
    if (!request_.latency || !reference_) return ok_status();
    MCOMPRESS_ASSIGN(double ratio, median_ratio());
    if (request_.latency_limit && ratio > *request_.latency_limit) {
      MCOMPRESS_ASSIGN(const double again, median_ratio());
      ratio = std::min(ratio, again);
    }
    facts_.latency_ratio = ratio;
    return ok_status();
  }

  const GateSubject& subject_;
  const GateRequest& request_;
  Baseline& facts_;
  Console& console_;
  Judged model_;
  std::optional<Judged> reference_;
};

}  // namespace

Status measure_gate(const GateSubject& subject, const GateRequest& request, Baseline& facts,
                    Console& console) {
  facts.made_by = tool_version();
  facts.runtime = subject.runtime->name();
  facts.target = subject.target->is_own() ? subject.target->stamp() : subject.target->target().name;
  return Gauge(subject, request, facts, console).run();
}

Result<std::string> digest_with_labels(DataSource& data) {
  MCOMPRESS_ASSIGN(std::string text, samples_digest(data));
  const Labels& labels = data.labels();
  if (!labels.numbers && labels.texts.empty()) return text;
  if (labels.numbers) {
    MCOMPRESS_ASSIGN(const std::vector<std::int64_t> numbers, read_ints(*labels.numbers));
    for (const std::int64_t number : numbers) text += "," + std::to_string(number);
  }
  for (const std::string& label : labels.texts) {
    text += "," + std::to_string(label.size()) + ":" + label;
  }
  return digest_text(text_digest(text));
}

std::string metadata_of(const Model& model, std::string_view key) {
  for (const auto& [name, value] : model.metadata()) {
    if (name == key) return value;
  }
  return {};
}

std::string tool_version() { return "mcompress " + std::string(kVersion); }

}  // namespace mcompress::tools
