#include <algorithm>
#include <optional>

#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/contrib/contrib.h"
#include "passes/common/fusion/merge.h"
#include "passes/common/rewrite.h"
#include "support/try.h"

namespace mcompress {
namespace {

constexpr std::string_view kOperator = "FusedMatMul";

bool is_fused(const Node& node) {
  return node.domain() == kContribDomain && node.op_type() == kOperator;
}
// One that turns batches as well turns matrices in another way.
bool is_product(const Node& node) {
  return node.is("MatMul") || (is_fused(node) && node.int_attribute("transBatchA", 0) == 0 &&
                               node.int_attribute("transBatchB", 0) == 0);
}

void make_fused(ContribWriter& writer, Node& product) {
  if (is_fused(product)) return;
  writer.import();
  writer.context().edit().set_op_type(product, kContribDomain, kOperator);
}

// ------------------------------------------------------------------------------- transposition

// Whether all it does is to exchange the last two axes. (Others that move the innermost axis could
// leave that exchange to the product and move whole rows themselves: in attention layers, of 64
// rows, that gains nothing.)
bool turns_matrices(const Node& transpose) {
  auto perm = transpose.ints_attribute("perm");
  if (!perm && transpose.input(0) != nullptr && rank_of(*transpose.input(0)) == 2u) perm = {1, 0};
  if (!perm || perm->size() < 2) return false;
  std::swap((*perm)[perm->size() - 2], (*perm)[perm->size() - 1]);
  for (std::size_t i = 0; i < perm->size(); ++i) {
    if ((*perm)[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

std::string why_not_turned(const Value& turned) {
  const std::string name = "'" + std::string(turned.name()) + "'";
  for (const Use& use : turned.uses()) {
    if (use.node == nullptr) return name + " is a graph output";
    if (!is_product(*use.node)) {
      return name + " is read by " + std::string(use.node->op_type()) + " '" + use.node->label() +
             "' too";
    }
  }
  return why_not_float(turned);
}

Status take_transpose(ContribWriter& writer, Node& transpose) {
  PassContext& context = writer.context();
  Editor& editor = context.edit();
  Value& turned = *transpose.output(0);
  const std::vector<Use> uses(turned.uses().begin(), turned.uses().end());
  chose(context, transpose,
        "absorbed by product '" + uses.front().node->label() +
            (uses.size() > 1 ? "' and others" : "'"));
  for (const Use& use : uses) {
    Node& product = *use.node;
    make_fused(writer, product);
    const std::string_view name = use.slot == 0 ? "transA" : "transB";
    const std::int64_t now = 1 - product.int_attribute(name, 0);
    editor.set_attribute(product, attribute(name, now));
    editor.set_input(product, use.slot, transpose.input(0));
  }
  return erase_unused(context, turned);
}

// --------------------------------------------------------------------------------------- scale

void scale(ContribWriter& writer, Node& product, double factor) {
  make_fused(writer, product);
  const double alpha = static_cast<double>(product.float_attribute("alpha", 1.0f)) * factor;
  writer.context().edit().set_attribute(product, attribute("alpha", static_cast<float>(alpha)));
}

// Mul(MatMul(a, b), k)
Result<std::string> take_factor_behind(ContribWriter& writer, Node& node, std::size_t slot,
                                       double factor) {
  Value& result = *node.input(slot);
  Node& product = *result.producer();
  if (only_user(result) != &node) return why_not_only_user(result);
  if (std::string why = why_not_float(result); !why.empty()) return why;
  if (std::string why = why_not_bypass(writer.context(), node, result); !why.empty()) return why;
  chose(writer.context(), node, "is alpha of product '" + product.label() + "'");
  scale(writer, product, factor);
  Value& number = *node.input(1 - slot);
  MCOMPRESS_ASSIGN(std::string why, bypass(writer.context(), node, result));
  MCOMPRESS_TRY(erase_unused(writer.context(), number));
  return why;
}

// MatMul(Mul(a, k), b)
Result<std::string> take_factor_before(ContribWriter& writer, Node& node, std::size_t slot,
                                       double factor) {
  Value& scaled = *node.output(0);
  Node* product = only_user(scaled);
  if (product == nullptr) return why_not_only_user(scaled);
  if (std::string why = why_not_float(scaled); !why.empty()) return why;
  chose(writer.context(), node, "is alpha of product '" + product->label() + "'");
  scale(writer, *product, factor);
  writer.context().edit().set_input(*product, scaled.uses().front().slot, node.input(slot));
  MCOMPRESS_TRY(erase_unused(writer.context(), scaled));
  return std::string();
}

bool feeds_product(const Node& node) {
  return node.output(0) != nullptr &&
         std::ranges::any_of(node.output(0)->uses(), [](const Use& use) {
           return use.node != nullptr && is_product(*use.node);
         });
}

Status look_at_factor(ContribWriter& writer, Node& node) {
  std::size_t slot = 0;
  const auto factor = scalar_factor(node, slot);
  if (!factor || node.output(0) == nullptr) return ok_status();
  const Node* maker = node.input(slot)->producer();
  std::string why;
  if (maker != nullptr && is_product(*maker) && &maker->graph() == &node.graph()) {
    MCOMPRESS_ASSIGN(why, take_factor_behind(writer, node, slot, *factor));
  } else if (feeds_product(node)) {
    MCOMPRESS_ASSIGN(why, take_factor_before(writer, node, slot, *factor));
  } else {
    return ok_status();
  }
  writer.saw(node, kOperator, std::move(why));
  return ok_status();
}

}  // namespace

Status write_contrib_products(ContribWriter& writer) {
  if (writer.offered(kOperator) == nullptr) return ok_status();
  std::vector<Node*> factors, transposes;
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Mul") || node.is("Div")) factors.push_back(&node);
  });
  for (Node* node : factors) MCOMPRESS_TRY(look_at_factor(writer, *node));
  // Factors may have stood between.
  for_each_node(writer.model().graph(), [&](Node& node) {
    if (node.is("Transpose") && feeds_product(node)) transposes.push_back(&node);
  });
  for (Node* node : transposes) {
    if (node->input(0) == nullptr || !turns_matrices(*node)) continue;
    std::string why = why_not_turned(*node->output(0));
    if (why.empty()) MCOMPRESS_TRY(take_transpose(writer, *node));
    writer.saw(*node, kOperator, std::move(why));
  }
  return ok_status();
}

}  // namespace mcompress
