#include "passes/common/integer/static_plan.h"

#include <algorithm>
#include <unordered_map>

#include "passes/common/integer/integer_costs.h"
#include "passes/common/target_rules.h"

namespace mcompress {
namespace {

using Kind = OperatorRule::Kind;

std::optional<float> scalar(const Value* value) {
  if (value == nullptr || value->constant() == nullptr || value->constant()->elements() != 1) {
    return std::nullopt;
  }
  auto numbers = read_floats(*value->constant());
  if (!numbers.ok()) return std::nullopt;
  return numbers->front();
}

// The activation that reads `value` alone and starts at zero; null when there is none.
Node* absorbable(const Value& value, const Target& target) {
  if (value.uses().size() != 1) return nullptr;
  Node* node = value.uses().front().node;
  if (node == nullptr || &node->graph() != &value.graph()) return nullptr;
  const OperatorRule* rule = target.find(node->op_type());
  if (!node->domain().empty() || rule == nullptr || rule->kind != Kind::kAbsorbed) return nullptr;
  if (node->is("Relu")) return node;
  if (!node->is("Clip") || node->input(0) != &value) return nullptr;
  const auto low = scalar(node->input(1));
  if (node->input(1) != nullptr ? low == 0.0F : node->float_attribute("min", -1) == 0.0F) {
    return node;
  }
  return nullptr;
}

class Planner {
 public:
  Planner(Graph& graph, const Target& target, const Selection& selection,
          const PlanOptions& options, Explain& explain)
      : graph_(graph),
        target_(target),
        selection_(selection),
        options_(options),
        explain_(explain) {}

  StaticPlan run() {
    collect();
    drop_infeasible();
    if (target_.cost_model && options_.table != nullptr) descend();
    return finish();
  }

 private:
  struct Entry {
    IntegerNode plan;
    bool alive = true;
  };

  bool is_float(const Value* value) const {
    return value != nullptr &&
           (value->type() == nullptr || value->type()->element == DataType::kFloat);
  }

  void skip(const Node& node, const Value* weight, std::string why) {
    if (!options_.explain) return;
    Decision decision;
    decision.subject = node.label();
    decision.op_type = node.op_type();
    decision.why = std::move(why);
    if (weight != nullptr) {
      decision.bytes_before = decision.bytes_after = weight->initializer()->byte_size();
    }
    explain_.skipped(std::move(decision));
  }

  static bool is_read_in_a_body(const Value& value) {
    return std::any_of(value.uses().begin(), value.uses().end(), [&](const Use& use) {
      return use.node != nullptr && &use.node->graph() != &value.graph();
    });
  }

  // Empty: fits. Fills the entry.
  std::string why_not_weighted(Node& node, IntegerNode& plan) {
    Value* weight = node.input(1);
    Value* data = node.input(0);
    if (weight == nullptr || data == nullptr) return "lacks an input";
    if (weight->constant() == nullptr) {
      return weight->initializer() != nullptr ? "a caller may override its weight"
                                              : "multiplies two activations";
    }
    if (data->initializer() != nullptr) return "multiplies two constants";
    // Its codes there would be others than here: both would be stored.
    if (is_read_in_a_body(*weight)) {
      return "shares its weight with a nested graph, whose activations can not be observed";
    }
    const Tensor& tensor = *weight->constant();
    if (tensor.dtype() != DataType::kFloat || !is_float(data)) return "is not float32";
    const auto layout = weight_view(node, 1, tensor.dims());
    if (!layout) return "has a weight of unusual shape";
    if (tensor.elements() == 0) return "has an empty weight";
    if (node.is("MatMul") && tensor.dims().size() != 2) return "has a batched weight";
    if (node.is("Gemm") &&
        (node.int_attribute("transA", 0) != 0 || node.float_attribute("alpha", 1) != 1 ||
         (node.input(2) != nullptr && node.float_attribute("beta", 1) != 1))) {
      return "uses transA, alpha or beta, which the integer Gemm lacks";
    }
    plan.layout = *layout;
    plan.weight = weight;
    if (!node.is("MatMul")) plan.bias = node.input(2);
    if (plan.bias != nullptr) {
      if (plan.bias->constant() == nullptr) return "has a bias that is not constant";
      if (plan.bias->constant()->elements() != layout->channels) {
        return "has a bias of unusual shape";
      }
    }
    plan.inputs = {0};
    return {};
  }

