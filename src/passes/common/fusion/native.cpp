#include "passes/common/fusion/native.h"

#include "passes/common/opset/opset_migration.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {

std::string why_not_native(const Model& model, const PassContext& context,
                           std::string_view op_type) {
  const std::string name(op_type);
  const NativeOperator* native = context.target().native(op_type);
  if (native == nullptr) return context.target().name + " gains nothing from " + name;
  const std::int64_t opset = model.opset("");
  if (opset >= native->since) return {};
  return name + " needs opset " + std::to_string(native->since) + ", the model has " +
         std::to_string(opset);
}

Result<std::string> admit_native(Model& model, PassContext& context, std::string_view op_type,
                                 std::int64_t saved) {
  std::string why = why_not_native(model, context, op_type);
  const NativeOperator* native = context.target().native(op_type);
  if (why.empty() || native == nullptr || !native->worth_raising) return why;
  ModelMigration migration(model, context, native->since);
  if (!migration.obstacles().empty()) {
    const auto& [node, subject, obstacle] = migration.obstacles().front();
    return why + " and can not move: " + (subject.empty() ? "" : "'" + subject + "': ") + obstacle;
  }
  if (migration.added_nodes() >= saved) {
    return why + " and moving it would add " + std::to_string(migration.added_nodes()) +
           " nodes to save " + std::to_string(saved);
  }
  const std::int64_t from = model.opset("");
  MCOMPRESS_TRY(migration.apply());
  context.report().count("opset-from", from);
  context.report().count("opset-to", native->since);
  return std::string();
}

}  // namespace mcompress
