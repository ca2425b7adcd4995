#include "holdings.h"

#include <algorithm>

#include "mcompress/host.h"

namespace mcompress::tools {
namespace {

constexpr std::int64_t kMinStored = 256;
constexpr std::int64_t kMinDynamic = 8192;

void add(Sum& sum, const Tensor& tensor) {
  ++sum.count;
  sum.elements += static_cast<std::uint64_t>(tensor.elements());
  sum.bytes += tensor.byte_size();
}

std::string dims_text(std::span<const std::int64_t> dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  }
  return text + "]";
}

std::string type_text(const TypeInfo* type) {
  if (type == nullptr) return "unknown type";
  std::string text = dtype_name(type->element);
  if (!type->shape) return text + " of unknown rank";
  text += " [";
  for (std::size_t i = 0; i < type->shape->size(); ++i) {
    const Dim& dim = (*type->shape)[i];
    text += i == 0 ? "" : ", ";
    text += dim.size ? std::to_string(*dim.size) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

// The tensor of a Constant node; null for other nodes and other forms of it.
const Tensor* constant_of(const Node& node) {
  if (!node.is("Constant")) return nullptr;
  const AttributeValue* held = node.attribute("value");
  return held != nullptr ? std::get_if<Tensor>(held) : nullptr;
}

class Inspector {
 public:
  explicit Inspector(const Model& model) {
    walk(model.graph(), 0);
    const std::uint64_t nodes = holdings_.nodes, graphs = holdings_.graphs, depth = holdings_.depth;
    const Sum all = holdings_.all;
    for (const Function& function : model.functions()) walk(*function.body, 1);
    holdings_.graphs = graphs;
    holdings_.depth = depth;
    holdings_.function_nodes = holdings_.nodes - nodes;
    holdings_.in_functions = {holdings_.all.count - all.count,
                              holdings_.all.elements - all.elements,
                              holdings_.all.bytes - all.bytes};
  }
  Holdings take() { return std::move(holdings_); }

 private:
  void walk(const Graph& graph, std::uint64_t depth) {
    ++holdings_.graphs;
    holdings_.depth = std::max(holdings_.depth, depth);
    for (const Value* value : graph.initializers()) {
      if (value->constant() == nullptr) ++holdings_.overridable;
      weigh(*value->initializer(), value->name(), value->uses(), value->constant() != nullptr,
            depth);
    }
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      ++holdings_.nodes;
      ++holdings_.operators[op_name(*node)];
      if (const Tensor* tensor = constant_of(*node); tensor != nullptr && node->output(0)) {
        weigh(*tensor, node->output(0)->name(), node->output(0)->uses(), true, depth);
      }
      for (const Graph* body : node->bodies()) walk(*body, depth + 1);
    }
  }

  void weigh(const Tensor& tensor, std::string_view name, std::span<const Use> uses, bool constant,
             std::uint64_t depth) {
    Weight weight;
    weight.name = name;
    weight.dtype = tensor.dtype();
    weight.dims.assign(tensor.dims().begin(), tensor.dims().end());
    weight.bytes = tensor.byte_size();
    const Use* use = nullptr;
    for (const Use& candidate : uses) {
      if (use == nullptr && candidate.node != nullptr) use = &candidate;
    }
    if (use != nullptr) weight.owner = op_name(*use->node);
    if (uses.size() > 1 && tensor.elements() >= kMinStored) ++holdings_.shared;
    add(holdings_.all, tensor);
    add(holdings_.by_dtype[dtype_name(tensor.dtype())], tensor);
    if (constant && use != nullptr && tensor.dtype() == DataType::kFloat &&
        tensor.dims().size() >= 2) {
      count_chances(tensor, *use, depth);
    }
    holdings_.weights.push_back(std::move(weight));
  }

  void count_chances(const Tensor& tensor, const Use& use, std::uint64_t depth) {
    if (tensor.elements() >= kMinStored) add(holdings_.weight_ready, tensor);
    const Node& node = *use.node;
    if (depth > 0 || use.slot != 1) return;
    const bool product = node.is("Gemm") || node.is("MatMul");
    if (product || node.is("Conv")) add(holdings_.integer_ready, tensor);
    if (product && tensor.dims().size() == 2 && tensor.elements() >= kMinDynamic) {
      add(holdings_.dynamic_ready, tensor);
    }
  }

  Holdings holdings_;
};

std::vector<std::pair<std::string, std::uint64_t>> by_count(const Holdings& holdings) {
  std::vector<std::pair<std::string, std::uint64_t>> list(holdings.operators.begin(),
                                                          holdings.operators.end());
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& left, const auto& right) { return left.second > right.second; });
  return list;
}