  static bool is_depthwise(const IntegerNode& plan) {
    return plan.node->is("Conv") && plan.node->int_attribute("group", 1) > 1 &&
           plan.weight->constant()->dims()[1] == 1;
  }

  void collect() {
    const std::int64_t opset = graph_.model().opset("");
    for (Node* node = graph_.first(); node != nullptr; node = graph_.next(*node)) {
      const OperatorRule* rule = node->domain().empty() ? target_.find(node->op_type()) : nullptr;
      if (rule == nullptr) explain_unknown(*node);
      if (rule == nullptr || !rule->quantizes()) {
        if (rule != nullptr && rule->kind == Kind::kFloat) explain_float(*node, *rule);
        continue;
      }
      IntegerNode plan;
      plan.node = node;
      plan.kind = rule->kind;
      std::string why;
      Value* weight = rule->kind == Kind::kWeighted ? node->input(1) : nullptr;
      if (weight != nullptr && weight->initializer() == nullptr) weight = nullptr;
      if (rule->kind == Kind::kWeighted && !target_.takes_weights(DataType::kInt8)) {
        why = "needs an int8 weight, which " + target_.name + " does not take (rule weight-types)";
      } else if (opset < rule->since) {
        why = "needs opset " + std::to_string(rule->since) + " in integer form, the model has " +
              std::to_string(opset);
      } else if (options_.keep_float.count(node->id()) != 0) {
        const auto reason = options_.keep_reason.find(node->id());
        why = reason != options_.keep_reason.end() ? reason->second : "kept in float32";
      } else {
        why = selection_.why_not(*node, weight);
      }
      if (why.empty()) {
        why = rule->kind == Kind::kWeighted ? why_not_weighted(*node, plan)
                                            : why_not_light(*node, plan);
      }
      if (why.empty()) why = why_excepted(target_, rule->cases, *node);
      if (rule->kind == Kind::kWeighted && weight != nullptr) ++eligible_;
      if (!why.empty()) {
        if (rule->kind == Kind::kWeighted) skip(*node, weight, std::move(why));
        continue;
      }
      plan.per_tensor = !rule->per_channel.value_or(target_.per_channel);
      if (rule->skip_operand_only) keep_skip_operand(plan);
      plan.output = node->output(0);
      plan.absorbed = absorbable(*plan.output, target_);
      if (plan.absorbed != nullptr) plan.output = plan.absorbed->output(0);
      index_.emplace(plan.output, entries_.size());
      by_node_.emplace(node, entries_.size());
      entries_.push_back({std::move(plan), true});
    }
  }

  // A weight whose operator the target can not run in integers at all, as ConvTranspose in ONNX
  // Runtime.
  void explain_unknown(const Node& node) {
    if (!options_.explain || node.inputs().size() < 2) return;
    const Value* weight = node.input(1);
    const Tensor* tensor = weight != nullptr ? weight->constant() : nullptr;
    if (tensor == nullptr || tensor->dtype() != DataType::kFloat) return;
    if (!weight_view(node, 1, tensor->dims())) return;
    skip(node, weight,
         "target '" + target_.name + "' has no integer kernel for " + std::string(node.op_type()) +
             " with calibrated ranges");
  }

  // Weights of operators that the target never runs in integers.
  void explain_float(const Node& node, const OperatorRule& rule) {
    const Value* weight = node.input(1);
    if (weight == nullptr || weight->initializer() == nullptr) return;
    if (!weight_view(node, 1, weight->initializer()->dims())) return;
    skip(node, weight, rule.why + " (" + rule_name(target_, rule.op_type) + ")");
  }

