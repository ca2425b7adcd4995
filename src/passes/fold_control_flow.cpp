// Control flow that is decided before the model runs goes:
//
//   If (true) { a } else { b }                =>  the nodes of a, in place of the If
//   If (c) { a } else { a }                   =>  the nodes of a
//   If (c) { .. If (c) { a } else { b } .. }  =>  If (c) { .. a .. }
//   If (Not (c)) { a } else { b }             =>  If (c) { b } else { a }
//   Loop that runs no iteration               =>  its initial values
//   Loop that runs one iteration              =>  the nodes of its body
//   Loop (.., w) { .. w .. return w }         =>  Loop (..) { .. w of the outside .. }
//
// The last is how exporters write the weights of recurrent layers: as states that no iteration
// changes. Read from the outside they are constants again. The same goes for Scan.
// Outputs of an If and lists made by a Loop that nobody reads go from the bodies as well.
#include <algorithm>
#include <unordered_map>

#include "ir/facts.h"
#include "passes/common/find_nodes.h"
#include "passes/common/fusion/same_graph.h"
#include "passes/common/rewrite.h"
#include "passes/passes.h"
#include "support/try.h"

namespace mcompress {
namespace {

std::optional<bool> constant_bool(const Value* value) {
  const auto number = constant_scalar(value);
  return number ? std::optional<bool>(*number != 0.0) : std::nullopt;
}

Graph* body_of(const Node& node, std::string_view name) {
  const AttributeValue* value = node.attribute(name);
  const auto* graph = value != nullptr ? std::get_if<std::unique_ptr<Graph>>(value) : nullptr;
  return graph != nullptr ? graph->get() : nullptr;
}

// The output of another graph can not be handed on under another name.
std::string why_outputs_stay(const Node& node) {
  for (const Value* value : node.outputs()) {
    if (value == nullptr) continue;
    for (const Use& use : value->uses()) {
      if (use.node == nullptr && use.graph != &node.graph()) {
        return "'" + std::string(value->name()) + "' is the output of a nested graph";
      }
    }
  }
  return {};
}

class FoldControlFlow final : public Pass {
 public:
  struct Options {};
  static const Schema<Options>& schema() {
    static const Schema<Options> schema;
    return schema;
  }
  explicit FoldControlFlow(Options) {}

  Status run(Model& model, PassContext& context) override {
    modernised_ = false;
    if (!find_nodes(context, model, {"If", "Loop", "Scan"}).empty()) {
      MCOMPRESS_TRY(visit(model.graph(), context));
    }
    context.report().count("unwrapped", unwrapped_);
    context.report().count("outputs", outputs_);
    context.report().count("turned", turned_);
    context.report().count("states", states_);
    return ok_status();
  }

 private:
  Status visit(Graph& graph, PassContext& context) {
    for (Node* node = graph.first(); node != nullptr;) {
      Node* before = graph.previous(*node);
      bool gone = false;
      MCOMPRESS_TRY(release_invariants(*node, context));
      if (node->is("If")) {
        MCOMPRESS_ASSIGN(gone, fold_if(*node, context));
      } else if (node->is("Loop")) {
        MCOMPRESS_ASSIGN(gone, fold_loop(*node, context));
      }
      if (gone) {  // what came in its place is looked at as well
        node = before != nullptr ? graph.next(*before) : graph.first();
        continue;
      }
      Graph* then_body = node->is("If") ? body_of(*node, "then_branch") : nullptr;
      for (Graph* body : node->bodies()) {
        const Value* condition = node->is("If") ? node->input(0) : nullptr;
        const auto known = condition == nullptr ? known_.end() : known_.find(condition);
        const bool fresh = condition != nullptr && known == known_.end();
        if (fresh) known_.emplace(condition, body == then_body);
        MCOMPRESS_TRY(visit(*body, context));
        if (fresh) known_.erase(condition);
      }
      if (node->is("If")) {
        MCOMPRESS_ASSIGN(gone, merge_branches(*node, context));
        if (gone) {
          node = before != nullptr ? graph.next(*before) : graph.first();
          continue;
        }
      }
      node = graph.next(*node);
    }
    return ok_status();
  }

  std::optional<bool> decided(const Value* condition) const {
    if (const auto constant = constant_bool(condition)) return constant;
    const auto known = known_.find(condition);
    return known != known_.end() ? std::optional<bool>(known->second) : std::nullopt;
  }

  // ------------------------------------------------------------------------------------- If

  // Whether the node is gone.
  Result<bool> fold_if(Node& node, PassContext& context) {
    if (body_of(node, "then_branch") == nullptr || body_of(node, "else_branch") == nullptr) {
      return false;
    }
    MCOMPRESS_TRY(turn(node, context));
    MCOMPRESS_TRY(drop_unread(node, 0, context));
    const auto condition = decided(node.input(0));
    if (!condition) return false;
    return unwrap_branch(
        node, *condition ? "then_branch" : "else_branch",
        *condition ? "its condition is always true" : "its condition is always false", context);
  }

