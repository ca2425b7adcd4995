#include "passes/common/integer/bias_correction.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::size_t kGroups = 8;

struct OutputMeans {
  std::map<std::uint32_t, std::vector<double>> of_node;
  std::int64_t samples = 0;
};

// Means per channel of what the nodes make, before any activation.
Result<OutputMeans> output_means(const Model& model, const std::set<std::uint32_t>& nodes,
                                 PassContext& context) {
  constexpr std::uint64_t kEnoughBytes = 4 << 20;
  CalibrationRequest request;
  request.enough_bytes = kEnoughBytes;
  std::map<std::uint32_t, std::string> names;
  const Graph& graph = model.graph();
  for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
    if (nodes.count(node->id()) == 0) continue;
    const std::string name(node->output(0)->name());
    names.emplace(node->id(), name);
    request.values.push_back(name);
    (node->is("Conv") ? request.channel_values : request.last_axis_values).push_back(name);
  }
  MCOMPRESS_ASSIGN(Runtime * runtime, context.runtime());
  CalibratorOptions options;
  options.memory_budget = context.memory_budget();
  options.threads = context.executor().threads();
  Diagnostics unheard;  // the calibration before has said it
  MCOMPRESS_ASSIGN(const CalibrationTable table,
                   calibrate(*runtime, model, *context.calibration_data(), request, options,
                             unheard, context.progress()));
  OutputMeans means;
  means.samples = table.samples;
  for (const auto& [id, name] : names) {
    const ValueStats* stats = table.find(name);
    if (stats != nullptr) means.of_node[id] = stats->channel_means;
  }
  return means;
}

}  // namespace

Result<BiasShifts> measure_bias_shifts(const Model& model, const StaticPlan& plan,
                                       const EmitQuantized& emit, PassContext& context,
                                       StepCost& cost) {
  std::vector<std::uint32_t> order;
  for (const IntegerNode& node : plan.nodes) {
    if (node.kind == OperatorRule::Kind::kWeighted) order.push_back(node.node->id());
  }
  BiasShifts shifts;
  if (order.empty() || context.calibration_data() == nullptr) return shifts;
  MCOMPRESS_ASSIGN(const OutputMeans real,
                   output_means(model, {order.begin(), order.end()}, context));
  cost.add_runs(real.samples);
  const std::size_t groups = std::min(kGroups, order.size());
  for (std::size_t g = 0; g < groups; ++g) {
    const auto at = [&](std::size_t group) {
      return order.begin() + static_cast<std::ptrdiff_t>(group * order.size() / groups);
    };
    MCOMPRESS_ASSIGN(const std::unique_ptr<Model> quantized, emit(shifts));
    MCOMPRESS_ASSIGN(const OutputMeans rounded,
                     output_means(*quantized, {at(g), at(g + 1)}, context));
    cost.add_runs(rounded.samples);
    for (const auto& [id, means] : rounded.of_node) {
      const auto found = real.of_node.find(id);
      if (found == real.of_node.end() || found->second.size() != means.size()) continue;
      std::vector<double> shift(means.size());
      for (std::size_t c = 0; c < means.size(); ++c) shift[c] = means[c] - found->second[c];
      if (!shift.empty()) shifts.emplace(id, std::move(shift));
    }
  }
  return shifts;
}

}  // namespace mcompress
