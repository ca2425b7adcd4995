#include "layer_forms.h"

#include <algorithm>

#include "compress.h"
#include "mcompress/analysis.h"
#include "mcompress/target.h"
#include "try.h"

namespace mcompress::tools {
namespace {

Result<std::vector<ValuePair>> value_pairs(const Model& reference, const Model& candidate) {
  std::vector<ValuePair> pairs = shared_values(reference, candidate);
  // What other tools renamed is found by its place in the graph.
  MCOMPRESS_ASSIGN(const ModelDiff diff, diff_models(reference, candidate));
  for (const NodePair& pair : diff.pairs) {
    if (pair.before == nullptr || pair.after == nullptr ||
        pair.before->op_type() != pair.after->op_type()) {
      continue;
    }
    const std::size_t count = std::min(pair.before->outputs().size(), pair.after->outputs().size());
    for (std::size_t i = 0; i < count; ++i) {
      const Value *before = pair.before->output(i), *after = pair.after->output(i);
      if (before == nullptr || after == nullptr) continue;
      pairs.push_back({std::string(before->name()), std::string(after->name())});
    }
  }
  return pairs;
}

// Says no more than that this form of the model is not the one.
bool is_no_form(const Error& error) {
  return error.code == Code::kUnsupported || error.diagnostic.id == "no-common-layer";
}

}  // namespace

Result<ComparableForm> comparable_form(const std::shared_ptr<Runtime>& runtime,
                                       const LoadedModel& reference, const Model& candidate,
                                       DataSource& data, const LayerOptions& options,
                                       Console& console) {
  ComparableForm form;
  form.fused.path = reference.path;
  form.fused.model = reference.model->clone();
  form.reference = reference.model.get();
  MCOMPRESS_ASSIGN(form.pairs, value_pairs(*form.reference, candidate));
  if (!prepare_for_calibration(form.fused, default_target().name, runtime, console).ok()) {
    return form;
  }
  MCOMPRESS_ASSIGN(std::vector<ValuePair> fused_pairs, value_pairs(*form.fused.model, candidate));
  const auto nearness = [&](const Model& model,
                            std::span<const ValuePair> paired) -> Result<double> {
    LayerOptions few = options;
    few.limit = std::max<std::int64_t>(data.fixed_batch(), 1);
    few.own_limit = 0;
    MCOMPRESS_ASSIGN(const LayerComparison found,
                     compare_layers(*runtime, model, candidate, paired, data, few, console));
    std::vector<double> all;
    for (const LayerError& layer : found.layers) all.push_back(layer.accumulated_db);
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
                     all.end());
    return all[all.size() / 2];
  };
  const auto plain = nearness(*form.reference, form.pairs);
  const auto other = nearness(*form.fused.model, fused_pairs);
  for (const auto* tried : {&plain, &other}) {
    if (!tried->ok() && !is_no_form(tried->error())) return tried->error();
  }
  if (other.ok() && (!plain.ok() || *other > *plain)) {
    form.reference = form.fused.model.get();
    form.pairs = std::move(fused_pairs);
  }
  return form;
}

Result<LayerComparison> layer_errors(const std::shared_ptr<Runtime>& runtime,
                                     const LoadedModel& reference, const Model& candidate,
                                     DataSource& data, const LayerOptions& options,
                                     Console& console) {
  MCOMPRESS_ASSIGN(const ComparableForm form,
                   comparable_form(runtime, reference, candidate, data, options, console));
  return compare_layers(*runtime, *form.reference, candidate, form.pairs, data, options, console);
}

}  // namespace mcompress::tools
