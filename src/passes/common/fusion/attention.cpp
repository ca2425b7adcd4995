#include "passes/common/fusion/attention.h"

#include <algorithm>
#include <cmath>

#include "ir/facts.h"
#include "passes/common/fusion/axis_layout.h"
#include "passes/common/fusion/merge.h"

namespace mcompress {
namespace {

// The atoms of a tensor of heads.
constexpr std::size_t kBatch = 0, kHead = 1, kToken = 2, kElement = 3;

// The opset from which Softmax takes one axis, the last one unless told otherwise.
constexpr std::int64_t kSoftmaxAlongOneAxis = 13;

// From here on a filler leaves nothing of any score that it is added to.
constexpr double kAbsorbing = -1e30;

struct Search {
  const SymbolicShapes& shapes;
  const Graph& graph;
  AttentionSite site;

  const Terms* dims(const Value* value) const {
    return value != nullptr ? shapes.dims(*value) : nullptr;
  }
  Node* maker(const Value* value) const {
    Node* node = value != nullptr ? value->producer() : nullptr;
    return node != nullptr && &node->graph() == &graph ? node : nullptr;
  }
  bool same_matrices(const Value* left, const Value* right) const {
    const Terms* a = dims(left);
    const Terms* b = dims(right);
    return a != nullptr && b != nullptr && a->size() >= 2 && b->size() >= 2 &&
           (*a)[a->size() - 1] == (*b)[b->size() - 1] && (*a)[a->size() - 2] == (*b)[b->size() - 2];
  }
  // A Reshape that only joins batch and heads, or takes them apart.
  bool joins_heads(const Node& node) const {
    const Terms* from = dims(node.input(0));
    const Terms* to = dims(node.output(0));
    return node.is("Reshape") && from != nullptr && to != nullptr &&
           from->size() + to->size() == 7 && std::max(from->size(), to->size()) == 4 &&
           same_matrices(node.input(0), node.output(0));
  }

