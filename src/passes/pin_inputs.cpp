// Open dimensions of the model's inputs become numbers:
//
//   input-shape x:1,3,224,224     x: float[n, 3, h, w]   =>   x: float[1, 3, 224, 224]
//   dim n=1                       every dimension n      =>   1
//
// A dimension that has a name has it everywhere: a number for one place is a number for all. What
// the model declares of its outputs follows as far as inference can tell.
#include <algorithm>
#include <map>

#include "ir/builder.h"
#include "ir/facts.h"
#include "mcompress/io.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/text.h"
#include "support/try.h"

namespace mcompress {
namespace {

Error usage(std::string_view option, std::string message, std::string hint = {}) {
  return Error(Code::kUsage, "pin-inputs", std::move(message), {{}, std::string(option), {}},
               std::move(hint));
}

std::string dim_text(const Dim& dim) {
  if (dim.size) return std::to_string(*dim.size);
  return dim.symbol.empty() ? "?" : dim.symbol;
}

class PinInputs final : public Pass {
 public:
  struct Options {
    std::vector<std::string> input_shape, dim;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("input-shape", &Options::input_shape,
                   "NAME:1,3,224,224 gives an input this shape for good; ? leaves a dimension open")
            .unit("NAME:N,...")
            .field("dim", &Options::dim,
                   "NAME=4 gives every dimension of this name this size for good")
            .unit("NAME=N");
    return schema;
  }
  explicit PinInputs(Options options) : options_(std::move(options)) {}

  Status run(Model& model, PassContext& context) override {
    if (options_.input_shape.empty() && options_.dim.empty()) {
      context.report().count("pinned", 0);
      return ok_status();
    }
    for (Value* value : model.graph().inputs()) {
      if (!value->is_initializer()) inputs_.push_back(value);
    }
    MCOMPRESS_TRY(read_dims());
    MCOMPRESS_TRY(read_shapes());
    apply(model, context);
    context.report().count("pinned", pinned_);
    return ok_status();
  }

 private:
  static Result<std::int64_t> size_of(std::string_view option, const std::string& text,
                                      const std::string& whole) {
    const auto number = parse_int(text);
    if (number && *number >= 0) return *number;
    return usage(option, "'" + text + "' in '" + whole + "' is no size",
                 "sizes are whole numbers from 0 up");
  }

  Status bind(std::string_view option, const std::string& symbol, std::int64_t size) {
    const auto [place, fresh] = bound_.emplace(symbol, size);
    if (fresh || place->second == size) return ok_status();
    return usage(option, "dimension '" + symbol + "' can not be both " +
                             std::to_string(place->second) + " and " + std::to_string(size));
  }

  Status read_dims() {
    std::vector<std::string> symbols;
    for (const Value* value : inputs_) {
      if (value->type() == nullptr || !value->type()->shape) continue;
      for (const Dim& dim : *value->type()->shape) {
        if (!dim.size && !dim.symbol.empty()) symbols.push_back(dim.symbol);
      }
    }
    for (const std::string& entry : options_.dim) {
      const auto at = entry.rfind('=');
      if (at == std::string::npos || at == 0) {
        return usage("dim", "'" + entry + "' is no NAME=SIZE");
      }
      const std::string name = entry.substr(0, at);
      MCOMPRESS_ASSIGN(const std::int64_t size, size_of("dim", entry.substr(at + 1), entry));
      if (std::ranges::find(symbols, name) == symbols.end()) {
        std::string hint = did_you_mean(name, symbols);
        if (hint.empty() && !symbols.empty()) hint = "there are " + join(unique(symbols), ", ");
        return usage("dim", "no input has an open dimension '" + name + "'", std::move(hint));
      }
      MCOMPRESS_TRY(bind("dim", name, size));
    }
    return ok_status();
  }

  static std::vector<std::string> unique(std::vector<std::string> list) {
    std::ranges::sort(list);
    list.erase(std::unique(list.begin(), list.end()), list.end());
    return list;
  }

  // A list of names is split at commas, which are part of a shape here: an entry without a colon
  // goes on with the one before.
  std::vector<std::string> whole_entries() const {
    std::vector<std::string> entries;
    for (const std::string& part : options_.input_shape) {
      if (entries.empty() || part.find(':') != std::string::npos) {
        entries.push_back(part);
      } else {
        entries.back() += "," + part;
      }
    }
    return entries;
  }

  Status read_shapes() {
    constexpr std::string_view kOption = "input-shape";
    std::vector<std::string> names;
    for (const Value* value : inputs_) names.emplace_back(value->name());
    for (const std::string& entry : whole_entries()) {
      // The name itself may have colons.
      const auto at = entry.rfind(':');
      std::string name = at != std::string::npos ? entry.substr(0, at) : std::string();
      const std::string sizes = at != std::string::npos ? entry.substr(at + 1) : entry;
      if (at == std::string::npos) {
        if (names.size() != 1) {
          return usage(kOption,
                       "'" + entry + "' names none of the model's " + std::to_string(names.size()) +
                           " inputs",
                       "write NAME:" + entry + "; there are " + join(names, ", "));
        }
        name = names.front();
      }
      const auto found = std::ranges::find(names, name);
      if (found == names.end()) {
        std::string hint = did_you_mean(name, names);
        if (hint.empty()) hint = "its inputs are " + join(names, ", ");
        return usage(kOption, "the model has no input '" + name + "'", std::move(hint));
      }
      MCOMPRESS_TRY(
          read_shape(*inputs_[static_cast<std::size_t>(found - names.begin())], sizes, entry));
    }
    return ok_status();
  }