  // Of an addition the operand that a weighted node makes for it alone is fused with that node, and
  // only the other one, which skips the node, is quantized.
  void keep_skip_operand(IntegerNode& plan) const {
    if (plan.inputs.size() != 2) return;
    const auto place = [&](std::size_t slot) -> std::optional<std::size_t> {
      const Value* value = plan.node->input(slot);
      const auto made = index_.find(value);
      if (made == index_.end() || value->uses().size() != 1) return std::nullopt;
      if (entries_[made->second].plan.kind != Kind::kWeighted) return std::nullopt;
      return made->second;
    };
    const auto left = place(0), right = place(1);
    if (!left && !right) return;
    plan.inputs = {!right || (left && *left > *right) ? std::size_t{1} : std::size_t{0}};
  }

  std::string why_not_light(Node& node, IntegerNode& plan) const {
    if (node.outputs().empty() || !is_float(node.output(0))) return "is not float32";
    for (std::size_t i = 1; i < node.outputs().size(); ++i) {
      if (node.output(i) != nullptr && !node.output(i)->uses().empty()) return "has two outputs";
    }
    if (plan.kind == Kind::kBinary) {
      for (std::size_t i = 0; i < node.inputs().size(); ++i) {
        const Value* input = node.input(i);
        if (input == nullptr || !is_float(input)) return "is not float32";
        if (input->initializer() != nullptr) return "has a constant operand";
        plan.inputs.push_back(i);
      }
      if (node.op_type() != "Concat" && node.input(0) == node.input(1)) return "squares its input";
    } else {
      if (node.input(0) == nullptr || node.input(0)->initializer() != nullptr ||
          !is_float(node.input(0))) {
        return "is not float32";
      }
      plan.inputs = {0};
    }
    return {};
  }

  const Entry* alive_producer(const Value* value) const {
    const auto found = index_.find(value);
    return found != index_.end() && entries_[found->second].alive ? &entries_[found->second]
                                                                  : nullptr;
  }
  bool alive_consumer(const Use& use) const {
    const auto found = use.node != nullptr ? by_node_.find(use.node) : by_node_.end();
    if (found == by_node_.end() || !entries_[found->second].alive) return false;
    const auto& slots = entries_[found->second].plan.inputs;
    return std::find(slots.begin(), slots.end(), use.slot) != slots.end();
  }

  struct Readers {
    bool integer = false;  // somebody reads the value in integers
    bool real = false;     // somebody reads it in float32
  };
  Readers readers(const Value& value) const {
    Readers result;
    for (const Use& use : value.uses()) (alive_consumer(use) ? result.integer : result.real) = true;
    return result;
  }

  // Gemm and MatMul can leave the integers within their kernel, at no cost; but not when an
  // activation follows: ONNX Runtime would fuse that first, and dequantize on every run.
  bool leaves_in_float(const IntegerNode& plan) const {
    if (target_.quantize_inputs_only && plan.kind != Kind::kSameScale) {
      return !readers(*plan.output).integer;
    }
    const bool linear = plan.node->is("Gemm") || plan.node->is("MatMul");
    return linear && plan.absorbed == nullptr && !readers(*plan.output).integer;
  }

  std::string infeasible(const IntegerNode& plan) const {
    if (plan.kind == Kind::kWeighted || target_.quantize_inputs_only) return {};
    for (const std::size_t slot : plan.inputs) {
      if (alive_producer(plan.node->input(slot)) == nullptr) return "an input is float32";
    }
    return {};
  }

  void drop_infeasible() {
    // Entries are in graph order and only producers matter: one sweep is enough.
    for (Entry& entry : entries_) {
      if (entry.alive && !infeasible(entry.plan).empty()) entry.alive = false;
    }
  }

  double elements(const Value& value) const {
    const ValueStats* stats = options_.table->find(value.name());
    if (stats == nullptr || options_.table->samples == 0) return 0;
    return static_cast<double>(stats->count + stats->nan_count + stats->infinity_count) /
           static_cast<double>(options_.table->samples);
  }