std::string sum_text(const Sum& sum, std::string_view noun) {
  return counted(sum.count, noun) + ", " + bytes_text(sum.bytes);
}

Datum as_datum(const Sum& sum) {
  Datum map = Datum::map();
  map.set("tensors", Datum::integer(static_cast<std::int64_t>(sum.count)));
  map.set("elements", Datum::integer(static_cast<std::int64_t>(sum.elements)));
  map.set("bytes", Datum::integer(static_cast<std::int64_t>(sum.bytes)));
  return map;
}

Datum as_datum(const Value& value) {
  Datum map = Datum::map();
  map.set("name", Datum::string(value.name()));
  if (value.type() == nullptr) return map;
  map.set("dtype", Datum::string(dtype_name(value.type()->element)));
  if (!value.type()->shape) return map;
  Datum shape = Datum::list();
  for (const Dim& dim : *value.type()->shape) {
    shape.push(dim.size ? Datum::integer(*dim.size) : Datum::string(dim.symbol));
  }
  map.set("shape", std::move(shape));
  return map;
}

}  // namespace

std::string op_name(const Node& node) {
  return node.domain().empty() ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
}

Holdings holdings_of(const Model& model, std::int64_t top) {
  Holdings holdings = Inspector(model).take();
  std::stable_sort(
      holdings.weights.begin(), holdings.weights.end(),
      [](const Weight& left, const Weight& right) { return left.bytes > right.bytes; });
  if (static_cast<std::int64_t>(holdings.weights.size()) > top) {
    holdings.weights.resize(static_cast<std::size_t>(top));
  }
  return holdings;
}

std::string head_text(const LoadedModel& loaded, const Holdings& holdings) {
  const Model& model = *loaded.model;
  std::string text = file_name(loaded.path) + ": " + grouped(loaded.size.total()) + " bytes";
  if (loaded.size.data_bytes > 0) {
    text += " (" + grouped(loaded.size.data_bytes) + " in external data)";
  }
  text += "\n" + grouped(holdings.all.elements) + " parameters in " +
          counted(holdings.all.count, "tensor") + "; " + counted(holdings.nodes, "node");
  if (holdings.graphs > 1) {
    text += " in " + counted(holdings.graphs, "graph") + ", nested " +
            std::to_string(holdings.depth) + " deep";
  }
  if (!model.functions().empty()) {
    text += "; of these " + counted(holdings.function_nodes, "node") + " and " +
            grouped(holdings.in_functions.elements) + " parameters in " +
            counted(model.functions().size(), "function");
  }
  text += "\nIR version " + std::to_string(model.ir_version()) + ", operator sets:";
  for (const auto& [domain, version] : model.opsets()) {
    text += " " + (domain.empty() ? "ai.onnx" : domain) + " " + std::to_string(version);
  }
  if (!model.producer().empty()) text += "\nwritten by " + std::string(model.producer());
  text += "\n\n";
  Table ports;
  for (const Value* value : model.graph().inputs()) {
    if (value->is_initializer()) continue;
    ports.row({"input " + std::string(value->name()) + "  " + type_text(value->type())});
  }
  for (const Value* value : model.graph().outputs()) {
    ports.row({"output " + std::string(value->name()) + "  " + type_text(value->type())});
  }
  text += ports.text() + "\n";
  Table dtypes;
  dtypes.row({"weights", "tensors", "elements", "bytes", "share"});
  for (const auto& [name, sum] : holdings.by_dtype) {
    const double share = holdings.all.bytes > 0 ? static_cast<double>(sum.bytes) /
                                                      static_cast<double>(holdings.all.bytes)
                                                : 0;
    dtypes.row({name, grouped(sum.count), grouped(sum.elements), grouped(sum.bytes),
                decimal_text(100 * share, 1) + " %"});
  }
  return text + dtypes.text();
}

