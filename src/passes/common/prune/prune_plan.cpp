#include "passes/common/prune/prune_plan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/bias_add.h"
#include "passes/common/constants.h"
#include "passes/common/selection.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Shorter rows have nothing that makes up for what is taken away: depthwise kernels.
constexpr std::int64_t kShortestRow = 16;
constexpr std::int64_t kImageChannels = 4;

bool has_weight(const Node& node) {
  if (node.is("LSTM") || node.is("GRU") || node.is("RNN")) return true;
  if (!node.is("Conv") && !node.is("ConvTranspose") && !node.is("Gemm") && !node.is("MatMul")) {
    return false;
  }
  return is_constant(node.input(1)) || is_constant(node.input(0));
}

// Reads an input of the model with nothing but shapes and single values changed on the way.
bool reads_model_input(const Node& node) {
  const Value* value = node.input(0);
  for (int steps = 0; value != nullptr && steps < 16; ++steps) {
    if (value->is_graph_input()) return value->graph().owner() == nullptr;
    const Node* maker = value->producer();
    if (maker == nullptr || has_weight(*maker)) return false;
    const Value* next = nullptr;
    for (const Value* input : maker->inputs()) {
      if (input == nullptr || is_constant(input)) continue;
      if (next != nullptr) return false;
      next = input;
    }
    value = next;
  }
  return false;
}

// Nothing with a weight comes behind it on any way to the outputs of the model.
bool makes_model_output(const Node& node) {
  std::vector<const Node*> open = {&node};
  std::set<const Node*> seen;
  constexpr std::size_t kMost = 64;
  while (!open.empty()) {
    const Node* at = open.back();
    open.pop_back();
    if (!seen.insert(at).second) continue;
    if (seen.size() > kMost) return false;
    for (const Value* output : at->outputs()) {
      if (output == nullptr) continue;
      for (const Use& use : output->uses()) {
        if (use.node == nullptr) {
          if (use.graph->owner() != nullptr) return false;
          continue;
        }
        if (has_weight(*use.node) || !use.node->bodies().empty()) return false;
        open.push_back(use.node);
      }
    }
  }
  return true;
}

bool has_room(const Node& node, std::int64_t channels) {
  if (node.is("MatMul")) return find_bias_add(node, channels).has_value();
  if (node.is("Gemm") &&
      (node.float_attribute("alpha", 1) != 1 || node.float_attribute("beta", 1) != 1)) {
    return false;
  }
  const Value* bias = node.input(2);
  return bias == nullptr || is_bias(bias, channels);
}

class Planner {
 public:
  Planner(const PruneSelection& wish, bool explain, PassContext& context)
      : wish_(wish), selection_(wish.include, wish.exclude), explain_(explain), context_(context) {}

  Status consider(Value& value) {
    const Tensor tensor = value.is_initializer() ? *value.initializer() : *constant_of(&value);
    const DataType type = tensor.dtype();
    const bool narrow =
        type == DataType::kFloat16 || type == DataType::kBfloat16 || type == DataType::kDouble;
    if ((type != DataType::kFloat && !narrow) || tensor.dims().size() < 2) return ok_status();
    if (value.uses().empty()) return ok_status();
    PruneLayer layer;
    const Node* user = nullptr;
    std::string why = look_at_users(value, tensor, layer, user);
    if (why.empty() && narrow) {
      why = "is " + std::string(dtype_name(type)) + ": float32 weights are pruned";
    }
    if (why.empty()) why = size_reason(tensor, layer, *user);
    if (why.empty() && wish_.include.empty() && !wish_.ends) {
      std::string end = end_reason(*user, layer);
      (wish_.with_dense ? layer.dense_because : why) = std::move(end);
    }
    if (why.empty()) {
      MCOMPRESS_ASSIGN(const bool finite, is_finite(tensor));
      if (!finite) why = "holds NaN or infinity, which have no rank among the others";
    }
    if (!why.empty()) {
      if (explain_ && tensor.elements() > kShortestRow) {
        ReportScope& item = context_.report().item("frozen", value.name());
        if (user != nullptr) item.text("operator", user->op_type());
        item.count("weights", tensor.elements());
        item.text("why", why);
        explain_kept(context_, value, tensor, user, std::move(why));
      }
      return ok_status();
    }
    layer.value = value.id();
    layer.name = value.name();
    layer.op_type = user->op_type();
    layer.user = user->label();
    layer.tensor = tensor;
    observe_through(value, layer);
    layers_.push_back(std::move(layer));
    return ok_status();
  }

