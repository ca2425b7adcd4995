// A Cast that reads a Cast reads past it where the first one loses nothing:
//
//   Cast<to=c>(Cast<to=b>(x))   =>   Cast<to=c>(x)        every a is a b, exactly
//                               =>   x                    where c is the type of x as well
//
// A first Cast that rounds stays: float32 to float16 and back is no identity.
#include <algorithm>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

struct Numbers {
  bool floating = false;
  int digits = 0;  // bits of magnitude: of an integer, or of a significand
  bool is_signed = false;
  int exponent = 0;  // bits
};

std::optional<Numbers> numbers_of(DataType type) {
  switch (type) {
    case DataType::kBool:
      return Numbers{false, 1, false};
    case DataType::kUint8:
      return Numbers{false, 8, false};
    case DataType::kUint16:
      return Numbers{false, 16, false};
    case DataType::kUint32:
      return Numbers{false, 32, false};
    case DataType::kUint64:
      return Numbers{false, 64, false};
    case DataType::kInt8:
      return Numbers{false, 7, true};
    case DataType::kInt16:
      return Numbers{false, 15, true};
    case DataType::kInt32:
      return Numbers{false, 31, true};
    case DataType::kInt64:
      return Numbers{false, 63, true};
    case DataType::kFloat16:
      return Numbers{true, 11, true, 5};
    case DataType::kBfloat16:
      return Numbers{true, 8, true, 8};
    case DataType::kFloat:
      return Numbers{true, 24, true, 8};
    case DataType::kDouble:
      return Numbers{true, 53, true, 11};
    default:
      return std::nullopt;
  }
}

// Every number of `from` is one of `to`. Integers of as many digits as a significand has are within
// the range of each floating type.
bool loses_nothing(DataType from, DataType to) {
  if (from == to) return true;
  const auto a = numbers_of(from);
  const auto b = numbers_of(to);
  if (!a || !b || to == DataType::kBool) return false;
  if (a->is_signed && !b->is_signed) return false;
  if (a->floating && !b->floating) return false;
  return a->digits <= b->digits && a->exponent <= b->exponent;
}

class MergeCasts final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit MergeCasts(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Node*> casts = find_nodes(context, model, {"Cast"});
    std::erase_if(casts, [](const Node* node) { return node->input(0) == nullptr; });
    for (Node* node : casts) {
      while (!context.edit().erased(*node)) {
        MCOMPRESS_ASSIGN(const bool again, merge(*node, context));
        if (!again) break;
      }
    }
    context.report().count("merged", merged_);
    return ok_status();
  }

 private:
  // Whether the node now reads something else.
  Result<bool> merge(Node& node, PassContext& context) {
    Value& between = *node.input(0);
    const Node* inner = made_by(&between, "Cast");
    if (inner == nullptr || inner->input(0) == nullptr) return false;
    Value& source = *inner->input(0);
    const DataType from = element_type(source);
    const auto over = static_cast<DataType>(inner->int_attribute("to", 0));
    const auto to = static_cast<DataType>(node.int_attribute("to", 0));
    if (from == DataType::kUndefined) {
      context.explain().skipped(node,
                                "the type of '" + std::string(source.name()) + "' is unknown");
      return false;
    }
    if (!numbers_of(to) || !loses_nothing(from, over)) {
      context.explain().skipped(node, inner->label() + " may change numbers: " + dtype_name(from) +
                                          " becomes " + dtype_name(over));
      return false;
    }
    // Floating numbers beyond an integer type become anything, integers wrap around.
    if (numbers_of(over)->floating && !numbers_of(from)->floating && !numbers_of(to)->floating &&
        to != DataType::kBool && !loses_nothing(from, to)) {
      context.explain().skipped(node, "what " + dtype_name(to) + " can not hold comes as " +
                                          dtype_name(over) + " from " + inner->label());
      return false;
    }
    if (to == from) {
      Decision decision;
      decision.subject = node.label();
      decision.op_type = node.op_type();
      decision.what = "removed, it restores '" + std::string(source.name()) + "'";
      MCOMPRESS_ASSIGN(std::string why, bypass(context, node, source));
      if (why.empty()) {
        context.explain().chose(std::move(decision));
        ++merged_;
        MCOMPRESS_TRY(erase_unused(context, between));
        return true;
      }
    }
    chose(context, node, "reads past " + inner->label());
    context.edit().set_input(node, 0, &source);
    ++merged_;
    MCOMPRESS_TRY(erase_unused(context, between));
    return true;
  }

  std::int64_t merged_ = 0;
};

}  // namespace

PassInfo merge_casts_info() {
  return pass_info<MergeCasts>("merge-casts", "read past casts that lose nothing",
                               Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes"});
}

}  // namespace mcompress
