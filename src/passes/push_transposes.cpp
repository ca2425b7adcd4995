// Transpositions go through the operators that do not care about the order of dimensions, where
// they meet their inverse:
//
//   Transpose(Add(Relu(Transpose(x, p)), c), p')   =>   Add(Relu(x), c')      p' undoes p
//   Add(Transpose(x, p), Transpose(y, p))          =>   Transpose(Add(x, y), p)
//   Transpose that only moves dimensions of 1      =>   Reshape
//
// What reads transposed tensors directly or through such operators is one region. It works on the
// tensors before transposition; where something else reads a result, a Transpose stands behind it.
// That is done where fewer Transposes are left, and each of them moves no more elements than one
// that goes.
#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/facts.h"
#include "ir/walk.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/layout_moves.h"
#include "passes/common/fusion/symbolic_shapes.h"
#include "passes/common/list_operands.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

// How many elements: a number, times symbols.
struct Volume {
  std::vector<std::uint32_t> symbols;
  std::int64_t number = 1;
};

struct Member {
  Node* node = nullptr;
  LayoutMove move;
  Permutation input;
};

struct Region {
  std::vector<Node*> sources;   // Transposes
  std::vector<Member> members;  // in topological order
};

class PushTransposes final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit PushTransposes(Options) {}

  Status run(Model& model, PassContext& context) override {
    std::vector<Graph*> graphs;
    if (!find_nodes(context, model, {"Transpose"}).empty()) {
      for_each_graph(model.graph(), [&](Graph& graph) { graphs.push_back(&graph); });
      MCOMPRESS_TRY(push(model, graphs, context));
    }
    context.report().count("removed", removed_);
    context.report().count("regions", regions_);
    context.report().count("reshapes", reshapes_);
    return ok_status();
  }

 private:
  Status push(Model& model, std::span<Graph* const> graphs, PassContext& context) {
    shapes_ = context.facts().of<SymbolicShapes>(model);
    for (Graph* graph : graphs) {
      for (Region& region : regions_of(*graph)) MCOMPRESS_TRY(move(region, context));
    }
    // Only then: a Transpose may cancel another one, a Reshape does not. Values of regions have
    // other shapes now.
    if (regions_ > 0) shapes_ = context.facts().of<SymbolicShapes>(model);
    for (Node* node : find_nodes(context, model, {"Transpose"})) {
      MCOMPRESS_TRY(to_reshape(*node, context));
    }
    return ok_status();
  }

  // ------------------------------------------------------------------------- dimensions of 1

  Status to_reshape(Node& node, PassContext& context) {
    const auto perm = permutation_of(node);
    const Terms* from = perm ? shapes_->dims(*node.input(0)) : nullptr;
    if (from == nullptr || from->size() != perm->size()) return ok_status();
    std::int64_t last = -1;
    Terms to;
    for (std::int64_t axis : *perm) {
      const Term term = (*from)[static_cast<std::size_t>(axis)];
      to.push_back(term);
      if (term.is(1)) continue;
      if (axis < last) return ok_status();
      last = axis;
    }
    if (is_identity(*perm)) return ok_status();
    const auto entries = reshape_entries(*from, to);
    if (!entries) {
      context.explain().skipped(node,
                                "it only moves dimensions of 1, but no constant shape says so");
      return ok_status();
    }
    chose(context, node, "is a Reshape, it only moves dimensions of 1");
    context.edit().set_op_type(node, "", "Reshape");
    context.edit().remove_attribute(node, "perm");
    Value& shape =
        add_list(context, node.graph(), std::string(node.output(0)->name()) + "_shape", *entries);
    context.edit().set_input(node, 1, &shape);
    ++reshapes_;
    return ok_status();
  }

  // --------------------------------------------------------------------------------- regions

  std::vector<Region> regions_of(Graph& graph) {
    perms_.clear();
    std::vector<Node*> sources;
    std::vector<Member> members;
    const auto lookup = [&](const Value& value) -> const Permutation* {
      const auto found = perms_.find(&value);
      return found != perms_.end() ? &found->second : nullptr;
    };
    for (Node* node = graph.first(); node != nullptr; node = graph.next(*node)) {
      if (auto perm = permutation_of(*node)) {
        // One that reads a region only ends it: a second look finds what it starts.
        if (is_identity(*perm) || lookup(*node->input(0)) != nullptr) continue;
        perms_.emplace(node->output(0), std::move(*perm));
        sources.push_back(node);
        continue;
      }
      auto moved = layout_move(*node, lookup);
      if (!moved) continue;
      const Permutation input = *lookup(*node->input(moved->slots.front()));
      Member member{node, std::move(*moved), input};
      for (std::size_t i = 0; i < node->outputs().size(); ++i) {
        perms_.emplace(node->output(i), member.move.outputs[i]);
      }
      members.push_back(std::move(member));
    }
    return connected(sources, members);
  }

  // Nodes that read each other or the same Transpose.
  std::vector<Region> connected(const std::vector<Node*>& sources, std::vector<Member>& members) {
    std::unordered_map<const Node*, std::size_t> index;
    for (Node* node : sources) index.emplace(node, index.size());
    for (const Member& member : members) index.emplace(member.node, index.size());
    std::vector<std::size_t> parent(index.size());
    std::iota(parent.begin(), parent.end(), std::size_t{0});
    const auto root = [&](std::size_t i) {
      while (parent[i] != i) i = parent[i] = parent[parent[i]];
      return i;
    };
    for (const Member& member : members) {
      for (std::size_t slot : member.move.slots) {
        const std::size_t a = root(index.at(member.node->input(slot)->producer()));
        const std::size_t b = root(index.at(member.node));
        parent[std::max(a, b)] = std::min(a, b);
      }
    }
    std::map<std::size_t, Region> found;
    for (Node* node : sources) found[root(index.at(node))].sources.push_back(node);
    for (Member& member : members) {
      found[root(index.at(member.node))].members.push_back(std::move(member));
    }
    std::vector<Region> regions;
    regions.reserve(found.size());
    for (auto& [key, region] : found) regions.push_back(std::move(region));
    return regions;
  }

  // ------------------------------------------------------------------------------------ cost

  using Inside = std::unordered_set<const Node*>;

  // A Transpose behind a value of a region.
  bool is_sink(const Use& use, const Value& value) const {
    return use.node != nullptr && use.graph == &value.graph() && permutation_of(*use.node) &&
           !perms_.contains(use.node->output(0));
  }

  bool is_inside(const Use& use, const Value& value, const Inside& inside) const {
    return use.node != nullptr && use.graph == &value.graph() &&
           (inside.contains(use.node) || is_sink(use, value));
  }

  // Something reads the value that needs it as it is.
  bool is_exposed(const Value& value, const Inside& inside) const {
    if (is_identity(perms_.at(&value))) return false;
    return std::ranges::any_of(value.uses(),
                               [&](const Use& use) { return !is_inside(use, value, inside); });
  }

  bool cancels(const Node& sink, const Value& value) const {
    return is_identity(compose(perms_.at(&value), *permutation_of(sink)));
  }

  std::optional<Volume> volume_of(const Value& value) const {
    const Terms* dims = shapes_->dims(value);
    if (dims == nullptr) return std::nullopt;
    Volume volume;
    for (const Term& term : *dims) {
      if (!term.known()) {
        volume.symbols.push_back(term.symbol);
      } else if (__builtin_mul_overflow(volume.number, term.number, &volume.number)) {
        return std::nullopt;
      }
    }
    std::ranges::sort(volume.symbols);
    return volume;
  }

  // The ends of a region that gain nothing by being in it go, last ones first.
  void trim(Region& region, Inside& inside) const {
    for (std::size_t i = region.members.size(); i > 0; --i) {
      Node& node = *region.members[i - 1].node;
      std::int64_t kept = 0;
      bool ends = true;
      for (const Value* value : node.outputs()) {
        for (const Use& use : value->uses()) ends &= !is_inside(use, *value, inside);
        kept += is_exposed(*value, inside) ? 1 : 0;
      }
      if (!ends) continue;
      std::int64_t exposed = 0;
      std::unordered_set<const Value*> seen;
      inside.erase(&node);
      for (std::size_t slot : region.members[i - 1].move.slots) {
        const Value& value = *node.input(slot);
        if (!seen.insert(&value).second) continue;
        inside.insert(&node);
        const bool before = is_exposed(value, inside);
        inside.erase(&node);
        if (!before && is_exposed(value, inside)) ++exposed;
      }
      if (exposed <= kept) {
        region.members.erase(region.members.begin() + static_cast<std::ptrdiff_t>(i - 1));
      } else {
        inside.insert(&node);
      }
    }
  }

  struct Cost {
    std::vector<const Value*> gone, left;  // what Transposes make, before and afterwards
  };

  Cost cost_of(const Region& region, const Inside& inside) const {
    Cost cost;
    const auto look_at = [&](const Value& value) {
      if (is_exposed(value, inside)) cost.left.push_back(&value);
      for (const Use& use : value.uses()) {
        if (is_sink(use, value) && cancels(*use.node, value)) {
          cost.gone.push_back(use.node->output(0));
        }
      }
    };
    for (const Node* node : region.sources) {
      cost.gone.push_back(node->output(0));
      look_at(*node->output(0));
    }
    for (const Member& member : region.members) {
      for (const Value* value : member.node->outputs()) look_at(*value);
    }
    return cost;
  }

  // Whether for each Transpose that is left there is one that goes and moves as much.
  bool moves_no_more(const Cost& cost) const {
    std::vector<Volume> gone;
    for (const Value* value : cost.gone) {
      if (const auto volume = volume_of(*value)) gone.push_back(*volume);
    }
    for (const Value* value : cost.left) {
      const auto volume = volume_of(*value);
      if (!volume) return false;
      // The smallest that is large enough.
      auto best = gone.end();
      for (auto entry = gone.begin(); entry != gone.end(); ++entry) {
        const bool enough = entry->number >= volume->number &&
                            std::ranges::includes(entry->symbols, volume->symbols);
        if (enough && (best == gone.end() || entry->number < best->number)) best = entry;
      }
      if (best == gone.end()) return false;
      gone.erase(best);
    }
    return true;
  }

  // --------------------------------------------------------------------------------- changes

  Status move(Region& region, PassContext& context) {
    if (region.members.empty()) return ok_status();
    Inside inside;
    for (const Member& member : region.members) inside.insert(member.node);
    trim(region, inside);
    if (region.members.empty()) return ok_status();
    const Cost cost = cost_of(region, inside);
    const Node& first = *region.sources.front();
    if (cost.left.size() >= cost.gone.size()) {
      context.explain().skipped(
          first, "what reads it would need " + std::to_string(cost.left.size()) +
                     " transpositions in place of " + std::to_string(cost.gone.size()));
      return ok_status();
    }
    if (!moves_no_more(cost)) {
      context.explain().skipped(first, "the transpositions behind it would move more elements");
      return ok_status();
    }
    chose(context, first,
          "goes through " + std::to_string(region.members.size()) +
              " operators: " + std::to_string(cost.left.size()) + " transpositions in place of " +
              std::to_string(cost.gone.size()));
    removed_ += static_cast<std::int64_t>(cost.gone.size() - cost.left.size());
    ++regions_;

    std::unordered_map<const Value*, Value*> before;  // transposition
    std::vector<Value*> unread;
    for (Node* node : region.sources) {
      before.emplace(node->output(0), node->input(0));
      unread.push_back(node->output(0));
    }
    for (Member& member : region.members) {
      Node& node = *member.node;
      for (std::size_t slot : member.move.slots) {
        const auto source = before.find(node.input(slot));
        if (source != before.end()) context.edit().set_input(node, slot, source->second);
      }
      MCOMPRESS_TRY(apply_layout_move(node, member.move, member.input, context));
    }
    for (Node* node : region.sources) {
      Value& value = *node->output(0);
      MCOMPRESS_TRY(finish(value, *node->input(0), perms_.at(&value), context));
    }
    for (Member& member : region.members) {
      for (Value* value : member.node->outputs()) {
        MCOMPRESS_TRY(restore(*value, inside, context));
      }
    }
    for (Value* value : unread) MCOMPRESS_TRY(erase_unused(context, *value));
    return ok_status();
  }

  // The Transposes behind a source read past it.
  Status finish(Value& value, Value& source, const Permutation& perm, PassContext& context) {
    const std::vector<Use> uses(value.uses().begin(), value.uses().end());
    for (const Use& use : uses) {
      if (!is_sink(use, value)) continue;
      MCOMPRESS_TRY(end_at(*use.node, source, compose(perm, *permutation_of(*use.node)), context));
    }
    return ok_status();
  }

  Status end_at(Node& sink, Value& source, const Permutation& perm, PassContext& context) {
    if (is_identity(perm)) {
      MCOMPRESS_ASSIGN(const std::string why, bypass(context, sink, source));
      if (why.empty()) return ok_status();
    }
    context.edit().set_input(sink, 0, &source);
    context.edit().set_attribute(sink, attribute("perm", perm));
    return ok_status();
  }

  // A value of the region is now v', where it was v = Transpose(v', perm).
  Status restore(Value& value, const Inside& inside, PassContext& context) {
    const Permutation perm = perms_.at(&value);
    if (is_identity(perm)) return ok_status();
    Editor& editor = context.edit();
    std::vector<Use> kept, sinks;
    bool exposed = false;
    for (const Use& use : value.uses()) {
      if (is_sink(use, value)) {
        sinks.push_back(use);
      } else if (is_inside(use, value, inside)) {
        kept.push_back(use);
      } else {
        exposed = true;
      }
    }
    std::optional<TypeInfo> type;
    if (value.type() != nullptr) type = *value.type();
    if (exposed) {
      Node& producer = *value.producer();
      NewNode spec{.op_type = "Transpose", .inputs = {producer.input(0)}};
      spec.base_name = std::string(value.name()) + "_transposed";
      spec.attributes.push_back(attribute("perm", perm));
      Node& transpose = editor.insert_after(producer, std::move(spec));
      Value& result = *transpose.output(0);
      // All uses move, and a name of the interface with them; those of the region come back.
      MCOMPRESS_TRY(editor.replace_all(value, result));
      for (const std::vector<Use>* list : {&kept, &sinks}) {
        for (const Use& use : *list) editor.redirect(use, value);
      }
      editor.set_input(transpose, 0, &value);
      if (type) editor.set_type(result, *type, false);
    }
    if (type) {
      if (type->shape && type->shape->size() == perm.size()) {
        const std::vector<Dim> dims = *type->shape;
        for (std::size_t i = 0; i < perm.size(); ++i) {
          (*type->shape)[static_cast<std::size_t>(perm[i])] = dims[i];
        }
      }
      editor.set_type(value, std::move(*type), IrInternals::type_origin(value) != nullptr);
    }
    for (const Use& use : sinks) {
      MCOMPRESS_TRY(end_at(*use.node, value, compose(perm, *permutation_of(*use.node)), context));
    }
    return ok_status();
  }

  std::shared_ptr<const SymbolicShapes> shapes_;
  std::unordered_map<const Value*, Permutation> perms_;  // of what is or depends on transposed
  std::int64_t removed_ = 0, regions_ = 0, reshapes_ = 0;
};

}  // namespace

PassInfo push_transposes_info() {
  return pass_info<PushTransposes>(
      "push-transposes", "move transpositions together where fewer of them are left",
      Reach::kNestedGraphs, false, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