  std::vector<PruneLayer> take(const Graph& graph) {
    std::map<std::uint32_t, std::size_t> place;
    std::size_t next = 1;
    for (const Node* node : graph.nodes()) place[node->id()] = next++;
    std::ranges::stable_sort(layers_, {}, [&](const PruneLayer& layer) {
      const auto found = place.find(layer.node);
      return layer.rows && found != place.end() ? found->second : next;
    });
    return std::move(layers_);
  }

 private:
  std::string look_at_users(const Value& value, const Tensor& tensor, PruneLayer& layer,
                            const Node*& user) const {
    if (value.is_initializer() && value.constant() == nullptr) {
      return "a caller of the model may override it";
    }
    for (const Use& use : value.uses()) {
      if (use.node == nullptr) return "is an output of the graph";
      const auto view = weight_view(*use.node, use.slot, tensor.dims());
      if (!view) {
        user = use.node;
        return "is not a weight of " + std::string(use.node->op_type()) + " '" + use.node->label() +
               "'";
      }
      if (use.node->is("Gather")) {
        user = use.node;
        return "is an embedding table: its rows are looked up, nothing makes up for a weight";
      }
      if (std::string why = selection_.why_not(*use.node, &value); !why.empty()) {
        user = use.node;
        return why;
      }
      if (user == nullptr) {
        user = use.node;
        layer.view = *view;
      }
    }
    return {};
  }

  std::string size_reason(const Tensor& tensor, const PruneLayer& layer, const Node& user) const {
    if (tensor.elements() < wish_.min_elements) {
      return "has " + std::to_string(tensor.elements()) + " elements, below " +
             std::to_string(wish_.min_elements);
    }
    if (layer.view.length() < kShortestRow) {
      return "has " + std::to_string(layer.view.length()) + " weights per output of " +
             std::string(user.op_type()) + ": too few for the others to make up for one";
    }
    return {};
  }

  static std::string end_reason(const Node& user, const PruneLayer& layer) {
    if (user.graph().owner() != nullptr) return {};
    if (user.is("Conv") && layer.view.inner / layer.view.taps <= kImageChannels &&
        reads_model_input(user)) {
      return "is the first convolution: few weights that everything depends on (--ends true "
             "prunes it)";
    }
    if ((user.is("Gemm") || user.is("MatMul") || user.is("Conv")) && makes_model_output(user)) {
      return "makes the outputs of the model (--ends true prunes it)";
    }
    return {};
  }

  // The first reader whose inputs can be seen.
  static void observe_through(const Value& value, PruneLayer& layer) {
    if (value.graph().owner() != nullptr) return;
    const auto dims = layer.tensor.dims();
    for (const Use& use : value.uses()) {
      const Node& node = *use.node;
      if (use.slot != 1 || node.graph().owner() != nullptr) continue;
      if (node.input(0) == nullptr || is_constant(node.input(0))) continue;
      const auto view = weight_view(node, use.slot, dims);
      if (!view || view->length() != layer.view.length() || view->axis != layer.view.axis) continue;
      auto rows = LayerRows::of(node, *view);
      if (!rows || rows->groups() < 1 || layer.view.channels % rows->groups() != 0) continue;
      layer.node = node.id();
      layer.input = node.input(0)->name();
      layer.rows = std::move(rows);
      // A bias of one reader is none of the others'.
      layer.takes_shift = value.uses().size() == 1 && has_room(node, layer.view.channels);
      return;
    }
  }

  const PruneSelection& wish_;
  Selection selection_;
  bool explain_;
  PassContext& context_;
  std::vector<PruneLayer> layers_;
};

// One constant operand plus `shift`; shared ones get a copy.
Status shift_constant(Editor& edit, Node& node, std::size_t slot, std::span<const double> shift) {
  Value& value = *node.input(slot);
  const Tensor tensor = *value.constant();
  MCOMPRESS_ASSIGN(std::vector<float> numbers, read_floats(tensor));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<float>(double{numbers[i]} + shift[i]);
  }
  Tensor moved = make_float_tensor(numbers, {tensor.dims().begin(), tensor.dims().end()});
  if (value.uses().size() == 1 && value.is_initializer()) {
    edit.set_constant(value, std::move(moved));
  } else {
    const std::string name = std::string(value.name()) + "_repaired";
    edit.set_input(node, slot, &edit.add_initializer(node.graph(), name, std::move(moved)));
  }
  return ok_status();
}

}  // namespace