  Result<bool> unwrap_branch(Node& node, std::string_view branch, std::string_view reason,
                             PassContext& context) {
    std::string why = why_outputs_stay(node);
    // Not allowed, but there are such files: nothing feeds these inputs but a chance of names.
    if (!body_of(node, branch)->inputs().empty()) why = "that branch has inputs";
    if (!why.empty()) {
      context.explain().skipped(node, std::string(reason) + ", but " + why);
      return false;
    }
    chose(context, node, "replaced by its " + std::string(branch) + ": " + std::string(reason));
    Value* condition = node.input(0);
    MCOMPRESS_TRY(prepare(node, context));
    const std::vector<Value*> results = context.edit().unwrap(*body_of(node, branch));
    const std::vector<Value*> outputs(node.outputs().begin(), node.outputs().end());
    for (std::size_t i = 0; i < outputs.size() && i < results.size(); ++i) {
      MCOMPRESS_TRY(hand_over(outputs[i], *results[i], node, context));
    }
    MCOMPRESS_TRY(context.edit().erase(node));
    ++unwrapped_;
    if (condition != nullptr) MCOMPRESS_TRY(erase_unused(context, *condition));
    return true;
  }

  Status turn(Node& node, PassContext& context) {
    Node* inverse = made_by(node.input(0), "Not");
    if (inverse == nullptr || inverse->input(0) == nullptr) return ok_status();
    chose(context, node, "its branches change places to read past " + inverse->label());
    Value& negated = *node.input(0);
    context.edit().set_input(node, 0, inverse->input(0));
    context.edit().swap_attributes(node, "then_branch", "else_branch");
    ++turned_;
    MCOMPRESS_TRY(erase_unused(context, negated));
    return turn(node, context);
  }

  Result<bool> merge_branches(Node& node, PassContext& context) {
    const Graph* first = body_of(node, "then_branch");
    const Graph* second = body_of(node, "else_branch");
    if (first == nullptr || second == nullptr) return false;
    MCOMPRESS_ASSIGN(const bool same, same_graph(*first, *second));
    if (!same) return false;
    return unwrap_branch(node, "then_branch", "both branches do the same", context);
  }

  // `first`: of the outputs that may go; the body has `shift` more outputs in front.
  Status drop_unread(Node& node, std::size_t first, PassContext& context, std::size_t shift = 0) {
    for (std::size_t slot = node.outputs().size(); slot > first; --slot) {
      const Value* value = node.output(slot - 1);
      if (node.outputs().size() == 1 || value == nullptr || !value->uses().empty()) continue;
      const std::vector<Graph*> bodies = node.bodies();
      const bool fits = std::ranges::all_of(bodies, [&](const Graph* body) {
        return body->outputs().size() == node.outputs().size() + shift;
      });
      if (!fits) return ok_status();
      chose(context, node, "loses output '" + std::string(value->name()) + "', nobody reads it");
      MCOMPRESS_TRY(context.edit().erase_output(node, slot - 1));
      for (Graph* body : bodies) {
        Value& inner = *body->outputs()[slot - 1 + shift];
        context.edit().erase_output(*body, slot - 1 + shift);
        if (&inner.graph() == body) MCOMPRESS_TRY(erase_unused(context, inner));
      }
      ++outputs_;
    }
    return ok_status();
  }

  // ----------------------------------------------------------------------------------- Loop

  Result<bool> fold_loop(Node& node, PassContext& context) {
    Graph* body = body_of(node, "body");
    if (body == nullptr || node.inputs().size() < 2) return false;
    const std::size_t carried = node.inputs().size() - 2;
    if (body->inputs().size() != carried + 2 || node.outputs().size() < carried ||
        body->outputs().size() != node.outputs().size() + 1) {
      return false;
    }
    MCOMPRESS_TRY(drop_unread(node, carried, context, 1));
    const std::optional<std::int64_t> trips = trips_of(node, *body);
    if (!trips) return false;
    const bool makes_lists = node.outputs().size() > carried;
    std::string why = why_outputs_stay(node);
    if (why.empty() && *trips == 0 && makes_lists) {
      why = "it makes an empty list, '" + std::string(node.output(carried)->name()) + "'";
    }
    for (std::size_t i = 0; why.empty() && i < node.inputs().size(); ++i) {
      if (i >= 2 && node.input(i) == nullptr) why = "an initial value is left out";
    }
    if (!why.empty()) {
      context.explain().skipped(
          node, "it runs " + std::string(*trips == 0 ? "no" : "one") + " iteration, but " + why);
      return false;
    }
    chose(context, node,
          *trips == 0 ? "replaced by its initial values: it runs no iteration"
                      : "replaced by its body: it runs one iteration");
    MCOMPRESS_TRY(prepare(node, context));
    const std::vector<Value*> inputs(node.inputs().begin(), node.inputs().end());
    std::vector<Value*> results(inputs.begin() + 2, inputs.end());
    if (*trips == 1) {
      MCOMPRESS_ASSIGN(results, run_once(node, *body, carried, context));
    }
    const std::vector<Value*> outputs(node.outputs().begin(), node.outputs().end());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      MCOMPRESS_TRY(hand_over(outputs[i], *results[i], node, context));
    }
    MCOMPRESS_TRY(context.edit().erase(node));
    ++unwrapped_;
    for (Value* value : inputs) {
      if (value != nullptr) MCOMPRESS_TRY(erase_unused(context, *value));
    }
    return true;
  }

