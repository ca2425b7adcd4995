#include "passes/common/contrib/contrib.h"

#include <algorithm>

#include "ir/facts.h"

namespace mcompress {

const Schema<ContribOptions>& contrib_schema() {
  static const Schema<ContribOptions> schema = Schema<ContribOptions>().field(
      "allow-contrib", &ContribOptions::allow_contrib,
      "use operators that are not ONNX's but the target's own: the result runs there only");
  return schema;
}

Status admit_contrib(const Target& target) {
  const auto own = [](const NativeOperator& native) { return native.domain == kContribDomain; };
  if (std::ranges::any_of(target.natives, own)) return ok_status();
  return Error(Code::kUsage, "no-contrib-operators",
               "target '" + target.name + "' has no operators of its own",
               {{}, "allow-contrib", {}}, "`mcompress targets` tells what each has");
}

void ContribWriter::saw(const Node& node, std::string_view op_type, std::string why) {
  ++eligible_;
  if (why.empty()) {
    ++written_[std::string(op_type)];
  } else {
    context_.explain().skipped(node, std::move(why));
  }
}

void ContribWriter::import() {
  if (model_.opset(kContribDomain) == 0) context_.edit().set_opset(kContribDomain, 1);
}

void ContribWriter::report() {
  std::int64_t fused = 0;
  for (const auto& [op_type, count] : written_) {
    context_.report().count(op_type, count);
    fused += count;
  }
  context_.report().count("eligible", eligible_);
  context_.report().count("fused", fused);
}

std::string why_not_real(const Value* value) {
  if (made_by(value, "DequantizeLinear") == nullptr) return {};
  return "'" + std::string(value->name()) + "' is dequantized: the runtime reads the integers";
}

}  // namespace mcompress
