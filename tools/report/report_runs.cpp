// What models say by themselves, and what running both of them shows.
#include <algorithm>
#include <map>

#include "compress.h"
#include "holdings.h"
#include "layer_forms.h"
#include "mcompress/analysis.h"
#include "mcompress/digest.h"
#include "mcompress/host.h"
#include "mcompress/version.h"
#include "report/report_data.h"
#include "report/report_plot.h"
#include "target_choice.h"
#include "try.h"

namespace mcompress::tools {
namespace {

void count_operators(const Model& model, bool after, std::map<std::string, ReportCounts>& counts) {
  each_graph(model, [&](const Graph& graph) {
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      ReportCounts& count = counts[op_name(*node)];
      ++(after ? count.after : count.before);
    }
  });
}

// Constants that differ, where no run told what it did to them.
Status add_differences(const Model& before, const Model& after, ReportContent& content) {
  constexpr std::uint64_t kSmall = 1024;
  MCOMPRESS_ASSIGN(const ModelDiff diff, diff_models(before, after));
  for (const TensorPair& pair : diff.tensors) {
    if (pair.bytes_before < kSmall) continue;
    std::string form;
    for (const Difference& difference : pair.differences) {
      if (difference.what != "type") continue;
      form = difference.before + " to " + difference.after;
    }
    if (form.empty()) form = "other values";
    content.layers.push_back(
        {pair.before, form, {}, pair.bytes_before, pair.bytes_after, pair.sqnr_db});
  }
  std::stable_sort(
      content.layers.begin(), content.layers.end(),
      [](const ReportLayer& a, const ReportLayer& b) { return a.bytes_before > b.bytes_before; });
  return ok_status();
}

Status add_digest(const LoadedModel& model, const char* name, ReportContent& content) {
  MCOMPRESS_ASSIGN(const std::uint64_t digest, file_digest(model.path));
  content.provenance.emplace_back(name, file_name(model.path));
  content.provenance.emplace_back(std::string(name) + " digest (XXH3)", digest_text(digest));
  return ok_status();
}

// Errors by layer, and the values of those that lose most.
Status add_activations(Runtime& runtime, const ComparableForm& form, const Model& candidate,
                       DataSource& data, const ReportRuns& options, ReportContent& content,
                       Console& console) {
  LayerOptions layers;
  layers.limit = std::max(options.samples, data.fixed_batch());
  // Each layer by itself is a session of its own.
  constexpr std::size_t kMostAlone = 1000;
  layers.own_limit = form.pairs.size() > kMostAlone ? 0 : layers.limit;
  if (layers.own_limit == 0) {
    content.notes.push_back("layers were not run by themselves: there are " +
                            std::to_string(form.pairs.size()) + ", more than " +
                            std::to_string(kMostAlone));
  }
  layers.threads = static_cast<int>(options.threads);
  MCOMPRESS_ASSIGN(const LayerComparison found, compare_layers(runtime, *form.reference, candidate,
                                                               form.pairs, data, layers, console));
  content.activation_samples = found.samples;
  std::map<std::string, std::string> partner;
  for (const ValuePair& pair : form.pairs) partner.try_emplace(pair.reference, pair.candidate);
  for (const LayerError& layer : found.layers) {
    ReportActivation activation;
    activation.value = layer.value;
    activation.layer = layer.layer;
    activation.op_type = layer.op_type;
    activation.own_db = layer.own_db;
    activation.accumulated_db = layer.accumulated_db;
    content.activations.push_back(std::move(activation));
  }
  std::stable_sort(content.activations.begin(), content.activations.end(),
                   [](const ReportActivation& a, const ReportActivation& b) {
                     return a.own_db.value_or(a.accumulated_db) <
                            b.own_db.value_or(b.accumulated_db);
                   });
  CalibrationRequest before, after;
  before.samples = after.samples = layers.limit;
  for (std::size_t i = 0;
       i < content.activations.size() && before.values.size() < options.histograms; ++i) {
    const std::string& value = content.activations[i].value;
    if (!partner.contains(value)) continue;
    before.values.push_back(value);
    after.values.push_back(partner[value]);
  }
  if (before.values.empty()) return ok_status();
  std::sort(after.values.begin(), after.values.end());
  after.values.erase(std::unique(after.values.begin(), after.values.end()), after.values.end());
  CalibratorOptions calibrator;
  calibrator.threads = static_cast<int>(options.threads);
  Diagnostics ignored;
  MCOMPRESS_ASSIGN(const CalibrationTable left,
                   calibrate(runtime, *form.reference, data, before, calibrator, ignored, console));
  MCOMPRESS_ASSIGN(const CalibrationTable right,
                   calibrate(runtime, candidate, data, after, calibrator, ignored, console));
  constexpr std::size_t kBins = 48;
  for (ReportActivation& activation : content.activations) {
    const auto pair = partner.find(activation.value);
    if (pair == partner.end()) continue;
    const ValueStats* a = left.find(pair->first);
    const ValueStats* b = right.find(pair->second);
    if (a != nullptr && b != nullptr) activation.histogram = joint_histogram(*a, *b, kBins);
  }
  return ok_status();
}

}  // namespace

