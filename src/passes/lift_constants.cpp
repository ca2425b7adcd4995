// Constant nodes become initializers of the same graph, which keep the name of the value:
//
//   c = Constant<value = T>()          initializer c = T
//   y = Add(x, c)                  =>  y = Add(x, c)
//
// Everything downstream then finds weights in one place. Models older than IR version 4 list their
// initializers as inputs although none can be overridden; those inputs are dropped.
#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"

namespace mcompress {
namespace {

class LiftConstants final : public Pass {
 public:
  struct Options {
    bool freeze_inputs = false;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>().field("freeze-inputs", &Options::freeze_inputs,
                                "make initializers that are also inputs true constants: callers "
                                "can not override them any more");
    return schema;
  }
  explicit LiftConstants(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    const std::int64_t lifted = lift(model, context);
    std::int64_t frozen = 0;
    if (model.ir_version() < 4 && !model.graph().initializers().empty()) {
      frozen = modernise_initializers(model, context);
    }
    if (options_.freeze_inputs) frozen += freeze(model, context);
    context.report().count("lifted", lifted);
    context.report().count("frozen-inputs", frozen);
    return ok_status();
  }

 private:
  static std::int64_t lift(Model& model, PassContext& context) {
    std::int64_t lifted = 0;
    for (Node* node : find_nodes(context, model, {"Constant"})) {
      if (node->output(0) == nullptr) continue;
      std::string why;
      auto data = constant_node_data(*node, &why);
      if (!data) {
        context.explain().skipped(*node, std::move(why));
        continue;
      }
      context.edit().replace_by_constant(*node, std::move(*data));
      ++lifted;
    }
    // An initializer that no input lists needs IR version 4.
    if (lifted != 0) modernise_initializers(model, context);
    return lifted;
  }

  static std::int64_t freeze(Model& model, PassContext& context) {
    std::int64_t frozen = 0;
    const auto initializers = model.graph().initializers();
    for (Value* value : std::vector<Value*>(initializers.begin(), initializers.end())) {
      if (!value->is_graph_input()) continue;
      Decision decision;
      decision.subject = value->name();
      decision.what = "input frozen to its initial value";
      context.explain().chose(std::move(decision));
      context.edit().freeze_input(*value);
      ++frozen;
    }
    return frozen;
  }

  Options options_;
};

}  // namespace

PassInfo lift_constants_info() {
  return pass_info<LiftConstants>("lift-constants", "turn Constant nodes into initializers",
                                  Reach::kNestedGraphs, true, {});
}

}  // namespace mcompress
