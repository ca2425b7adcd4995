// inspect: what a model holds. Nothing is run, and no weight is read.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <set>

#include "app.h"
#include "mcompress/host.h"
#include "models.h"
#include "try.h"

namespace mcompress::tools {
namespace {

struct Options {
  bool json = false;
  bool dump = false;
  std::int64_t top = 10;

  static const Schema<Options>& schema() {
    static const Schema<Options> kSchema =
        Schema<Options>()
            .field("json", &Options::json, "as JSON")
            .field("dump", &Options::dump, "the whole graph as text")
            .field("top", &Options::top, "how many of the largest tensors are listed")
            .range(0, 1e6);
    return kSchema;
  }
};

struct Weight {
  std::string name;
  std::string owner;  // "Conv", or the first user's type
  DataType dtype = DataType::kUndefined;
  std::vector<std::int64_t> dims;
  std::uint64_t bytes = 0;
};

struct Sum {
  std::uint64_t count = 0, elements = 0, bytes = 0;
};

struct Facts {
  std::map<std::string, std::uint64_t> operators;  // "domain:Type", default domain bare
  std::map<std::string, Sum> by_dtype;
  std::vector<Weight> weights;
  Sum all;
  std::uint64_t nodes = 0, graphs = 0, depth = 0, shared = 0, overridable = 0;
  Sum integer_ready;  // weights of Conv, Gemm and MatMul: static quantization
  Sum dynamic_ready;  // of these, large enough matrices
  Sum weight_ready;   // any float weight large enough to be stored in 8 bits
};

constexpr std::int64_t kMinStored = 256;
constexpr std::int64_t kMinDynamic = 8192;

void add(Sum& sum, const Tensor& tensor) {
  ++sum.count;
  sum.elements += static_cast<std::uint64_t>(tensor.elements());
  sum.bytes += tensor.byte_size();
}

std::string op_name(const Node& node) {
  return node.domain().empty() ? std::string(node.op_type())
                               : std::string(node.domain()) + ":" + std::string(node.op_type());
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
  explicit Inspector(const Model& model) : model_(model) { walk(model.graph(), 0); }
  Facts take() { return std::move(facts_); }

 private:
  void walk(const Graph& graph, std::uint64_t depth) {
    ++facts_.graphs;
    facts_.depth = std::max(facts_.depth, depth);
    for (const Value* value : graph.initializers()) {
      if (value->constant() == nullptr) ++facts_.overridable;
      weigh(*value->initializer(), value->name(), value->uses(), value->constant() != nullptr,
            depth);
    }
    for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      ++facts_.nodes;
      ++facts_.operators[op_name(*node)];
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
    if (uses.size() > 1 && tensor.elements() >= kMinStored) ++facts_.shared;
    add(facts_.all, tensor);
    add(facts_.by_dtype[dtype_name(tensor.dtype())], tensor);
    if (constant && use != nullptr && tensor.dtype() == DataType::kFloat &&
        tensor.dims().size() >= 2) {
      count_chances(tensor, *use, depth);
    }
    facts_.weights.push_back(std::move(weight));
  }

  void count_chances(const Tensor& tensor, const Use& use, std::uint64_t depth) {
    if (tensor.elements() >= kMinStored) add(facts_.weight_ready, tensor);
    const Node& node = *use.node;
    if (depth > 0 || use.slot != 1) return;
    const bool product = node.is("Gemm") || node.is("MatMul");
    if (product || node.is("Conv")) add(facts_.integer_ready, tensor);
    if (product && tensor.dims().size() == 2 && tensor.elements() >= kMinDynamic) {
      add(facts_.dynamic_ready, tensor);
    }
  }

  const Model& model_;
  Facts facts_;
};

class Inspect final : public Command {
 public:
  void declare(CLI::App& app, Flags& flags) override {
    flags_ = &flags;
    app.add_option("MODEL", path_, "ONNX model")->required()->type_name("");
    flags.add(Options::schema().specs(), "Output");
  }

  Status run(Console& console) override {
    Diagnostics diagnostics;
    const auto& schema = Options::schema();
    MCOMPRESS_ASSIGN(options_, schema.parse(flags_->given(schema.specs()), diagnostics));
    if (options_.json && options_.dump) {
      return Error(Code::kUsage, "two-outputs", "--json and --dump exclude each other");
    }
    MCOMPRESS_ASSIGN(const LoadedModel loaded, load(path_, console));
    const Model& model = *loaded.model;
    if (options_.dump) return console.print(dump(model));
    Facts facts = Inspector(model).take();
    std::stable_sort(
        facts.weights.begin(), facts.weights.end(),
        [](const Weight& left, const Weight& right) { return left.bytes > right.bytes; });
    if (static_cast<std::int64_t>(facts.weights.size()) > options_.top) {
      facts.weights.resize(static_cast<std::size_t>(options_.top));
    }
    return console.print(options_.json ? json_text(as_datum(loaded, facts))
                                       : as_text(loaded, facts));
  }

 private:
  static std::vector<std::pair<std::string, std::uint64_t>> by_count(const Facts& facts) {
    std::vector<std::pair<std::string, std::uint64_t>> list(facts.operators.begin(),
                                                            facts.operators.end());
    std::stable_sort(list.begin(), list.end(), [](const auto& left, const auto& right) {
      return left.second > right.second;
    });
    return list;
  }