std::string largest_text(const Holdings& holdings) {
  if (holdings.weights.empty()) return {};
  Table largest;
  largest.row({"largest tensors", "bytes", "type", "shape", "used by"});
  for (const Weight& weight : holdings.weights) {
    largest.row({weight.name, grouped(weight.bytes), dtype_name(weight.dtype),
                 dims_text(weight.dims), weight.owner.empty() ? "-" : weight.owner});
  }
  return largest.text();
}

std::string chances_text(const Holdings& holdings) {
  std::string text = "what `quantize` could look at:\n";
  text += "  static       " + sum_text(holdings.integer_ready, "weight") +
          " of Conv, Gemm and MatMul\n";
  text += "  dynamic      " + sum_text(holdings.dynamic_ready, "large matrix product") + "\n";
  text += "  weight-only  " + sum_text(holdings.weight_ready, "float32 weight") + "\n";
  if (holdings.shared > 0) text += "  shared       " + counted(holdings.shared, "tensor") + "\n";
  if (holdings.overridable > 0) {
    text += "  a caller may override " + counted(holdings.overridable, "tensor") + "\n";
  }
  return text;
}

void add_holdings(const LoadedModel& loaded, const Holdings& holdings, Datum& map) {
  const Model& model = *loaded.model;
  const auto number = [](std::uint64_t value) {
    return Datum::integer(static_cast<std::int64_t>(value));
  };
  map.set("file", Datum::string(file_name(loaded.path)));
  map.set("bytes", number(loaded.size.total()));
  map.set("model_bytes", number(loaded.size.model_bytes));
  map.set("external_data_bytes", number(loaded.size.data_bytes));
  map.set("ir_version", Datum::integer(model.ir_version()));
  map.set("producer", Datum::string(model.producer()));
  Datum opsets = Datum::map();
  for (const auto& [domain, version] : model.opsets()) {
    opsets.set(domain.empty() ? "ai.onnx" : domain, Datum::integer(version));
  }
  map.set("opsets", std::move(opsets));
  Datum inputs = Datum::list();
  for (const Value* value : model.graph().inputs()) {
    if (!value->is_initializer()) inputs.push(as_datum(*value));
  }
  map.set("inputs", std::move(inputs));
  Datum outputs = Datum::list();
  for (const Value* value : model.graph().outputs()) outputs.push(as_datum(*value));
  map.set("outputs", std::move(outputs));
  map.set("parameters", number(holdings.all.elements));
  map.set("nodes", number(holdings.nodes));
  map.set("graphs", number(holdings.graphs));
  map.set("graph_depth", number(holdings.depth));
  map.set("functions", number(model.functions().size()));
  map.set("function_nodes", number(holdings.function_nodes));
  map.set("in_functions", as_datum(holdings.in_functions));
  map.set("shared_tensors", number(holdings.shared));
  map.set("overridable_tensors", number(holdings.overridable));
  Datum operators = Datum::map();
  for (const auto& [name, count] : by_count(holdings)) operators.set(name, number(count));
  map.set("operators", std::move(operators));
  Datum dtypes = Datum::map();
  for (const auto& [name, sum] : holdings.by_dtype) dtypes.set(name, as_datum(sum));
  map.set("weights", std::move(dtypes));
  Datum largest = Datum::list();
  for (const Weight& weight : holdings.weights) {
    Datum entry = Datum::map();
    entry.set("name", Datum::string(weight.name));
    entry.set("bytes", number(weight.bytes));
    entry.set("dtype", Datum::string(dtype_name(weight.dtype)));
    Datum dims = Datum::list();
    for (const std::int64_t dim : weight.dims) dims.push(Datum::integer(dim));
    entry.set("shape", std::move(dims));
    if (!weight.owner.empty()) entry.set("used_by", Datum::string(weight.owner));
    largest.push(std::move(entry));
  }
  map.set("largest_tensors", std::move(largest));
  Datum chances = Datum::map();
  chances.set("static", as_datum(holdings.integer_ready));
  chances.set("dynamic", as_datum(holdings.dynamic_ready));
  chances.set("weight_only", as_datum(holdings.weight_ready));
  map.set("quantize", std::move(chances));
}

}  // namespace mcompress::tools