std::size_t PruneLayer::run() const {
  return op_type == "Conv" ? static_cast<std::size_t>(view.inner / view.taps) : columns();
}

std::vector<std::uint32_t> PruneLayer::places() const {
  std::vector<std::uint32_t> places;
  const auto inner = static_cast<std::size_t>(view.inner);
  const auto taps = static_cast<std::size_t>(std::max<std::int64_t>(view.taps, 1));
  const std::size_t depth = inner / taps;
  if (taps == 1 || depth == 1) return places;
  places.resize(columns());
  for (std::size_t k = 0; k < places.size(); ++k) {
    const std::size_t o = k / inner, i = k % inner;
    places[o * inner + i % taps * depth + i / taps] = static_cast<std::uint32_t>(k);
  }
  return places;
}

Result<std::vector<PruneLayer>> plan_pruning(Model& model, const PruneSelection& selection,
                                             bool explain, PassContext& context) {
  Planner planner(selection, explain, context);
  for (Value* value : constants_of(model.graph())) MCOMPRESS_TRY(planner.consider(*value));
  return planner.take(model.graph());
}

Result<Tensor> tensor_of_vectors(std::span<const float> vectors, const WeightView& view,
                                 std::span<const std::int64_t> dims, TensorFactory& tensors) {
  const auto outer = static_cast<std::size_t>(view.outer);
  const auto channels = static_cast<std::size_t>(view.channels);
  const auto inner = static_cast<std::size_t>(view.inner);
  const auto taps = static_cast<std::size_t>(std::max<std::int64_t>(view.taps, 1));
  const std::size_t depth = inner / taps, length = outer * inner;
  // Filled in whole runs of one channel: `fill` gets ranges of any border, so floats are looked up.
  return tensors.make(DataType::kFloat, {dims.begin(), dims.end()},
                      [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
                        std::size_t flat = static_cast<std::size_t>(offset / sizeof(float));
                        for (std::size_t done = 0; done + sizeof(float) <= out.size();
                             done += sizeof(float), ++flat) {
                          const std::size_t i = flat % inner, c = flat / inner % channels;
                          const std::size_t o = flat / inner / channels;
                          const std::size_t column = o * inner + i % taps * depth + i / taps;
                          std::memcpy(out.data() + done, &vectors[c * length + column],
                                      sizeof(float));
                        }
                        return ok_status();
                      });
}

LayerWriter::LayerWriter(Model& model, Editor& edit) : model_(model), edit_(edit) {
  for (Value* value : constants_of(model.graph())) values_.emplace(value->id(), value);
  for (Node* node : model.graph().nodes()) nodes_.emplace(node->id(), node);
}

Status LayerWriter::write(const PruneLayer& layer, const Tensor& weights,
                          std::span<const double> shift) {
  const auto value = values_.find(layer.value);
  if (value == values_.end()) {
    return Error(Code::kInternal, "no-such-weight", "weight '" + layer.name + "' is gone");
  }
  if (value->second->producer() != nullptr) {
    edit_.replace_by_constant(*value->second->producer(), weights);
  } else {
    edit_.set_constant(*value->second, weights);
  }
  if (shift.empty()) return ok_status();
  const auto found = nodes_.find(layer.node);
  if (found == nodes_.end()) {
    return Error(Code::kInternal, "no-room", "no bias beside weight '" + layer.name + "'");
  }
  Node& node = *found->second;
  if (node.is("MatMul")) {
    const auto bias = find_bias_add(node, layer.view.channels);
    if (bias) return shift_constant(edit_, *bias->add, bias->slot, shift);
    return Error(Code::kInternal, "no-room", "no bias behind '" + node.label() + "'");
  }
  if (node.input(2) != nullptr) return shift_constant(edit_, node, 2, shift);
  std::vector<float> bias(shift.size());
  std::ranges::transform(shift, bias.begin(), [](double s) { return static_cast<float>(s); });
  Value& added = edit_.add_initializer(model_.graph(), layer.name + "_bias",
                                       make_float_tensor(bias, {layer.view.channels}));
  edit_.set_input(node, 2, &added);
  return ok_status();
}

}  // namespace mcompress