  static std::optional<HeadsView> view_of(Value& value, const Terms& own, const AxisLayout& layout,
                                          const HeadsOperand& operand);
  std::string trace(Value& start, bool transposed, HeadsOperand& operand);
  bool operands(Node& scores, Node& mixed);
  bool down_to_product(Value& value, Node*& product);
  bool masked(Node& node, Value*& next);
  bool rows_reshaped(const Value& value, const AxisLayout& layout) const;
  std::string up_to_root(Node& mixed);
  std::string why_not_sound() const;
};

std::optional<HeadsView> Search::view_of(Value& value, const Terms& own, const AxisLayout& layout,
                                         const HeadsOperand& operand) {
  if (own.size() != 3 || layout.size() != 3 || !layout[0].is(kBatch, own[0]) ||
      !layout[1].is(kToken, own[1])) {
    return std::nullopt;
  }
  HeadsView view;
  view.value = &value;
  view.offset = layout[2].offset;
  view.element_stride = 1;
  view.head_stride = operand.size;
  for (const AxisPart& part : layout[2].parts) {
    if (part.atom != kHead && part.atom != kElement) return std::nullopt;
    (part.atom == kHead ? view.head_stride : view.element_stride) = part.stride;
  }
  return view;
}

// Follows a tensor of heads back as far as it is only moved and scaled. `transposed`: its last two
// axes are exchanged. A reason when there is no view.
std::string Search::trace(Value& start, bool transposed, HeadsOperand& operand) {
  Value* value = &start;
  std::vector<Node*> nodes;
  if (const Terms* own = dims(value); own != nullptr && own->size() == 3) {
    Node* node = maker(value);
    const auto perm = node != nullptr ? node->ints_attribute("perm") : std::nullopt;
    if (node != nullptr && node->is("Transpose") && perm &&
        *perm == std::vector<std::int64_t>{0, 2, 1}) {
      transposed = !transposed;
      nodes.push_back(node);
      value = node->input(0);
      node = maker(value);
    }
    if (node == nullptr || !joins_heads(*node)) {
      return "the batch and the heads of '" + std::string(start.name()) + "' are one dimension";
    }
    nodes.push_back(node);
    value = node->input(0);
  }
  const std::string name = "'" + std::string(value->name()) + "'";
  const Terms* own = dims(value);
  if (own == nullptr || own->size() != 4) return "the rank of " + name + " is not known to be 4";
  const Term& head = (*own)[kHead];
  const Term& element = (*own)[transposed ? kToken : kElement];
  if (!head.known() || !element.known() || head.number < 1 || element.number < 1) {
    return "the number of heads of " + name + " or their size is not known";
  }
  operand.heads = head.number;
  operand.size = element.number;
  AxisLayout layout = own_layout(
      *own, {kBatch, kHead, transposed ? kElement : kToken, transposed ? kToken : kElement});
  double scale = 1;
  while (true) {
    const Terms* here = dims(value);
    if (auto view = here != nullptr ? view_of(*value, *here, layout, operand) : std::nullopt) {
      view->scale = scale;
      view->nodes = nodes;
      operand.views.push_back(std::move(*view));
    }
    Node* node = maker(value);
    if (node == nullptr) break;
    std::size_t slot = 0;
    if (const auto factor = scalar_factor(*node, slot)) {
      scale *= *factor;
    } else {
      const auto output = std::ranges::find(node->outputs(), value);
      auto before = layout_before(*node, static_cast<std::size_t>(output - node->outputs().begin()),
                                  layout, shapes);
      if (!before) break;
      layout = std::move(*before);
    }
    nodes.push_back(node);
    value = node->input(slot);
  }
  if (!operand.views.empty()) return {};
  return "the heads of " + name + " are not known to come from one tensor of rows";
}

// An Add of a mask, or a Where that fills in. Empty: `next` is what it masks.
bool Search::masked(Node& node, Value*& next) {
  const Terms* own = dims(node.output(0));
  if (own == nullptr || own->size() != 4) return false;
  if (node.is("Add")) {
    // The scores are what a product makes; the mask is not.
    for (const std::size_t slot : {std::size_t{0}, std::size_t{1}}) {
      Value* scores = node.input(slot);
      Node* product = nullptr;
      Search other{shapes, graph, {}};
      if (scores == nullptr || node.input(1 - slot) == nullptr ||
          !other.down_to_product(*scores, product)) {
        continue;
      }
      next = scores;
      site.masks.push_back({node.input(1 - slot), std::nullopt, false});
      return true;
    }
    return false;
  }
  if (!node.is("Where") || node.input(0) == nullptr) return false;
  for (const std::size_t slot : {std::size_t{1}, std::size_t{2}}) {
    const auto filler = constant_scalar(node.input(3 - slot));
    if (!filler || !(*filler <= kAbsorbing) || node.input(slot) == nullptr) continue;
    next = node.input(slot);
    site.masks.push_back({node.input(0), static_cast<float>(*filler), slot == 2});
    return true;
  }
  return false;
}

// From the input of the Softmax to the product that makes the scores.
bool Search::down_to_product(Value& value, Node*& product) {
  Value* at = &value;
  bool scaled = false;  // masks that are scaled with the scores are not looked for
  for (int steps = 0; steps < 8; ++steps) {
    Node* node = maker(at);
    if (node == nullptr) return false;
    site.nodes.push_back(node);
    std::size_t slot = 0;
    Value* next = nullptr;
    if (node->is("MatMul")) {
      product = node;
      return true;
    }
    if (const auto factor = scalar_factor(*node, slot)) {
      site.scale *= *factor;
      scaled = true;
      at = node->input(slot);
    } else if (joins_heads(*node)) {
      at = node->input(0);
    } else if (!scaled && masked(*node, next)) {
      at = next;
    } else {
      return false;
    }
  }
  return false;
}

// [B, S, N, V] that is only read by Reshapes, which do the same to [B, S, N V].
bool Search::rows_reshaped(const Value& value, const AxisLayout& layout) const {
  const Term head{site.v.heads}, element{site.v.size};
  if (layout.size() != 4 || layout[1].offset != 0 || layout[1].parts.size() > 1 ||
      (layout[1].parts.size() == 1 && layout[1].parts[0].atom != kToken) ||
      !layout[2].is(kHead, head) || !layout[3].is(kElement, element) || value.uses().empty()) {
    return false;
  }
  return std::ranges::all_of(value.uses(), [&](const Use& use) {
    if (use.node == nullptr || use.graph != &graph || !use.node->is("Reshape") || use.slot != 0) {
      return false;
    }
    const auto target = constant_ints(use.node->input(1));
    if (!target) return false;
    for (std::size_t i = 0; i < target->size(); ++i) {
      if ((*target)[i] == 0 && i > 1) return false;
    }
    return true;
  });
}

std::string Search::up_to_root(Node& mixed) {
  Value* value = mixed.output(0);
  if (dims(value) != nullptr && dims(value)->size() == 3) {
    Node* node = only_user(*value);
    if (node == nullptr || !joins_heads(*node)) {
      return "its result is not taken apart into batch and heads";
    }
    site.nodes.push_back(node);
    value = node->output(0);
  }
  const Terms* own = dims(value);
  if (own == nullptr || own->size() != 4) return "the dimensions of its result are not known";
  // As many batches and rows as the queries have, under the names that are known there.
  const Terms& rows = *dims(site.q.views.back().value);
  Terms sizes{rows[0], Term{site.v.heads}, rows[1], Term{site.v.size}};
  AxisLayout layout = own_layout(sizes, {kBatch, kHead, kToken, kElement});
  for (int steps = 0; steps < 8; ++steps) {
    if (layout[0].is(kBatch, rows[0]) && rows_reshaped(*value, layout)) {
      site.root = value->producer();
      site.root_splits_heads = true;
    }
    Node* node = only_user(*value);
    if (node == nullptr) return site.root != nullptr ? "" : why_not_only_user(*value);
    auto behind = layout_behind(*node, layout, sizes, shapes);
    if (!behind) break;
    layout = std::move(*behind);
    value = node->output(0);
    const auto view = view_of(*value, sizes, layout, site.v);
    const bool side_by_side = view && view->offset == 0 && view->element_stride == 1 &&
                              sizes[2].is(site.v.heads * site.v.size) &&
                              (site.v.heads == 1 || view->head_stride == site.v.size);
    if (site.root != nullptr && !side_by_side) break;
    site.nodes.push_back(node);
    if (!side_by_side) continue;
    site.root = node;
    site.root_splits_heads = false;
    return {};
  }
  return site.root != nullptr ? "" : "the heads of its result are not put side by side";
}

// One number per row and column of the scores of each head, and no more.
std::string Search::why_not_sound() const {
  if (site.q.heads != site.k.heads || site.q.heads != site.v.heads) {
    return std::to_string(site.q.heads) + " heads of queries read " + std::to_string(site.k.heads) +
           " of keys and " + std::to_string(site.v.heads) + " of values";
  }
  if (site.q.size != site.k.size) return "heads of queries and keys differ in size";
  const Terms& q = *dims(site.q.views.back().value);
  for (const AttentionMask& mask : site.masks) {
    // Filling in and adding can be exchanged where the filler leaves nothing of finite scores.
    if (mask.filler && &mask != &site.masks.back()) return "it fills in what is masked already";
    const std::string name = "the mask '" + std::string(mask.value->name()) + "'";
    const Terms* own = dims(mask.value);
    if (own == nullptr) return "the rank of " + name + " is not known";
    if (own->size() > 4) return name + " has more than 4 dimensions";
    const std::size_t rank = own->size();
    const auto fits = [&](std::size_t from_end, const Term& size) {
      return rank < from_end || (*own)[rank - from_end].is(1) || (*own)[rank - from_end] == size;
    };
    // The last one is 1 or the number of values: else the second product would not be one.
    if (!fits(2, q[1]) || !fits(3, Term{site.q.heads}) || !fits(4, q[0])) {
      return name + " may have more rows, heads or batches than the scores";
    }
  }
  return {};
}

bool Search::operands(Node& scores, Node& mixed) {
  Value* q = scores.input(0);
  Value* k = scores.input(1);
  Value* v = mixed.input(1);
  if (q == nullptr || k == nullptr || v == nullptr || is_constant(q) || is_constant(k) ||
      is_constant(v)) {
    return false;
  }
  std::string& why = site.why_not;
  why = trace(*q, false, site.q);
  if (why.empty()) why = trace(*k, true, site.k);
  if (why.empty()) why = trace(*v, false, site.v);
  if (why.empty()) why = why_not_sound();
  if (why.empty()) why = up_to_root(mixed);
  return true;
}

}  // namespace

std::optional<AttentionSite> find_attention(Node& softmax, const SymbolicShapes& shapes) {
  Search search{shapes, softmax.graph(), {}};
  AttentionSite& site = search.site;
  site.softmax = &softmax;
  if (softmax.input(0) == nullptr || softmax.output(0) == nullptr) return std::nullopt;
  const Terms* dims = shapes.dims(*softmax.input(0));
  if (dims == nullptr || (dims->size() != 4 && dims->size() != 3)) return std::nullopt;
  const auto rank = static_cast<std::int64_t>(dims->size());
  const bool counts_back = softmax.graph().model().opset("") >= kSoftmaxAlongOneAxis;
  const std::int64_t axis = softmax.int_attribute("axis", counts_back ? -1 : 1);
  if (axis != -1 && axis != rank - 1) return std::nullopt;
  Node* scores = nullptr;
  if (!search.down_to_product(*softmax.input(0), scores)) return std::nullopt;
  site.nodes.push_back(&softmax);
  Value* chances = softmax.output(0);
  Node* mixed = nullptr;
  for (const Use& use : chances->uses()) {
    if (use.node == nullptr || use.graph != &softmax.graph()) continue;
    Node* user = use.node;
    if (search.joins_heads(*user) && only_user(*user->output(0)) != nullptr) {
      site.nodes.push_back(user);
      user = only_user(*user->output(0));
    }
    if (user->is("MatMul") && user->input(0) != nullptr && user->input(0) != user->input(1) &&
        (user->input(0) == chances || user->input(0)->producer() == site.nodes.back())) {
      mixed = user;
      break;
    }
  }
  if (mixed == nullptr) return std::nullopt;
  site.nodes.push_back(mixed);
  if (!search.operands(*scores, *mixed)) return std::nullopt;
  return std::move(search.site);
}

}  // namespace mcompress