  // Where the states of a Loop or Scan begin in the four lists, and how many there are.
  struct States {
    Graph* body;
    std::size_t count, inputs, body_inputs, body_outputs;
  };
  static std::optional<States> states_of(const Node& node) {
    Graph* body = body_of(node, "body");
    if (body == nullptr || !node.domain().empty()) return std::nullopt;
    States found{body, 0, 0, 0, 0};
    if (node.is("Loop")) {
      if (node.inputs().size() < 2) return std::nullopt;
      found = {body, node.inputs().size() - 2, 2, 2, 1};
    } else {
      // Before opset 9 Scan takes lengths in front and runs over batches.
      const auto scanned = static_cast<std::size_t>(node.int_attribute("num_scan_inputs", 0));
      constexpr std::int64_t kNoBatches = 9;
      if (!node.is("Scan") || node.graph().model().opset("") < kNoBatches ||
          scanned > node.inputs().size()) {
        return std::nullopt;
      }
      found.count = node.inputs().size() - scanned;
    }
    if (body->inputs().size() != node.inputs().size() || node.outputs().size() < found.count ||
        body->outputs().size() != node.outputs().size() + found.body_outputs) {
      return std::nullopt;
    }
    return found;
  }

  // What a value is a copy of.
  static Value* original(Value* value) {
    while (value != nullptr && value->producer() != nullptr && value->producer()->is("Identity") &&
           value->producer()->input(0) != nullptr) {
      value = value->producer()->input(0);
    }
    return value;
  }

  // States that every iteration hands on as they are become values read from outside the body.
  Status release_invariants(Node& node, PassContext& context) {
    const auto states = states_of(node);
    if (!states) return ok_status();
    for (std::size_t i = states->count; i-- > 0;) {
      Value* initial = node.input(states->inputs + i);
      Value& inside = *states->body->inputs()[states->body_inputs + i];
      Value& result = *states->body->outputs()[states->body_outputs + i];
      if (initial == nullptr || original(&result) != &inside) continue;
      if (node.outputs().size() == 1) break;  // an operator has outputs
      // A body may not hand out a value of the outside in another place.
      const bool handed_out = std::ranges::any_of(inside.uses(), [&](const Use& use) {
        return use.node == nullptr && use.slot != states->body_outputs + i;
      });
      if (handed_out) continue;
      chose(context, node,
            "reads '" + std::string(initial->name()) + "' from outside: no iteration changes it");
      MCOMPRESS_TRY(prepare(node, context));
      Editor& edit = context.edit();
      edit.erase_output(*states->body, states->body_outputs + i);
      if (&result != &inside) MCOMPRESS_TRY(erase_unused(context, result));
      for (const Use& use : std::vector<Use>(inside.uses().begin(), inside.uses().end())) {
        edit.redirect(use, *initial);
      }
      edit.freeze_input(inside);
      for (std::size_t slot = states->inputs + i; slot + 1 < node.inputs().size(); ++slot) {
        edit.set_input(node, slot, node.input(slot + 1));
      }
      edit.remove_trailing_input(node);
      if (Value* output = node.output(i); output != nullptr) {
        MCOMPRESS_TRY(hand_over(output, *initial, node, context));
      }
      MCOMPRESS_TRY(edit.erase_output(node, i));
      ++states_;
    }
    return ok_status();
  }

  // Only 0 and 1 are of interest.
  std::optional<std::int64_t> trips_of(const Node& node, const Graph& body) const {
    const Value* count = node.input(0);
    const auto most = constant_scalar(count);
    const auto starts = node.input(1) == nullptr ? std::optional(true) : decided(node.input(1));
    if ((most && *most <= 0) || starts == false) return 0;
    if (starts != true) return std::nullopt;
    if (most == 1.0) return 1;
    // It stops after the first iteration when that is certain to happen.
    const bool begins = count == nullptr || most;
    if (begins && constant_bool(body.outputs()[0]) == false) return 1;
    return std::nullopt;
  }

