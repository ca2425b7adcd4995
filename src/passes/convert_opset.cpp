// Moves the model to another version of the default operator set, newer or older. Operators whose
// form differs are rewritten; those that the older set lacks are written out as ONNX defines them.
// Functions move with the model, or are written out when they can not. Where an operator has no
// exact form in the other set the pass fails, and says how far the model can move.
#include <algorithm>

#include "ir/facts.h"
#include "ir/walk.h"
#include "mcompress/io.h"
#include "passes/common/opset/functions.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class ConvertOpset final : public Pass {
 public:
  struct Options {
    std::int64_t to = 0;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("to", &Options::to,
                   "operator set to move to, 7 at least; 0: the newest one known")
            .range(0, static_cast<double>(kNewestMigratedOpset));
    return schema;
  }
  explicit ConvertOpset(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    const std::int64_t newest = std::min(kNewestMigratedOpset, onnx_catalog().newest_opset());
    const std::int64_t to = options_.to == 0 ? newest : options_.to;
    const std::int64_t from = model.opset("");
    context.report().count("from", from);
    context.report().count("to", to);
    if (to < kOldestModernOpset || to > newest) {
      return Error(Code::kUsage, "opset-out-of-reach",
                   "models can be moved to opset " + std::to_string(kOldestModernOpset) + " to " +
                       std::to_string(newest) + ", not to " + std::to_string(to),
                   {{}, "to", {}});
    }
    if (from == 0) {
      return Error(Code::kUnsupported, "no-default-opset",
                   "the model imports no version of ONNX's own operators");
    }
    if (from > newest) {
      return Error(Code::kUnsupported, "opset-unknown",
                   "the model has opset " + std::to_string(from) + ", and " +
                       std::to_string(newest) + " is the newest that is known here");
    }
    if (from == to) return ok_status();
    MCOMPRESS_TRY(infer_shapes(model, context.edit(), context.diagnostics()));
    MCOMPRESS_TRY(write_out_functions(model, context, to));
    // Some rewrites add constants that no input lists.
    if (model.ir_version() < 4) modernise_initializers(model, context);
    if (from < kOldestModernOpset) {
      MCOMPRESS_TRY(move(model, context, from, kOldestModernOpset));
      MCOMPRESS_TRY(infer_shapes(model, context.edit(), context.diagnostics()));
    }
    if (to != model.opset("")) MCOMPRESS_TRY(move(model, context, model.opset(""), to));
    if (to > from) {
      context.edit().require_ir_version(ir_version_of_opset(to));
    } else {
      context.edit().set_ir_version(std::min(model.ir_version(), oldest_ir_version(model, to)));
    }
    return ok_status();
  }

 private:
  struct Blocker {
    Node* node;
    std::string why, form;
  };

  // Every node that can not move, of the graph and of the functions that stay.
  static std::vector<Blocker> blockers(Model& model, PassContext& context, std::int64_t from,
                                       std::int64_t to) {
    std::vector<Blocker> found;
    const auto look = [&](Graph& graph, std::int64_t own) {
      if (own == 0 || own == to) return;
      OpsetMigration migration(context, own, to);
      for_each_node(graph, [&](Node& node) {
        std::string why = migration.plan(node);
        if (!why.empty()) found.push_back({&node, std::move(why), migration.form_of(node)});
      });
    };
    look(model.graph(), from);
    for (const Function& function : model.functions()) look(*function.body, own_opset(function));
    return found;
  }

  static std::int64_t own_opset(const Function& function) {
    const auto found = function.opsets.find("");
    return found == function.opsets.end() ? 0 : found->second;
  }

  // Functions that do not move as they are: types are not known in them, and what depends on a
  // call has no older or newer form.
  static Status write_out_functions(Model& model, PassContext& context, std::int64_t to) {
    if (model.functions().empty()) return ok_status();
    FunctionCalls calls(model, context);
    std::vector<bool> chosen(calls.count(), false);
    bool any = false;
    for (std::size_t i = 0; i < calls.count(); ++i) {
      const Function& function = model.functions()[i];
      const std::int64_t own = own_opset(function);
      if (own == 0 || own == to) continue;
      OpsetMigration migration(context, own, to);
      for_each_node(*function.body, [&](Node& node) {
        if (own < kOldestModernOpset || !migration.plan(node).empty()) chosen[i] = true;
      });
      any = any || chosen[i];
    }
    if (!any) return ok_status();
    MCOMPRESS_TRY(calls.write_out(chosen));
    return infer_shapes(model, context.edit(), context.diagnostics());
  }

  Status move(Model& model, PassContext& context, std::int64_t from, std::int64_t to) const {
    const std::vector<Blocker> found = blockers(model, context, from, to);
    if (!found.empty()) return refusal(model, context, found, from, to);
    std::int64_t rewritten = 0;
    const auto apply = [&](Graph& graph, std::int64_t own) -> Status {
      OpsetMigration migration(context, own, to);
      for_each_node(graph, [&](Node& node) { (void)migration.plan(node); });
      MCOMPRESS_ASSIGN(const std::size_t count, migration.apply());
      rewritten += static_cast<std::int64_t>(count);
      return ok_status();
    };
    MCOMPRESS_TRY(apply(model.graph(), from));
    for (std::size_t i = 0; i < model.functions().size(); ++i) {
      const Function& function = model.functions()[i];
      const std::int64_t own = own_opset(function);
      if (own == 0 || own == to) continue;
      MCOMPRESS_TRY(apply(*function.body, own));
      context.edit().set_function_opset(i, "", to);
    }
    context.edit().set_opset("", to);
    context.report().count("rewritten", rewritten);
    return ok_status();
  }

  static Error refusal(Model& model, PassContext& context, const std::vector<Blocker>& found,
                       std::int64_t from, std::int64_t to) {
    for (const Blocker& blocker : found) context.explain().skipped(*blocker.node, blocker.why);
    const Blocker& first = found.front();
    std::string text =
        std::string(first.node->op_type()) + " can not move from " + first.form + ": " + first.why;
    if (found.size() > 1) {
      text += "; nor can " + std::to_string(found.size() - 1) +
              (found.size() == 2 ? " other node" : " other nodes");
    }
    // The nearest that can be reached.
    const std::int64_t step = to < from ? 1 : -1;
    std::int64_t reach = to + step;
    while (reach != from && !blockers(model, context, from, reach).empty()) reach += step;
    std::string hint = reach == from ? "the model can not move from opset " + std::to_string(from) +
                                           " in this direction"
                                     : "opset " + std::to_string(reach) + " is within reach";
    return Error(Code::kUnsupported, "opset-not-convertible", std::move(text),
                 {{}, {}, first.node->label()}, std::move(hint));
  }

  // Older runtimes refuse models of an IR version that they do not know, whatever is in them.
  static std::int64_t oldest_ir_version(Model& model, std::int64_t opset) {
    std::int64_t version = std::max<std::int64_t>(4, ir_version_of_opset(opset));
    for (const Function& function : model.functions()) {
      version = std::max<std::int64_t>(version, function.overload.empty() ? 8 : 10);
    }
    const auto of_type = [&](DataType type) {
      const auto number = static_cast<std::int32_t>(type);
      if (number > 24)
        version = std::max<std::int64_t>(version, 13);  // 2 bits
      else if (number > 22)
        version = std::max<std::int64_t>(version, 11);  // float4, float8e8m0
      else if (number > 20)
        version = std::max<std::int64_t>(version, 10);  // 4 bits
      else if (number > 16)
        version = std::max<std::int64_t>(version, 9);  // float8
    };
    for_each_graph(model.graph(), [&](const Graph& graph) {
      for (const Value* value : graph.initializers()) {
        if (value->initializer()->is_opaque()) version = std::max<std::int64_t>(version, 5);
        of_type(value->initializer()->dtype());
      }
      for (const Value* value : graph.inputs()) of_type(element_type(*value));
      for (const Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
        for (const Value* value : node->outputs()) {
          if (value != nullptr) of_type(element_type(*value));
        }
      }
    });
    return version;
  }

  Options options_;
};

}  // namespace

PassInfo convert_opset_info() {
  return pass_info<ConvertOpset>("convert-opset", "move the model to a newer or older operator set",
                                 Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes"});
}

}  // namespace mcompress
