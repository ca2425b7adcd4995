#include "passes/common/half/half_plan.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "ir/walk.h"
#include "support/try.h"

namespace mcompress {
namespace {

// Numbers that do not fit are handed on by these.
bool hands_on(const Node& node) {
  return only_moves(node) || node.is("Add") || node.is("Sub") || node.is("Mul") || node.is("Neg") ||
         node.is("Where") || node.is("Concat") || node.is("Relu");
}

// Groups of nodes joined by 16-bit values.
class Islands {
 public:
  explicit Islands(std::size_t nodes) : parent_(nodes) {
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
  }
  std::size_t find(std::size_t node) {
    while (parent_[node] != node) node = parent_[node] = parent_[parent_[node]];
    return node;
  }
  void join(std::size_t left, std::size_t right) { parent_[find(left)] = find(right); }

 private:
  std::vector<std::size_t> parent_;
};

class Planner {
 public:
  Planner(Model& model, DataType type, HalfRules& rules)
      : model_(model), type_(type), rules_(rules) {}

  Result<HalfPlan> plan() {
    Status status = ok_status();
    for_each_graph(model_.graph(), [&](Graph& graph) {
      for (Node* node : graph.nodes()) {
        if (status.ok()) status = look(*node);
      }
    });
    MCOMPRESS_TRY(std::move(status));
    drop_small_islands();
    for (const HalfMask& mask : rules_.masks()) {
      if (std::ranges::any_of(mask.readers, [&](const Node* n) { return plan_.converts(*n); })) {
        plan_.masks.push_back(mask);
      }
    }
    return std::move(plan_);
  }

 private:
  Status look(Node& node) {
    HalfForm form = half_form(node, type_);
    if (!form.concerned) return ok_status();
    MCOMPRESS_ASSIGN(HalfRules::Verdict verdict, rules_.judge(node, form));
    for (std::size_t i = 0; i < form.inputs.size(); ++i) {
      const Value* value = node.input(i);
      if (value == nullptr || !wide_.contains(value->id())) continue;
      if (verdict.why.empty() && form.inputs[i]) {
        verdict.why = "reads '" + std::string(value->name()) + "', which may not fit";
      }
      if (hands_on(node)) verdict.wide = true;
    }
    if (verdict.wide) {
      for (const Value* value : node.outputs()) {
        if (value != nullptr && !rules_.seen_to_fit(*value)) wide_.insert(value->id());
      }
    }
    if (!verdict.why.empty()) {
      plan_.kept.emplace_back(&node, std::move(verdict.why));
      return ok_status();
    }
    plan_.nodes.push_back(&node);
    plan_.forms.emplace(node.id(), std::move(form));
    return ok_status();
  }

  void drop_small_islands() {
    std::map<std::uint32_t, std::size_t> places;
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) places[plan_.nodes[i]->id()] = i;
    Islands islands(plan_.nodes.size());
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      const Node& node = *plan_.nodes[i];
      const HalfForm& form = plan_.forms.at(node.id());
      for (std::size_t k = 0; k < form.inputs.size(); ++k) {
        const Node* maker = form.inputs[k] ? node.input(k)->producer() : nullptr;
        if (maker == nullptr || !plan_.converts(*maker)) continue;
        if (makes_half(*maker, *node.input(k))) islands.join(i, places.at(maker->id()));
      }
    }
    std::set<std::size_t> heavy;
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      if (is_heavy(*plan_.nodes[i])) heavy.insert(islands.find(i));
    }
    std::vector<Node*> staying;
    for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
      Node* node = plan_.nodes[i];
      if (heavy.contains(islands.find(i))) {
        staying.push_back(node);
      } else {
        plan_.kept.emplace_back(node,
                                "stands apart from matrix products and convolutions: casts "
                                "around it would cost more than it gains");
        plan_.forms.erase(node->id());
      }
    }
    plan_.nodes = std::move(staying);
  }

  bool makes_half(const Node& maker, const Value& value) const {
    const HalfForm& form = plan_.forms.at(maker.id());
    for (std::size_t i = 0; i < form.outputs.size(); ++i) {
      if (maker.output(i) == &value) return form.outputs[i];
    }
    return false;
  }

  Model& model_;
  DataType type_;
  HalfRules& rules_;
  HalfPlan plan_;
  std::set<std::uint32_t> wide_;
};

}  // namespace

Result<HalfPlan> plan_half(Model& model, DataType type, HalfRules& rules) {
  return Planner(model, type, rules).plan();
}

}  // namespace mcompress
