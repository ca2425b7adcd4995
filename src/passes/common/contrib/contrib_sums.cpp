#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kOperator = "FusedConv";

// The operand of an Add that a convolution makes. Where both are, the one that is computed later:
// the other one is there already when the sum is made.
std::optional<std::size_t> convolution_slot(const Node& add) {
  std::optional<std::size_t> slot;
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) {
    const Node* conv = made_by(add.input(i), "Conv");
    if (conv == nullptr || &conv->graph() != &add.graph() || only_user(*add.input(i)) != &add) {
      continue;
    }
    if (!slot || conv->id() > add.input(*slot)->producer()->id()) slot = i;
  }
  return slot;
}

std::string why_not_added(const Node& add, std::size_t slot, const SymbolicShapes& shapes) {
  const Value* other = add.input(1 - slot);
  if (other == nullptr) return "it adds nothing";
  const Terms* own = shapes.dims(*add.input(slot));
  const Terms* added = shapes.dims(*other);
  if (own == nullptr || added == nullptr || *own != *added) {
    return "'" + std::string(other->name()) + "' may have another shape than the convolution";
  }
  const Node& conv = *add.input(slot)->producer();
  for (const Value* value : {static_cast<const Value*>(conv.input(0)),
                             static_cast<const Value*>(conv.input(1)), other}) {
    if (std::string why = why_not_real(value); !why.empty()) return why;
  }
  return why_not_float(*add.input(slot));
}

}  // namespace

Status write_contrib_sums(ContribWriter& writer) {
  if (writer.offered(kOperator) == nullptr) return ok_status();
  std::vector<Node*> found;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Add") && node.output(0) != nullptr && convolution_slot(node)) {
      found.push_back(&node);
    }
  });
  if (found.empty()) return ok_status();
  const SymbolicShapes shapes(writer.model());
  PassContext& context = writer.context();
  for (Node* add : found) {
    const auto slot = convolution_slot(*add);
    if (!slot) continue;
    std::string why = why_not_added(*add, *slot, shapes);
    if (why.empty()) {
      const Node& conv = *add->input(*slot)->producer();
      writer.import();
      chose(context, *add, "added by FusedConv '" + conv.label() + "'");
      NewNode whole;
      whole.domain = kContribDomain;
      whole.op_type = kOperator;
      whole.inputs = {conv.input(0), conv.input(1), conv.input(2), add->input(1 - *slot)};
      for (const Attribute& attribute : conv.attributes()) {
        if (const auto* number = std::get_if<std::int64_t>(&attribute.value)) {
          whole.attributes.push_back({attribute.name, *number});
        } else if (const auto* list = std::get_if<std::vector<std::int64_t>>(&attribute.value)) {
          whole.attributes.push_back({attribute.name, *list});
        } else if (const auto* text = std::get_if<std::string>(&attribute.value)) {
          whole.attributes.push_back({attribute.name, *text});
        }
      }
      MCOMPRESS_TRY(become(context, *add, std::move(whole)));
    }
    writer.saw(*add, kOperator, std::move(why));
  }
  return ok_status();
}

}  // namespace mcompress