  LayerCost node_cost(const IntegerNode& plan) const {
    const KernelCosts& costs = target_.costs;
    const double output = elements(*plan.output);
    if (plan.kind == Kind::kBinary) return {0.05 * output, 0.1 * output + costs.node};
    if (plan.kind != Kind::kWeighted) {
      const double input = elements(*plan.node->input(0));
      if (plan.node->op_type().ends_with("Pool")) {
        return {0.3 * input + 1000, 0.3 * input + costs.node};
      }
      return {1000, 1000};
    }
    LayerShape shape;
    shape.outputs = output;
    shape.channels = static_cast<double>(plan.layout.channels);
    shape.length = static_cast<double>(plan.layout.length());
    if (!plan.node->is("Conv")) return product_cost(costs, shape);
    shape.taps = static_cast<double>(plan.layout.taps);
    shape.groups = static_cast<double>(plan.node->int_attribute("group", 1));
    shape.rank = plan.weight->constant()->dims().size();
    shape.depthwise = is_depthwise(plan);
    return convolution_cost(costs, shape);
  }

  // What crossing between float32 and integers costs at one value, as things stand.
  double border_cost(const Value& value) const {
    const Entry* producer = alive_producer(&value);
    const Readers read = readers(value);
    const double size = elements(value);
    const bool spatial =
        value.type() == nullptr || !value.type()->shape || value.type()->shape->size() >= 4;
    const KernelCosts& costs = target_.costs;
    const double layout = spatial ? costs.layout : 0;
    if (producer == nullptr) {
      return read.integer ? costs.node + (costs.quantize + layout) * size : 0;
    }
    if (!read.real || leaves_in_float(producer->plan)) return 0;
    return costs.node + (costs.dequantize + layout) * size;
  }

  // The entry and what can not stay in integers without it.
  std::vector<std::size_t> closure(std::size_t first) const {
    std::vector<std::size_t> list = {first};
    for (std::size_t at = 0; at < list.size(); ++at) {
      for (const Use& use : entries_[list[at]].plan.output->uses()) {
        if (!alive_consumer(use)) continue;
        const std::size_t reader = by_node_.at(use.node);
        if (entries_[reader].plan.kind == Kind::kWeighted) continue;
        if (std::find(list.begin(), list.end(), reader) == list.end()) list.push_back(reader);
      }
    }
    return list;
  }

  // Cost of the region in its present state: its nodes and every value at its edge.
  double region_cost(const std::vector<std::size_t>& region) const {
    std::set<const Value*> values;
    double total = 0;
    for (const std::size_t i : region) {
      const IntegerNode& plan = entries_[i].plan;
      const LayerCost cost = node_cost(plan);
      total += entries_[i].alive ? cost.integer : cost.real;
      for (const std::size_t slot : plan.inputs) values.insert(plan.node->input(slot));
      values.insert(plan.output);
    }
    for (const Value* value : values) total += border_cost(*value);
    return total;
  }

  bool drop_if_cheaper(const std::vector<std::size_t>& region, std::string_view why) {
    const double before = region_cost(region);
    for (const std::size_t i : region) entries_[i].alive = false;
    const double after = region_cost(region);
    if (after < before - 1) {
      for (const std::size_t i : region) reason_[i] = why;
      return true;
    }
    for (const std::size_t i : region) entries_[i].alive = true;
    return false;
  }

  std::vector<std::vector<std::size_t>> components() const {
    std::vector<std::size_t> label(entries_.size(), entries_.size());
    std::vector<std::vector<std::size_t>> result;
    for (std::size_t seed = 0; seed < entries_.size(); ++seed) {
      if (!entries_[seed].alive || label[seed] != entries_.size()) continue;
      std::vector<std::size_t> region = {seed};
      label[seed] = seed;
      const auto visit = [&](std::size_t i) {
        if (entries_[i].alive && label[i] == entries_.size()) {
          label[i] = seed;
          region.push_back(i);
        }
      };
      for (std::size_t at = 0; at < region.size(); ++at) {
        const IntegerNode& plan = entries_[region[at]].plan;
        for (const std::size_t slot : plan.inputs) {
          const auto made = index_.find(plan.node->input(slot));
          if (made != index_.end()) visit(made->second);
        }
        for (const Use& use : plan.output->uses()) {
          if (alive_consumer(use)) visit(by_node_.at(use.node));
        }
      }
      result.push_back(std::move(region));
    }
    return result;
  }