Status add_models(const LoadedModel& model, const LoadedModel* reference, ReportContent& content) {
  std::map<std::string, ReportCounts> counts;
  if (reference != nullptr) count_operators(*reference->model, false, counts);
  count_operators(*model.model, true, counts);
  for (auto& [name, count] : counts) {
    count.name = name;
    content.operators.push_back(count);
  }
  std::stable_sort(content.operators.begin(), content.operators.end(),
                   [](const ReportCounts& a, const ReportCounts& b) {
                     return std::max(a.before, a.after) > std::max(b.before, b.after);
                   });
  if (reference != nullptr) {
    MCOMPRESS_TRY(add_digest(*reference, "original", content));
    if (content.layers.empty()) {
      MCOMPRESS_TRY(add_differences(*reference->model, *model.model, content));
    }
  }
  MCOMPRESS_TRY(add_digest(model, "model", content));
  if (!model.model->producer().empty()) {
    content.provenance.emplace_back("producer", model.model->producer());
  }
  for (const auto& [key, value] : model.model->metadata()) {
    constexpr std::size_t kLong = 200;
    if (!key.starts_with("mcompress.")) continue;
    content.provenance.emplace_back(key,
                                    value.size() > kLong ? value.substr(0, kLong) + "..." : value);
  }
  return ok_status();
}

Status add_runs(const std::shared_ptr<Runtime>& runtime, const LoadedModel& model,
                const LoadedModel& reference, DataSource* data, const ReportRuns& options,
                ReportContent& content, Console& console) {
  WeightChangeOptions weights;
  weights.most = options.histograms;
  MCOMPRESS_ASSIGN(content.weights,
                   weight_changes(*runtime, *reference.model, *model.model, weights, console));
  // Fusion changes weights before anything is rounded: whichever form is nearer is what was
  // compressed.
  LoadedModel fused;
  fused.path = reference.path;
  fused.model = reference.model->clone();
  if (prepare_for_calibration(fused, default_target().name, runtime, console).ok()) {
    MCOMPRESS_ASSIGN(std::vector<WeightChange> others,
                     weight_changes(*runtime, *fused.model, *model.model, weights, console));
    std::map<std::string, WeightChange*> known;
    for (WeightChange& change : content.weights) known[change.name] = &change;
    for (WeightChange& other : others) {
      const auto found = known.find(other.name);
      if (found == known.end()) continue;
      WeightChange& change = *found->second;
      if (other.sqnr_db && (!change.sqnr_db || *other.sqnr_db > *change.sqnr_db)) {
        change = std::move(other);
      }
    }
  }
  if (data == nullptr || data->count() == 0) return ok_status();
  // Comparing every value of larger graphs takes minutes; `compare --layers` does it when asked.
  constexpr std::size_t kMostNodes = 5000;
  if (model.model->graph().node_count() > kMostNodes) {
    content.notes.push_back("no activations: the model has " +
                            std::to_string(model.model->graph().node_count()) +
                            " nodes, more than " + std::to_string(kMostNodes));
    return ok_status();
  }
  LayerOptions forms;
  forms.threads = static_cast<int>(options.threads);
  auto form = comparable_form(runtime, reference, *model.model, *data, forms, console);
  Status status =
      form.ok() ? add_activations(*runtime, *form, *model.model, *data, options, content, console)
                : Status(std::move(form).error());
  // Models that share no value with their original can still be shown.
  if (!status.ok() && status.error().diagnostic.id == "no-common-layer") {
    content.notes.push_back("no activations: " + status.error().diagnostic.message);
    return ok_status();
  }
  return status;
}

}  // namespace mcompress::tools