  // What the outputs of the Loop are once the body stands in front of it.
  Result<std::vector<Value*>> run_once(Node& node, Graph& body, std::size_t carried,
                                       PassContext& context) {
    Editor& editor = context.edit();
    const std::vector<Value*> parameters(body.inputs().begin(), body.inputs().end());
    std::vector<Value*> arguments(node.inputs().begin(), node.inputs().end());
    const std::int64_t zero = 0;
    arguments[0] = &add_constant(context, node.graph(), parameters[0]->name(),
                                 make_int64_tensor({&zero, 1}, {}));
    arguments[1] = &add_constant(context, node.graph(), parameters[1]->name(),
                                 make_bytes_tensor(DataType::kBool, {}, {std::byte{1}}));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const std::vector<Use> uses(parameters[i]->uses().begin(), parameters[i]->uses().end());
      for (const Use& use : uses) {
        if (use.node != nullptr) editor.redirect(use, *arguments[i]);
      }
    }
    std::vector<Value*> results = editor.unwrap(body);
    results.erase(results.begin());  // the condition
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto parameter = std::ranges::find(parameters, results[i]);
      if (parameter != parameters.end()) {
        results[i] = arguments[static_cast<std::size_t>(parameter - parameters.begin())];
      }
      if (i >= carried) results[i] = &list_of(*results[i], node, context);
    }
    for (Value* made : {arguments[0], arguments[1]}) {
      const bool needed = std::ranges::find(results, made) != results.end();
      if (!needed) MCOMPRESS_TRY(erase_unused(context, *made));
    }
    return results;
  }

  // A list of one entry.
  static Value& list_of(Value& entry, Node& anchor, PassContext& context) {
    NewNode spec;
    spec.op_type = "Unsqueeze";
    spec.inputs = {&entry};
    spec.base_name = std::string(entry.name()) + "_list";
    const std::int64_t axis = 0;
    constexpr std::int64_t kAxesAreInput = 13;
    if (anchor.graph().model().opset("") >= kAxesAreInput) {
      spec.inputs.push_back(&add_constant(context, anchor.graph(), spec.base_name + "_axes",
                                          make_int64_tensor({&axis, 1}, {1})));
    } else {
      spec.attributes.push_back(attribute("axes", std::vector<std::int64_t>{0}));
    }
    return *context.edit().insert_before(anchor, std::move(spec)).output(0);
  }

  // --------------------------------------------------------------------------------- common

  // New initializers may come to the top graph.
  Status prepare(Node& node, PassContext& context) {
    if (!modernised_) modernise_initializers(node.graph().model(), context);
    modernised_ = true;
    return ok_status();
  }

  // Lets all readers of an output of `node` read `result`, through an Identity where a name of the
  // interface or a nested graph asks for that.
  static Status hand_over(Value* output, Value& result, Node& node, PassContext& context) {
    if (output == nullptr || output->uses().empty()) return ok_status();
    give_scalars(*output, result, node, context);
    if (forward(context, *output, result).empty()) return ok_status();
    Node& copy =
        context.edit().insert_before(node, {.op_type = "Identity",
                                            .inputs = {&result},
                                            .base_name = std::string(output->name()) + "_copy"});
    return context.edit().replace_all(*output, *copy.output(0));
  }

  // Range takes scalars (ONNX, Range-11). A list of one entry passes as long as nobody can see its
  // shape, as behind an If whose branches differ; in plain sight it is refused.
  static void give_scalars(Value& output, Value& result, Node& node, PassContext& context) {
    if (rank_of(result).value_or(0) == 0) return;
    Value* scalar = nullptr;
    for (const Use& use : std::vector<Use>(output.uses().begin(), output.uses().end())) {
      if (use.node == nullptr || !use.node->is("Range")) continue;
      if (scalar == nullptr) {
        scalar = context.edit()
                     .insert_before(node, {.op_type = "Squeeze",
                                           .inputs = {&result},
                                           .base_name = std::string(result.name()) + "_scalar"})
                     .output(0);
      }
      context.edit().redirect(use, *scalar);
    }
  }

  std::unordered_map<const Value*, bool> known_;  // conditions of the branches we are inside of
  bool modernised_ = false;
  std::int64_t unwrapped_ = 0, outputs_ = 0, turned_ = 0, states_ = 0;
};

}  // namespace

PassInfo fold_control_flow_info() {
  return pass_info<FoldControlFlow>(
      "fold-control-flow", "replace If and Loop whose course is known by their bodies",
      Reach::kNestedGraphs, true, {"lift-constants", "infer-shapes", "fold-constants"});
}

}  // namespace mcompress