  // Starts from everything that can be integer and drops what costs more than it brings: single
  // nodes first, then whole islands whose borders eat their gain.
  void descend() {
    for (int sweep = 0; sweep < 8; ++sweep) {
      bool changed = false;
      for (std::size_t i = 0; i < entries_.size(); ++i) {
        if (entries_[i].alive) {
          changed |= drop_if_cheaper(closure(i),
                                     "costs more at its borders with float32 than the "
                                     "integer kernel saves");
        }
      }
      for (const auto& region : components()) {
        changed |= drop_if_cheaper(region,
                                   "belongs to an integer island whose borders with float32 "
                                   "cost more than it saves");
      }
      if (!changed) break;
    }
    for (const auto& [i, why] : reason_) {
      const IntegerNode& plan = entries_[i].plan;
      if (plan.kind == Kind::kWeighted) skip(*plan.node, plan.weight, why);
    }
  }

  StaticPlan finish() {
    StaticPlan plan;
    plan.eligible = eligible_;
    std::set<const Value*> seen;
    const auto add = [&](Value* value) {
      if (seen.insert(value).second) plan.tensors.push_back(value);
    };
    for (Entry& entry : entries_) {
      if (!entry.alive) continue;
      for (const std::size_t slot : entry.plan.inputs) add(entry.plan.node->input(slot));
      if (leaves_in_float(entry.plan)) {
        entry.plan.float_output = true;
      } else {
        add(entry.plan.output);
      }
      plan.nodes.push_back(entry.plan);
    }
    for (const IntegerNode& node : plan.nodes) {
      if (node.kind != Kind::kSameScale) continue;
      plan.same_scale[node.output->id()] = node.node->input(node.inputs[0])->id();
    }
    return plan;
  }

  Graph& graph_;
  const Target& target_;
  const Selection& selection_;
  const PlanOptions& options_;
  Explain& explain_;
  std::vector<Entry> entries_;
  std::unordered_map<const Value*, std::size_t> index_;  // effective output -> entry
  std::unordered_map<const Node*, std::size_t> by_node_;
  std::map<std::size_t, std::string> reason_;  // of entries that were too costly
  std::size_t eligible_ = 0;
};

}  // namespace

std::uint32_t StaticPlan::root(std::uint32_t id) const {
  for (auto found = same_scale.find(id); found != same_scale.end(); found = same_scale.find(id)) {
    id = found->second;
  }
  return id;
}

const IntegerNode* StaticPlan::producer_of(const Value& value) const {
  for (const IntegerNode& node : nodes) {
    if (node.output == &value && !node.float_output) return &node;
  }
  return nullptr;
}

StaticPlan plan_static(Graph& graph, const Target& target, const Selection& selection,
                       const PlanOptions& options, Explain& explain) {
  return Planner(graph, target, selection, options, explain).run();
}

CalibrationRequest static_calibration_request(const StaticPlan& plan, std::int64_t samples) {
  CalibrationRequest request;
  request.samples = samples;
  constexpr std::uint64_t kEnoughBytes = 4 << 20;
  if (samples == 0) request.enough_bytes = kEnoughBytes;
  for (const Value* value : plan.tensors) request.values.emplace_back(value->name());
  // The effective outputs of linear nodes that stay float are not quantized, but their sizes are
  // needed by the cost model.
  std::set<std::string> known(request.values.begin(), request.values.end());
  std::set<std::string> channels;
  std::set<std::string> last;
  for (const IntegerNode& node : plan.nodes) {
    if (known.insert(std::string(node.output->name())).second) {
      request.values.emplace_back(node.output->name());
    }
    if (node.kind != OperatorRule::Kind::kWeighted) continue;
    const std::string input(node.node->input(0)->name());
    (node.node->is("Conv") ? channels : last).insert(input);
  }
  request.channel_values.assign(channels.begin(), channels.end());
  for (const std::string& name : last) {
    if (channels.count(name) == 0) request.last_axis_values.push_back(name);
  }
  return request;
}

}  // namespace mcompress
