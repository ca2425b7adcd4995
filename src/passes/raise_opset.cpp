// Moves the model to a newer version of the default operator set. Operators whose form changed are
// rewritten (attributes that became inputs, Softmax over flattened axes, Upsample to Resize); the
// others only count as compatible when every version in between means the same. One operator that
// can not move keeps the whole model where it is.
#include "passes/common/opset/opset_migration.h"
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
    ModelMigration migration(model, context, options_.to);
    for (const auto& [node, subject, why] : migration.obstacles()) {
      decline(context, subject, why);
      if (node != nullptr) context.explain().skipped(*node, why);
    }
    if (!migration.obstacles().empty()) return ok_status();
    MCOMPRESS_ASSIGN(const std::size_t rewritten, migration.apply());
    context.report().count("rewritten", static_cast<std::int64_t>(rewritten));
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
