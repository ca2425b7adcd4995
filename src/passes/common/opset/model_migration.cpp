// Moves a whole model: the nodes one by one, then what its functions use.
#include "ir/walk.h"
#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
ModelMigration::ModelMigration(Model& model, PassContext& context, std::int64_t to)
    : model_(model),
      context_(context),
      from_(model.opset("")),
      to_(to),
      migration_(context, from_, to) {
  if (from_ < kOldestModernOpset) {
    obstacles_.push_back({nullptr,
                          {},
                          "opset " + std::to_string(from_) + " is older than " +
                              std::to_string(kOldestModernOpset) +
                              ", the oldest that can be moved"});
    return;
  }
  if (to_ > kNewestMigratedOpset) {
    obstacles_.push_back({nullptr,
                          {},
                          "opset " + std::to_string(to_) + " is newer than " +
                              std::to_string(kNewestMigratedOpset) +
                              ", the newest that models can be moved to"});
    return;
  }
  for_each_node(model.graph(), [&](Node& node) {
    std::string why = migration_.plan(node);
    if (!why.empty()) obstacles_.push_back({&node, node.label(), std::move(why)});
  });
  // A function brings its own imports, which must mean the same as the model's.
  for (const Function& function : model.functions()) {
    for_each_node(*function.body, [&](Node& node) {
      const auto version = [&](std::int64_t opset) {
        return onnx_catalog().since_version("", node.op_type(), opset);
      };
      if (!node.domain().empty() || version(from_) == version(to_)) return;
      obstacles_.push_back({nullptr, function.name,
                            "the function uses " + std::string(node.op_type()) +
                                ", which changes before opset " + std::to_string(to_)});
    });
  }
}

Result<std::size_t> ModelMigration::apply() {
  // Some rewrites add constants that no input lists.
  if (model_.ir_version() < 4) modernise_initializers(model_, context_);
  MCOMPRESS_ASSIGN(const std::size_t rewritten, migration_.apply());
  context_.edit().set_opset("", to_);
  context_.edit().require_ir_version(ir_version_of_opset(to_));
  return rewritten;
}

}  // namespace mcompress