  static std::string sum_text(const Sum& sum, std::string_view noun) {
    return counted(sum.count, noun) + ", " + bytes_text(sum.bytes);
  }

  std::string as_text(const LoadedModel& loaded, const Facts& facts) const {
    const Model& model = *loaded.model;
    std::string text = file_name(path_) + ": " + grouped(loaded.size.total()) + " bytes";
    if (loaded.size.data_bytes > 0) {
      text += " (" + grouped(loaded.size.data_bytes) + " in external data)";
    }
    text += "\n" + grouped(facts.all.elements) + " parameters in " +
            counted(facts.all.count, "tensor") + "; " + counted(facts.nodes, "node");
    if (facts.graphs > 1) {
      text += " in " + counted(facts.graphs, "graph") + ", nested " + std::to_string(facts.depth) +
              " deep";
    }
    if (!model.functions().empty()) {
      text += "; " + counted(model.functions().size(), "function");
    }
    text += "\nIR version " + std::to_string(model.ir_version()) + ", operator sets:";
    for (const auto& [domain, version] : model.opsets()) {
      text += " " + (domain.empty() ? "ai.onnx" : domain) + " " + std::to_string(version);
    }
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
    dtypes.row({"weights", "tensors", "elements", "bytes"});
    for (const auto& [name, sum] : facts.by_dtype) {
      dtypes.row({name, grouped(sum.count), grouped(sum.elements), grouped(sum.bytes)});
    }
    text += dtypes.text() + "\n";
    std::string operators = "operators:";
    for (const auto& [name, count] : by_count(facts)) {
      operators += " " + name + " " + std::to_string(count) + ",";
    }
    operators.pop_back();
    text += wrap_text(operators, 100, 0) + "\n";
    if (!facts.weights.empty()) {
      Table largest;
      largest.row({"\nlargest tensors", "bytes", "type", "shape", "used by"});
      for (const Weight& weight : facts.weights) {
        largest.row({weight.name, grouped(weight.bytes), dtype_name(weight.dtype),
                     dims_text(weight.dims), weight.owner.empty() ? "-" : weight.owner});
      }
      text += largest.text();
    }
    text += "\nwhat `quantize` could look at:\n";
    text +=
        "  static       " + sum_text(facts.integer_ready, "weight") + " of Conv, Gemm and MatMul\n";
    text += "  dynamic      " + sum_text(facts.dynamic_ready, "large matrix product") + "\n";
    text += "  weight-only  " + sum_text(facts.weight_ready, "float32 weight") + "\n";
    if (facts.shared > 0) text += "  shared       " + counted(facts.shared, "tensor") + "\n";
    if (facts.overridable > 0) {
      text += "  a caller may override " + counted(facts.overridable, "tensor") + "\n";
    }
    return text;
  }

  static Datum as_datum(const Sum& sum) {
    Datum map = Datum::map();
    map.set("tensors", Datum::integer(static_cast<std::int64_t>(sum.count)));
    map.set("elements", Datum::integer(static_cast<std::int64_t>(sum.elements)));
    map.set("bytes", Datum::integer(static_cast<std::int64_t>(sum.bytes)));
    return map;
  }

  static Datum as_datum(const Value& value) {
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

  Datum as_datum(const LoadedModel& loaded, const Facts& facts) const {
    const Model& model = *loaded.model;
    const auto number = [](std::uint64_t value) {
      return Datum::integer(static_cast<std::int64_t>(value));
    };
    Datum map = Datum::map();
    map.set("file", Datum::string(file_name(path_)));
    map.set("bytes", number(loaded.size.total()));
    map.set("model_bytes", number(loaded.size.model_bytes));
    map.set("external_data_bytes", number(loaded.size.data_bytes));
    map.set("ir_version", Datum::integer(model.ir_version()));
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
    map.set("parameters", number(facts.all.elements));
    map.set("nodes", number(facts.nodes));
    map.set("graphs", number(facts.graphs));
    map.set("graph_depth", number(facts.depth));
    map.set("functions", number(model.functions().size()));
    map.set("shared_tensors", number(facts.shared));
    map.set("overridable_tensors", number(facts.overridable));
    Datum operators = Datum::map();
    for (const auto& [name, count] : by_count(facts)) operators.set(name, number(count));
    map.set("operators", std::move(operators));
    Datum dtypes = Datum::map();
    for (const auto& [name, sum] : facts.by_dtype) dtypes.set(name, as_datum(sum));
    map.set("weights", std::move(dtypes));
    Datum largest = Datum::list();
    for (const Weight& weight : facts.weights) {
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
    chances.set("static", as_datum(facts.integer_ready));
    chances.set("dynamic", as_datum(facts.dynamic_ready));
    chances.set("weight_only", as_datum(facts.weight_ready));
    map.set("quantize", std::move(chances));
    return map;
  }

  Flags* flags_ = nullptr;
  Options options_;
  std::string path_;
};

}  // namespace

std::unique_ptr<Command> make_inspect() { return std::make_unique<Inspect>(); }

}  // namespace mcompress::tools
