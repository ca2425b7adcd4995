#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kOperator = "SkipLayerNormalization";
constexpr std::size_t kRank = 3;  // of what the runtime fuses: [batch, length, width]

// The operand of the Add that is one constant number per element of the last axis.
std::optional<std::size_t> vector_slot(const Node& add, Term width) {
  for (const std::size_t slot : {std::size_t{1}, std::size_t{0}}) {
    const Value* bias = add.input(slot);
    const auto shape = is_constant(bias) ? static_shape(*bias) : std::nullopt;
    if (shape && shape->size() == 1 && width.is((*shape)[0])) return slot;
  }
  return std::nullopt;
}

// What is normalised: the sum of two tensors, and of a vector where one of them is a sum itself.
struct Sum {
  Value* left = nullptr;
  Value* right = nullptr;
  Value* bias = nullptr;
};

class Norms {
 public:
  Norms(ContribWriter& writer, const SymbolicShapes& shapes) : writer_(writer), shapes_(shapes) {}

  Status write(Node& norm) {
    Node& add = *made_by(norm.input(0), "Add");
    Sum sum{add.input(0), add.input(1)};
    std::string why = why_not(norm, add);
    if (why.empty()) {
      if (!take_bias(sum.left, add, sum)) take_bias(sum.right, add, sum);
      writer_.import();
      chose(writer_.context(), norm,
            std::string(kOperator) + " adds as '" + add.label() + "' does");
      NewNode whole;
      whole.domain = kContribDomain;
      whole.op_type = kOperator;
      whole.inputs = {sum.left, sum.right, norm.input(1), norm.input(2)};
      if (sum.bias != nullptr) whole.inputs.push_back(sum.bias);
      whole.attributes.push_back(attribute("epsilon", norm.float_attribute("epsilon", 1e-5F)));
      MCOMPRESS_TRY(become(writer_.context(), norm, std::move(whole)));
    }
    writer_.saw(norm, kOperator, std::move(why));
    return ok_status();
  }

 private:
  std::string why_not(const Node& norm, const Node& add) const {
    const Value& sum = *norm.input(0);
    if (only_user(sum) != &norm) return why_not_only_user(sum);
    if (&add.graph() != &norm.graph()) return "the sum is made outside of this graph";
    if (std::string why = why_not_float(sum); !why.empty()) return why;
    const Terms* dims = shapes_.dims(sum);
    if (dims == nullptr || dims->size() != kRank) {
      return "the runtime adds in front of a normalisation of [batch, length, width] only";
    }
    for (const Value* value : {add.input(0), add.input(1)}) {
      const Terms* own = value != nullptr ? shapes_.dims(*value) : nullptr;
      if (own == nullptr || *own != *dims) return "the two tensors added may differ in shape";
      if (std::string why = why_not_real(value); !why.empty()) return why;
    }
    const std::int64_t axis = norm.int_attribute("axis", -1);
    if (axis != -1 && axis != static_cast<std::int64_t>(kRank) - 1) {
      return "it normalises more than the last axis";
    }
    for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
      const auto shape =
          is_constant(norm.input(slot)) ? static_shape(*norm.input(slot)) : std::nullopt;
      if (!shape || shape->size() != 1 || !dims->back().is((*shape)[0])) {
        return "its scale or shift is no constant vector";
      }
    }
    for (std::size_t i = 1; i < norm.outputs().size(); ++i) {
      if (norm.output(i) != nullptr && !norm.output(i)->uses().empty()) {
        return "its mean or deviation is read";
      }
    }
    return {};
  }

  // `operand` is a tensor and a vector added: the operator adds the vector too.
  bool take_bias(Value*& operand, const Node& reader, Sum& sum) const {
    const Node* add = made_by(operand, "Add");
    const Terms* dims = shapes_.dims(*operand);
    if (add == nullptr || dims == nullptr || only_user(*operand) != &reader ||
        &add->graph() != &reader.graph()) {
      return false;
    }
    const auto slot = vector_slot(*add, dims->back());
    if (!slot || !why_not_real(add->input(1 - *slot)).empty()) return false;
    const Terms* rest = shapes_.dims(*add->input(1 - *slot));
    if (rest == nullptr || *rest != *dims) return false;
    sum.bias = add->input(*slot);
    operand = add->input(1 - *slot);
    return true;
  }

  ContribWriter& writer_;
  const SymbolicShapes& shapes_;
};

}  // namespace

Status write_contrib_norms(ContribWriter& writer, const SymbolicShapes& shapes) {
  if (writer.offered(kOperator) == nullptr) return ok_status();
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("LayerNormalization") && made_by(node.input(0), "Add") != nullptr) {
      found.push_back(&node);
    }
  });
  Norms norms(writer, shapes);
  for (Node* norm : found) MCOMPRESS_TRY(norms.write(*norm));
  return ok_status();
}

}  // namespace mcompress
