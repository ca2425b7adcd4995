// Moves the model to a newer version of the default operator set. Operators whose form changed are
// rewritten (attributes that became inputs, Softmax over flattened axes, Upsample to Resize); the
// others only count as compatible when every version in between means the same. One operator that
// can not move keeps the whole model where it is.
#include "ir/walk.h"
#include "passes/common/opset_migration.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

class RaiseOpset final : public Pass {
 public:
  struct Options {
    std::int64_t to = 13;
  };
  static const Schema<Options>& schema() {
    static const Schema<Options> schema =
        Schema<Options>()
            .field("to", &Options::to, "opset to reach; a model that has it or a newer one stays")
            .range(13, static_cast<double>(kNewestMigratedOpset));
    return schema;
  }
  explicit RaiseOpset(Options options) : options_(options) {}

  Status run(Model& model, PassContext& context) override {
    const std::int64_t from = model.opset("");
    context.report().count("from", from);
    context.report().count("to", from);
    if (from >= options_.to) return ok_status();
    if (from < kOldestModernOpset) {
      decline(context, {},
              "opset " + std::to_string(from) + " is older than " +
                  std::to_string(kOldestModernOpset) + ", the oldest that can be moved");
      return ok_status();
    }
    bool possible = true;
    OpsetMigration migration(context, from, options_.to);
    for_each_node(model.graph(), [&](Node& node) {
      std::string why = migration.plan(node);
      if (why.empty()) return;
      possible = false;
      decline(context, node.label(), why);
      context.explain().skipped(node, std::move(why));
    });
    // A function brings its own imports, which must mean the same as the model's.
    for (const Function& function : model.functions()) {
      for_each_node(*function.body, [&](Node& node) {
        const auto version = [&](std::int64_t opset) {
          return onnx_catalog().since_version("", node.op_type(), opset);
        };
        if (!node.domain().empty() || version(from) == version(options_.to)) return;
        possible = false;
        decline(context, function.name,
                "the function uses " + std::string(node.op_type()) +
                    ", which changes before opset " + std::to_string(options_.to));
      });
    }
    if (!possible) return ok_status();
    // Some rewrites add constants that no input lists.
    if (model.ir_version() < 4) modernise_initializers(model, context);
    MCOMPRESS_ASSIGN(const std::size_t rewritten, migration.apply());
    context.report().count("rewritten", static_cast<std::int64_t>(rewritten));
    context.edit().set_opset("", options_.to);
    context.edit().require_ir_version(ir_version_of_opset(options_.to));
    context.report().count("to", options_.to);
    return ok_status();
  }

 private:
  void decline(PassContext& context, std::string_view subject, const std::string& why) const {
    context.diagnostics().note(
        "opset-not-raised",
        "the model can not move to opset " + std::to_string(options_.to) + ": " + why,
        {{}, {}, std::string(subject)});
  }

  Options options_;
};

}  // namespace

PassInfo raise_opset_info() {
  return pass_info<RaiseOpset>("raise-opset", "move the model to a newer operator set",
                               Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes"});
}

}  // namespace mcompress