  Status read_shape(const Value& value, const std::string& sizes, const std::string& entry) {
    constexpr std::string_view kOption = "input-shape";
    const std::string name = "'" + std::string(value.name()) + "'";
    if (value.type() == nullptr) return usage(kOption, "input " + name + " is no tensor");
    std::vector<std::optional<std::int64_t>> wanted;
    for (std::size_t at = 0; !sizes.empty() && at <= sizes.size();) {
      const std::size_t comma = std::min(sizes.find(',', at), sizes.size());
      const std::string text = sizes.substr(at, comma - at);
      if (text == "?") {
        wanted.emplace_back();
      } else {
        MCOMPRESS_ASSIGN(const std::int64_t size, size_of(kOption, text, entry));
        wanted.emplace_back(size);
      }
      at = comma + 1;
    }
    const auto& shape = value.type()->shape;
    if (shape && shape->size() != wanted.size()) {
      std::vector<std::string> dims;
      for (const Dim& dim : *shape) dims.push_back(dim_text(dim));
      return usage(kOption, "input " + name + " has " + std::to_string(shape->size()) +
                                " dimensions, [" + join(dims, ",") + "], not " +
                                std::to_string(wanted.size()));
    }
    std::vector<Dim> dims = shape.value_or(std::vector<Dim>(wanted.size()));
    for (std::size_t i = 0; i < dims.size(); ++i) {
      if (!wanted[i]) continue;
      if (dims[i].size && dims[i].size != wanted[i]) {
        return usage(kOption, "dimension " + std::to_string(i) + " of input " + name + " is " +
                                  std::to_string(*dims[i].size) + ", it can not become " +
                                  std::to_string(*wanted[i]));
      }
      if (!dims[i].size && !dims[i].symbol.empty()) {
        MCOMPRESS_TRY(bind(kOption, dims[i].symbol, *wanted[i]));
      }
      dims[i] = {wanted[i], {}};
    }
    shapes_[&value] = std::move(dims);
    return ok_status();
  }

  void apply(Model& model, PassContext& context) {
    Editor& editor = context.edit();
    for (Value* value : inputs_) {
      const auto given = shapes_.find(value);
      if (given == shapes_.end()) continue;
      TypeInfo type = *value->type();
      if (type.shape == given->second) continue;
      type.shape = given->second;
      note(*value, type, context);
      editor.set_type(*value, std::move(type), true);
    }
    std::vector<std::pair<Value*, TypeInfo>> named;
    each_value(model, [&](Value& value) {
      if (value.type() == nullptr || !value.type()->shape) return;
      TypeInfo type = *value.type();
      for (Dim& dim : *type.shape) {
        const auto bound = dim.size ? bound_.end() : bound_.find(dim.symbol);
        if (bound != bound_.end()) dim = {bound->second, {}};
      }
      if (type != *value.type()) named.emplace_back(&value, std::move(type));
    });
    for (auto& [value, type] : named) {
      if (value->is_graph_input()) note(*value, type, context);
      const bool declared = IrInternals::type_origin(*value) != nullptr;
      editor.set_type(*value, std::move(type), declared || value->is_graph_output());
    }
    follow_to_outputs(model, context);
  }

  void note(const Value& value, const TypeInfo& type, PassContext& context) {
    std::vector<std::string> dims;
    for (const Dim& dim : *type.shape) dims.push_back(dim_text(dim));
    Decision decision;
    decision.subject = value.name();
    decision.what = "its shape is [" + join(dims, ",") + "] for good";
    context.explain().chose(std::move(decision));
    ++pinned_;
  }

  template <class Visit>
  static void each_value(Model& model, Visit&& visit) {
    const auto graph_values = [&](const auto& self, Graph& graph) -> void {
      for (Value* value : graph.inputs()) visit(*value);
      for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        for (Value* value : node->outputs()) {
          if (value != nullptr) visit(*value);
        }
        for (Graph* body : node->bodies()) self(self, *body);
      }
    };
    graph_values(graph_values, model.graph());
  }

  // The open dimensions that the outputs declare.
  static void follow_to_outputs(Model& model, PassContext& context) {
    if (!infer_shapes(model, context.edit(), context.diagnostics()).ok()) return;
    const SymbolicShapes shapes(model);
    const auto outputs = model.graph().outputs();
    for (Value* value : std::vector<Value*>(outputs.begin(), outputs.end())) {
      const Terms* dims = shapes.dims(*value);
      if (dims == nullptr || value->type() == nullptr || !value->type()->shape) continue;
      TypeInfo type = *value->type();
      for (std::size_t i = 0; i < type.shape->size(); ++i) {
        if (!(*type.shape)[i].size && (*dims)[i].known())
          (*type.shape)[i] = {(*dims)[i].number, {}};
      }
      context.edit().set_type(*value, std::move(type), true);
    }
  }

  Options options_;
  std::vector<Value*> inputs_;
  std::map<std::string, std::int64_t> bound_;  // sizes of named dimensions
  std::map<const Value*, std::vector<Dim>> shapes_;
  std::int64_t pinned_ = 0;
};

}  // namespace

PassInfo pin_inputs_info() {
  PassInfo info =
      pass_info<PinInputs>("pin-inputs", "give open dimensions of the inputs sizes for good",
                           Reach::kNestedGraphs, false, {});
  info.keeps_results = false;  // names that it pinned are gone: not to be asked for again
  return info;
}

}  // namespace mcompress
